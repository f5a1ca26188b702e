//! The addresses inside: of guests, of what their agents listen on, of the links between namespaces.
//!
//! All IPv4 ones are of 198.18.0.0/15, which RFC 2544 keeps for benchmarks of network devices: no host has them, no job
//! needs them, and they are denied as reserved. The IPv6 ones are unique local addresses (RFC 4193); with such a source
//! address resolvers prefer IPv4 where a name has both (RFC 6724).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Every guest's card.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The bits of it that are the network's.
pub const V4_PREFIX: u8 = 30;
/// The way out, in the VM's namespace.
pub const V4_GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Every guest's card; the first eight bytes say `ampoule` in ASCII behind `fd`.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd61, 0x6d70, 0x6f75, 0x6c65, 0, 0, 0, 2);
/// The bits of it that are the network's.
pub const V6_PREFIX: u8 = 64;
/// The way out, in the VM's namespace.
pub const V6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd61, 0x6d70, 0x6f75, 0x6c65, 0, 0, 0, 1);
/// Ethernet address of the way out: locally administered.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x61, 0x6d, 0x70, 0x00, 0x01];
/// Largest packet in bytes, on every link inside.
pub const MTU: u16 = 1500;

/// Where the agent answers for names.
pub const NAMES: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 53);
/// What forwarded names resolve to: the first from its second address on.
pub const FORWARDS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 19, 1, 0), 24);

/// Of the links between VMs' namespaces and the router's, two addresses each.
pub const LINKS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 128, 0), 17);
/// As [`LINKS_V4`].
pub const LINKS_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd61, 0x6d70, 0x6f75, 0x6c65, 1, 0, 0, 0), 112);
