//! What was probably meant by a key that is not there.
//!
//! Purpose: keys that are misspelled, of another language, run together with their value, or out of their place.
//! Owner: the lowering, for each unknown key. Invariant: what is said to write is a key of the map, or of the one that
//! is named.

use doc::{Entry, Map, Style, did_you_mean};

use super::{
    MAX_DIAGNOSTICS,
    beside::{is_event, is_job},
};
use crate::shape::{
    Shape,
    job::{JOB, STEP, STRATEGY},
    workflow::{RUN_DEFAULTS, WORKFLOW},
};

/// Whether an unknown key of a map is probably meant to be this one: then that is said, and no more. Where unknown
/// keys are only warnings it is not enough: [`Lower::needed`].
pub(super) fn misspelled(map: &Map, shape: &Shape, name: &str) -> bool {
    if map.entries.iter().any(|entry| run_together(&entry.key.value, shape) == Some(name)) {
        return true;
    }
    let unknown = map.entries.iter().filter(|entry| shape.key(&entry.key.value).is_none());
    unknown.take(10 * MAX_DIAGNOSTICS).any(|entry| meant(&entry.key.value, shape) == Some(name))
}

/// The key whose block of text is empty, since this unknown key and those between are its text, no further in than it
/// is; and whether this is the first of them.
pub(super) fn fallen_out<'m>(map: &'m Map, at: usize, shape: &Shape) -> Option<(&'m Entry, bool)> {
    const BACK: usize = 50; // a map may have a hundred thousand unknown keys
    let lines = map.entries[..at]
        .iter()
        .rev()
        .take(BACK)
        .take_while(|entry| shape.key(&entry.key.value).is_none())
        .count();
    let block = &map.entries[(at - lines).checked_sub(1)?];
    let scalar = block.value.scalar()?;
    let empty = matches!(scalar.style, Style::Literal | Style::Folded) && scalar.text.trim().is_empty();
    empty.then_some((block, lines == 0))
}

/// The key that is probably meant by one that is not there.
pub(super) fn meant(name: &str, shape: &Shape) -> Option<&'static str> {
    match name {
        // what parsers of YAML 1.1 write for it
        "true" if shape.key("on").is_some() => Some("on"),
        _ if home(name, shape).is_some() => None,
        _ => foreign(name, shape).or_else(|| did_you_mean(name, shape.names())),
    }
}

/// What other languages of this kind call a key.
fn foreign(name: &str, shape: &Shape) -> Option<&'static str> {
    const WORDS: [(&str, &str, &str); 14] = [
        ("workflow", "triggers", "on"),
        ("workflow", "trigger", "on"),
        ("job", "depends_on", "needs"),
        ("job", "depends-on", "needs"),
        ("job", "image", "container"),
        ("job", "tags", "runs-on"),
        ("job", "when", "if"),
        ("step", "script", "run"),
        ("step", "command", "run"),
        ("step", "action", "uses"),
        ("step", "inputs", "with"),
        ("step", "cwd", "working-directory"),
        ("step", "workdir", "working-directory"),
        ("step", "when", "if"),
    ];
    let id = shape.id.trim_start_matches("composite-");
    // `concurrency-group` for `group`
    if id == "concurrency"
        && let Some((_, key)) = name.split_once(['-', '_']).filter(|(of, _)| is_near(of, "concurrency"))
    {
        return did_you_mean(key, shape.names());
    }
    let row = WORDS.iter().find(|(of, word, _)| *of == id && word.eq_ignore_ascii_case(name));
    row.map(|(.., key)| *key)
}

/// The key that `steps:[{run: a}]` or `steps [{run: a}]` should have been: YAML takes all to the next `: ` as one.
pub(super) fn run_together(name: &str, shape: &Shape) -> Option<&'static str> {
    // `steps::` has a colon too many, and none is missing
    let more = |rest: &str| rest.starts_with([':', ' ']) && !rest.trim_matches([':', ' ']).is_empty();
    let known = |known: &&str| name.strip_prefix(known).is_some_and(more);
    shape.names().find(known)
}

/// Whether an unknown key is a variable that somebody wrote into `strategy` itself.
pub(super) fn is_axis(entry: &Entry, shape: &Shape) -> bool {
    shape.id == STRATEGY.id && shape.key(&entry.key.value).is_none() && entry.value.seq().is_some()
}

/// Below which key of a workflow an entry belongs that stands there without it, and what it is: a job is known by what it
/// has, and lists are those of other files, such as labels.
pub(super) fn part(entry: &Entry) -> Option<(&'static str, &'static str)> {
    if is_job(&entry.value) {
        return Some(("jobs", "a job"));
    }
    let event = is_event(&entry.key.value) && (entry.value.is_null() || entry.value.map().is_some());
    event.then_some(("on", "an event"))
}

fn is_near(word: &str, other: &str) -> bool {
    did_you_mean(word, [other]).is_some()
}

/// The key of `concurrency` that was meant by one beside it.
fn of_concurrency(name: &str, shape: &Shape) -> Option<&'static str> {
    const LONGER: usize = 14; // than `concurrency` and its beginnings
    match shape.id {
        "workflow" | "job" if name.len() < LONGER => None,
        "workflow" | "job" if is_near(name, "concurrency-group") => Some("group"),
        "workflow" | "job" if is_near(name, "cancel-in-progress") => Some("cancel-in-progress"),
        _ => None,
    }
}

/// The same for a key of `concurrency`, in view of the others: two helps would be two `concurrency`.
pub(super) fn one_concurrency(name: &str, shape: &Shape, map: &Map) -> Option<String> {
    const MOST: usize = 50; // keys that are looked at
    let key = of_concurrency(name, shape)?;
    if let Some(there) = map.get("concurrency") {
        return Some(match there.map() {
            Some(inner) if inner.get(key).is_some() => {
                format!("`{key}` is there already, below `concurrency`: remove one")
            }
            None if there.is_null() => format!("put it below `concurrency`, as `{key}`"),
            Some(_) => format!("put it below `concurrency`, as `{key}`"),
            None if key == "group" => "a group is there already, at `concurrency`: remove one".to_owned(),
            None => format!("write `concurrency: {{group: …, {key}: …}}` in place of both"),
        });
    }
    let mut keys = map.entries.iter().take(MOST).filter_map(|entry| of_concurrency(&entry.key.value, shape));
    keys.find(|other| *other != key)?;
    Some("write `concurrency: {group: …, cancel-in-progress: …}` in place of both".to_owned())
}

/// Where a key belongs that is not of this map.
pub(super) fn home(name: &str, shape: &Shape) -> Option<String> {
    let of = |other: &Shape| other.id != shape.id && other.key(name).is_some();
    if let Some(key) = of_concurrency(name, shape) {
        return Some(format!("write `concurrency: {{{key}: …}}`"));
    }
    let place = match shape.id {
        "workflow" if of(&JOB) => "a job: put it below the job's id, under `jobs`",
        "workflow" if of(&STEP) => "a step: put it under `steps` of a job",
        "job" if of(&STRATEGY) => "`strategy`: put it below that",
        "job" if of(&STEP) => "a step: put it below a `- ` of `steps`",
        "job" if of(&WORKFLOW) => "the workflow: put it at the left edge",
        "defaults" if of(&RUN_DEFAULTS) => "`run`: put it below that",
        "composite-step" if of(&STEP) => {
            return Some(format!(
                "only a step of a job has `{name}`: put it at the step that uses this action, or remove it"
            ));
        }
        "step" if of(&JOB) => "the job: put it beside `steps`",
        _ => return None,
    };
    Some(format!("`{name}` belongs to {place}"))
}
