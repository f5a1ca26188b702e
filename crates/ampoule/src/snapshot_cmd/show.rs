//! Snapshots as people and scripts read them.
//!
//! Invariant: the names of the objects' members are a promise of the documentation.

use std::path::Path;

use sandbox::{SnapshotInfo, Standing};
use serde_json::{Value, json};

use super::DIGITS;
use crate::{
    cli::units,
    image_cmd,
    sanitise::{self, Colours},
    sink::escaped,
    table,
};

/// The digits of a key that people are shown.
pub(super) fn short(key: &str) -> String {
    key.chars().take(DIGITS).collect()
}

/// A snapshot, and the image that it is of, if that is there.
pub(super) struct Named<'a> {
    info: &'a SnapshotInfo,
    image: Option<String>,
}

impl<'a> Named<'a> {
    /// One of a state directory.
    pub(super) fn of(info: &'a SnapshotInfo, state_dir: &Path) -> Self {
        Self { info, image: info.root.as_ref().and_then(|root| image_cmd::names(state_dir).remove(root)) }
    }

    /// Those of a state directory.
    pub(super) fn all(infos: &'a [SnapshotInfo], state_dir: &Path) -> Vec<Self> {
        let images = image_cmd::names(state_dir);
        let image = |info: &SnapshotInfo| images.get(info.root.as_ref()?).cloned();
        infos.iter().map(|info| Self { image: image(info), info }).collect()
    }

    /// The backend's name and version.
    fn backend(&self) -> &str {
        self.info.backend.lines().next().unwrap_or_default()
    }

    fn json(&self) -> Value {
        let SnapshotInfo { key, made, used, root, cpus, memory, disk_bytes, bytes, .. } = self.info;
        json!({
            "key": key,
            "image": self.image,
            "root": root,
            "cpus": cpus,
            "memory_mib": memory.0,
            "disk_bytes": disk_bytes,
            "backend": self.backend(),
            "bytes": bytes,
            "made": table::time(*made),
            "used": table::time(*used),
            "standing": standing(self.info.standing),
            "pinned": self.info.pinned,
        })
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Usable => "usable",
        Standing::Expired => "expired",
        Standing::Orphaned | Standing::Unfit => "orphaned",
    }
}

/// What a standing means, where it means that it is of no use.
fn meaning(standing: Standing) -> &'static str {
    match standing {
        Standing::Usable => "usable",
        Standing::Expired => "expired: it is too old, and the next VM of its kind makes it anew",
        Standing::Orphaned => {
            "orphaned: its image, kernel or agent is gone or another, and no VM asks for it"
        }
        Standing::Unfit => {
            "orphaned: it no longer fits this host or this version (see `backend`), and no VM asks for it"
        }
    }
}

/// One line each.
pub(super) fn table(all: &[Named<'_>]) -> String {
    if all.is_empty() {
        return "there are no snapshots; the first VM of a kind makes one, or `ampoule snapshot build`\n"
            .to_owned();
    }
    let rows: Vec<[String; 10]> = all
        .iter()
        .map(|named| {
            let info = named.info;
            [
                short(&info.key),
                sanitise::line(named.image.as_deref().unwrap_or("-"), Colours::Drop),
                info.cpus.to_string(),
                info.memory.to_string(),
                disk(info),
                sanitise::line(named.backend(), Colours::Drop),
                units::shown(info.bytes),
                table::minute(info.made),
                table::minute(info.used),
                table_standing(info),
            ]
        })
        .collect();
    let head =
        ["KEY", "IMAGE", "CPUS", "MEMORY", "DISK", "BACKEND", "SIZE", "MADE (UTC)", "USED (UTC)", "STANDING"];
    table::text(head, &rows)
}

/// With a word where it is pinned.
fn table_standing(info: &SnapshotInfo) -> String {
    let pinned = if info.pinned { ", pinned" } else { "" };
    format!("{}{pinned}", standing(info.standing))
}

/// Size of the disks of its forks.
fn disk(info: &SnapshotInfo) -> String {
    info.disk_bytes.map_or_else(|| "-".to_owned(), units::shown)
}

/// Everything of one, for a person.
pub(super) fn details(named: &Named<'_>) -> String {
    let info = named.info;
    let root = info.root.as_ref().map_or_else(|| "none".to_owned(), |root| root.display().to_string());
    let mut lines = vec![
        ("key", info.key.clone()),
        ("image", named.image.clone().unwrap_or_else(|| "-".to_owned())),
        ("root", root),
        ("processors", info.cpus.to_string()),
        ("memory", info.memory.to_string()),
        ("disk", disk(info)),
        ("size", units::shown(info.bytes)),
        ("made", format!("{} UTC", table::minute(info.made))),
        ("used", format!("{} UTC", table::minute(info.used))),
        ("standing", meaning(info.standing).to_owned()),
        ("pinned", if info.pinned { "yes" } else { "no" }.to_owned()),
    ];
    lines.extend(info.backend.lines().map(|line| ("backend", line.to_owned())));
    table::details(&lines)
}

/// An object each, in an array.
pub(super) fn array(all: &[Named<'_>]) -> String {
    let all: Vec<Value> = all.iter().map(Named::json).collect();
    format!("{}\n", escaped(Value::from(all).to_string()))
}

/// One object, with all that the snapshot depends on.
pub(super) fn object(named: &Named<'_>) -> String {
    let mut value = named.json();
    let depends: Vec<&str> = named.info.backend.lines().collect();
    if let Some(object) = value.as_object_mut() {
        object.insert("depends_on".to_owned(), depends.into());
    }
    format!("{}\n", escaped(value.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use vm::Mebibytes;

    use super::*;

    fn info(first: char, standing: Standing) -> SnapshotInfo {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        SnapshotInfo {
            key: std::iter::once(first).chain("0123456789abcdef".chars().cycle()).take(64).collect(),
            made,
            used: made + Duration::from_secs(3600),
            root: Some("/s/root".into()),
            cpus: 2,
            memory: Mebibytes(2048),
            disk_bytes: Some(16 << 30),
            backend: "qemu 7.2.22\nprocessor model=1\ntsc 2000000 kHz\n-machine x\u{1b}[2J".to_owned(),
            bytes: (110 << 20) - 1,
            standing,
            pinned: standing == Standing::Usable,
        }
    }

    #[test]
    fn snapshots_are_listed() {
        let all = [info('a', Standing::Usable), info('b', Standing::Orphaned), info('c', Standing::Expired)];
        let images = [Some("standard".to_owned()), None, Some("a name that is long".to_owned())];
        let all: Vec<Named<'_>> = all.iter().zip(images).map(|(info, image)| Named { info, image }).collect();
        insta::assert_snapshot!("table", table(&all));
        insta::assert_snapshot!("none", table(&[]));
        insta::assert_snapshot!("array", array(&all));
    }

    #[test]
    fn one_is_shown_with_all_that_it_depends_on() {
        let info = info('a', Standing::Orphaned);
        let named = Named { info: &info, image: Some("standard".to_owned()) };
        insta::assert_snapshot!("details", details(&named));
        insta::assert_snapshot!("object", object(&named));
        let unfit = self::info('b', Standing::Unfit);
        let named = Named { info: &unfit, image: None };
        assert!(details(&named).contains("orphaned: it no longer fits this host or this version"));
        assert!(object(&named).contains("\"standing\":\"orphaned\""));
    }
}
