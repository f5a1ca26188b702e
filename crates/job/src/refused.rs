//! What a job's network refused, as rows at its end.
//!
//! Purpose: whoever reads the log of a job that could not reach something sees that it may not, and which policy would
//! let it.
//! Owner: the end of a job's VM, while it lives.
//!
//! Invariants
//! - Asked once, for a moment: it neither fails the job nor holds up its end.
//! - A hint says that it would allow all only where all is shown and a rule opens it.
//! - A few rows, whatever the guest did; what is left out is counted, or that it was not counted is said.

use std::{collections::BTreeMap, time::Duration};

use sandbox::{
    Error as SandboxError, NameRefused, OverLimit, Policy, REFUSED_PORT, Refusals, RefusedDestination,
    Sandbox, Why, rule_of_name,
};

use crate::sanitise::{self, Colours};

/// How long the host has to tell.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rows of destinations, and of names.
const ROWS: usize = 10;
/// Names of an address.
const NAMES: usize = 2;
/// Longest policy that is shown whole.
const LONGEST: usize = 400;

/// The rows of a VM with this policy. Nothing was counted where nothing is reached.
pub(crate) async fn ask(sandbox: &Sandbox, policy: &Policy) -> Vec<String> {
    if *policy == Policy::none() {
        return Vec::new();
    }
    let why = match tokio::time::timeout(PATIENCE, sandbox.refused()).await {
        Ok(Ok(all)) => return rows(&all, policy),
        // it has nothing any more; why is told elsewhere
        Ok(Err(SandboxError::Gone(_) | SandboxError::Lost)) => return Vec::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the host did not answer in time".to_owned(),
    };
    vec![format!("what the network refused cannot be told: {why}")]
}

fn rows(all: &Refusals, policy: &Policy) -> Vec<String> {
    if !all.counted {
        return vec!["the network of this job ended before it did: what was refused is not known".to_owned()];
    }
    let mut rows = Vec::new();
    let mut rules = Rules::default();
    let mut destinations: Vec<&RefusedDestination> = all.destinations.iter().collect();
    destinations.sort_by_key(|one| std::cmp::Reverse(one.to.packets));
    for one in destinations.iter().take(ROWS) {
        rows.push(format!("network refused: {}, {}", place(one), count(one.to.packets, "packet")));
        rules.add(one.rule(policy));
    }
    let rest = destinations.len().saturating_sub(ROWS);
    let others = if all.more { ", and others, which are not counted: there were too many" } else { "" };
    if rest > 0 || all.more {
        rows.push(format!("network refused: {rest} more destinations{others}"));
        rules.rest = true;
    }
    let names = names(&all.names);
    for (one, asked) in names.iter().take(ROWS) {
        let name = sanitise::line(&one.name, Colours::Drop);
        rows.push(format!("network refused: the name {name}, {}, {}", one.why, count(*asked, "question")));
        rules.add(rule_of_name(one, policy));
    }
    let rest = names.len().saturating_sub(ROWS);
    if rest > 0 {
        rows.push(format!("network refused: {rest} more names"));
        rules.rest = true;
    }
    for one in all.names.iter().filter(|one| one.name == NameRefused::OTHERS) {
        rows.push(format!("network refused: other names, {}, {}", one.why, count(one.count, "question")));
        rules.rest = true;
    }
    rows.extend(rules.hint(policy));
    // behind the hint, which is no help here
    if let Some(OverLimit { connections, packets }) = all.over_limit {
        let packets = count(packets, "packet");
        rows.push(format!("network refused: connections over the limit of {connections} at once, {packets}"));
    }
    rows
}

/// Each name once for each reason, whatever types were asked for; the commonest first.
fn names(all: &[NameRefused]) -> Vec<(&NameRefused, u64)> {
    let mut counts: BTreeMap<(&str, &Why), (&NameRefused, u64)> = BTreeMap::new();
    for one in all.iter().filter(|one| one.name != NameRefused::OTHERS) {
        let (_, count) = counts.entry((&one.name, &one.why)).or_insert((one, 0));
        *count = count.saturating_add(one.count);
    }
    let mut names: Vec<_> = counts.into_values().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    names
}

fn place(one: &RefusedDestination) -> String {
    let RefusedDestination { to, names } = one;
    let mut text = match (to.port, to.address.is_ipv6()) {
        (Some(port), true) => format!("[{}]:{port}/{}", to.address, to.protocol),
        (Some(port), false) => format!("{}:{port}/{}", to.address, to.protocol),
        (None, _) => format!("{}/{}", to.address, to.protocol),
    };
    if !names.is_empty() {
        // the last are those that were asked for last
        let last = names.get(names.len().saturating_sub(NAMES)..).unwrap_or_default().join(", ");
        text += &format!(" ({})", sanitise::line(&last, Colours::Drop));
    }
    text
}

fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// What would open what was shown.
#[derive(Default)]
struct Rules {
    rules: Vec<String>,
    /// Something that no rule opens was shown.
    rest: bool,
}

impl Rules {
    fn add(&mut self, rule: Option<String>) {
        match rule {
            Some(rule) if self.rules.contains(&rule) => {}
            Some(rule) => self.rules.push(rule),
            None => self.rest = true,
        }
    }

    /// Whether no other rule opens the same: all ports of the place, or one where none is known.
    fn adds(&self, rule: &str) -> bool {
        let (place, port) = parts(rule);
        port.is_none()
            || !self.rules.iter().map(|other| parts(other)).any(|(at, other)| {
                at == place && (other.is_none() || (port == Some(REFUSED_PORT) && other != port))
            })
    }

    fn hint(self, policy: &Policy) -> Option<String> {
        if self.rules.is_empty() {
            return None;
        }
        let rules: Vec<&str> = self.rules.iter().filter(|rule| self.adds(rule)).map(String::as_str).collect();
        let rules = rules.join(",");
        let between = if policy.allow.is_empty() { ",allow=" } else { "," };
        let (before, after) = (policy.to_string(), format!("{policy}{between}{rules}"));
        let what = if self.rest { "a part of that" } else { "that" };
        let port = if rules.contains(REFUSED_PORT) { ", with the port in place of PORT" } else { "" };
        Some(if after.len() > LONGEST {
            format!("network: with the rules {rules}{port} its policy would allow {what}")
        } else {
            format!("network: the policy is {before}; {after}{port} would allow {what}")
        })
    }
}

