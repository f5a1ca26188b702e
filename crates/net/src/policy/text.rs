//! Policies as people write them: for `--network`, and as lists in configuration.
//!
//! ```text
//! policy = "none" | "internet" | [("none" | "internet") ","] "allow=" rule {"," rule}
//! rule   = target [":" port]
//! target = name | "*." name | IPv4 ["/" bits] | "[" IPv6 ["/" bits] "]"
//! ```
//!
//! Invariants
//! - A name is one of a host: letters, digits and hyphens, at most 63 to a label and 253 in all. It is kept in lower
//!   case, without a final dot, and what is not ASCII in its IDNA form (`xn--…`). No underscore: it would be no host's,
//!   and names below a host that have one are found by a rule with a star.
//! - What looks like an address is one: a name whose last label is a number is refused.
//! - What is printed is read as the same policy.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Base, Policy, Ports, Rule, Target};

/// Longest text.
const MAX_TEXT: usize = 16 * 1024;
/// Most rules.
const MAX_RULES: usize = 256;

/// Why a policy was not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} ({}at offset {at})", rule.map(|rule| format!("rule {}, ", rule + 1)).unwrap_or_default())]
pub struct PolicyError {
    /// Which of a list's rules, from 0; none for a text.
    pub rule: Option<usize>,
    /// In bytes, from the begin of the text or of that rule.
    pub at: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a policy, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another word than those that begin a policy.
    #[error(
        "{0:?} begins no policy: write none, internet, allow=HOST:PORT,… or internet,allow=ADDRESS:PORT,…"
    )]
    Word(String),
    /// Nothing where a rule should be.
    #[error("a host is missing: write NAME:PORT, *.NAME:PORT, ADDRESS:PORT or ADDRESS/BITS")]
    Missing,
    /// Not a port.
    #[error("{0:?} is no port: write one number from 1 to 65535, or none for all ports")]
    Port(String),
    /// `allow=` before another rule than the first.
    #[error("allow= begins the list of rules, once: write this rule without it")]
    AllowAgain,
    /// A URL.
    #[error("a rule is no URL: write NAME:PORT, as registry.example.org:443")]
    Url,
    /// IPv6 without brackets: which colon begins the port?
    #[error("IPv6 stands in brackets: write [2001:db8::1]:443 or [2001:db8::/32]")]
    Brackets,
    /// A bracket that is open, or something behind it.
    #[error("brackets hold one IPv6 address or network: write [2001:db8::1]:443 or [2001:db8::/32]")]
    InBrackets,
    /// Looks like an address and is none.
    #[error("{0:?} is no address: write one as 10.1.2.3 or [2001:db8::1]")]
    Address(String),
    /// Not a prefix.
    #[error("{0:?} is no length of a prefix: write 1 to {1} bits")]
    Prefix(String, u8),
    /// A network with an address of a host.
    #[error("bits are set behind the prefix: write {network}, or {address} for this address alone")]
    HostBits {
        /// The network that was meant.
        network: String,
        /// The address that was meant.
        address: String,
    },
    /// All addresses at once.
    #[error(
        "a network of everything would hold the host's and its neighbours: write internet, and other networks one by one"
    )]
    Everything,
    /// IPv4 in IPv6's clothes.
    #[error("an IPv4-mapped address is never on the wire: write the IPv4 address")]
    Mapped,
    /// A star that is not the first label.
    #[error("a star stands for all names below one: write *.example.org")]
    Star,
    /// Two dots.
    #[error("a part of the name is missing: write a name as registry.example.org")]
    EmptyLabel,
    /// Not of a host's name.
    #[error("{0:?} is not part of a host's name: write letters, digits, hyphens and dots")]
    Character(char),
    /// At the edge of a label.
    #[error("a part of a name neither begins nor ends with a hyphen")]
    Hyphen,
    /// Too long.
    #[error("the name is too long: 63 bytes in each part, 253 in all")]
    Long,
    /// Not a name by IDNA.
    #[error("{0:?} is no internationalised name: write its ASCII form, xn--…")]
    Idna(String),
    /// A name beside the internet.
    #[error(
        "internet resolves and opens every public name already, and a name opens nothing else: write addresses here, as 10.1.2.3:443"
    )]
    NameInInternet,
    /// More than anybody needs.
    #[error("too long: at most 16 KiB and 256 rules")]
    TooMuch,
}

type Faulty = (usize, Fault);

