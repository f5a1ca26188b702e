//! The ranges that no policy opens by itself, as data: for the rules, the resolver and the book.
//!
//! Purpose: one table says what is private, shared, local, reserved or otherwise not a place of the internet.
//! Owner: nobody; it is data and pure functions of it.
//!
//! Invariants
//! - More special ranges stand before the ones that they are part of: the first that fits names an address.
//! - An IPv6 address in which an IPv4 address is told how to be reached (IPv4-mapped, 6to4, NAT64's well-known prefix)
//!   is treated as that one. The other embeddings are denied as a whole: IPv4-compatible ones and Teredo are gone from
//!   the internet, and where 64:ff9b:1::/48 hides an address is known to its network only.
//! - On the wire an IPv4-mapped address is never right: [`networks_v6`] has all of them.
//! - The IPv6 list is one of what is denied, but everything outside of 2000::/3 and NAT64's prefix is on it (but for the
//!   rest of the block around that prefix, which nobody has): overlay networks live there, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One range that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// What it is for, in a word or two.
    pub name: &'static str,
    /// Its addresses.
    pub network: IpNet,
    /// Who says so.
    pub source: &'static str,
}

const fn v4(name: &'static str, address: [u8; 4], prefix: u8, source: &'static str) -> Range {
    let [a, b, c, d] = address;
    Range { name, network: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)), source }
}

const fn v6(name: &'static str, address: [u16; 8], prefix: u8, source: &'static str) -> Range {
    let [a, b, c, d, e, f, g, h] = address;
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    Range { name, network: IpNet::V6(Ipv6Net::new_assert(address, prefix)), source }
}

