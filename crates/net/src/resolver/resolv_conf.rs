//! The host's `/etc/resolv.conf`: whom to ask.
//!
//! Owner: `upstream`, which follows the file.
//!
//! Invariants: `nameserver` and the options `timeout` and `attempts` count; `search` and `domain` do not, since a guest
//! asks for whole names; `/etc/hosts` is not read, since it says names of the host's own network.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

/// As much of the file as is read.
const MAX_TEXT: usize = 64 * 1024;
/// As many servers as the C library asks.
const MAX_SERVERS: usize = 3;

/// Whom to ask, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// One after the other, until one answers.
    pub addresses: Vec<SocketAddr>,
    /// For each.
    pub timeout: Duration,
    /// How often each is asked.
    pub attempts: u32,
}

impl Servers {
    /// These, with the usual times.
    pub fn of(addresses: Vec<SocketAddr>) -> Self {
        // less than the five seconds after which a guest asks again, so that it has the second server's answer by then
        Self { addresses, timeout: Duration::from_secs(2), attempts: 2 }
    }

    /// What the text of a resolv.conf says. A host without servers asks itself, as its C library does.
    pub fn parse(text: &str) -> Self {
        let mut servers = Self::of(Vec::new());
        let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        for line in text[..end].lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers.addresses.len() < MAX_SERVERS => {
                    servers.addresses.extend(words.next().and_then(address));
                }
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        if servers.addresses.is_empty() {
            servers.addresses.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        servers
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 5))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
}

/// An address with port 53; link-local ones say their interface by name or number behind a `%`.
fn address(word: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, 53));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let plain = !zone.is_empty()
        && zone.len() < 16
        && !zone.starts_with('.')
        && zone.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let scope = match zone.parse() {
        Ok(number) => number,
        Err(_) if plain => {
            fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?.trim().parse().ok()?
        }
        Err(_) => return None,
    };
    Some(SocketAddrV6::new(address, 53, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        Servers::parse(text).addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_and_two_options_count() {
        let text = "# made by hand\nsearch corp.example\nnameserver 192.0.2.1 # first\n nameserver\t2001:db8::53\n\
            nameserver fe80::1%2\nnameserver 192.0.2.4\noptions edns0 timeout:1 attempts:9 rotate\n";
        let servers = Servers::parse(text);
        assert_eq!(addresses(text), ["192.0.2.1:53", "[2001:db8::53]:53", "[fe80::1%2]:53"]);
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(1), 5));
    }

    #[test]
    fn what_is_no_server_is_left_out() {
        assert_eq!(addresses(""), ["127.0.0.1:53"]);
        assert_eq!(addresses("nameserver\nnameserver x\nnameserver fe80::1%../..\n"), ["127.0.0.1:53"]);
        assert_eq!(addresses("options timeout: attempts:x timeout:99999999999\n"), ["127.0.0.1:53"]);
        assert_eq!(addresses("nameserver fe80::1%lo\n"), ["[fe80::1%1]:53"]);
    }
}