impl Policy {
    /// Of a list of rules, as configuration has it.
    pub fn new<'a>(base: Base, rules: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let mut allow = Vec::new();
        for (index, text) in rules.into_iter().enumerate() {
            let error = |(at, fault)| PolicyError { rule: Some(index), at, fault };
            if index >= MAX_RULES || text.len() > MAX_TEXT {
                return Err(error((0, Fault::TooMuch)));
            }
            allow.push(rule(text, base).map_err(error)?);
        }
        Ok(Self { base, allow })
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        policy(text).map_err(|(at, fault)| PolicyError { rule: None, at, fault })
    }
}

fn policy(text: &str) -> Result<Policy, Faulty> {
    if text.len() > MAX_TEXT {
        return Err((MAX_TEXT, Fault::TooMuch));
    }
    let mut at = text.len() - text.trim_start().len();
    let (base, rest) = {
        let (word, rest) = text[at..].split_once(',').map_or((&text[at..], None), |(a, b)| (a, Some(b)));
        match word.trim_end() {
            "none" => (Base::Nothing, rest),
            "internet" => (Base::Internet, rest),
            _ => (Base::Nothing, Some(&text[at..])),
        }
    };
    let Some(rest) = rest else { return Ok(Policy { base, allow: Vec::new() }) };
    at = text.len() - rest.trim_start().len();
    let Some(rules) = rest.trim_start().strip_prefix("allow=") else {
        let word = rest.trim_start().split([',', '=']).next().unwrap_or_default().trim_end();
        return Err((at, Fault::Word(word.chars().take(80).collect())));
    };
    at = text.len() - rules.len();
    let mut allow = Vec::new();
    for part in rules.split(',') {
        if allow.len() >= MAX_RULES {
            return Err((at, Fault::TooMuch));
        }
        allow.push(rule(part, base).map_err(|(within, fault)| (at + within, fault))?);
        at += part.len() + 1;
    }
    Ok(Policy { base, allow })
}

/// One rule; offsets are from the begin of its text.
fn rule(text: &str, base: Base) -> Result<Rule, Faulty> {
    let at = text.len() - text.trim_start().len();
    let text = text.trim();
    let shift = |(within, fault): Faulty| (at + within, fault);
    if text.is_empty() {
        return Err((at, Fault::Missing));
    }
    if text.starts_with("allow=") {
        return Err((at, Fault::AllowAgain));
    }
    if text.contains("://") {
        return Err((at, Fault::Url));
    }
    let (target, port_at) = target(text).map_err(shift)?;
    if base == Base::Internet && matches!(target, Target::Name(_)) {
        return Err((at, Fault::NameInInternet));
    }
    let ports = match text[port_at..].strip_prefix(':') {
        None => Ports::All,
        Some(digits) => Ports::One(port(digits).ok_or((at + port_at + 1, Fault::Port(digits.to_owned())))?),
    };
    Ok(Rule { target, ports })
}

fn port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0)
}

/// What is reached, and where the text of the ports begins.
fn target(text: &str) -> Result<(Target, usize), Faulty> {
    if let Some(inner) = text.strip_prefix('[') {
        let close = inner.find(']').ok_or((0, Fault::InBrackets))?;
        let behind = &inner[close + 1..];
        if !(behind.is_empty() || behind.starts_with(':')) {
            return Err((close + 2, Fault::InBrackets));
        }
        let network = network_v6(&inner[..close]).map_err(|(at, fault)| (at + 1, fault))?;
        return Ok((Target::Net(network), close + 2));
    }
    if is_bare_v6(text) {
        return Err((0, Fault::Brackets));
    }
    if let Some(slash) = text.find('/') {
        let end = text[slash..].find(':').map_or(text.len(), |colon| slash + colon);
        return Ok((Target::Net(network_v4(&text[..end])?), end));
    }
    let end = text.find(':').unwrap_or(text.len());
    let host = &text[..end];
    if looks_numeric(host) {
        return Ok((Target::Net(network_v4(host)?), end));
    }
    Ok((Target::Name(name(host)?), end))
}

/// Whether it is IPv6 that lacks its brackets, whatever stands behind: a second port is none.
fn is_bare_v6(text: &str) -> bool {
    let before_slash = text.split_once('/').map_or(text, |(address, _)| address);
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    is_v6(before_slash) || text.rsplit_once(':').is_some_and(|(host, _)| is_v6(host)) || text.contains("::")
}

