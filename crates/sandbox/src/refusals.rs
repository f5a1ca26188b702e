//! Which rules would open what a VM was refused.
//!
//! Purpose: a hint for whoever reads that something was refused. It is never applied by itself.
//! Invariants: each is a rule that a policy takes, but for [`PORT`] in place of a port that nobody knows; none opens a
//! cloud's metadata, or what a policy cannot open. Of a name that the guest asked for nothing is a rule but a host's
//! name as the policy's parser reads it: no address, and nothing with a star.

use std::net::{IpAddr, Ipv6Addr};

use net::{Base, NameRefused, Policy, Ports, Rule, Target, Why};

use crate::RefusedDestination;

/// Stands where a hint does not know the port.
pub const PORT: &str = "PORT";

/// Ranges that nobody means to open for a job: nothing answers there, or what should not.
const NEVER: [&str; 8] = [
    "metadata",
    "this network",
    "loopback",
    "link-local",
    "benchmarking",
    "multicast",
    "broadcast",
    "unspecified",
];

impl RefusedDestination {
    /// The rule that, in a policy like this, opens it.
    #[must_use]
    pub fn rule(&self, policy: &Policy) -> Option<String> {
        let to = &self.to;
        let port = match (to.protocol.as_str(), to.port) {
            ("tcp" | "udp", Some(port)) if port != 0 => format!(":{port}"),
            ("icmp" | "ipv6-icmp", None) => String::new(),
            _ => return None,
        };
        // the resolver told it, and it is another port that lacks
        if policy.base == Base::Nothing && net::denied(to.address).is_none() {
            let name = self.names.iter().rev().find(|name| policy.resolves(name) && is_rule(name));
            if let Some(name) = name {
                return Some(format!("{name}{port}"));
            }
        }
        Some(format!("{}{port}", host(to.address)?))
    }
}

/// The rule that, in a policy like this, opens what a name was refused for.
#[must_use]
pub fn rule_of_name(refused: &NameRefused, policy: &Policy) -> Option<String> {
    match &refused.why {
        Why::NotInPolicy if policy.base == Base::Nothing && is_rule(&refused.name) => {
            Some(format!("{}:{PORT}", refused.name))
        }
        Why::Denied { address, .. } => Some(format!("{}:{PORT}", host(*address)?)),
        _ => None,
    }
}

/// Whether a rule for this name is one for this host alone.
fn is_rule(name: &str) -> bool {
    let read = Policy::new(Base::Nothing, [name]).map(|policy| policy.allow);
    matches!(
        read.as_deref(),
        Ok([Rule { target: Target::Name(host), ports: Ports::All }]) if host == name && !host.contains('*')
    )
}

fn host(address: IpAddr) -> Option<String> {
    if net::denied(address).is_some_and(|range| NEVER.contains(&range.name)) {
        return None;
    }
    match address {
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) if is_ours(address) || address.to_ipv4_mapped().is_some() => None,
        IpAddr::V6(address) => Some(format!("[{address}]")),
    }
}

/// Of the networks between guests and this host.
fn is_ours(address: Ipv6Addr) -> bool {
    address.segments()[..3] == net::GUEST_V6.segments()[..3]
}

#[cfg(test)]
mod tests {
    use net::Refused;

    use super::*;

