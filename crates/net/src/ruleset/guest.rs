//! The rules of one VM's namespace.
//!
//! ```text
//!  tap0 ─▶ ingress: is it the guest? ─▶ forward: leased? of an allowed connection? too many? ─▶ rules ─┬─▶ out, masqueraded
//!                     │ no: dropped                                                            └─▶ refuse: counted,
//!                     ▼                                                                            answered
//! ```
//!
//! Invariants
//! - Nothing is forwarded before the lease opens the gate, whatever policy is there already.
//! - A connection goes on only if it was allowed by the policy that holds now: what allows it writes the policy's number
//!   on it. One of an older policy is judged like a new one. One that was allowed by a name goes on after the time of
//!   that name's addresses, as a long download must.
//! - What an allow rule names is let through before the ranges are denied: it says so explicitly. Addresses of names are
//!   put there by the resolver, which filters them.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr};

use ipnet::IpNet;

use super::{elements, gate};
use crate::{
    Base, Limits, Policy, Ports, Target,
    addresses::{GUEST_LINK_LOCAL, GUEST_MAC, GUEST_V4, GUEST_V6, V4_GATEWAY, V6_GATEWAY, mac},
    ranges,
};

/// How many destinations are counted that were refused, of each kind.
pub(super) const MOST_REFUSED: usize = 1024;
/// What counts the packets of connections that were over the limit; setting the limit again leaves it.
pub(super) const OVER: &str = "over_limit";
/// How many addresses of names are open at once, of each kind.
const MOST_NAMES: u32 = 16384;

/// All of it but a policy: nothing is forwarded.
pub(crate) fn base(limits: &Limits, hosts: &BTreeSet<IpAddr>) -> String {
    let limit = at_once(limits.connections);
    let (guest_mac, denied_v4, denied_v6) =
        (mac(GUEST_MAC), list(ranges::networks_v4()), list(ranges::networks_v6()));
    let mut text = format!(
        r#"table netdev ampoule {{
  chain guest {{
    type filter hook ingress device "tap0" priority filter; policy drop;
    # Who it says it is. One address each: a neighbour that the kernel learns is one of a table that all of the host shares.
    ether saddr != {guest_mac} counter drop
    ether type arp arp saddr ip {GUEST_V4} accept
    ether type ip ip saddr {GUEST_V4} accept
    ether type ip6 ip6 saddr {{ {GUEST_V6}, {GUEST_LINK_LOCAL} }} accept
    counter
  }}
}}
table inet ampoule {{
  # the families that are forwarded: none before the lease, both from then on
  set leased {{ type nf_proto; }}
  # never the internet; each with its source in `ranges`
  set denied4 {{ type ipv4_addr; flags interval; elements = {{ {denied_v4} }}; }}
  set denied6 {{ type ipv6_addr; flags interval; elements = {{ {denied_v6} }}; }}
  # the host's own addresses, followed
  set host4 {{ type ipv4_addr; }}
  set host6 {{ type ipv6_addr; }}
  # what the policy names by address, on all ports and on one
  set net4 {{ type ipv4_addr; flags interval; auto-merge; }}
  set net6 {{ type ipv6_addr; flags interval; auto-merge; }}
  set net_port4 {{ type ipv4_addr . inet_service; flags interval; }}
  set net_port6 {{ type ipv6_addr . inet_service; flags interval; }}
  # addresses of what it names by name, put there by the resolver for a time
  set name4 {{ type ipv4_addr; flags timeout; size {MOST_NAMES}; }}
  set name6 {{ type ipv6_addr; flags timeout; size {MOST_NAMES}; }}
  set name_port4 {{ type ipv4_addr . inet_service; flags timeout; size {MOST_NAMES}; }}
  set name_port6 {{ type ipv6_addr . inet_service; flags timeout; size {MOST_NAMES}; }}
  # packets of connections over the limit of how many there are at once
  counter {OVER} {{ }}
  # what was refused
  set refused4 {{ type ipv4_addr . inet_proto . inet_service; flags dynamic; size {MOST_REFUSED}; }}
  set refused6 {{ type ipv6_addr . inet_proto . inet_service; flags dynamic; size {MOST_REFUSED}; }}
  set refused_other4 {{ type ipv4_addr . inet_proto; flags dynamic; size {MOST_REFUSED}; }}
  set refused_other6 {{ type ipv6_addr . inet_proto; flags dynamic; size {MOST_REFUSED}; }}

  chain refuse {{
    meta nfproto ipv4 meta l4proto {{ tcp, udp }} add @refused4 {{ ip daddr . meta l4proto . th dport counter }}
    meta nfproto ipv6 meta l4proto {{ tcp, udp }} add @refused6 {{ ip6 daddr . meta l4proto . th dport counter }}
    meta nfproto ipv4 meta l4proto != {{ tcp, udp }} add @refused_other4 {{ ip daddr . meta l4proto counter }}
    meta nfproto ipv6 meta l4proto != {{ tcp, udp }} add @refused_other6 {{ ip6 daddr . meta l4proto counter }}
    # told at once: a socket that connects in this moment does not hear of ICMP
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
  # of the policy: connections of it that are open, and new ones
  chain open {{
  }}
  chain rules {{
  }}
  # protocols that a policy can open
  chain plain {{
    meta l4proto {{ tcp, udp }} return
    icmp type echo-request return
    icmpv6 type echo-request return
    goto refuse
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    meta nfproto != @leased drop
    ct state established,related goto open
    ct state != new drop
    jump new
  }}
  chain new {{
    iifname != "tap0" drop
    oifname != "out" drop
    ip6 saddr fe80::/10 drop
    jump plain
    jump most
    goto rules
  }}
  chain most {{
    {limit}
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    iifname "tap0" ip daddr {V4_GATEWAY} icmp type echo-request limit rate 50/second accept
    iifname "tap0" ip6 daddr {V6_GATEWAY} icmpv6 type echo-request limit rate 50/second accept
    iifname "tap0" fib daddr type local goto refuse
  }}
  chain leave {{
    type nat hook postrouting priority srcnat;
    oifname "out" masquerade
  }}
}}
"#
    );
    text += &hosts_are(hosts);
    text
}