/// Whether the last label is a number, which no host's is: what has one is an address, or a mistake. A C library takes
/// some of them for addresses (`1.2.3`, `0x7f.1`), so that no resolver is asked for them.
pub fn looks_numeric(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let hexadecimal = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

fn prefix(text: Option<&str>, at: usize, most: u8) -> Result<u8, Faulty> {
    let Some(text) = text else { return Ok(most) };
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u8>() {
        Ok(0) if plain => Err((at, Fault::Everything)),
        Ok(bits) if plain && bits <= most => Ok(bits),
        _ => Err((at, Fault::Prefix(text.to_owned(), most))),
    }
}

fn parts(text: &str) -> (&str, Option<&str>, usize) {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    (address, bits, address.len() + 1)
}

fn network_v4(text: &str) -> Result<IpNet, Faulty> {
    let (address, bits, bits_at) = parts(text);
    let address: Ipv4Addr = address.parse().map_err(|_| (0, Fault::Address(address.to_owned())))?;
    let bits = prefix(bits, bits_at, 32)?;
    whole(Ipv4Net::new(address, bits).map(IpNet::V4), address.into())
}

fn network_v6(text: &str) -> Result<IpNet, Faulty> {
    let (address, bits, bits_at) = parts(text);
    let address: Ipv6Addr = address.parse().map_err(|_| (0, Fault::Address(address.to_owned())))?;
    let bits = prefix(bits, bits_at, 128)?;
    if address.to_ipv4_mapped().is_some() {
        return Err((0, Fault::Mapped));
    }
    whole(Ipv6Net::new(address, bits).map(IpNet::V6), address.into())
}

fn whole(network: Result<IpNet, ipnet::PrefixLenError>, address: IpAddr) -> Result<IpNet, Faulty> {
    let network = network.map_err(|_| (0, Fault::Address(address.to_string())))?;
    if network.trunc() != network {
        let shown = |network: IpNet| Target::Net(network).to_string();
        let network = shown(network.trunc());
        return Err((0, Fault::HostBits { network, address: shown(address.into()) }));
    }
    Ok(network)
}

/// A host's name in its canonical form, or a star before one.
fn name(text: &str) -> Result<String, Faulty> {
    let (star, at) = if text.starts_with("*.") { ("*.", 2) } else { ("", 0) };
    let host = &text[at..];
    if let Some(within) = host.find('*') {
        return Err((at + within, Fault::Star));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = if host.is_ascii() {
        host.to_ascii_lowercase()
    } else {
        let ascii = idna::domain_to_ascii(host).map_err(|_| (at, Fault::Idna(host.to_owned())))?;
        // what is mapped to digits and dots is an address in disguise
        if looks_numeric(&ascii) {
            return Err((at, Fault::Idna(host.to_owned())));
        }
        ascii
    };
    let mut label_at = at;
    for label in host.split('.') {
        if label.is_empty() {
            return Err((label_at.min(text.len()), Fault::EmptyLabel));
        }
        let odd = label.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '-'));
        if let Some((within, odd)) = odd {
            return Err(((label_at + within).min(text.len()), Fault::Character(odd)));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err((label_at.min(text.len()), Fault::Hyphen));
        }
        if label.len() > 63 {
            return Err((label_at.min(text.len()), Fault::Long));
        }
        label_at += label.len() + 1;
    }
    if host.len() > 253 {
        return Err((at, Fault::Long));
    }
    if looks_numeric(&host) {
        return Err((at, Fault::Address(host)));
    }
    Ok(format!("{star}{host}"))
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base, self.allow.is_empty()) {
            (Base::Nothing, true) => return f.write_str("none"),
            (Base::Nothing, false) => f.write_str("allow=")?,
            (Base::Internet, true) => return f.write_str("internet"),
            (Base::Internet, false) => f.write_str("internet,allow=")?,
        }
        for (index, rule) in self.allow.iter().enumerate() {
            write!(f, "{}{rule}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            Ports::All => write!(f, "{}", self.target),
            Ports::One(port) => write!(f, "{}:{port}", self.target),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Net(IpNet::V4(net)) if net.prefix_len() == 32 => write!(f, "{}", net.addr()),
            Self::Net(IpNet::V4(net)) => write!(f, "{net}"),
            Self::Net(IpNet::V6(net)) if net.prefix_len() == 128 => write!(f, "[{}]", net.addr()),
            Self::Net(IpNet::V6(net)) => write!(f, "[{net}]"),
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
