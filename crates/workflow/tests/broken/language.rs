//! Breaks of the language: keys, needs, kinds of values, what has to be there.
//!
//! Owner: `main`. Invariant: each kind says why what it makes is wrong by the language, whatever reads it.

use super::{
    File, Made,
    names::{FLOW, keys, misspelled},
    text::masked,
};

/// A key of the language with a letter swapped, left out or doubled, in a map in which any other key is an error.
pub(crate) fn key(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        let Some(key) = &row.key else { continue };
        if let Some(taken) = keys(&row.path, file.action) {
            for wrong in misspelled(key, &taken) {
                made.add(at, file.text.cut(at, row.column, row.column + key.len(), &wrong));
            }
        }
        if file.action || !row.value.starts_with(['[', '{']) {
            continue;
        }
        let plain = masked(&row.value);
        for key in FLOW {
            for (place, _) in plain.match_indices(&format!("{key}: ")) {
                if !plain[..place].ends_with(['{', ' ']) {
                    continue;
                }
                let start = row.value_at + place;
                for wrong in misspelled(key, &FLOW) {
                    made.add(at, file.text.cut(at, start, start + key.len(), &wrong));
                }
            }
        }
    }
}

/// A need with another name, which no job of the file has.
pub(crate) fn need(file: &File, made: &mut Made) {
    let jobs = file.text.below(&["jobs"]);
    for (at, row) in
        file.text.code().filter(|(_, row)| row.key.as_deref() == Some("needs") && row.path.len() == 3)
    {
        for job in &jobs {
            let is = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let value = &row.value;
            for (place, _) in value.match_indices(job) {
                let word = !value[..place].ends_with(is) && !value[place + job.len()..].starts_with(is);
                let start = row.value_at + place;
                for wrong in misspelled(job, &jobs).into_iter().filter(|_| word) {
                    made.add(at, file.text.cut(at, start, start + job.len(), &wrong));
                }
            }
        }
    }
}

/// What takes a truth value, a number, a text or one of a few words gets something else.
pub(crate) fn value(file: &File, made: &mut Made) {
    // by the last of the path; only in maps of the language, never among names of the author
    let wrong: &[(&str, &[&str])] = &[
        ("timeout-minutes", &["soon", "[1]", "{a: 1}"]),
        ("continue-on-error", &["maybe", "[true]", "3"]),
        ("fail-fast", &["maybe", "[true]"]),
        ("max-parallel", &["many", "[2]"]),
        ("runs-on", &["[[debian]]", "{label: debian}"]),
        ("run", &["[make]", "{make: all}"]),
        ("uses", &["[actions/checkout@v4]", "checkout", "actions/checkout"]),
        ("if", &["[always()]", "{always: true}"]),
        ("id", &["[a]", "a b", "1st"]),
        ("shell", &["[bash]", "{bash: -e}"]),
        ("working-directory", &["[a]", "{a: b}"]),
        ("name", &["[a]", "{a: b}"]),
        ("needs", &["{a: b}", "[[a]]"]),
        ("steps", &["make", "{run: make}"]),
        ("matrix", &["[a, b]", "debian"]),
        ("required", &["perhaps", "[true]"]),
        ("type", &["chosen", "[string]"]),
        ("cron", &["hourly", "'99 * * * *'", "'* * *'"]),
        ("enable-openid-connect", &["maybe", "[true]"]),
        ("using", &["ruby", "[composite]"]),
        ("main", &["[index.js]"]),
    ];
    for (at, row) in file.text.code() {
        let (Some(key), Some(_)) = (&row.key, keys(&row.path, file.action)) else { continue };
        let Some((_, values)) = wrong.iter().find(|(name, _)| name == key) else { continue };
        // what begins a block or a map goes on below, and a map of the language is no text
        if row.value.is_empty() || row.value.starts_with(['|', '>', '&']) {
            continue;
        }
        for value in *values {
            made.add(at, file.text.cut(at, row.value_at, row.text.len(), value));
        }
    }
}

/// An event that there is not.
pub(crate) fn event(file: &File, made: &mut Made) {
    const EVENTS: [&str; 5] = ["push", "pull_request", "workflow_dispatch", "schedule", "workflow_call"];
    for (at, row) in file.text.code().filter(|(_, row)| row.path == ["on"] && !row.value.is_empty()) {
        for event in EVENTS {
            for (place, _) in row.value.match_indices(event) {
                for wrong in misspelled(event, &EVENTS) {
                    let start = row.value_at + place;
                    made.add(at, file.text.cut(at, start, start + event.len(), &wrong));
                }
            }
        }
    }
}

/// A line taken out whose key has to be there. The line that should say so is that of the map which lacks it: the
/// job's id, the `- ` of the step, the first of the file. (A job that calls a workflow needs no `runs-on`.)
pub(crate) fn required(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        let Some(key) = &row.key else { continue };
        let needed = match (row.path.len(), file.action) {
            (1, false) => key == "on",
            (3, false) => row.path[0] == "jobs" && key == "runs-on",
            // a step with one of these and without them
            (5, false) => row.path[2] == "steps" && (key == "run" || key == "uses"),
            (2, true) => row.path[0] == "runs" && (key == "using" || key == "main" || key == "image"),
            _ => false,
        };
        let siblings = file.text.siblings(at);
        let calls = siblings.iter().any(|other| file.text.rows[*other].key.as_deref() == Some("uses"));
        let plain = !row.value.is_empty() && !row.value.starts_with(['|', '>', '&']);
        // an entry's only key would leave nothing, and its first takes the `- ` along
        if !needed || !plain || siblings.len() < 2 || !row.dashes.is_empty() || calls && key == "runs-on" {
            continue;
        }
        let owner = file.text.owner(at);
        made.add(if owner > at { owner - 1 } else { owner }, file.text.with(at, &[]));
    }
}
