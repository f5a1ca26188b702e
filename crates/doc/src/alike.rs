//! Characters that look like those of YAML, and are letters to it: other dashes, wide colons, curly quotes.
//!
//! Purpose: keyboards and word processors write them, and what the parser says of the text that comes of it does not
//! help. Owner: the YAML parser and its diagnosis. Invariant: text that a person may have meant so is no fault: they
//! are only looked for where something is wrong already.

use crate::{Diagnostic, Source, Span};

/// One of them: what is wrong, and what to write in place of the line from this place on.
pub(crate) struct Alike {
    pub(crate) fault: Diagnostic,
    pub(crate) from: usize,
    pub(crate) write: String,
}

/// The first one in a line, which begins at `start`, that stands where syntax is meant.
pub(crate) fn in_line(source: &Source, start: usize, line: &str) -> Option<Alike> {
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

/// The same in a key.
pub fn look_alike(source: &Source, key: Span) -> Option<Diagnostic> {
    const LONGEST: usize = 500; // a line may hold a hundred thousand keys
    if source.slice(key).is_ascii() {
        return None;
    }
    let rest = source.text().get(key.start..)?;
    let line = &rest[..rest.char_indices().nth(LONGEST).map_or(rest.len(), |(end, _)| end)];
    let found = in_line(source, key.start, line.lines().next()?)?;
    // what its value holds is no fault of the key
    let inside = found.fault.primary.as_ref().is_some_and(|label| label.span.end <= key.end);
    inside.then_some(found.fault)
}

fn alike(source: &Source, what: &str, c: char, meant: &str, at: usize, write: (usize, String)) -> Alike {
    let fault = Diagnostic::error(format!("{what} (U+{:04X}) stands where {meant} is meant", u32::from(c)))
        .at(source, Span::new(at, at + c.len_utf8()))
        .label("to YAML this is a letter like any other")
        .help(format!("write `{}`", write.1));
    Alike { fault, from: write.0, write: write.1 }
}

/// `– run: x`
fn dash(source: &Source, from: usize, entry: &str) -> Option<Alike> {
    let c = entry.chars().next().filter(|c| matches!(c, '\u{2010}'..='\u{2015}' | '−' | '－'))?;
    let rest = entry[c.len_utf8()..].strip_prefix(' ')?;
    let key = rest.split_once(':').is_some_and(|(key, _)| is_key(key));
    let write = format!("- {}", rest.trim());
    key.then(|| alike(source, "another dash", c, "a `-`", from, (from, write)))
}

/// `steps：`, with the colon of an East Asian keyboard.
fn wide_colon(source: &Source, from: usize, entry: &str) -> Option<Alike> {
    const WIDE: char = '：';
    let (key, value) = entry.split_once(WIDE).filter(|(key, _)| is_key(key))?;
    let value = value.trim();
    // with one of YAML behind it, this is perhaps the text of a key
    if value.contains(": ") || value.ends_with(':') {
        return None;
    }
    let write = format!("{key}: {value}").trim_end().to_owned();
    Some(alike(source, "a wide colon", WIDE, "a `:`", from + key.len(), (from, write)))
}

/// `name: “a: b”`
fn curly(source: &Source, from: usize, entry: &str) -> Option<Alike> {
    let (key, value) = entry.split_once(": ").filter(|(key, _)| is_key(key))?;
    let value = value.trim();
    let quote = |c: char| matches!(c, '“' | '”' | '„' | '‟' | '‘' | '’' | '‚');
    let first = value.chars().next().filter(|c| quote(*c))?;
    let inner = value[first.len_utf8()..].strip_suffix(quote)?;
    let at = from + key.len() + entry[key.len()..].find(first)?;
    let write = format!("{key}: {}", crate::diagnose::quote(inner));
    Some(alike(source, "a curly quote", first, "one of YAML", at, (from, write)))
}

fn is_key(word: &str) -> bool {
    word.contains(char::is_alphanumeric) && !word.contains([' ', ':', '"', '\'', '{', '['])
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
            ("-：name: make", None),
            ("a：b: c", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let source = Source::new("t.yml", line);
            let found = in_line(&source, 0, line).map(|found| found.fault.help.join(" "));
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
