//! Lines that the parser stops at, though the slip is another: text of a block, lost dashes, indentations.
//!
//! Purpose: to blame the line that a person has to change. Owner: the diagnosis. Invariant: each says nothing where
//! the lines could as well be meant otherwise.

use super::{
    At, column,
    lines::{Line, indent_to, quoted, spaces, uncommented},
    missing_colon,
};
use crate::{Diagnostic, Span};

/// `key: [a] b`: text behind the brackets that should begin a text.
pub(super) fn after_brackets(at: &At<'_>) -> Option<Diagnostic> {
    let line = at.line();
    let (start, entry) = line.entry();
    let (key, value) = line.key()?;
    let value = uncommented(value);
    let mut open = Vec::new();
    let mut quote = None;
    let mut end = None;
    for (at, c) in value.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '{') => open.push(c),
            (None, ']' | '}') => drop(open.pop()),
            _ => {}
        }
        if open.is_empty() {
            end = (at > 0).then_some((at, c));
            break;
        }
    }
    let (end, bracket) = end?;
    let rest = value[end + 1..].trim_start();
    let from = start + entry.find(value)? + value.len() - rest.len();
    let kind = if bracket == ']' { "list" } else { "map" };
    (!rest.is_empty()).then(|| {
        at.error(format!("text stands after the closing `{bracket}`"), Span::new(from, from + rest.len()))
            .label(format!("the {kind} has ended before this"))
            .help(match quoted(value) {
                Some(quoted) => format!("put quotes around the whole value: `{key}: {quoted}`"),
                None => "put quotes around the whole value".to_owned(),
            })
    })
}

/// A line that is the first one of a block's text, no further in than the block's key.
pub(super) fn block_at_key(at: &At<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let block = line.before(at.text()).next()?;
    if !block.begins_block() || column(&block) < line.indent() {
        return None;
    }
    // a line that would be a comment of YAML is one of the script
    let text = block.onward(at.text()).skip(1).find(|line| !line.trimmed().is_empty()).unwrap_or(line);
    Some(
        at.error("the text of a block is indented further than its key", text.span())
            .label("this is not part of the block")
            .also(at.source, block.span(), "the block begins here")
            .help(format!("indent it by {} or more", spaces(column(&block) + 2))),
    )
}

/// A line that falls out of a block of text above, in which a here-document is open.
pub(super) fn here_document(at: &At<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let mut least = usize::MAX;
    let mut opened = false;
    for above in line.before(at.text()) {
        if above.begins_block() && column(&above) < least {
            let fault = at
                .error("this line is indented less than the text of the block above", line.span())
                .label(spaces(line.indent()))
                .also(at.source, above.span(), "the block begins here")
                .help(format!("{}: the script gets it without these spaces", indent_to(least)));
            return (opened && least != usize::MAX).then_some(fault);
        }
        least = least.min(above.indent());
        opened |= above.text.contains("<<");
        if least <= line.indent() {
            return None;
        }
    }
    None
}

/// `-run: x`
pub(super) fn dash(at: &At<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let rest = line.trimmed().strip_prefix('-').filter(|rest| rest.starts_with(char::is_alphabetic))?;
    let span = line.span();
    Some(
        at.error("a space is missing after `-`", Span::new(span.start, span.start + 1))
            .label("without it this is no entry of the list")
            .help(format!("write `- {rest}`")),
    )
}

/// The map whose lines stand above a line: its first line, the key that it is the value of, and how many keys it has.
struct Above<'a> {
    first: Line<'a>,
    parent: Line<'a>,
    keys: usize,
}

/// What stands between a line and the key without a value that it is below of.
fn above<'a>(at: &At<'a>, line: Line<'a>) -> Option<Above<'a>> {
    let mut lines = Vec::new();
    let parent = line.before(at.text()).find(|above| {
        // a list may stand in the column of its key
        let key =
            || line.is_item() && !above.is_item() && above.key().is_some_and(|(_, value)| no_value(value));
        let outer = above.indent() < line.indent() || above.indent() == line.indent() && key();
        if !outer {
            lines.push(*above);
        }
        outer
    })?;
    let first = *lines.last()?;
    let fits = column(&parent) < line.indent() || parent.indent() == line.indent() && line.is_item();
    let fits = fits && parent.key().is_some_and(|(_, value)| no_value(value));
    let keys = lines.iter().filter(|above| above.indent() == first.indent()).count();
    fits.then_some(Above { first, parent, keys })
}

/// The first entry of a list has lost its `- `, and the parser met the second.
pub(super) fn lost_dash(at: &At<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let Above { first, parent, keys } = above(at, line)?;
    let as_entry = first.indent() == line.indent() && keys == 1 || first.indent() == column(&line);
    // the parent is perhaps of an entry itself, and this the next one, too far in
    let of_entry = parent.indent() == line.indent() && {
        let outer = parent.before(at.text()).find(|above| above.indent() < parent.indent());
        outer.is_some_and(|outer| column(&outer) == parent.indent())
    };
    if first.is_item() || first.key().is_none() || line.key().is_none() || !as_entry || of_entry {
        return None;
    }
    no_dash(at, first, parent, line)
}