/// What is denied, of both families.
pub static RANGES: &[Range] = &[
    v4("metadata", [169, 254, 169, 254], 32, "AWS, Azure, GCP and others"),
    v4("metadata", [100, 100, 100, 200], 32, "Alibaba Cloud"),
    v4("metadata", [168, 63, 129, 16], 32, "Azure"),
    v4("this network", [0, 0, 0, 0], 8, "RFC 791"),
    v4("private", [10, 0, 0, 0], 8, "RFC 1918"),
    v4("shared (CGNAT)", [100, 64, 0, 0], 10, "RFC 6598"),
    v4("loopback", [127, 0, 0, 0], 8, "RFC 1122"),
    v4("link-local", [169, 254, 0, 0], 16, "RFC 3927"),
    v4("private", [172, 16, 0, 0], 12, "RFC 1918"),
    v4("protocol assignments", [192, 0, 0, 0], 24, "RFC 6890"),
    v4("documentation", [192, 0, 2, 0], 24, "RFC 5737"),
    v4("6to4 relays", [192, 88, 99, 0], 24, "RFC 7526"),
    v4("private", [192, 168, 0, 0], 16, "RFC 1918"),
    v4("benchmarking", [198, 18, 0, 0], 15, "RFC 2544"),
    v4("documentation", [198, 51, 100, 0], 24, "RFC 5737"),
    v4("documentation", [203, 0, 113, 0], 24, "RFC 5737"),
    v4("multicast", [224, 0, 0, 0], 4, "RFC 5771"),
    v4("broadcast", [255, 255, 255, 255], 32, "RFC 919"),
    v4("reserved", [240, 0, 0, 0], 4, "RFC 1112"),
    v6("metadata", [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, "AWS"),
    v6("metadata", [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, "GCP"),
    v6("unspecified", [0, 0, 0, 0, 0, 0, 0, 0], 128, "RFC 4291"),
    v6("loopback", [0, 0, 0, 0, 0, 0, 0, 1], 128, "RFC 4291"),
    v6("IPv4-compatible", [0, 0, 0, 0, 0, 0, 0, 0], 96, "RFC 4291"),
    v6("reserved", [0, 0, 0, 0, 0, 0, 0, 0], 10, "RFC 4291"),
    v6("local NAT64", [0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "RFC 8215"),
    v6("reserved", [0x80, 0, 0, 0, 0, 0, 0, 0], 9, "RFC 4291"),
    v6("discard", [0x100, 0, 0, 0, 0, 0, 0, 0], 64, "RFC 6666"),
    v6("reserved", [0x100, 0, 0, 0, 0, 0, 0, 0], 8, "RFC 4291"),
    v6("reserved", [0x200, 0, 0, 0, 0, 0, 0, 0], 7, "RFC 4291"),
    v6("reserved", [0x400, 0, 0, 0, 0, 0, 0, 0], 6, "RFC 4291"),
    v6("reserved", [0x800, 0, 0, 0, 0, 0, 0, 0], 5, "RFC 4291"),
    v6("reserved", [0x1000, 0, 0, 0, 0, 0, 0, 0], 4, "RFC 4291"),
    v6("Teredo", [0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "RFC 4380"),
    v6("benchmarking", [0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "RFC 5180"),
    v6("protocol assignments", [0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "RFC 2928"),
    v6("documentation", [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "RFC 3849"),
    v6("documentation", [0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "RFC 9637"),
    v6("segment routing", [0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "RFC 9602"),
    v6("reserved", [0x4000, 0, 0, 0, 0, 0, 0, 0], 2, "RFC 4291"),
    v6("reserved", [0x8000, 0, 0, 0, 0, 0, 0, 0], 2, "RFC 4291"),
    v6("reserved", [0xc000, 0, 0, 0, 0, 0, 0, 0], 3, "RFC 4291"),
    v6("reserved", [0xe000, 0, 0, 0, 0, 0, 0, 0], 4, "RFC 4291"),
    v6("reserved", [0xf000, 0, 0, 0, 0, 0, 0, 0], 5, "RFC 4291"),
    v6("reserved", [0xf800, 0, 0, 0, 0, 0, 0, 0], 6, "RFC 4291"),
    v6("unique local", [0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "RFC 4193"),
    v6("reserved", [0xfe00, 0, 0, 0, 0, 0, 0, 0], 9, "RFC 4291"),
    v6("link-local", [0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "RFC 4291"),
    v6("site-local", [0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "RFC 3879"),
    v6("multicast", [0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "RFC 4291"),
];

/// The range for which an address is denied.
pub fn denied(address: IpAddr) -> Option<&'static Range> {
    let address = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    RANGES.iter().find(|range| range.network.contains(&address))
}

/// The IPv4 address that is reached when this one is used: IPv4-mapped, NAT64's well-known prefix, 6to4.
pub fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let whole = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(whole(g, h)),
        [0x2002, high, low, ..] => Some(whole(high, low)),
        _ => None,
    }
}

/// The denied IPv4 networks, none within another.
pub fn networks_v4() -> Vec<Ipv4Net> {
    let networks = RANGES.iter().filter_map(|range| match range.network {
        IpNet::V4(network) => Some(network),
        IpNet::V6(_) => None,
    });
    Ipv4Net::aggregate(&networks.collect())
}

/// The denied IPv6 networks, none within another, with those of the denied IPv4 networks behind NAT64 and 6to4.
pub fn networks_v6() -> Vec<Ipv6Net> {
    let mut networks: Vec<Ipv6Net> = RANGES
        .iter()
        .filter_map(|range| match range.network {
            IpNet::V6(network) => Some(network),
            IpNet::V4(_) => None,
        })
        .collect();
    for network in networks_v4() {
        let bits = u128::from(network.network().to_bits());
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b << 96) | bits);
        let six_to_four = Ipv6Addr::from_bits((0x2002 << 112) | (bits << 80));
        networks.extend(Ipv6Net::new(nat64, 96 + network.prefix_len()));
        networks.extend(Ipv6Net::new(six_to_four, 16 + network.prefix_len()));
    }
    Ipv6Net::aggregate(&networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(address: &str) -> Option<&'static str> {
        denied(address.parse().unwrap()).map(|range| range.name)
    }

    #[test]
    fn places_of_the_internet_are_not_denied() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:200::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(name(address), None, "{address}");
        }
    }

    #[test]
    fn the_most_special_range_names_an_address() {
        for (address, expected) in [
            ("0.0.0.0", "this network"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared (CGNAT)"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("127.0.0.53", "loopback"),
            ("169.254.169.254", "metadata"),
            ("169.254.170.2", "link-local"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("198.19.0.53", "benchmarking"),
            ("203.0.113.1", "documentation"),
            ("239.255.255.250", "multicast"),
            ("250.1.1.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::10.0.0.1", "IPv4-compatible"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::ffff:10.0.0.1", "private"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::ffff:0:10.0.0.1", "reserved"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b:1::8.8.8.8", "local NAT64"),
            ("2002:c0a8:101::1", "private"),
            ("2002:a9fe:a9fe::", "metadata"),
            ("2001:0:53aa:64c:0:7b07:f5ff:fffe", "Teredo"),
            ("2001:db8::1", "documentation"),
            ("201:1234::1", "reserved"),
            ("fd00:ec2::254", "metadata"),
            ("fd61:6d70:6f75:6c65::2", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(name(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_special_range_stands_before_the_one_around_it() {
        for (at, range) in RANGES.iter().enumerate() {
            assert_eq!(range.network.trunc(), range.network, "bits behind the prefix");
            for later in &RANGES[at + 1..] {
                assert!(!range.network.contains(&later.network), "{later:?} is hidden by {range:?}");
            }
        }
    }

    #[test]
    fn all_of_ipv6_but_what_is_assigned_is_denied() {
        let free = |word: u16| denied(Ipv6Addr::new(word, 0x4321, 0, 0, 1, 0, 0, 1).into()).is_none();
        let reachable: Vec<u16> = (0..=u16::MAX).filter(|&word| free(word)).collect();
        assert!(reachable.iter().all(|word| (0x2000..0x4000).contains(word) || (0x40..0x80).contains(word)));
        assert_eq!(reachable.iter().filter(|word| **word >= 0x2000).count(), 0x2000);
    }

    #[test]
    fn the_networks_are_disjoint_and_say_the_same() {
        let (four, six) = (networks_v4(), networks_v6());
        for (at, network) in four.iter().enumerate() {
            assert!(four[at + 1..].iter().all(|other| !other.contains(network) && !network.contains(other)));
        }
        for (at, network) in six.iter().enumerate() {
            assert!(six[at + 1..].iter().all(|other| !other.contains(network) && !network.contains(other)));
        }
        let within =
            |address: &str| six.iter().any(|net| net.contains(&address.parse::<Ipv6Addr>().unwrap()));
        for address in
            ["64:ff9b::10.1.2.3", "2002:a01:203::1", "::ffff:8.8.8.8", "fd00::1", "64:ff9b::168.63.129.16"]
        {
            assert!(within(address), "{address}");
        }
        for address in ["64:ff9b::8.8.8.8", "2002:808:808::1", "2606:4700::1111"] {
            assert!(!within(address), "{address}");
        }
    }
}
