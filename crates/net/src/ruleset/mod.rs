//! The rules, as text for nft: pure functions of a policy and what is around.
//!
//! Purpose: the one place that says what a packet may do: in a VM's namespace ([`guest`]), in the router's
//! ([`router`]), and on the host at a router's uplink ([`host`]).
//! Owner: nobody; `router` applies it, the book shows it.
//!
//! Invariants
//! - Every text is one transaction, or nothing of it holds.
//! - What is refused is counted before, in sets of bounded size, and answered; what is spoofed is dropped silently.

pub(crate) mod gate;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod refused;
pub(crate) mod router;

use std::fmt::Display;

/// `{ a, b }`, or nothing for nothing: nft has no empty list.
fn elements<T: Display>(set: &str, all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { String::new() } else { format!("add element {set} {{ {} }}\n", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::IpAddr};

    use super::*;
    use crate::{Base, Limits, Policy, Ports, Rule, Target, addresses::Pair};

    #[test]
    fn a_namespace_before_its_policy() {
        let hosts: BTreeSet<IpAddr> =
            ["192.0.2.2", "127.0.0.1", "2001:db8::2"].iter().map(|text| text.parse().unwrap()).collect();
        insta::assert_snapshot!(guest::base(&Limits::default(), &hosts));
    }

    #[test]
    fn each_policy() {
        let name = |name: &str, ports| Rule { target: Target::Name(name.to_owned()), ports };
        let net = |net: &str, ports| Rule { target: Target::Net(net.parse().unwrap()), ports };
        let allow = vec![
            name("forge.example.org", Ports::One(443)),
            net("10.1.0.0/16", Ports::One(443)),
            net("10.2.0.1/32", Ports::All),
            net("fd12::/64", Ports::One(22)),
            net("fd13::1/128", Ports::All),
        ];
        let mut text = String::new();
        for (base, allow) in [
            (Base::Nothing, Vec::new()),
            (Base::Internet, Vec::new()),
            (Base::Nothing, allow.clone()),
            (Base::Internet, allow),
        ] {
            let policy = Policy { base, allow };
            text += &format!("# {policy:?}\n{}\n", guest::apply(&policy, 3));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_name_is_opened_for_a_time() {
        let open = |address: &str, ports, seconds, longer| guest::Open {
            address: address.parse().unwrap(),
            ports,
            seconds,
            longer,
        };
        let addresses = [
            open("203.0.113.7", Ports::One(443), 60, guest::Longer::No),
            open("203.0.113.8", Ports::All, 5, guest::Longer::Yes),
            open("2001:db8::7", Ports::One(443), 60, guest::Longer::No),
        ];
        insta::assert_snapshot!(guest::allow(&addresses));
    }

    #[test]
    fn the_router_and_the_host() {
        insta::assert_snapshot!(router::base());
        insta::assert_snapshot!(host::lines("amp-7", "ampoule-7", &Pair::uplink(7)).join("\n"));
    }

    /// The page shows the rules as they are: `UPDATE_DOCS=1 cargo test -p net` writes them there.
    #[test]
    fn the_books_page_shows_the_rules() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/network-card.md");
        let guest = guest::base(&Limits::default(), &BTreeSet::new());
        let allow = vec![
            Rule { target: Target::Net("10.1.0.0/16".parse().unwrap()), ports: Ports::One(443) },
            Rule { target: Target::Name("forge.example.org".to_owned()), ports: Ports::One(443) },
        ];
        let mut expected = std::fs::read_to_string(page).unwrap();
        let before = expected.clone();
        for (name, rules) in [
            ("guest", short(&guest)),
            ("policy", guest::apply(&Policy { base: Base::Internet, allow }, 1)),
            ("router", router::base()),
            ("pasta", router::PASTA.to_owned()),
            ("host", host::lines("amp-7", "ampoule-7", &Pair::uplink(7)).join("\n") + "\n"),
        ] {
            let (head, rest) = expected.split_once(&format!("<!-- rules: {name} -->\n```text\n")).unwrap();
            let (_, tail) = rest.split_once("```\n").unwrap();
            expected = format!("{head}<!-- rules: {name} -->\n```text\n{rules}```\n{tail}");
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(page, &expected).unwrap();
        }
        assert!(before == expected || std::env::var_os("UPDATE_DOCS").is_some(), "{page} is not up to date");
    }

    /// Without most of the denied ranges, and the sets that are empty.
    fn short(rules: &str) -> String {
        let lines = rules.lines().filter(|line| !line.starts_with("flush ")).map(|line| {
            match line.match_indices(", ").nth(2) {
                Some((at, _)) if line.contains("set denied") => format!("{}, … }}; }}\n", &line[..at]),
                _ => format!("{line}\n"),
            }
        });
        lines.collect()
    }
}