    #[test]
    fn a_rule_opens_what_was_refused_and_is_one() {
        let to = |address: &str, protocol: &str, port, names: &[&str]| RefusedDestination {
            to: Refused {
                address: address.parse().unwrap(),
                protocol: protocol.to_owned(),
                port,
                packets: 1,
            },
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let one = "allow=a.example:443";
        for (policy, refused, rule) in [
            ("internet", to("10.0.0.5", "tcp", Some(5432), &["db.corp"]), Some("10.0.0.5:5432")),
            ("internet", to("fd12::1", "udp", Some(53), &[]), Some("[fd12::1]:53")),
            ("internet", to("10.0.0.5", "icmp", None, &[]), Some("10.0.0.5")),
            ("internet", to("10.0.0.5", "132", None, &[]), None),
            ("internet", to("10.0.0.5", "tcp", Some(0), &[]), None),
            ("internet", to("169.254.169.254", "tcp", Some(80), &["x.example"]), None),
            ("internet", to("100.100.100.200", "tcp", Some(80), &[]), None),
            ("internet", to("198.18.0.1", "tcp", Some(80), &[]), None),
            ("internet", to("fd61:6d70:6f75:6c65::1", "tcp", Some(80), &[]), None),
            (one, to("9.9.9.9", "tcp", Some(80), &["b.example", "a.example"]), Some("a.example:80")),
            (one, to("9.9.9.9", "tcp", Some(80), &["b.example"]), Some("9.9.9.9:80")),
            (one, to("10.0.0.5", "tcp", Some(80), &["a.example"]), Some("10.0.0.5:80")),
        ] {
            let policy: Policy = policy.parse().unwrap();
            assert_eq!(refused.rule(&policy).as_deref(), rule, "{refused:?}");
            let Some(rule) = rule else { continue };
            let text = if policy.allow.is_empty() { "internet,allow=".into() } else { format!("{policy},") };
            (text + rule).parse::<Policy>().unwrap();
        }
    }

    #[test]
    fn what_a_guest_asks_for_is_no_address_and_no_star_in_a_hint() {
        let one: Policy = "allow=*.a.example".parse().unwrap();
        for hostile in [
            "169.254.169.254",
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.0/8",
            "0.0.0.0/1",
            "1.2.3",
            "0x7f.1",
            "2130706433",
            "[::1]",
            "[fd00:ec2::254]",
            "::1",
            "*",
            r"\*",
            "*.com",
            "*.a.example",
            "a.*.example",
            "",
            ".",
            "b.example.",
            " b.example",
            "b.example:22",
            "b.example,127.0.0.1",
            "allow=b.example",
            "b.example\n127.0.0.1",
            r"b\.example",
            "B.example",
            "bücher.example",
            "１２７.0.0.1",
        ] {
            let asked = NameRefused { name: hostile.to_owned(), kind: 1, why: Why::NotInPolicy, count: 1 };
            assert_eq!(rule_of_name(&asked, &one), None, "{hostile:?}");
            let to = Refused {
                address: [9, 9, 9, 9].into(),
                protocol: "tcp".to_owned(),
                port: Some(1),
                packets: 1,
            };
            let refused = RefusedDestination { to, names: vec![hostile.to_owned()] };
            assert_eq!(refused.rule(&one).as_deref(), Some("9.9.9.9:1"), "{hostile:?}");
        }
        for never in [
            "169.254.169.254",
            "169.254.1.1",
            "100.100.100.200",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            let address = never.parse().unwrap();
            let why = Why::Denied { address, range: String::new() };
            let asked = NameRefused { name: "b.example".to_owned(), kind: 1, why, count: 1 };
            let to = Refused { address, protocol: "tcp".to_owned(), port: Some(1), packets: 1 };
            let refused = RefusedDestination { to, names: vec!["b.a.example".to_owned()] };
            for policy in [&one, &Policy::internet()] {
                assert_eq!(rule_of_name(&asked, policy), None, "{never}");
                assert_eq!(refused.rule(policy), None, "{never}");
            }
        }
    }

    #[test]
    fn a_name_lacks_a_rule_or_its_address_does() {
        let name = |name: &str, why| NameRefused { name: name.to_owned(), kind: 1, why, count: 1 };
        let denied = |address: &str| Why::Denied { address: address.parse().unwrap(), range: String::new() };
        for (policy, refused, rule) in [
            ("allow=a.example", name("b.example", Why::NotInPolicy), Some("b.example:PORT")),
            ("allow=a.example", name("_http._tcp.b.example", Why::NotInPolicy), None),
            ("allow=a.example", name(r"a\,internet", Why::NotInPolicy), None),
            ("allow=a.example", name("a,b", Why::NotInPolicy), None),
            ("internet", name("db.corp", denied("10.0.0.5")), Some("10.0.0.5:PORT")),
            ("internet", name("meta.example", denied("169.254.169.254")), None),
            ("internet", name("a.example", Why::NoAnswer), None),
        ] {
            assert_eq!(rule_of_name(&refused, &policy.parse().unwrap()).as_deref(), rule, "{refused:?}");
        }
    }
}
