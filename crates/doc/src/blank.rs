//! Characters that look like a space, or like nothing, and are none to YAML.
//!
//! Purpose: what was copied from a page of the web has them in its indentation, behind a `:` or a `-`, and nobody sees
//! why it is no YAML, or why a key is unknown. Owner: the YAML parser and its diagnosis.
//! Invariant: text that a person may have meant so (values, text in quotes, the inside of a key) is no fault.

use crate::{Diagnostic, Kind, Node, Source, Span, Style, alike};

/// What a character is that looks like a space or like nothing, in words.
pub fn odd_space(c: char) -> Option<String> {
    name(c).map(|name| format!("{name} (U+{:04X})", u32::from(c)))
}

fn name(c: char) -> Option<&'static str> {
    match c {
        '\u{a0}' => Some("a no-break space"),
        '\u{202f}' => Some("a narrow no-break space"),
        '\u{3000}' => Some("a wide space"),
        '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'
        | '\u{2066}'..='\u{2069}' => Some("an invisible character"),
        '\u{2028}' | '\u{2029}' | '\u{85}' => Some("a line separator"),
        c if !c.is_ascii() && c.is_whitespace() => Some("a space of another kind"),
        _ => None,
    }
}

fn is_odd(c: char) -> bool {
    name(c).is_some()
}

/// What is wrong with the odd one at this place.
fn fault(source: &Source, at: usize) -> Diagnostic {
    let rest = source.text().get(at..).unwrap_or_default();
    let run = &rest[..rest.find(|c| !is_odd(c)).unwrap_or(rest.len())];
    let what = run.chars().next().and_then(odd_space).unwrap_or_default();
    let count = run.chars().count();
    let spaces = if count == 1 { "a space".to_owned() } else { format!("{count} spaces") };
    Diagnostic::error(format!("{what} stands where a space is meant"))
        .at(source, Span::new(at, at + run.len()))
        .label("to YAML this is a letter like any other")
        .help(format!("write {spaces} in its place, or nothing"))
        .note("it comes with what is copied from pages and documents")
}

/// Where a line has an odd one that was meant to part what it is made of: in its indentation, behind its `-`, around
/// the `:` of its key. Counted from its start.
fn place(line: &str) -> Option<usize> {
    let mut rest = line;
    loop {
        let inner = rest.trim_start_matches([' ', '\t']);
        if inner.starts_with(is_odd) {
            let more = inner.trim_start_matches(|c| c == ' ' || is_odd(c));
            // a line of nothing else is blank to people
            return (!more.is_empty()).then_some(line.len() - inner.len());
        }
        match inner.strip_prefix('-') {
            Some(behind) if behind.starts_with(|c| c == ' ' || is_odd(c)) => rest = behind,
            _ => {
                rest = inner;
                break;
            }
        }
    }
    let key = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
    let colon = rest[key..].trim_start_matches(is_odd).strip_prefix(':')?;
    if rest[key..].starts_with(is_odd) && (colon.is_empty() || colon.starts_with(|c| c == ' ' || is_odd(c))) {
        return Some(line.len() - rest.len() + key);
    }
    colon.starts_with(is_odd).then_some(line.len() - colon.len())
}

/// What a text holds in place of a map or a list whose key, or whose `-`, has an odd one behind it, or is none of YAML
/// though it looks so.
pub fn odd_space_in(source: &Source, node: &Node) -> Option<Diagnostic> {
    // the text of a block is text
    if node.scalar().is_some_and(|scalar| matches!(scalar.style, Style::Literal | Style::Folded)) {
        return None;
    }
    let line = source.slice(node.span).lines().next()?;
    if let Some(at) = place(line) {
        return Some(fault(source, node.span.start + at));
    }
    let mut found = alike::in_line(source, node.span.start, line)?;
    let before = source.text()[..node.span.start].trim_end_matches(' ');
    if before.ends_with(':') {
        // a map cannot begin on the line of its key
        found.fault.help = vec![format!("write `{}` on the line below, further in", found.write)];
    }
    Some(found.fault)
}

