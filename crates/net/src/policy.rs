//! Who may reach what.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What a guest's card leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What is reachable by itself.
    pub base: Base,
    /// What is reachable besides, also where it would be denied.
    pub allow: Vec<Rule>,
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
