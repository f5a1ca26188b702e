//! The rules of the host at a router's uplink, where the helper runs as root.
//!
//! They are the second line: VMs' namespaces refuse all that is refused here. Their table belongs to the process that
//! made it and goes with it, and nobody else can change it meanwhile.
//!
//! Invariant: while they are not there nothing that a router sends comes further than its uplink. It sends to a MAC
//! address that is not the uplink's ([`UPLINK_MACS`]), which the kernel drops before it looks for an address of IP; only
//! these rules turn it into the host's. So none of their ends, in whatever order, lets a packet out that they would have
//! masqueraded. What they do not masquerade while they are there, they drop as it leaves.

use std::net::IpAddr;

use crate::{
    Ports,
    addresses::{Pair, UPLINK_MACS, UPLINKS_V4, UPLINKS_V6, mac},
};

/// All of it, as lines for `nft -i`, each a command; `interface` is the host's end of the uplink.
pub(crate) fn lines(interface: &str, table: &str, pair: &Pair) -> Vec<String> {
    let Pair { near_v4, near_v6, .. } = pair;
    let rule = |chain: &str, text: &str| format!("add rule inet {table} {chain} {text}");
    let shut = mac(UPLINK_MACS[1]);
    vec![
        // the first that goes at their end: nothing comes in without the others
        format!("add table netdev {table} {{ flags owner; }}"),
        format!(
            "add chain netdev {table} enter {{ type filter hook ingress device \"{interface}\" priority filter; }}"
        ),
        format!("add rule netdev {table} enter ether daddr {shut} meta pkttype set unicast"),
        format!("add table inet {table} {{ flags owner; }}"),
        // what policies allow of the host itself, on all ports and on one
        format!("add set inet {table} local4 {{ type ipv4_addr; }}"),
        format!("add set inet {table} local6 {{ type ipv6_addr; }}"),
        format!("add set inet {table} local_port4 {{ type ipv4_addr . inet_service; }}"),
        format!("add set inet {table} local_port6 {{ type ipv6_addr . inet_service; }}"),
        // before any other rule of the host could turn a packet to one of its addresses elsewhere
        format!("add chain inet {table} arrive {{ type filter hook prerouting priority -310; }}"),
        rule("arrive", &format!("iifname != \"{interface}\" accept")),
        rule("arrive", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"),
        rule("arrive", &format!("meta nfproto ipv4 ip saddr != {near_v4} counter drop")),
        rule("arrive", &format!("meta nfproto ipv6 ip6 saddr != {near_v6} counter drop")),
        rule("arrive", "ip daddr @local4 accept"),
        rule("arrive", "ip6 daddr @local6 accept"),
        rule("arrive", "meta l4proto { tcp, udp } ip daddr . th dport @local_port4 accept"),
        rule("arrive", "meta l4proto { tcp, udp } ip6 daddr . th dport @local_port6 accept"),
        rule("arrive", "fib daddr type != unicast counter drop"),
        format!("add chain inet {table} forward {{ type filter hook forward priority filter; }}"),
        // an answer to a router that was killed has nowhere to go, least of all back
        rule("forward", &format!("oifname != \"amp-*\" ip daddr {UPLINKS_V4} counter drop")),
        rule("forward", &format!("oifname != \"amp-*\" ip6 daddr {UPLINKS_V6} counter drop")),
        // nothing is let in that was not asked for, nor from one router to another
        rule("forward", &format!("oifname \"{interface}\" ct state established,related accept")),
        rule("forward", &format!("oifname \"{interface}\" counter drop")),
        rule("forward", &format!("iifname \"{interface}\" oifname \"amp-*\" counter drop")),
        format!("add chain inet {table} leave {{ type nat hook postrouting priority srcnat; }}"),
        rule("leave", &format!("ip saddr {near_v4} masquerade")),
        rule("leave", &format!("ip6 saddr {near_v6} masquerade")),
        // what the host's kernel takes for no part of any connection no rule masquerades
        format!("add chain inet {table} left {{ type filter hook postrouting priority srcnat + 10; }}"),
        rule("left", &format!("ip saddr {near_v4} counter drop")),
        rule("left", &format!("ip6 saddr {near_v6} counter drop")),
    ]
}

/// For a try whether the host forwards: what goes out of this namespace to a destination is counted behind all that the
/// host forwards by, and goes no further.
pub(crate) fn tried(table: &str, pair: &Pair, destinations: &[IpAddr]) -> Vec<String> {
    let Pair { near_v4, near_v6, .. } = pair;
    let chain = format!("add chain inet {table} tried {{ type filter hook postrouting priority -400; }}");
    let rules = destinations.iter().map(|address| match address {
        IpAddr::V4(to) => {
            format!("add rule inet {table} tried ip saddr {near_v4} ip daddr {to} counter drop")
        }
        IpAddr::V6(to) => {
            format!("add rule inet {table} tried ip6 saddr {near_v6} ip6 daddr {to} counter drop")
        }
    });
    std::iter::once(chain).chain(rules).collect()
}

/// What a policy allows of the host itself, by its addresses, as a line. What names lead to is never the host's.
pub(crate) fn open(table: &str, address: IpAddr, ports: Ports) -> String {
    let family = if address.is_ipv4() { '4' } else { '6' };
    let (set, key) = match ports {
        Ports::All => (format!("local{family}"), address.to_string()),
        Ports::One(port) => (format!("local_port{family}"), format!("{address} . {port}")),
    };
    format!("add element inet {table} {set} {{ {key} }}")
}