/// The odd one in a line that begins at `start`, and lines that may be meant.
pub(crate) fn in_line(source: &Source, start: usize, line: &str) -> Option<(Diagnostic, Vec<String>)> {
    if line.is_ascii() || !line.contains(is_odd) {
        return None;
    }
    if line.chars().all(|c| c.is_whitespace() || is_odd(c)) {
        let at = start + line.find(is_odd)?;
        let mut fault = fault(source, at);
        fault.message = fault.message.replace("where a space is meant", "on a line of its own");
        fault.help = vec!["take it out".to_owned()];
        return Some((fault, vec![String::new()]));
    }
    let at = start + place(line)?;
    let mended = [true, false].map(|spaces| mend(line, spaces));
    Some((fault(source, at), mended.into()))
}

/// A line with spaces, or nothing, for all odd ones that part what it is made of.
fn mend(line: &str, spaces: bool) -> String {
    const MOST: usize = 100;
    let mut line = line.to_owned();
    for _ in 0..MOST {
        let Some(at) = place(&line) else { break };
        let run = line[at..].find(|c| !is_odd(c)).unwrap_or(line.len() - at);
        let count = if spaces { line[at..at + run].chars().count() } else { 0 };
        line.replace_range(at..at + run, &" ".repeat(count));
    }
    line
}

/// Every odd one of a text that is YAML: around keys, and where it makes text of an entry.
pub(crate) fn all(source: &Source, root: &Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !source.text().is_ascii() && source.text().contains(is_odd) {
        walk(source, root, &mut found);
        // an alias holds what its anchor holds
        found.dedup();
    }
    found
}

fn walk(source: &Source, node: &Node, found: &mut Vec<Diagnostic>) {
    const MOST: usize = 100;
    if found.len() >= MOST {
        return;
    }
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(|item| walk(source, item, found)),
        Kind::Map(map) => {
            for entry in &map.entries {
                let written = source.slice(entry.key.span);
                let odd = written.starts_with(is_odd).then_some(0).or_else(|| place(written)).or_else(|| {
                    Some(written.trim_end_matches(is_odd).len()).filter(|end| *end < written.len())
                });
                found.extend(odd.map(|at| fault(source, entry.key.span.start + at)));
                walk(source, &entry.value, found);
            }
        }
        Kind::Scalar(_) => {
            found.extend(list(source, node.span).map(|at| fault(source, at)));
        }
    }
}

/// Where a text over several lines has the odd one that makes one of it and no list: its first line and another begin
/// with a `-` in the same column. A text of one line may begin with a `-` and an odd one.
fn list(source: &Source, span: Span) -> Option<usize> {
    let written = source.slice(span);
    if !written.starts_with(|c| c == '-' || is_odd(c)) || !written.contains('\n') {
        return None;
    }
    let start = source.text()[..span.start].rfind('\n').map_or(0, |before| before + 1);
    let dash = |line: &str| {
        let entry = line.trim_start_matches(|c| c == ' ' || is_odd(c));
        let is_item = entry.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c| c == ' ' || is_odd(c)));
        is_item.then(|| line[..line.len() - entry.len()].chars().count())
    };
    let mut lines = source.slice(Span::new(start, span.end)).lines();
    let first = lines.next()?;
    let column = dash(first)?;
    lines.any(|line| dash(line) == Some(column)).then_some(start + place(first)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let rows = [
            ("\u{a0}\u{a0}run: x", Some(0)),
            ("  \u{a0}run: x", Some(2)),
            ("  -\u{a0}run: x", Some(3)),
            ("  - \u{a0}run: x", Some(4)),
            ("  - -\u{a0}x", Some(5)),
            ("run:\u{a0}x", Some(4)),
            ("  - runs-on:\u{202f}x", Some(12)),
            ("run\u{a0}: x", Some(3)),
            ("run\u{a0}:", Some(3)),
            ("\u{202e}on: push", Some(0)),
            ("run: x\u{a0}y", None),
            ("  x\u{a0}y", None),
            ("echo a:\u{a0}b", None),
            ("a\u{a0}:b", None),
            ("\u{a0} ", None),
            ("-\u{a0}", None),
            ("--\u{a0}", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(place(line), expected, "{line:?}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(odd_space('\u{a0}').as_deref(), Some("a no-break space (U+00A0)"));
        assert_eq!(odd_space('\u{2003}').as_deref(), Some("a space of another kind (U+2003)"));
        assert_eq!([' ', '\t', '\n', 'a', 'é', '\u{7f}'].map(odd_space), [const { None }; 6]);
    }
}
