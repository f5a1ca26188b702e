//! Characters that look like those of YAML, and are letters to it: other dashes, wide colons, curly quotes.
//!
//! Purpose: keyboards and word processors write them, and what the parser says of the text that comes of it does not
//! help. Owner: the YAML parser and its diagnosis. Invariant: text that a person may have meant so is no fault: they
//! are only looked for where something is wrong already.

use crate::{Diagnostic, Source, Span};

/// The first one in a line, which begins at `start`, that stands where syntax is meant.
pub(crate) fn in_line(source: &Source, start: usize, line: &str) -> Option<Diagnostic> {
    if line.is_ascii() {
        return None;
    }
    let mut entry = line.trim_start();
    while let Some(inner) = entry.strip_prefix("- ") {
        entry = inner.trim_start();
    }
    let from = start + line.len() - entry.len();
    dash(source, from, entry)
        .or_else(|| wide_colon(source, from, entry))
        .or_else(|| curly(source, from, entry))
}

/// The same of a line from this place on, where an entry or a key begins.
pub fn look_alike(source: &Source, start: usize) -> Option<Diagnostic> {
    const LONGEST: usize = 500; // a line may hold a hundred thousand keys
    let rest = source.text().get(start..)?;
    let line = &rest[..rest.char_indices().nth(LONGEST).map_or(rest.len(), |(end, _)| end)];
    in_line(source, start, line.lines().next()?)
}

fn fault(source: &Source, what: &str, c: char, meant: &str, at: usize) -> Diagnostic {
    Diagnostic::error(format!("{what} (U+{:04X}) stands where {meant} is meant", u32::from(c)))
        .at(source, Span::new(at, at + c.len_utf8()))
        .label("to YAML this is a letter like any other")
}

/// `– run: x`
fn dash(source: &Source, from: usize, entry: &str) -> Option<Diagnostic> {
    let c = entry.chars().next().filter(|c| matches!(c, '\u{2010}'..='\u{2015}' | '−' | '－'))?;
    let rest = entry[c.len_utf8()..].strip_prefix(' ')?;
    let key = rest.split_once(':').is_some_and(|(key, _)| is_key(key));
    let rest = rest.trim();
    key.then(|| fault(source, "another dash", c, "a `-`", from).help(format!("write `- {rest}`")))
}

/// `steps：`, with the colon of an East Asian keyboard.
fn wide_colon(source: &Source, from: usize, entry: &str) -> Option<Diagnostic> {
    const WIDE: char = '：';
    let (key, value) = entry.split_once(WIDE).filter(|(key, _)| is_key(key))?;
    let fault = fault(source, "a wide colon", WIDE, "a `:`", from + key.len());
    Some(fault.help(match value.trim() {
        "" => format!("write `{key}:`"),
        value => format!("write `{key}: {value}`"),
    }))
}

/// `name: “a: b”`
fn curly(source: &Source, from: usize, entry: &str) -> Option<Diagnostic> {
    let (key, value) = entry.split_once(": ").filter(|(key, _)| is_key(key))?;
    let value = value.trim();
    let quote = |c: char| matches!(c, '“' | '”' | '„' | '‟' | '‘' | '’' | '‚');
    let first = value.chars().next().filter(|c| quote(*c))?;
    let inner = value[first.len_utf8()..].strip_suffix(quote)?;
    let at = from + key.len() + entry[key.len()..].find(first)?;
    let written = crate::diagnose::quote(inner);
    Some(fault(source, "a curly quote", first, "one of YAML", at).help(format!("write `{key}: {written}`")))
}

fn is_key(word: &str) -> bool {
    !word.is_empty() && !word.contains([' ', ':', '"', '\'', '{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let rows = [
            ("    – run: x", Some("write `- run: x`")),
            ("  - — run: x", Some("write `- run: x`")),
            ("  –run: x", None),
            ("  – a word: x", None),
            ("  - – of this", None),
            ("steps：", Some("write `steps:`")),
            ("  - uses： a/b", Some("write `uses: a/b`")),
            ("  echo a： b", None),
            ("  name: a： b", None),
            ("name: “x: y”", Some("write `name: 'x: y'`")),
            ("name: “it's: y”", Some("write `name: \"it's: y\"`")),
            ("name: “x: y” z", None),
            ("name: x “y”", None),
            ("name: ä", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let source = Source::new("t.yml", line);
            let found = in_line(&source, 0, line).map(|fault| fault.help.join(" "));
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
