//! Who may reach what.
//!
//! Purpose: the policies of network cards as values; `text` reads and prints them.
//! Owner: whoever takes a VM says its policy; the namespace's rules and the resolver enforce it.
//!
//! Invariants
//! - **A name opens only places of the internet.** Whoever serves a name decides what it resolves to, so that
//!   `*.example.org` must not be a way to the metadata address. An address of a denied range ([`denied`](crate::denied))
//!   is reached by a rule with that address or its network only, and then on the ports of that rule. So a host of one's
//!   own network is allowed as `db.corp,10.1.2.3:5432`: the name, so that it resolves, and the address.
//! - Under [`Base::Internet`] a name would open nothing more, and is refused when the policy is read.
//! - The same holds of what only the host knows to be denied, its own addresses.

mod text;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use text::{Fault, PolicyError, looks_numeric};

/// What a guest's card leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What is reachable by itself.
    pub base: Base,
    /// What is reachable besides, also where it would be denied.
    pub allow: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::none()
    }
}

impl Policy {
    /// Nothing is reachable.
    pub const fn none() -> Self {
        Self { base: Base::Nothing, allow: Vec::new() }
    }

    /// The internet is reachable, and nothing else.
    pub const fn internet() -> Self {
        Self { base: Base::Internet, allow: Vec::new() }
    }

    /// Whether a rule with addresses opens this one, on some port; it then counts even where it is denied.
    pub fn opens(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow
            .iter()
            .any(|rule| matches!(rule.target, Target::Net(network) if network.contains(&address)))
    }

    /// Whether an answer of the resolver may have this address.
    pub fn may_answer(&self, address: IpAddr) -> bool {
        crate::denied(address).is_none() || self.opens(address)
    }

    /// The ports that rules with names open of this name's addresses (lower case, no final dot), all before one.
    pub fn ports_of(&self, name: &str) -> Vec<Ports> {
        let mut ports = Vec::new();
        // an escaped byte of a label, a dot perhaps: no host's name
        if name.contains('\\') {
            return ports;
        }
        for rule in &self.allow {
            if matches!(&rule.target, Target::Name(pattern) if fits(pattern, name))
                && !ports.contains(&rule.ports)
            {
                ports.push(rule.ports);
            }
        }
        if ports.contains(&Ports::All) { vec![Ports::All] } else { ports }
    }

    /// Whether the resolver asks for this name at all.
    pub fn resolves(&self, name: &str) -> bool {
        self.base == Base::Internet || !self.ports_of(name).is_empty()
    }

    /// Whether a name below this one is allowed, so that nobody may say that there is none.
    pub fn resolves_below(&self, name: &str) -> bool {
        self.allow.iter().any(
            |rule| matches!(&rule.target, Target::Name(pattern) if name.is_empty() || below(pattern, name)),
        )
    }
}

fn below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => below(name, parent),
        None => pattern == name,
    }
}

/// What is reachable by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Nothing.
    Nothing,
    /// Every address but private, shared, loopback, link-local, multicast and reserved ones, those of clouds' metadata,
    /// of this host, and of other guests.
    Internet,
}

/// One thing that is reachable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Who.
    pub target: Target,
    /// On which ports.
    pub ports: Ports,
}

/// Who is reachable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Whatever addresses the resolver has for a name (lower case, no final dot), for as long as it says; with `*.` in
    /// front every name below it, and not itself.
    Name(String),
    /// A range of addresses, or one.
    Net(IpNet),
}

/// Ports of TCP and UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// Each, and ICMP.
    All,
    /// This one, no ICMP.
    One(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_every_name_below_and_not_the_name_itself() {
        let policy: Policy = "allow=*.example.org:443,example.com".parse().unwrap();
        assert_eq!(policy.ports_of("a.example.org"), [Ports::One(443)]);
        assert_eq!(policy.ports_of("a.b.example.org"), [Ports::One(443)]);
        assert_eq!(policy.ports_of("example.com"), [Ports::All]);
        for other in ["example.org", ".example.org", "aexample.org", "a.example.com", "org", ""] {
            assert!(!policy.resolves(other), "{other}");
        }
        assert!(policy.resolves_below("example.org") && policy.resolves_below("org"));
        assert!(policy.resolves_below("") && policy.resolves_below("com"));
        assert!(!policy.resolves_below("a.example.org") && !policy.resolves_below("example.com"));
    }

    #[test]
    fn a_name_opens_no_denied_address_but_a_network_does() {
        let name: Policy = "allow=db.corp:5432".parse().unwrap();
        assert!(!name.may_answer("10.1.2.3".parse().unwrap()));
        assert!(name.may_answer("9.9.9.9".parse().unwrap()));
        let both: Policy = "allow=db.corp,10.1.2.3:5432".parse().unwrap();
        assert!(both.may_answer("10.1.2.3".parse().unwrap()));
        assert!(both.may_answer("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!both.may_answer("10.1.2.4".parse().unwrap()));
        assert!(!both.may_answer("64:ff9b::10.1.2.3".parse().unwrap()), "another address on the wire");
    }
}
