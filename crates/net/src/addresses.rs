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
/// Ethernet address of every guest's card, which its backend gives it: locally administered.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x61, 0x6d, 0x70, 0x00, 0x01];
/// What the kernel makes of [`GUEST_MAC`] by itself.
pub(crate) const GUEST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x61, 0x6dff, 0xfe70, 1);
/// Ethernet address of the way out.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x61, 0x6d, 0x70, 0x00, 0x02];
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

/// Of the links between routers and their host, two addresses each.
pub(crate) const UPLINKS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 64, 0), 18);
/// As [`UPLINKS_V4`].
pub(crate) const UPLINKS_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd61, 0x6d70, 0x6f75, 0x6c65, 2, 0, 0, 0), 112);

/// Ethernet addresses of the ends of each link between a VM's namespace and the router's: the VM's, the router's.
pub(crate) const LINK_MACS: [[u8; 6]; 2] =
    [[0x02, 0x61, 0x6d, 0x70, 0x01, 0x01], [0x02, 0x61, 0x6d, 0x70, 0x01, 0x02]];

/// Of the link between a router and its host: the router's end, and where that sends what is for the host. The host's end
/// has another address: see `ruleset::host`.
pub(crate) const UPLINK_MACS: [[u8; 6]; 2] =
    [[0x02, 0x61, 0x6d, 0x70, 0x02, 0x01], [0x02, 0x61, 0x6d, 0x70, 0x02, 0x02]];

/// One of the links of two addresses: `near` is the end that is nearer to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) near_v4: Ipv4Addr,
    pub(crate) far_v4: Ipv4Addr,
    pub(crate) near_v6: Ipv6Addr,
    pub(crate) far_v6: Ipv6Addr,
}

/// How many links there are between VMs and a router.
pub(crate) const LINKS: u32 = 1 << (31 - 17);
/// How many links there are between routers and a host.
pub(crate) const UPLINKS: u32 = 1 << (31 - 18);

impl Pair {
    /// Link number `index` between a VM and its router.
    pub(crate) fn link(index: u32) -> Self {
        Self::of(LINKS_V4, LINKS_V6, index)
    }

    /// Link number `index` between a router and its host.
    pub(crate) fn uplink(index: u32) -> Self {
        Self::of(UPLINKS_V4, UPLINKS_V6, index)
    }

    fn of(v4: Ipv4Net, v6: Ipv6Net, index: u32) -> Self {
        let far_v4 = Ipv4Addr::from_bits(v4.network().to_bits() + 2 * index);
        let far_v6 = Ipv6Addr::from_bits(v6.network().to_bits() + 2 * u128::from(index));
        Self {
            near_v4: Ipv4Addr::from_bits(far_v4.to_bits() + 1),
            far_v4,
            near_v6: Ipv6Addr::from_bits(far_v6.to_bits() + 1),
            far_v6,
        }
    }
}

/// An Ethernet address as people write it.
pub(crate) fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_links_are_in_their_ranges() {
        let (link, uplink) = (Pair::link(LINKS - 1), Pair::uplink(UPLINKS - 1));
        assert_eq!(link.near_v4, LINKS_V4.broadcast());
        assert!(LINKS_V6.contains(&link.near_v6));
        assert_eq!(uplink.near_v4, UPLINKS_V4.broadcast());
        assert!(UPLINKS_V6.contains(&uplink.near_v6));
        assert_eq!(Pair::link(0).far_v4.to_string(), "198.18.128.0");
        assert_eq!(Pair::link(1).near_v6.to_string(), "fd61:6d70:6f75:6c65:1::3");
        assert_eq!(mac(GATEWAY_MAC), "02:61:6d:70:00:02");
    }
}
