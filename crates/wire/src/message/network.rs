//! The ways out of a guest: its network card, and names that lead to the host over the link.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// What a guest has of a network. Said by `Prepare` and by each `Bind`; a later one takes the place of what was said
/// before, and connections over forwards that are no longer in it are reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// Its card, configured and up; none: down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
    /// The names of its processes' resolver, which the agent answers; none: `/etc/resolv.conf` stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// Names that lead to the host over the link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
}

/// Addresses of the network card. They are the same in every guest, so that a fork of one keeps them: what makes guests
/// different is on the host's side of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Card {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// How many bits of it are the network's.
    pub v4_prefix: u8,
    /// Where all other addresses lead.
    pub v4_gateway: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// How many bits of it are the network's.
    pub v6_prefix: u8,
    /// Where all other addresses lead.
    pub v6_gateway: Ipv6Addr,
    /// The gateway's Ethernet address, so that nobody has to ask for it.
    pub gateway_mac: [u8; 6],
    /// Largest packet in bytes.
    pub mtu: u16,
}

/// The resolver that the agent is for the guest's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Names {
    /// Where it listens, port 53, UDP and TCP: an address that the guest gets for this. Not of the loopback network, so
    /// that containers reach it.
    pub address: Ipv4Addr,
    /// Who answers for a name that is no forward.
    pub others: Others,
}

/// Who answers for a name that is no forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// Nobody: there is no such name.
    Nobody,
    /// The host, over a stream to its service [`Open::DNS`](super::Open::DNS), of messages as DNS has them over TCP:
    /// each behind its length (`u16`, big endian), in both directions, answers in any order.
    Host,
}

/// A name that leads to the host: the guest gets an address for it, and a connection to one of its ports becomes a stream
/// (`Open`) whose service is `forward:NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// A host name, in lower case.
    pub name: String,
    /// What the name resolves to in the guest.
    pub address: Ipv4Addr,
    /// The ports that are listened on, TCP.
    pub ports: Vec<u16>,
}

impl Forward {
    /// Whether a text can be the name of one: a host name, in lower case, as names are compared.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
                })
        };
        name.len() <= 253 && name.split('.').all(label)
    }
}
