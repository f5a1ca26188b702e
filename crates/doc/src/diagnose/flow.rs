//! Faults in `[ ]` and `{ }`.
//!
//! Purpose: what is open, what closes it wrongly, what should be in quotes. Owner: the diagnosis.

use super::{At, lines::Line, lines::in_quotes};
use crate::{Diagnostic, Span};

/// A bracket that is open.
#[derive(Clone, Copy)]
struct Open {
    at: usize,
    bracket: char,
}

/// The brackets that are open before a place, outermost first: quotes and comments are passed over as far as
/// lines tell, since the text is wrong somewhere.
fn open(text: &str, until: usize) -> Vec<Open> {
    // Flow collections that reach back further than this are not written by hand.
    const BACK: usize = 64 << 10;
    let mut from = until.saturating_sub(BACK);
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let from = if from == 0 { 0 } else { text[..from].rfind('\n').map_or(0, |at| at + 1) };
    let last = Line::at(text, until).start;
    let mut stack: Vec<Open> = Vec::new();
    let mut quote = None;
    let mut before = '\n';
    for (at, c) in text[from..until].char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (None, '[' | '{') if !stack.is_empty() || matches!(before, ' ' | '\n') => {
                stack.push(Open { at: from + at, bracket: c });
            }
            (None, ']' | '}') => {
                stack.pop();
            }
            // a key at the left edge ends what was open
            (None, _)
                if before == '\n' && from + at < last && !c.is_whitespace() && !matches!(c, '-' | '#') =>
            {
                stack.clear();
            }
            _ => {}
        }
        before = c;
    }
    stack
}

fn closing(bracket: char) -> char {
    if bracket == '[' { ']' } else { '}' }
}

/// Something else than a comma or the end where one of them has to be.
pub(super) fn separator(at: &At<'_>) -> Diagnostic {
    let text = at.text();
    let line = at.line();
    if let Some(fault) = expression(at) {
        return fault;
    }
    let innermost = open(text, at.at).pop();
    if let Some(open) = innermost
        && text[open.at..at.at].contains('\n')
        && line.key().is_some()
        && line.indent() <= Line::at(text, open.at).indent()
    {
        return unclosed(at, open.at, Some(line.span()));
    }
    if text[at.at..].starts_with(": ") || text[at.at..].starts_with(":\n") {
        let start = innermost.map_or(line.start, |open| open.at + 1).max(line.start);
        let before = &text[start..at.at];
        let value = before.rsplit([':', ',']).next().unwrap_or_default().trim();
        if let Some((_, key)) = value.rsplit_once(' ') {
            return at
                .error(format!("a comma is missing before `{key}`"), Span::new(at.at - key.len(), at.at))
                .label("another key begins here")
                .help("write a `,` between two keys");
        }
        let rest = text[at.at..].split([',', ']', '}', '\n']).next().unwrap_or_default();
        return at
            .error("`: ` stands in a value without quotes", at.here(1))
            .label("YAML takes this as a second key")
            .help(in_quotes(&format!("{value}{rest}")));
    }
    let rest = text[at.at..].split([',', ']', '}', '\n']).next().unwrap_or_default().trim_end();
    let length = rest.len().max(1);
    let fault = at.error("a `,` or the end of the brackets is missing before this", at.here(length));
    match innermost {
        Some(open) => fault
            .label(format!("expected `,` or `{}`", closing(open.bracket)))
            .also(at.source, Span::new(open.at, open.at + 1), "opened here")
            .help("put text with spaces or special characters in quotes"),
        None => fault.label("here").help("put text with spaces or special characters in quotes"),
    }
}

/// `${{ … }}` or `{{ … }}` within brackets, where braces are maps.
pub(super) fn expression(at: &At<'_>) -> Option<Diagnostic> {
    let line = at.line();
    let column = at.at - line.start;
    let start = line.text.get(..(column + 3).min(line.text.len()))?.rfind("{{")?;
    let dollar = line.text[..start].ends_with('$');
    let start = if dollar { start - 1 } else { start };
    let length = line.text[start..].find("}}").map_or(line.text.len() - start, |end| end + 2);
    if start + length < column {
        return None;
    }
    let written = &line.text[start..start + length];
    let span = Span::new(line.start + start, line.start + start + length);
    let fault = at
        .error("an expression stands in brackets without quotes", span)
        .label("its braces begin a map of YAML");
    let wanted = if dollar { written.to_owned() } else { format!("${written}") };
    Some(fault.help(in_quotes(&wanted)))
}

/// A bracket of a line above that is open where the next line of a list or a map begins.
pub(super) fn open_above(at: &At<'_>) -> Option<Diagnostic> {
    let line = at.line();
    let open = open(at.text(), at.at).pop()?;
    let begins = line.text.get(..at.at - line.start)?.trim().is_empty();
    (begins && open.at < line.start).then(|| unclosed(at, open.at, Some(line.span())))
}

/// A bracket that nothing closes.
pub(super) fn unclosed(at: &At<'_>, opened: usize, next: Option<Span>) -> Diagnostic {
    let bracket = at.text()[opened..].chars().next().unwrap_or('[');
    let fault = at
        .error(format!("this `{bracket}` is not closed"), Span::new(opened, opened + 1))
        .label("opened here");
    let fault = match next {
        Some(next) => fault.also(at.source, next, "the next key begins, and it is still open"),
        None => fault,
    };
    fault.help(format!("add `{}` where the {} ends", closing(bracket), kind(bracket)))
}

fn kind(bracket: char) -> &'static str {
    if bracket == '[' { "list" } else { "map" }
}

/// A key where something is still open.
pub(super) fn illegal_key(at: &At<'_>) -> Diagnostic {
    match open(at.text(), at.at).pop() {
        Some(open) => unclosed(at, open.at, Some(at.line().span())),
        None => {
            at.error("a `:` cannot stand here", at.here(1)).label("here").help("put text with `:` in quotes")
        }
    }
}

/// `[ … }`
pub(super) fn mismatch(at: &At<'_>, bracket: char, close: char) -> Diagnostic {
    let text = at.text();
    let end = text[at.at..].find(close).map_or(text.len(), |end| at.at + end);
    at.error(format!("`{bracket}` is closed by `{close}`"), Span::new(end, end + 1))
        .label(format!("expected `{}`", closing(bracket)))
        .also(at.source, Span::new(at.at, at.at + 1), "opened here")
}

/// A closing bracket too many.
pub(super) fn misplaced(at: &At<'_>) -> Diagnostic {
    let bracket = at.text()[at.at..].chars().next().unwrap_or(']');
    at.error(format!("this `{bracket}` closes nothing"), at.here(1))
        .label("one too many")
        .help("remove it, or put a value that begins with it in quotes")
}
