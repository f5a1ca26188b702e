//! Sandboxes as people and scripts read them.
//!
//! Invariant: the names of the objects' members are a promise of the documentation.

use std::{fs, path::Path};

use sandbox::{Kept, NameRefused, Origin, OverLimit, Policy, Refusals, RefusedDestination, Root};
use serde_json::{Value, json};

use super::id;
use crate::{
    cli::units,
    image_cmd,
    sanitise::{self, Colours},
    sink::escaped,
    table,
};

/// In bits per second.
const MBIT: u64 = 1_000_000;

/// A sandbox, and the image that it runs on, if that is there.
pub(super) struct Named<'a> {
    kept: &'a Kept,
    image: Option<String>,
}

impl<'a> Named<'a> {
    /// Those of a state directory.
    pub(super) fn all(all: &'a [Kept], state_dir: &Path) -> Vec<Self> {
        let images = image_cmd::names(state_dir);
        let image = |kept: &Kept| match &kept.root {
            Root::Image(root) => images.get(&fs::canonicalize(root).ok()?).cloned(),
            Root::Hosted => None,
        };
        all.iter().map(|kept| Self { image: image(kept), kept }).collect()
    }

    fn json(&self) -> Value {
        let Kept { made, until, cpus, memory, scratch_bytes, hostname, origin, network, limits, .. } =
            self.kept;
        json!({
            "id": id(self.kept),
            "image": self.image,
            "cpus": cpus,
            "memory_mib": memory.0,
            "disk_bytes": scratch_bytes,
            "hostname": hostname,
            "origin": origin_name(*origin),
            "network": network.to_string(),
            "bandwidth_mbit": limits.upload.map(|bits| bits / MBIT),
            "forwards": self.forwards(),
            "made": table::time(*made),
            "ends": table::time(*until),
        })
    }

    fn forwards(&self) -> Vec<String> {
        self.kept.forwards.iter().map(ToString::to_string).collect()
    }
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Booted => "booted",
        Origin::Forked => "forked",
        Origin::Pooled => "pooled",
        Origin::Branched => "branched",
    }
}

/// A text of somebody else's.
fn line(text: &str) -> String {
    sanitise::line(text, Colours::Drop)
}

/// A policy in a column: its first words.
fn short(policy: &Policy) -> String {
    const LONGEST: usize = 24;
    let text = policy.to_string();
    if text.len() <= LONGEST {
        text
    } else {
        format!("{}…", text.chars().take(LONGEST - 1).collect::<String>())
    }
}