/// The rule of how many connections there are at once.
fn at_once(connections: u32) -> String {
    format!("ct state new ct count over {connections} counter name {OVER} drop")
}

/// Another number of connections; those that are there go on.
pub(crate) fn limit(connections: u32) -> String {
    format!("flush chain inet ampoule most\nadd rule inet ampoule most {}\n", at_once(connections))
}

/// The host's addresses, all of them, in place of what was known before.
pub(crate) fn hosts_are(hosts: &BTreeSet<IpAddr>) -> String {
    let mut text = String::from("flush set inet ampoule host4\nflush set inet ampoule host6\n");
    text += &elements("inet ampoule host4", hosts.iter().filter(|address| address.is_ipv4()));
    text += &elements("inet ampoule host6", hosts.iter().filter(|address| address.is_ipv6()));
    text
}

/// A policy that is there before the lease: behind the gate, and the first one.
pub(crate) fn prepare(policy: &Policy) -> String {
    rules(policy, FIRST)
}

/// A policy in place of the one before, whose number is another; and the gate is open.
pub(crate) fn apply(policy: &Policy, number: u32) -> String {
    rules(policy, number) + gate::OPEN
}

/// The number of the policy that is there before the lease.
pub(crate) const FIRST: u32 = 1;

fn rules(policy: &Policy, number: u32) -> String {
    const SETS: [&str; 8] =
        ["net4", "net6", "net_port4", "net_port6", "name4", "name6", "name_port4", "name_port6"];
    let mut text = String::new();
    // the first finds nothing; and the kernel takes its time to remove something
    if number != FIRST {
        text += "flush chain inet ampoule open\nflush chain inet ampoule rules\n";
        for set in SETS {
            let _ = writeln!(text, "flush set inet ampoule {set}");
        }
    }
    let nets = |ports: fn(&Ports) -> Option<Option<u16>>| {
        policy.allow.iter().filter_map(move |rule| match &rule.target {
            Target::Net(net) => ports(&rule.ports).map(|port| (net.trunc(), port)),
            Target::Name(_) => None,
        })
    };
    let all: Vec<IpNet> =
        nets(|ports| matches!(ports, Ports::All).then_some(None)).map(|(net, _)| net).collect();
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) =
        IpNet::aggregate(&all).into_iter().partition(|net| net.addr().is_ipv4());
    text += &elements("inet ampoule net4", v4);
    text += &elements("inet ampoule net6", v6);
    let one: BTreeSet<(IpNet, u16)> = nets(|ports| match ports {
        Ports::One(port) => Some(Some(*port)),
        Ports::All => None,
    })
    .filter_map(|(net, port)| port.map(|port| (net, port)))
    .collect();
    text +=
        &elements("inet ampoule net_port4", disjoint(&one).filter(|(net, _)| net.addr().is_ipv4()).map(pair));
    text +=
        &elements("inet ampoule net_port6", disjoint(&one).filter(|(net, _)| net.addr().is_ipv6()).map(pair));

    let _ = writeln!(
        text,
        "add rule inet ampoule open ct mark {number} accept\n\
         add rule inet ampoule open iifname != \"tap0\" drop\n\
         add rule inet ampoule open goto new"
    );
    let mut rule = |matches: &str, verdict: &str| {
        let _ = writeln!(text, "add rule inet ampoule rules {matches} {verdict}");
    };
    let accept = format!("ct mark set {number} accept");
    let allowed = |kind: &str, rule: &mut dyn FnMut(&str, &str)| {
        rule(&format!("ip daddr @{kind}4"), &accept);
        rule(&format!("ip6 daddr @{kind}6"), &accept);
        rule(&format!("meta l4proto {{ tcp, udp }} ip daddr . th dport @{kind}_port4"), &accept);
        rule(&format!("meta l4proto {{ tcp, udp }} ip6 daddr . th dport @{kind}_port6"), &accept);
    };
    // an address that the policy has is open, also where it is denied; what a name has is open only elsewhere
    if !policy.allow.is_empty() {
        allowed("net", &mut rule);
    }
    for set in ["denied", "host"] {
        rule(&format!("ip daddr @{set}4"), "goto refuse");
        rule(&format!("ip6 daddr @{set}6"), "goto refuse");
    }
    if policy.allow.iter().any(|rule| matches!(rule.target, Target::Name(_))) {
        allowed("name", &mut rule);
    }
    match policy.base {
        Base::Nothing => rule("goto", "refuse"),
        Base::Internet => rule("ct mark set", &format!("{number} accept")),
    }
    text
}

