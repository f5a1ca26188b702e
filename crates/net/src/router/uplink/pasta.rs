//! The uplink as a plain user: `pasta`, in the foreground, as a child of the helper.
//!
//! By itself it opens ways to the host's loopback: each option here shuts one. It is started in the host's network
//! namespace and reaches the router's by a path in /proc.

use std::{os::fd::OwnedFd, time::Duration};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{Families, Note, near_end, watch};
use crate::{
    Error, Result,
    addresses::Pair,
    helper::protocol::{Answer, Ask, Id, Place, Tool},
    router::{
        client::{Client, refused},
        installed,
    },
    ruleset::router::PASTA,
};

const WHAT: &str = "start pasta";
/// How long it may take to make its interface.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);

/// The interface in the router's namespace.
pub(super) const FIRST: &str = "uplink";
/// Another for a family that the host had no way for at first: what there is is not disturbed.
pub(super) const SECOND: &str = "uplink-too";

/// Makes it, where it leads anywhere.
pub(super) async fn make(
    client: &Client,
    router: Id,
    families: Families,
    interface: &'static str,
) -> Result<()> {
    if !families.v4 && !families.v6 {
        return Ok(());
    }
    installed(client, &[(Tool::Pasta, "passt")]).await?;
    let anchor = match client.ask(Ask::Anchor(router)).await?.0 {
        Ok(Answer::Anchored(anchor)) => anchor,
        answer => return Err(refused(WHAT, answer)),
    };
    // the host sees none of these addresses: pasta sends from sockets of its own
    let pair = Pair::uplink(0);
    let args = arguments(&pair, families, interface, anchor);
    let (input, output) = client.keep(WHAT, Place::Host, Tool::Pasta, args).await?;
    drop(input);
    let mut output = receiver(output)?;
    let mut said = Vec::new();
    let there = async {
        loop {
            let ask = client.run(
                WHAT,
                Place::In(router),
                Tool::Ip,
                &["link", "show", interface],
                String::new(),
                Vec::new(),
            );
            if ask.await.is_ok() {
                return true;
            }
            tokio::select! {
                read = output.read_buf(&mut said) => if !matches!(read, Ok(1..)) { return false },
                () = tokio::time::sleep(STEP) => {}
            }
        }
    };
    match tokio::time::timeout(PATIENCE, there).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::Refused { what: WHAT, answer: why(&String::from_utf8_lossy(&said)) });
        }
        Err(_) => return Err(Error::Refused { what: WHAT, answer: "it makes no interface".to_owned() }),
    }
    let note = |said: &str| {
        tracing::debug!("pasta: {said}");
        None
    };
    watch(output, "pasta", note, client.ender());
    // they are for both
    if interface == FIRST {
        client.nft("set the rules in front of pasta", Place::In(router), PASTA.to_owned()).await?;
    }
    near_end(client, router, interface, &pair, families).await?;
    let asking = asking(interface, families);
    client.run(WHAT, Place::In(router), Tool::Ip, &["-batch", "-"], asking, Vec::new()).await?;
    if interface == FIRST { answers(client, router, &pair).await } else { Ok(()) }
}

/// Ends the network of a pasta that is there and does not answer any more: one that loops, which that of Debian 12 does
/// now and then. Whoever sends to it makes the kernel ask for its address, every few seconds ([`asking`]), and when nobody
/// answers the kernel says so.
async fn answers(client: &Client, router: Id, pair: &Pair) -> Result<()> {
    let args = ["monitor", "neigh"].map(str::to_owned).to_vec();
    let (input, output) = client.keep(WHAT, Place::In(router), Tool::Ip, args).await?;
    drop(input);
    let output = receiver(output)?;
    let far = [pair.far_v4.to_string(), pair.far_v6.to_string()];
    let failed = move |said: &str| {
        let of_pasta = |line: &&str| far.iter().any(|far| line.split(' ').next() == Some(far));
        let silent = said.lines().filter(of_pasta).any(|line| line.split(' ').any(|word| word == "FAILED"));
        silent.then_some("pasta, which VMs' network needs, does not answer any more")
    };
    watch(output, "ip", failed, client.ender());
    Ok(())
}

/// What a program says, to be waited for.
fn receiver(output: OwnedFd) -> Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(output)
        .map_err(|error| Error::Refused { what: WHAT, answer: error.to_string() })
}

/// Lines for `ip -batch`: how often the kernel asks for pasta's address while somebody sends to it, and that it gives up
/// after three times three seconds, which no pasta on a busy host is silent for.
fn asking(interface: &str, families: Families) -> String {
    let tables = [("arp_cache", families.v4), ("ndisc_cache", families.v6)];
    let there = tables.into_iter().filter(|(_, there)| *there).map(|(table, _)| table);
    there
        .map(|table| {
            format!(
                "ntable change name {table} dev {interface} base_reachable 2000 delay_probe 1000 retrans 3000\n"
            )
        })
        .collect()
}

/// What it says of its end, without that it could not say it to the system's log as well.
fn why(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.ends_with("to syslog"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What there is to say of pings: pasta passes them on by sockets that only some groups may have.
pub(super) fn pings() -> Option<Note> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").ok()?;
    let mut groups = rustix::process::getgroups().unwrap_or_default();
    groups.push(rustix::process::getegid());
    let groups: Vec<u32> = groups.into_iter().map(|group| group.as_raw()).collect();
    (!may_ping(&range, &groups)).then_some(Note::NoPings)
}

/// Whether one of these groups is in the range; one that cannot be read has all.
fn may_ping(range: &str, groups: &[u32]) -> bool {
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => groups.iter().any(|group| (first..=last).contains(group)),
        _ => true,
    }
}

fn arguments(pair: &Pair, families: Families, interface: &str, anchor: u32) -> Vec<String> {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = pair;
    let mut words: Vec<String> = [
        "--foreground",
        "--quiet",
        // the gateway's address is not the host's loopback, and no port is forwarded in either direction
        "--no-map-gw",
        "-T",
        "none",
        "-U",
        "none",
        "-t",
        "none",
        "-u",
        "none",
        // addresses are set by us
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
        "--ns-ifname",
        interface,
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    if families.v4 {
        add(&["--address", &near_v4.to_string(), "--netmask", "31", "--gateway", &far_v4.to_string()]);
    } else {
        add(&["--ipv6-only"]);
    }
    if families.v6 {
        add(&["--address", &near_v6.to_string(), "--gateway", &far_v6.to_string()]);
    } else {
        add(&["--ipv4-only"]);
    }
    add(&["--netns", &format!("/proc/{anchor}/ns/net")]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pasta_could_not_say_elsewhere_is_not_said() {
        let said = "Failed to send 45 bytes to syslog\nFailed to open tun socket in namespace\n";
        assert_eq!(why(said), "Failed to open tun socket in namespace");
    }

    #[test]
    fn a_group_in_the_range_may_ping() {
        // as the kernel has it at first: nobody
        assert!(!may_ping("1\t0\n", &[0, 1, 1000]));
        assert!(may_ping("0\t2147483647\n", &[1000]));
        assert!(may_ping("100\t100\n", &[1000, 100]) && !may_ping("100\t100\n", &[1000, 101]));
        assert!(may_ping("nonsense", &[1000]));
    }
}