/// One line each.
pub(super) fn table(all: &[Named<'_>]) -> String {
    if all.is_empty() {
        return "there are no sandboxes; `ampoule sandbox create` makes one\n".to_owned();
    }
    let rows: Vec<[String; 8]> = all
        .iter()
        .map(|named| {
            let kept = named.kept;
            [
                id(kept),
                sanitise::line(named.image.as_deref().unwrap_or("-"), Colours::Drop),
                kept.cpus.to_string(),
                kept.memory.to_string(),
                origin_name(kept.origin).to_owned(),
                short(&kept.network),
                table::minute(kept.made),
                table::minute(kept.until),
            ]
        })
        .collect();
    table::text(["ID", "IMAGE", "CPUS", "MEMORY", "ORIGIN", "NETWORK", "MADE (UTC)", "ENDS (UTC)"], &rows)
}

/// Everything of one, for a person.
pub(super) fn details(named: &Named<'_>) -> String {
    let kept = named.kept;
    let forwards = if kept.forwards.is_empty() { "-".to_owned() } else { line(&named.forwards().join(" ")) };
    table::details(&[
        ("id", id(kept)),
        ("image", named.image.clone().unwrap_or_else(|| "-".to_owned())),
        ("processors", kept.cpus.to_string()),
        ("memory", kept.memory.to_string()),
        ("disk", units::shown(kept.scratch_bytes)),
        ("host name", kept.hostname.clone()),
        ("origin", origin_name(kept.origin).to_owned()),
        ("network", kept.network.to_string()),
        (
            "bandwidth",
            kept.limits.upload.map_or_else(|| "-".to_owned(), |bits| format!("{} Mbit/s", bits / MBIT)),
        ),
        ("forwards", forwards),
        ("made", format!("{} UTC", table::minute(kept.made))),
        ("ends", format!("{} UTC", table::minute(kept.until))),
    ])
}

/// An object each, in an array.
pub(super) fn array(all: &[Named<'_>]) -> String {
    let all: Vec<Value> = all.iter().map(Named::json).collect();
    format!("{}\n", escaped(Value::from(all).to_string()))
}

/// One object.
pub(super) fn object(named: &Named<'_>) -> String {
    format!("{}\n", escaped(named.json().to_string()))
}

/// Where nothing is counted.
const NOT_COUNTED: &str = "nothing is counted: the sandbox reaches nothing, by its policy or because the engine that made \
                           its network has ended\n";

/// What one was refused, a line each: first destinations, then names. Names are the guest's words.
pub(super) fn refused(all: &Refusals) -> String {
    if !all.counted {
        return NOT_COUNTED.to_owned();
    }
    let mut tables = Vec::new();
    if !all.destinations.is_empty() {
        let row = |RefusedDestination { to, names }: &RefusedDestination| {
            let port = to.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
            let names = if names.is_empty() { "-".to_owned() } else { line(&names.join(" ")) };
            [to.address.to_string(), to.protocol.clone(), port, to.packets.to_string(), names]
        };
        let rows: Vec<[String; 5]> = all.destinations.iter().map(row).collect();
        let mut text = table::text(["ADDRESS", "PROTOCOL", "PORT", "PACKETS", "NAMES"], &rows);
        if all.more {
            text.push_str("and others, which are not counted: there were too many\n");
        }
        tables.push(text);
    }
    if !all.names.is_empty() {
        let row = |one: &NameRefused| {
            [line(&one.name), kind(one.kind), one.count.to_string(), line(&one.why.to_string())]
        };
        let rows: Vec<[String; 4]> = all.names.iter().map(row).collect();
        tables.push(table::text(["NAME", "TYPE", "QUESTIONS", "WHY"], &rows));
    }
    if let Some(OverLimit { connections, packets }) = all.over_limit {
        tables.push(format!(
            "connections over the limit of {connections} at once: {packets} packets were dropped\n"
        ));
    }
    if tables.is_empty() { "nothing was refused\n".to_owned() } else { tables.join("\n") }
}

/// What the commonest types of records are called; the others are numbers.
fn kind(number: u16) -> String {
    match number {
        0 => "-".to_owned(),
        1 => "A".to_owned(),
        12 => "PTR".to_owned(),
        28 => "AAAA".to_owned(),
        65 => "HTTPS".to_owned(),
        255 => "ANY".to_owned(),
        other => other.to_string(),
    }
}

/// The same as an object.
pub(super) fn refused_object(all: &Refusals) -> String {
    let destination = |RefusedDestination { to, names }: &RefusedDestination| {
        json!({
            "address": to.address.to_string(),
            "protocol": to.protocol,
            "port": to.port,
            "packets": to.packets,
            "names": names,
        })
    };
    let name = |one: &NameRefused| {
        json!({
            "name": one.name,
            "type": (one.kind != 0).then(|| kind(one.kind)),
            "why": one.why.to_string(),
            "questions": one.count,
        })
    };
    let object = json!({
        "destinations": all.destinations.iter().map(destination).collect::<Vec<Value>>(),
        "names": all.names.iter().map(name).collect::<Vec<Value>>(),
        "more": all.more,
        "over_limit": all.over_limit,
        "counted": all.counted,
    });
    format!("{}\n", escaped(object.to_string()))
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroU8,
        time::{Duration, SystemTime},
    };

    use sandbox::{Holder, Refused, Why};
    use vm::Mebibytes;

    use super::*;

    fn kept(number: u8) -> Kept {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Kept {
            id: format!("{number:032x}").parse().unwrap(),
            mark: Some("sandbox".to_owned()),
            made,
            until: made + Duration::from_secs(3600),
            cpus: NonZeroU8::MIN,
            memory: Mebibytes(256),
            scratch_bytes: 1 << 30,
            root: Root::Hosted,
            hostname: "sandbox".to_owned(),
            origin: if number == 1 { Origin::Forked } else { Origin::Branched },
            network: if number == 1 { Policy::internet() } else { Policy::none() },
            limits: sandbox::NetLimits {
                upload: (number == 1).then_some(10 * MBIT),
                ..sandbox::NetLimits::default()
            },
            forwards: (number == 1).then(|| "cache:80=127.0.0.1:9000".parse().unwrap()).into_iter().collect(),
            holder: Holder::Nobody,
        }
    }

    #[test]
    fn what_was_refused_is_shown() {
        let to = |address: &str, protocol: &str, port, names: &[&str]| RefusedDestination {
            to: Refused {
                address: address.parse().unwrap(),
                protocol: protocol.to_owned(),
                port,
                packets: 3,
            },
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let name = |name: &str, kind, why| NameRefused { name: name.to_owned(), kind, why, count: 2 };
        let denied = Why::Denied { address: [169, 254, 169, 254].into(), range: "metadata".to_owned() };
        let all = Refusals {
            destinations: vec![
                to("10.1.2.3", "tcp", Some(22), &["a.example", "b.example"]),
                to("fd00::1", "ipv6-icmp", None, &[]),
            ],
            names: vec![
                name("a.example", 1, Why::NotInPolicy),
                name("meta\u{1b}.example", 64, denied),
                name("*", 0, Why::DeniedAny),
            ],
            more: true,
            over_limit: Some(OverLimit { connections: 64, packets: 17 }),
            counted: true,
        };
        insta::assert_snapshot!("refused", refused(&all));
        insta::assert_snapshot!("refused_object", refused_object(&all));
        let nothing = Refusals { counted: true, ..Refusals::default() };
        assert_eq!(refused(&nothing), "nothing was refused\n");
        assert_eq!(refused(&Refusals::default()), NOT_COUNTED);
    }

    #[test]
    fn sandboxes_are_shown() {
        let all = [kept(1), kept(2)];
        let images = [Some("standard".to_owned()), None];
        let all: Vec<Named<'_>> = all.iter().zip(images).map(|(kept, image)| Named { kept, image }).collect();
        insta::assert_snapshot!("table", table(&all));
        insta::assert_snapshot!("none", table(&[]));
        insta::assert_snapshot!("array", array(&all));
        insta::assert_snapshot!("details", details(&all[0]));
        insta::assert_snapshot!("object", object(&all[1]));
    }
}