/// An address of a name, to be opened for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) address: IpAddr,
    pub(crate) ports: Ports,
    pub(crate) seconds: u64,
    /// It is open already, for a shorter time.
    pub(crate) longer: Longer,
}

/// Whether an element of a set may be there: it keeps its old time when it is added again, and the kernel takes its time
/// to remove one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Longer {
    No,
    Yes,
}

/// Opens addresses of names.
pub(crate) fn allow(addresses: &[Open]) -> String {
    let mut text = String::new();
    for Open { address, ports, seconds, longer } in addresses {
        let family = if address.is_ipv4() { '4' } else { '6' };
        let (set, key) = match ports {
            Ports::All => (format!("name{family}"), address.to_string()),
            Ports::One(port) => (format!("name_port{family}"), format!("{address} . {port}")),
        };
        if *longer == Longer::Yes {
            // its time may be over meanwhile: to go it has to be there
            let _ = writeln!(
                text,
                "add element inet ampoule {set} {{ {key} }}\ndelete element inet ampoule {set} {{ {key} }}"
            );
        }
        let _ = writeln!(text, "add element inet ampoule {set} {{ {key} timeout {seconds}s }}");
    }
    text
}

/// Of networks with the same port, those that are not within another: nft refuses elements that overlap.
fn disjoint(all: &BTreeSet<(IpNet, u16)>) -> impl Iterator<Item = &(IpNet, u16)> {
    all.iter().filter(|(net, port)| {
        !all.iter().any(|(other, of)| of == port && other != net && other.contains(net))
    })
}

fn pair((net, port): &(IpNet, u16)) -> String {
    format!("{net} . {port}")
}

fn list<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
