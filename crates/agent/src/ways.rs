//! The ways out of the guest, as Prepare and Bind say them.
//!
//! Purpose: checks what was said, and gives each part its own: addresses, the resolver, forwards.
//! Owner: one call per request.
//!
//! A hosted agent has no addresses of its own and is no host's resolver: its forwards are on the loopback network, with
//! the last three bytes of what was said, and their names resolve nowhere.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use wire::message::{Failure, FailureKind, Forward, Names, Network};

use crate::{
    agent::{Agent, Ground},
    failure::{failure, io_failure},
    forwards::{Forwards, Io},
    lo, mounts,
    names::Stub,
    prepare::write_over,
};

/// Forwards of a guest.
const MOST_FORWARDS: usize = 256;
/// Ports that are listened on.
const MOST_PORTS: usize = 1024;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is known of them.
#[derive(Default)]
pub(crate) struct Ways {
    pub(crate) forwards: Forwards,
    pub(crate) names: Stub,
    /// Addresses of ours.
    addresses: Vec<Ipv4Addr>,
    /// The resolver of the guest's `/etc/resolv.conf`.
    said: Option<Ipv4Addr>,
}

impl Agent {
    /// Makes the ways out those of `wanted`; none: they stay.
    pub(crate) fn ways(&mut self, wanted: Option<&Network>) -> Result<(), Failure> {
        let Some(Network { names, forwards, .. }) = wanted else { return Ok(()) };
        check(*names, forwards)?;
        let hosted = matches!(self.ground, Ground::Hosted(_));
        self.with_ways(|ways, io| ways.set(*names, forwards, hosted, io))
    }

    /// What a part of the ways does with the loop's parts.
    pub(crate) fn with_ways<T>(&mut self, work: impl FnOnce(&mut Ways, &mut Io<'_>) -> T) -> T {
        let Self { ways, mux, poller, pipes, streams, next_token, buffer, .. } = self;
        work(ways, &mut Io { mux, poller, pipes, streams, next_token, buffer })
    }
}

impl Ways {
    fn set(
        &mut self,
        names: Option<Names>,
        forwards: &[Forward],
        hosted: bool,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        let mut addresses: Vec<Ipv4Addr> = forwards.iter().map(|forward| forward.address).collect();
        addresses.extend(names.map(|names| names.address));
        // those it has
        addresses.retain(|address| !address.is_loopback());
        addresses.sort_unstable();
        addresses.dedup();
        if !hosted {
            lo::change(&self.addresses, &addresses).map_err(|error| io_failure("an address", error))?;
            self.addresses = addresses;
        }
        let table: Vec<(SocketAddrV4, String)> = forwards
            .iter()
            // a hosted agent's loopback is the host's own, where the destination is
            .filter(|forward| !(hosted && forward.address.is_loopback()))
            .flat_map(|Forward { name, address, ports }| {
                let address = if hosted { on_loopback(*address) } else { *address };
                ports
                    .iter()
                    .map(move |port| (SocketAddrV4::new(address, *port), format!("forward:{name}:{port}")))
            })
            .collect();
        self.forwards.set(&table, io).map_err(|error| io_failure("a forward", error))?;
        if hosted {
            return Ok(());
        }
        let known: HashMap<String, Ipv4Addr> =
            forwards.iter().map(|forward| (forward.name.clone(), forward.address)).collect();
        self.names.set(names, known, io).map_err(|error| io_failure("the resolver", error))?;
        match names.map(|names| names.address) {
            // it says so already, in a fork as in its template
            address if address == self.said => Ok(()),
            Some(address) => {
                resolv_conf(address)?;
                self.said = Some(address);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn on_loopback(address: Ipv4Addr) -> Ipv4Addr {
    let [_, rest @ ..] = address.octets();
    let [a, b, c] = rest;
    Ipv4Addr::new(127, a, b, c)
}

fn resolv_conf(address: Ipv4Addr) -> Result<(), Failure> {
    let path = Path::new(RESOLV_CONF);
    if let Some(etc) = path.parent() {
        mounts::mkdir(etc)?;
    }
    let text = format!("nameserver {address}\noptions edns0\n");
    write_over(path, text.as_bytes()).map_err(|error| io_failure(RESOLV_CONF, error))
}

fn check(names: Option<Names>, forwards: &[Forward]) -> Result<(), Failure> {
    let invalid = |text: String| Err(failure(FailureKind::Invalid, text));
    let ports: usize = forwards.iter().map(|forward| forward.ports.len()).sum();
    if forwards.len() > MOST_FORWARDS || ports > MOST_PORTS {
        return invalid(format!("{} forwards with {ports} ports are too many", forwards.len()));
    }
    let mut taken = HashMap::new();
    if let Some(names) = names {
        taken.insert(names.address, "");
    }
    for Forward { name, address, ports } in forwards {
        if !Forward::is_name(name) {
            return invalid(format!("{name:?} is no name for a forward"));
        }
        if !is_ours(*address) && !address.is_loopback() {
            return invalid(format!("{address} is no address for a forward"));
        }
        if ports.contains(&0) {
            return invalid("port 0 is no port of a forward".to_owned());
        }
        // several names at one address would have to share its ports
        if taken.insert(*address, name).is_some() || taken.values().filter(|other| *other == name).count() > 1
        {
            return invalid(format!("{name} is at {address}, and so is something else, or it has two"));
        }
    }
    match names {
        Some(names) if !is_ours(names.address) => invalid(format!("{} is no resolver's", names.address)),
        _ => Ok(()),
    }
}

fn is_ours(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::Others;

    fn forward(name: &str, last: u8, ports: &[u16]) -> Forward {
        Forward { name: name.to_owned(), address: Ipv4Addr::new(198, 19, 1, last), ports: ports.to_vec() }
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let names = Names { address: Ipv4Addr::new(198, 19, 0, 53), others: Others::Nobody };
        let good = [forward("forge.example", 1, &[80, 443]), forward("cache", 2, &[80])];
        assert!(check(Some(names), &good).is_ok());
        for bad in [
            forward("Forge", 3, &[80]),
            forward("", 3, &[80]),
            forward("a..b", 3, &[80]),
            forward("forge:80", 3, &[80]),
            forward("cache", 3, &[81]),
            forward("other", 2, &[81]),
            forward("other", 3, &[0]),
            Forward { address: names.address, ..forward("other", 3, &[80]) },
            Forward { address: Ipv4Addr::UNSPECIFIED, ..forward("other", 3, &[80]) },
            forward("other", 3, &[80; 2000]),
        ] {
            let table = [&good[..], std::slice::from_ref(&bad)].concat();
            assert_eq!(check(Some(names), &table).unwrap_err().kind, FailureKind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_hosted_agents_forwards_are_on_the_loopback_network() {
        assert_eq!(on_loopback(Ipv4Addr::new(198, 19, 1, 7)), Ipv4Addr::new(127, 19, 1, 7));
    }
}
