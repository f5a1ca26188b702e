//! Which rules would open what a VM was refused.
//!
//! Purpose: a hint for whoever reads that something was refused. It is never applied by itself.
//! Invariants: each is a rule that a policy takes, but for [`PORT`] in place of a port that nobody knows; none opens a
//! cloud's metadata, or what a policy cannot open.

use std::net::{IpAddr, Ipv6Addr};

use net::{Base, NameRefused, Policy, Why};

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

fn is_rule(name: &str) -> bool {
    format!("allow={name}").parse::<Policy>().is_ok_and(|policy| policy.allow.len() == 1)
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