/// A rule's target, and its port.
fn parts(rule: &str) -> (&str, Option<&str>) {
    match rule.rsplit_once(':') {
        // of IPv6 without a port
        Some((_, end)) if end.ends_with(']') => (rule, None),
        Some((place, port)) => (place, Some(port)),
        None => (rule, None),
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Refused;

    use super::*;

    fn to(
        address: &str,
        protocol: &str,
        port: Option<u16>,
        packets: u64,
        names: &[&str],
    ) -> RefusedDestination {
        let to = Refused { address: address.parse().unwrap(), protocol: protocol.to_owned(), port, packets };
        RefusedDestination { to, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn name(name: &str, kind: u16, why: Why, count: u64) -> NameRefused {
        NameRefused { name: name.to_owned(), kind, why, count }
    }

    fn refusals(destinations: Vec<RefusedDestination>, names: Vec<NameRefused>) -> Refusals {
        Refusals { destinations, names, more: false, over_limit: None, counted: true }
    }

    #[test]
    fn nothing_is_said_where_nothing_was_refused() {
        assert!(rows(&refusals(Vec::new(), Vec::new()), &Policy::internet()).is_empty());
        let unknown = rows(&Refusals::default(), &Policy::internet());
        assert!(matches!(&unknown[..], [row] if row.contains("ended before")), "{unknown:?}");
    }

    #[test]
    fn what_was_refused_is_told_with_what_would_allow_it() {
        let all = refusals(
            vec![
                to("10.0.0.5", "tcp", Some(5432), 3, &["old", "older", "db.corp.example"]),
                to("fd12::1", "udp", Some(53), 1, &[]),
                to("169.254.169.254", "tcp", Some(80), 9, &["meta\u{1b}[31m.example"]),
            ],
            vec![
                name("db.corp.example", 1, denied(), 1),
                name("db.corp.example", 65, denied(), 1),
                name("*", 0, Why::DeniedAny, 7),
            ],
        );
        assert_eq!(
            rows(&all, &Policy::internet()),
            [
                "network refused: 169.254.169.254:80/tcp (meta.example), 9 packets",
                "network refused: 10.0.0.5:5432/tcp (older, db.corp.example), 3 packets",
                "network refused: [fd12::1]:53/udp, 1 packet",
                "network refused: the name db.corp.example, 10.0.0.6 is denied (private), 2 questions",
                "network refused: other names, their addresses are denied, 7 questions",
                "network: the policy is internet; internet,allow=10.0.0.5:5432,[fd12::1]:53,10.0.0.6:PORT, \
                 with the port in place of PORT would allow a part of that",
            ]
        );
        let listed: Policy = "allow=a.example:443".parse().unwrap();
        let all = refusals(Vec::new(), vec![name("b.example", 1, Why::NotInPolicy, 2)]);
        assert_eq!(
            rows(&all, &listed),
            [
                "network refused: the name b.example, not in the policy, 2 questions",
                "network: the policy is allow=a.example:443; allow=a.example:443,b.example:PORT, with the port in \
                 place of PORT would allow that",
            ]
        );
    }

    fn denied() -> Why {
        Why::Denied { address: [10, 0, 0, 6].into(), range: "private".to_owned() }
    }

    #[test]
    fn rows_are_few_and_what_is_left_out_is_told() {
        let many =
            (0..1024_u32).map(|at| to(&format!("10.0.{}.{}", at >> 8, at & 255), "tcp", Some(1), 1, &[]));
        let names = (0..1000).map(|at| name(&format!("{at}.{}", "a.".repeat(100)), 1, Why::NotInPolicy, 1));
        let all = Refusals { more: true, ..refusals(many.collect(), names.collect()) };
        let rows = rows(&all, &"allow=a.example".parse().unwrap());
        assert_eq!(rows.len(), 2 * (ROWS + 1) + 1);
        let others = "network refused: 1014 more destinations, and others, which are not counted";
        assert!(rows[ROWS].starts_with(others), "{}", rows[ROWS]);
        assert_eq!(rows[2 * ROWS + 1], "network refused: 990 more names");
    }

    #[test]
    fn a_hint_promises_what_was_shown_and_no_more() {
        let last = |all: &Refusals, policy: &str| rows(all, &policy.parse().unwrap()).pop().unwrap();
        let ten =
            |count: u8| (0..count).map(|at| to(&format!("10.0.0.{at}"), "tcp", Some(1), 1, &[])).collect();
        assert!(last(&refusals(ten(10), Vec::new()), "internet").ends_with("would allow that"));
        assert!(last(&refusals(ten(11), Vec::new()), "internet").ends_with("would allow a part of that"));
        let full = Refusals { more: true, ..refusals(ten(3), Vec::new()) };
        assert!(last(&full, "internet").ends_with("would allow a part of that"));
        let names = |count: u8| {
            let all = (0..count).map(|at| name(&format!("a{at}.b"), 1, Why::NotInPolicy, 1)).collect();
            last(&refusals(Vec::new(), all), "allow=a")
        };
        assert!(names(10).ends_with("would allow that"));
        assert!(names(11).ends_with("would allow a part of that"));
        let others = vec![name("a.b", 1, Why::NotInPolicy, 1), name("*", 0, Why::NotInPolicy, 1)];
        assert!(last(&refusals(Vec::new(), others), "allow=a").ends_with("would allow a part of that"));
    }

    #[test]
    fn a_rule_that_another_makes_needless_is_not_in_a_hint() {
        let hint =
            |destinations, names| rows(&refusals(destinations, names), &Policy::internet()).pop().unwrap();
        let asked = |address: &str| {
            let why = Why::Denied { address: address.parse().unwrap(), range: String::new() };
            name("a.example", 1, why, 1)
        };
        for (destinations, names, rules) in [
            (vec![to("10.0.0.6", "tcp", Some(80), 1, &[])], vec![asked("10.0.0.6")], "10.0.0.6:80"),
            (vec![to("fd12::1", "tcp", Some(80), 1, &[])], vec![asked("fd12::1")], "[fd12::1]:80"),
            (
                vec![to("fd12::1", "tcp", Some(80), 2, &[]), to("fd12::1", "ipv6-icmp", None, 1, &[])],
                vec![asked("fd12::1")],
                "[fd12::1]",
            ),
            (
                vec![to("10.0.0.6", "tcp", Some(80), 2, &[]), to("10.0.0.6", "tcp", Some(81), 1, &[])],
                vec![asked("10.0.0.6")],
                "10.0.0.6:80,10.0.0.6:81",
            ),
        ] {
            let hint = hint(destinations, names);
            assert!(hint.ends_with(&format!("; internet,allow={rules} would allow that")), "{hint}");
        }
    }

    #[test]
    fn a_limit_that_was_met_is_told_last() {
        let over_limit = Some(OverLimit { connections: 64, packets: 17 });
        let row = "network refused: connections over the limit of 64 at once, 17 packets";
        let all = Refusals { over_limit, ..refusals(Vec::new(), Vec::new()) };
        assert_eq!(rows(&all, &Policy::internet()), [row]);
        let one = vec![to("10.0.0.6", "tcp", Some(80), 1, &[])];
        let all = Refusals { over_limit, ..refusals(one, Vec::new()) };
        let rows = rows(&all, &Policy::internet());
        assert!(
            matches!(&rows[..], [_, hint, last] if hint.ends_with("allow that") && last == row),
            "{rows:?}"
        );
    }
}
