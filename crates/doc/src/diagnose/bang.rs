//! A value that begins with `!`, which YAML takes as the tag of what follows.
//!
//! Purpose: an `if` that is negated is the commonest one; and conditions are written as they have to be.
//! Owner: the diagnosis. Invariant: what a help says to write is YAML, and means what was meant.

use super::{
    At,
    lines::{Line, in_quotes, quote, uncommented},
};
use crate::{Diagnostic, Source, Span};

/// The end of the message.
pub(crate) const IS_A_TAG: &str = "is a YAML tag here";

/// A tag in front of the value that stands at `at`.
pub(crate) fn tag(source: &Source, at: Span) -> Diagnostic {
    let before = source.text().get(..at.start).unwrap_or_default();
    // that of an empty value or of a collection stands before it, perhaps on a line above
    let start = before.rfind('!').filter(|start| {
        let words = before[*start..].lines().take(3).map(|line| line.split_whitespace().count());
        words.clone().count() < 3 && words.sum::<usize>() <= 2
    });
    let start = start.unwrap_or(at.start);
    let start = if before[..start].ends_with('!') { start - 1 } else { start };
    fault(source, start)
}

/// The value of the line where the parser stopped, if it begins with `!`.
pub(super) fn begins(at: &At<'_>) -> Option<Diagnostic> {
    let line = at.line();
    let (start, entry) = line.entry();
    let value = line.key().map_or(entry, |(_, value)| value);
    let from = start + entry.find(value)?;
    (value.starts_with('!') && from <= at.at).then(|| fault(at.source, from))
}

fn fault(source: &Source, start: usize) -> Diagnostic {
    let text = source.text();
    let line = Line::at(text, start);
    let (front, rest) = line.text.split_at_checked(start - line.start).unwrap_or((line.text, ""));
    let written = value(rest, front.contains(['[', '{']));
    let tag = written.split([' ', '\t']).next().unwrap_or_default().trim_end_matches(',');
    let lone = tag == "!";
    let help = if written.starts_with("!!") {
        "remove it: tags of YAML do nothing here".to_owned()
    } else if matches!(front.trim().trim_start_matches("- ").trim(), "if:") {
        match written {
            "!" => "write it as `${{ !… }}` on one line".to_owned(),
            written => condition(written),
        }
    } else {
        in_quotes(written)
    };
    Diagnostic::error(format!("`{tag}` {IS_A_TAG}"))
        .at(source, Span::new(start, start + written.len().max(1)))
        .label(match lone {
            true => "YAML drops it: a value that begins with `!` must be quoted",
            false => "a value that begins with `!` must be quoted",
        })
        .help(help)
}

/// A value up to its comment, or, in brackets, to what ends it outside of quotes and brackets of its own.
fn value(rest: &str, in_brackets: bool) -> &str {
    if !in_brackets {
        return uncommented(rest);
    }
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ',' | ']' | '}') if depth == 0 => return rest[..at].trim_end(),
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    rest.trim_end()
}

/// What to write for an `if` that is no value of YAML: one expression, without quotes of YAML.
pub(super) fn condition(written: &str) -> String {
    const LONGEST: usize = 150; // a help is one line
    let mut bare = String::new();
    let mut rest = written.trim();
    while let Some((before, (inner, after))) =
        rest.split_once("${{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        // the quotes of YAML right around it are none of the expression
        let quote = before.chars().next_back().filter(|c| matches!(c, '"' | '\'') && after.starts_with(*c));
        let cut = usize::from(quote.is_some());
        bare.push_str(&before[..before.len() - cut]);
        bare.push_str(inner.trim());
        rest = &after[cut..];
    }
    bare.push_str(rest);
    if !bare.contains('\'') {
        bare = bare.replace('"', "'");
    }
    let even = bare.matches('\'').count().is_multiple_of(2);
    if bare.len() > LONGEST || !even || bare.contains('"') || bare.is_empty() {
        return "write it as one expression, without quotes around it: text in it stands in single quotes"
            .to_owned();
    }
    let whole = format!("${{{{ {bare} }}}}");
    let special = |c: char| "!&*|>%@`\"'[]{},#?-:".contains(c);
    format!(
        "write `if: {}`",
        match (bare.contains(": ") || bare.contains(" #"), bare.starts_with(special)) {
            (true, _) => quote(&whole),
            (false, true) => whole,
            (false, false) => bare,
        }
    )
}
