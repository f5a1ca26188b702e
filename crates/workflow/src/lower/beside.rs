//! Keys that stand beside the key that they belong to, which is empty.
//!
//! Purpose: one message that says how far in they belong, in place of one for each of them. Owner: the lowering.
//! Invariants: only a key without a value that takes such keys, in the same column, is blamed; where it takes any name,
//! a key that is likely a misspelled one of the map is not among them.

use doc::{Entry, Map, Node, Source, Spanned};

use super::{
    Lower,
    meant::{home, meant},
};
use crate::{
    filter::events::{FORGEJO, GITHUB},
    shape::{Others, Shape, Takes, job::JOB},
};

/// The empty key above one that is beside it.
pub(super) struct Above<'m> {
    /// That key.
    pub(super) key: &'m Spanned<String>,
    /// Whether the other is the first below it.
    pub(super) first: bool,
    /// Whether more follow.
    pub(super) more: bool,
}

impl Lower<'_> {
    /// What is said of the first of those keys.
    pub(super) fn beside(&mut self, key: &Spanned<String>, empty: &Spanned<String>, what: &str, more: bool) {
        let (_, column) = self.source.line_column(empty.span.start);
        let too = if more { ", and the keys below it," } else { "" };
        let fault = self
            .error(format!("`{}` stands beside {what}, not below it", key.value), key.span)
            .label("not further in")
            .also(self.source, empty.span, "nothing is below this")
            .help(format!("indent it{too} by {} spaces", column + 1));
        self.faults.push(fault);
    }

    /// The entries of `jobs`, without the keys that stand beside their job: of those the first is told.
    pub(super) fn jobs_of<'m>(&mut self, map: &'m Map) -> Vec<&'m Entry> {
        let entries = &map.entries;
        let mut found = Vec::with_capacity(entries.len());
        let mut at = 0;
        while let Some(entry) = entries.get(at) {
            at += 1;
            let fallen = match entry.value.is_null() {
                true => entries[at..].iter().take_while(|next| self.is_key_beside(entry, next)).count(),
                false => 0,
            };
            match entries.get(at).filter(|_| fallen > 0) {
                Some(first) => {
                    let what = format!("the job `{}`", entry.key.value);
                    self.beside(&first.key, &entry.key, &what, fallen > 1);
                    self.noting(&entry.key.value, |_| None::<()>);
                }
                None => found.push(entry),
            }
            at += fallen;
        }
        found
    }

    /// Whether an entry of `jobs` is a key of the job above it, and no job of this name.
    fn is_key_beside(&self, job: &Entry, next: &Entry) -> bool {
        JOB.key(&next.key.value).is_some()
            && !is_job(&next.value)
            && in_column(self.source, &job.key, &next.key)
    }
}

/// Whether a value has what only a job has.
pub(super) fn is_job(value: &Node) -> bool {
    const OF_JOBS: [&str; 3] = ["runs-on", "steps", "uses"];
    value.map().is_some_and(|map| OF_JOBS.iter().any(|key| map.get(key).is_some()))
}

/// Whether an event has this name.
pub(super) fn is_event(name: &str) -> bool {
    FORGEJO.contains(&name) || GITHUB.contains(&name)
}

/// The empty key above an unknown one, if it takes one of this name.
pub(super) fn empty_above<'m>(source: &Source, map: &'m Map, at: usize, shape: &Shape) -> Option<Above<'m>> {
    const BACK: usize = 50; // a map may have a hundred thousand unknown keys
    let unknown = |entry: &Entry| shape.key(&entry.key.value).is_none();
    let between = map.entries[..at].iter().rev().take(BACK).take_while(|entry| unknown(entry)).count();
    let first = at - between;
    let above = &map.entries[first.checked_sub(1)?];
    let takes = &shape.key(&above.key.value)?.takes;
    let any = takes_names(takes);
    let other = |entry: &Entry| any && is_of_map(map, &above.key.value, entry, shape);
    let fits = |entry: &Entry| {
        holds(takes, &entry.key.value, &entry.value) && in_column(source, &above.key, &entry.key)
    };
    let between = &map.entries[first..at];
    let unknown_one = &map.entries[at];
    let all = above.value.is_null() && fits(unknown_one) && between.iter().all(fits) && !other(unknown_one);
    all.then(|| Above {
        key: &above.key,
        first: between.iter().all(other),
        more: map.entries.get(at + 1).is_some_and(|next| unknown(next) && fits(next) && !other(next)),
    })
}

/// Whether an unknown key is more likely one of the map that it stands in than a name below the empty key above it.
fn is_of_map(map: &Map, above: &str, entry: &Entry, shape: &Shape) -> bool {
    const OF_CALLS: [&str; 5] = ["run", "runs-on", "steps", "container", "services"]; // what `uses` goes not with
    let name = entry.key.value.as_str();
    // a variable is in upper case, and a job is known by what it has
    if !name.contains(|c: char| c.is_lowercase()) || is_job(&entry.value) {
        return false;
    }
    let calls = map.get("uses").is_some();
    match meant(name, shape) {
        Some("uses") if map.get("run").is_some() => false,
        Some(near) => map.get(near).is_none() && !(calls && OF_CALLS.contains(&near)),
        // inputs are called `environment` and the like
        None => above != "with" && home(name, shape).is_some(),
    }
}

/// Whether a key takes names of its author's.
fn takes_names(takes: &Takes) -> bool {
    match takes {
        Takes::Names(_) => true,
        Takes::Map(shape) => matches!(shape.others, Others::Names(_)),
        Takes::Any(list) => list.iter().any(takes_names),
        _ => false,
    }
}

/// Whether what belongs below a key stands beside it.
pub(super) fn is_beside(source: &Source, map: &Map, key: &str, shape: &Shape) -> bool {
    let at = map.entries.iter().position(|entry| entry.key.value == key);
    let next = at.and_then(|at| map.entries.get(at + 1).map(|next| (at + 1, next)));
    next.is_some_and(|(at, next)| {
        shape.key(&next.key.value).is_none() && empty_above(source, map, at, shape).is_some()
    })
}

/// Whether what a key takes has a key of this name.
fn holds(takes: &Takes, name: &str, value: &Node) -> bool {
    match takes {
        Takes::Names(inner) => match inner {
            Takes::Text => value.scalar().is_some(),
            _ => value.map().is_some(),
        },
        Takes::Map(shape) => shape.key(name).is_some() || matches!(shape.others, Others::Names(_)),
        Takes::Any(list) => list.iter().any(|takes| holds(takes, name, value)),
        Takes::Events => is_event(name),
        _ => false,
    }
}

fn in_column(source: &Source, first: &Spanned<String>, second: &Spanned<String>) -> bool {
    let (line, column) = source.line_column(first.span.start);
    let (other, beside) = source.line_column(second.span.start);
    line < other && column == beside
}