/// The same, where the keys behind the first are still further in, so that the parser stopped at them.
fn lost_dash_above(at: &At<'_>, first: Line<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let parent = first.before(at.text()).next()?;
    let below = line.onward(at.text()).filter(says).find(|line| line.indent() <= first.indent())?;
    let entry = below.is_item() && below.indent() == first.indent() && line.indent() == column(&below);
    (entry && !first.is_item()).then(|| no_dash(at, first, parent, below))?
}

fn no_dash(at: &At<'_>, first: Line<'_>, parent: Line<'_>, next: Line<'_>) -> Option<Diagnostic> {
    let (key, _) = parent.key().filter(|(_, value)| no_value(value))?;
    Some(
        at.error("a key stands where the list begins", first.span())
            .label("no `- ` in front")
            .also(at.source, next.span(), format!("the next entry of the list of `{key}`"))
            .help(format!("write `- {}`, {}", first.trimmed(), indented(next.indent()))),
    )
}

/// The first key of a map is further in than the second, by what is no level of this file.
pub(super) fn first_further(at: &At<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let Above { first, parent, keys } = above(at, line)?;
    let slipped = keys == 1 && first.key().is_some() && !first.is_item() && line.key().is_some();
    (slipped && first_is_odd(at, column(&parent), first, line)).then(|| first_key(at, first, line))
}

/// Whether the first of two keys of a map is the one that is out of line: a third stands below the second, or, where
/// there is none, the second is two spaces in, or the first alone is in by an odd number of them.
fn first_is_odd(at: &At<'_>, parent: usize, first: Line<'_>, line: Line<'_>) -> bool {
    // what is further in than a key without a value is below it
    let has_value = line.key().is_some_and(|(_, value)| !no_value(value));
    let deepest = if has_value { first.indent().max(line.indent()) } else { line.indent() };
    let third = line.onward(at.text()).skip(1).filter(says).find(|third| third.indent() <= deepest);
    let odd = |line: &Line<'_>| line.indent().checked_sub(parent).is_some_and(|by| by % 2 == 1);
    // levels of this file are two spaces each
    let by_two = || line.before(at.text()).any(|above| above.indent() == 2);
    match third.map(|third| third.indent()) {
        Some(third) if third == line.indent() => true,
        Some(third) if third == first.indent() => false,
        _ => {
            odd(&first) && !odd(&line)
                || line.indent() == parent + 2 && by_two() && first.indent() % 2 == parent % 2
        }
    }
}

/// A line that says something.
fn says(line: &Line<'_>) -> bool {
    !line.trimmed().is_empty() && !line.trimmed().starts_with('#')
}

/// The first key of a map, `first`, is less far in than the second.
pub(super) fn first_less(at: &At<'_>, first: Line<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let parent = first.before(at.text()).next()?;
    let no_value = parent.key().is_some_and(|(_, value)| no_value(value));
    let slipped = no_value && !first.is_item() && line.key().is_some() && line.indent() > column(&parent);
    (slipped && first_is_odd(at, column(&parent), first, line)).then(|| first_key(at, first, line))
}

fn first_key(at: &At<'_>, first: Line<'_>, line: Line<'_>) -> Diagnostic {
    let how = if first.indent() > line.indent() { "further" } else { "less" };
    at.error(format!("this is indented {how} than the key below it"), first.span())
        .label(spaces(first.indent()))
        .also(at.source, line.span(), spaces(line.indent()))
        .help(indent_to(line.indent()))
}

fn no_value(value: &str) -> bool {
    uncommented(value).is_empty() || value.starts_with('#')
}

fn indented(count: usize) -> String {
    match count {
        0 => "at the left edge".to_owned(),
        count => format!("indented by {}", spaces(count)),
    }
}

