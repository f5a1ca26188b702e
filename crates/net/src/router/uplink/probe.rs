//! Whether the host lets through what it is to forward for VMs: tried, with a packet.
//!
//! As root an uplink is made as an engine makes it, and a VM's namespace sends the beginning of a connection to the
//! internet. It takes the whole way, by the host's own firewall, and is counted and dropped behind that, by the rules of
//! this uplink: nothing leaves the host, and no setting of the host is changed.

use std::{net::IpAddr, os::fd::OwnedFd, time::Duration};

use super::{
    Change, Note, families,
    veth::{self, HostRules},
};
use crate::{
    Error, GATEWAY_MAC, GUEST_MAC, GUEST_V4, GUEST_V6, Result,
    helper::protocol::{Id, Place, Tool},
    router::client::Client,
    ruleset,
};

const WHAT: &str = "try what the host forwards";
/// Root servers of names, which everyone has a way to who has one to the internet: a.root-servers.net.
const DESTINATIONS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];
const PORT: u16 = 443;
/// How often it is sent, and how long it is waited for each time.
const TRIES: u32 = 20;
const STEP: Duration = Duration::from_millis(50);

/// What [`super::make`] would do and note as root, and whether the host forwards. `tap`: of a namespace of this router
/// whose policy allows the internet.
pub(in crate::router) async fn would(
    client: &Client,
    router: Id,
    v6: bool,
    tap: &OwnedFd,
) -> Result<Vec<Note>> {
    let (mut families, mut notes) = families(client, v6).await?;
    veth::forwarding(client, &mut families, &mut notes, Change::Look).await?;
    let (link, rules) = veth::make(client, router, families, v6).await?;
    // of this interface alone; that of IPv6 is of all
    let on = (format!("ipv4/conf/{}/forwarding", link.interface), "1".to_owned());
    client.settings(Place::Host, vec![on], &[]).await?;
    let off = |note| notes.contains(&note);
    let tried: Vec<IpAddr> = DESTINATIONS
        .into_iter()
        .filter(|to| if to.is_ipv4() { families.v4 } else { families.v6 && !off(Note::ForwardsV6) })
        .collect();
    rules.write(ruleset::host::tried(rules.table(), &link.pair, &tried));
    let mut missing = tried;
    for _ in 0..TRIES {
        for to in &missing {
            // what the tap does not take now is sent again
            let _ = rustix::io::write(tap, &frame(*to));
        }
        tokio::time::sleep(STEP).await;
        match counted(client, &rules).await {
            Ok(seen) => missing.retain(|to| !seen.contains(to)),
            // the chain is not there yet
            Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        if missing.is_empty() {
            break;
        }
    }
    notes.extend(missing.iter().map(|to| Note::NotForwarded { family: if to.is_ipv4() { 4 } else { 6 } }));
    Ok(notes)
}

/// The destinations that something came to.
async fn counted(client: &Client, rules: &HostRules) -> Result<Vec<IpAddr>> {
    // of this chain alone, and as text: what nft 1.0.6 says of the whole table as JSON could not be read
    let args = ["-n", "list", "chain", "inet", rules.table(), "tried"];
    let text = client.run(WHAT, Place::Host, Tool::Nft, &args, String::new(), Vec::new()).await?;
    Ok(text.lines().filter_map(reached).collect())
}

/// The destination of a rule as nft shows it, where something came to it.
fn reached(rule: &str) -> Option<IpAddr> {
    let after = |word: &str| rule.split_once(word)?.1.split_whitespace().next();
    let packets: u64 = after("counter packets ")?.parse().ok()?;
    let to = after(" daddr ")?.parse().ok()?;
    (packets > 0).then_some(to)
}

/// The beginning of a connection, as a guest sends it to its tap.
fn frame(to: IpAddr) -> Vec<u8> {
    // of virtio
    let mut bytes = vec![0; 10];
    bytes.extend_from_slice(&GATEWAY_MAC);
    bytes.extend_from_slice(&GUEST_MAC);
    // ports, number, none confirmed, five words of a header with SYN, window, no sum yet, nothing urgent
    let mut tcp = [0xc0_u8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x40, 0, 0, 0, 0, 0];
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    let addresses = match to {
        IpAddr::V4(to) => [GUEST_V4.octets(), to.octets()].concat(),
        IpAddr::V6(to) => [GUEST_V6.octets(), to.octets()].concat(),
    };
    let sum = sum(&[&addresses[..], &[0, 6, 0, 20], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    match to {
        IpAddr::V4(_) => {
            let mut head = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0].to_vec();
            head.extend_from_slice(&addresses);
            let sum = self::sum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend_from_slice(&[0x08, 0x00]);
            bytes.extend_from_slice(&head);
        }
        IpAddr::V6(_) => {
            bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            bytes.extend_from_slice(&addresses);
        }
    }
    bytes.extend_from_slice(&tcp);
    bytes
}

/// The internet's checksum (RFC 1071) of an even number of bytes.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_a_destination_is_read() {
        let rule = |packets| {
            format!("\t\tip saddr 198.18.64.1 ip daddr 198.41.0.4 counter packets {packets} bytes 9 drop")
        };
        assert_eq!(reached(&rule(2)), Some(DESTINATIONS[0]));
        assert_eq!(reached(&rule(0)), None);
        assert_eq!(reached("\tchain tried {"), None);
    }

    #[test]
    fn sums_are_those_of_others() {
        // an example that is often shown
        let head = "450000730000400040110000c0a80001c0a800c7";
        let bytes: Vec<u8> =
            (0..20).map(|at| u8::from_str_radix(&head[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert_eq!(sum(&bytes), 0xb861);
        for (to, length) in [(DESTINATIONS[0], 64), (DESTINATIONS[1], 84)] {
            assert_eq!(frame(to).len(), length);
        }
        // with its sum in it, that of a whole is none
        assert_eq!(sum(&frame(DESTINATIONS[0])[24..44]), 0);
    }
}
