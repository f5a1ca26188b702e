//! What was refused: how nft is asked for it, and its answer read strictly.

use std::net::IpAddr;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::guest::{MOST_REFUSED, OVER};

/// A destination that a guest was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refused {
    /// Of whom.
    pub address: IpAddr,
    /// By which protocol: `tcp`, `udp`, `icmp`, `ipv6-icmp`, … or a number.
    pub protocol: String,
    /// Of TCP and UDP, on which port.
    pub port: Option<u16>,
    /// How many packets.
    pub packets: u64,
}

/// What a guest was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// In order.
    pub all: Vec<Refused>,
    /// There may be others: as many of a kind as are counted are there.
    pub more: bool,
    /// Packets of new connections that would have been more at once than it may have.
    pub over_limit: u64,
}

/// The sets, and how many parts their keys have.
const SETS: [(&str, usize); 4] =
    [("refused4", 3), ("refused6", 3), ("refused_other4", 2), ("refused_other6", 2)];

/// What nft is asked: of several sets at once nft 1.0.6 finds one only, of a table all.
pub(crate) const QUESTION: [&str; 5] = ["-j", "list", "table", "inet", "ampoule"];

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Metainfo(IgnoredAny),
    Table(IgnoredAny),
    Chain(IgnoredAny),
    Rule(IgnoredAny),
    Set(Set),
    Counter(Named),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    packets: u64,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    elem: serde_json::Value,
}

#[derive(Deserialize)]
struct Entry {
    elem: Element,
}

#[derive(Deserialize)]
struct Element {
    val: Key,
    counter: Counter,
}

#[derive(Deserialize)]
struct Key {
    concat: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Number(u16),
    Text(String),
}

#[derive(Deserialize)]
struct Counter {
    packets: u64,
}

/// What it answered. Nothing where it is not as we know it.
pub(crate) fn read(text: &str) -> Option<Destinations> {
    let listing: Listing = serde_json::from_str(text).ok()?;
    let mut all = Vec::new();
    let (mut seen, mut more, mut over_limit) = (0, false, None);
    for item in listing.nftables {
        let set = match item {
            Item::Set(set) => set,
            Item::Counter(counter) if counter.name == OVER => {
                over_limit = Some(counter.packets);
                continue;
            }
            _ => continue,
        };
        let Some((_, parts)) = SETS.iter().find(|(name, _)| *name == set.name) else { continue };
        seen += 1;
        if set.elem.is_null() {
            continue;
        }
        let entries: Vec<Entry> = serde_json::from_value(set.elem).ok()?;
        more |= entries.len() >= MOST_REFUSED;
        for Entry { elem } in entries {
            all.push(entry(elem, *parts)?);
        }
    }
    all.sort();
    (seen == SETS.len()).then_some(Destinations { all, more, over_limit: over_limit? })
}

fn entry(element: Element, parts: usize) -> Option<Refused> {
    let mut key = element.val.concat.into_iter();
    if key.len() != parts {
        return None;
    }
    let Some(Part::Text(address)) = key.next() else { return None };
    let protocol = match key.next()? {
        Part::Text(name) => name,
        Part::Number(number) => number.to_string(),
    };
    let port = match key.next() {
        None => None,
        Some(Part::Number(port)) => Some(port),
        Some(Part::Text(_)) => return None,
    };
    Some(Refused { address: address.parse().ok()?, protocol, port, packets: element.counter.packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}, {"set": {"family": "inet", "name": "refused4", "table": "ampoule", "type": ["ipv4_addr", "inet_proto", "inet_service"], "handle": 10, "size": 512, "elem": [{"elem": {"val": {"concat": ["1.2.3.4", "tcp", 80]}, "counter": {"packets": 3, "bytes": 180}}}, {"elem": {"val": {"concat": ["1.2.3.4", 254, 80]}, "counter": {"packets": 1, "bytes": 0}}}], "stmt": [{"counter": null}]}}, {"set": {"name": "denied4", "elem": ["10.0.0.1"]}}, {"chain": {"name": "open"}}, {"counter": {"family": "inet", "name": "over_limit", "table": "ampoule", "handle": 9, "packets": 7, "bytes": 420}}, {"set": {"name": "refused_other4"}}, {"set": {"name": "refused_other6", "elem": [{"elem": {"val": {"concat": ["fd00::1", "ipv6-icmp"]}, "counter": {"packets": 2, "bytes": 0}}}]}}, {"set": {"name": "refused6"}}]}"#;

    #[test]
    fn what_nft_says_is_read() {
        let read = read(REAL).unwrap();
        assert!(!read.more);
        assert_eq!(read.over_limit, 7);
        let shown: Vec<String> = read
            .all
            .iter()
            .map(|one| format!("{} {} {:?} {}", one.address, one.protocol, one.port, one.packets))
            .collect();
        assert_eq!(shown, ["1.2.3.4 254 Some(80) 1", "1.2.3.4 tcp Some(80) 3", "fd00::1 ipv6-icmp None 2"]);
    }

    #[test]
    fn a_set_that_is_full_says_that_there_may_be_others() {
        const ONE: &str = r#"{"elem": {"val": {"concat": ["1.2.3.4", "tcp", 80]}, "counter": {"packets": 3, "bytes": 180}}}"#;
        for (count, more) in [(1022, false), (1023, true)] {
            let all = vec![ONE; count].join(", ");
            let all = read(&REAL.replacen(ONE, &all, 1)).unwrap();
            assert_eq!((all.all.len(), all.more), (count + 2, more));
        }
    }

    #[test]
    fn what_is_not_as_we_know_it_is_not_guessed() {
        for (from, to) in [
            ("refused4", "another"),
            ("over_limit", "another"),
            ("\"packets\": 7", "\"packets\": -7"),
            ("\"packets\": 3", "\"packets\": -3"),
            ("\"tcp\", 80", "\"tcp\", \"http\""),
            ("\"tcp\", 80", "\"tcp\""),
            ("1.2.3.4", "somewhere"),
            ("\"metainfo\"", "\"unknown\""),
        ] {
            assert_eq!(read(&REAL.replacen(from, to, 1)), None, "{from} -> {to}");
        }
        assert_eq!(read(&REAL[..REAL.len() - 1]), None);
    }
}