/// `with: name: value`: what to write for keys that stand on the line of the key that they belong to, if it is one
/// that has keys.
pub(super) fn keys_of_one_line(key: &str, value: &str) -> Option<String> {
    /// Keys whose values are texts by name.
    const TEXTS: [&str; 5] = ["with", "env", "outputs", "secrets", "permissions"];
    /// Others that have keys, and the first of those; none where any may stand there.
    const MAPS: [(&str, &[&str]); 14] = [
        ("on", &[]),
        ("push", &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"]),
        ("pull_request", &["branches", "branches-ignore", "paths", "paths-ignore", "types"]),
        ("pull_request_target", &["branches", "branches-ignore", "paths", "paths-ignore", "types"]),
        ("workflow_dispatch", &["inputs"]),
        ("workflow_call", &["inputs", "outputs", "secrets"]),
        ("workflow_run", &["workflows", "types", "branches", "branches-ignore"]),
        ("jobs", &[]),
        ("strategy", &["matrix", "fail-fast", "max-parallel"]),
        ("matrix", &[]),
        ("defaults", &["run"]),
        ("container", &["image", "options", "env", "credentials"]),
        ("concurrency", &["group", "cancel-in-progress"]),
        ("environment", &["name", "url"]),
    ];
    let is_key = |word: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        !word.is_empty() && word.chars().all(good)
    };
    let mut keys: Vec<&str> = Vec::new();
    let (mut key, mut rest) = (key, uncommented(value));
    while let Some((next, value)) = rest.split_once(':').filter(|(next, value)| {
        let holds = match key {
            "run" => keys.last() == Some(&"defaults"),
            // no text begins with it, so that the one above is the name of a job
            _ if *next == "runs-on" => true,
            key => {
                let map = MAPS.iter().find(|(map, _)| *map == key);
                TEXTS.contains(&key) || map.is_some_and(|(_, keys)| keys.is_empty() || keys.contains(next))
            }
        };
        let of_texts = keys.last().is_some_and(|above| TEXTS.contains(above));
        holds && !of_texts && is_key(next) && (value.is_empty() || value.starts_with(' '))
    }) {
        keys.push(key);
        (key, rest) = (next, value.trim());
    }
    if keys.is_empty() {
        return None;
    }
    let last = if rest.starts_with("- ") {
        keys.push(key);
        rest.to_owned()
    } else if rest.contains(": ") && !rest.starts_with(['\'', '"']) {
        format!("{key}: {}", quoted(rest)?)
    } else {
        format!("{key}: {rest}")
    };
    let lines: Vec<_> = keys.iter().map(|key| format!("`{key}:`")).collect();
    Some(format!(
        "write {}, and below it, further in, `{}`",
        lines.join(", below it, further in, "),
        last.trim_end()
    ))
}

/// A line that is further in than the one above, which has its value already.
pub(super) fn too_far(at: &At<'_>, before: Line<'_>, line: Line<'_>) -> Diagnostic {
    let slip = dash(at, before).or_else(|| lost_dash_above(at, before, line));
    if let Some(fault) = slip.or_else(|| first_less(at, before, line)) {
        return fault;
    }
    let key = before.key().map_or("", |(key, _)| key);
    at.error("this is indented too far", line.span())
        .label(spaces(line.indent()))
        .also(at.source, before.span(), format!("`{key}` has its value already, {}", spaces(column(&before))))
        .help(indent_to(column(&before)))
}

/// A value without quotes that ends in a comment, and seems to go on below it.
pub(super) fn comment(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    if line.key().is_none() {
        return missing_colon(at, line);
    }
    let below = line.onward(at.text()).skip(1);
    let next = below.into_iter().find(|line| !line.trimmed().is_empty() && !line.trimmed().starts_with('#'));
    match next {
        Some(next) if next.key().is_some() || next.is_item() => too_far(at, line, next),
        Some(next) => at
            .error("a value goes on behind a comment", next.span())
            .label("this is part of no value")
            .also(at.source, at.here(at.rest().len()), "the comment")
            .help("remove the comment, or put one in front of this line: `# `"),
        None => at.rest_is("a comment stands in a value").label("here").help("remove it"),
    }
}

/// The first entry of a list is further in than the next, so that its keys seem to be beside it.
pub(super) fn first_entry(at: &At<'_>, entry: Line<'_>, line: Line<'_>) -> Option<Diagnostic> {
    let beside = line.before(at.text()).next().is_some_and(|before| before.start == entry.start);
    let next = line.onward(at.text()).filter(says).find(|next| next.indent() < line.indent())?;
    let slipped =
        beside && next.is_item() && column(&next) == line.indent() && entry.indent() == line.indent();
    slipped.then(|| {
        at.error("this `- ` is indented further than the next one", entry.span())
            .label(spaces(entry.indent()))
            .also(at.source, next.span(), spaces(next.indent()))
            .help(indent_to(next.indent()))
    })
}

#[cfg(test)]
mod tests {
    use super::keys_of_one_line;

    #[test]
    fn one_line() {
        for (key, value) in [
            ("MSG", "needs: review"),
            ("TITLE", "uses: x"),
            ("environment", "prod: eu"),
            ("container", "node: 18"),
            ("concurrency", "build: x"),
            ("push", "workflow_dispatch:"),
            ("pull_request", "push:"),
        ] {
            assert_eq!(keys_of_one_line(key, value), None, "{key}: {value}");
        }
        let with = keys_of_one_line("with", "path: 'x: y'");
        assert_eq!(with.as_deref(), Some("write `with:`, and below it, further in, `path: 'x: y'`"));
    }
}
