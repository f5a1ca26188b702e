//! Faults of quotes: open ones, text behind them, escapes.
//!
//! Purpose: which quote is meant, and how the value is written whole. Owner: the diagnosis. Invariant: what a help says
//! to write is YAML.

use super::{
    At, bang, flow,
    lines::{Line, quoted, uncommented},
};
use crate::{Diagnostic, Span};

pub(super) fn unclosed_quote(at: &At<'_>) -> Diagnostic {
    let rest = at.rest();
    let quote = rest.chars().next().unwrap_or('"');
    let line = at.line();
    let fault = at.error("this quote is not closed", at.here(rest.len().max(1))).label("opened here");
    // a key: `"a: 1`
    if line.entry().0 == at.at
        && let Some((key, value)) = rest.strip_prefix(quote).and_then(|rest| rest.split_once(": "))
    {
        return fault.help(format!("close it in front of the `:`: `{quote}{key}{quote}: {value}`"));
    }
    // `it's` and the like: the quote closed an earlier one
    let count = line.text.matches(quote).count();
    if count > 1 {
        return fault.help(format!("this line has {count} of `{quote}`: look which one has no other"));
    }
    let bracket = rest.trim_end_matches([']', '}', ',']);
    match quoted(bracket.trim_start_matches(quote)) {
        Some(_) => fault.help(format!("close it: `{bracket}{quote}{}`", &rest[bracket.len()..])),
        None => fault.help(format!("add `{quote}` where the value ends")),
    }
}

pub(super) fn after_quote(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    // the line feed itself may be the place
    let before = line.text.get(..at.at - line.start).unwrap_or(line.text);
    let quote = before.trim_end().chars().next_back().unwrap_or('"');
    if let Some(fault) = open_since(at, line.start + before.trim_end().len(), quote) {
        return fault;
    }
    let fault = at.rest_is("text stands after the closing quote").label("the value has ended before this");
    let (_, entry) = line.entry();
    let (key, value) = entry.split_once(": ").unwrap_or(("", entry));
    if key == "if" {
        let value = uncommented(value);
        // quotes around the whole, and the same in it
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let whole = inner.filter(|inner| before.ends_with(quote) && inner.matches(quote).count() % 2 == 0);
        return fault.help(bang::condition(whole.unwrap_or(value)));
    }
    if value.starts_with(['[', '{']) {
        return fault.help("put quotes around the whole value that it is in");
    }
    if before.ends_with(quote) {
        let value = match value.rsplit_once(" #") {
            Some((value, _)) if value.trim_end().ends_with(quote) => value.trim_end(),
            _ => value,
        };
        // it begins on a line above, or the text behind the quote is another thing
        if let Some(inner) = value.strip_prefix(quote).filter(|_| quote == '\'' || value.ends_with(quote)) {
            let inner = inner.strip_suffix(quote).unwrap_or(inner);
            return fault.help(match (quote, quoted(inner)) {
                ('\'', Some(other)) if other.starts_with('"') => {
                    format!("an apostrophe needs double quotes around the value: `{other}`")
                }
                ('\'', _) => "write an apostrophe in single quotes twice: `''`".to_owned(),
                (_, Some(other)) => format!("a `\"` in the value needs single quotes around it: `{other}`"),
                (_, None) => "put the value in single quotes, in which a `\"` is one".to_owned(),
            });
        }
    }
    fault.help(match quoted(value) {
        Some(quoted) => format!("put quotes around the whole value: `{quoted}`"),
        None => "put quotes around the whole value".to_owned(),
    })
}

/// A quote that was left open on a line above, and met the next of its kind here, which ends at `end`.
fn open_since(at: &At<'_>, end: usize, quote: char) -> Option<Diagnostic> {
    let text = at.text();
    let mut open = end.checked_sub(1)?;
    loop {
        open = text[..open].rfind(quote)?;
        // within the quotes it is written twice, or behind a backslash
        let twice = text[..open].chars().rev().take_while(|c| *c == quote).count();
        let escapes = text[..open].chars().rev().take_while(|c| *c == '\\').count();
        match quote {
            '\'' if twice % 2 == 1 => open -= 1,
            '"' if escapes % 2 == 1 => {}
            _ => break,
        }
    }
    let (first, last) = (Line::at(text, open), at.line());
    // a text over several lines has no keys and no entries in it, and is further in than what it belongs to
    let goes_on = |line: &Line<'_>| line.indent() > first.indent() && line.key().is_none() && !line.is_item();
    let all = std::iter::once(last).chain(last.before(text));
    if first.start == last.start || all.take_while(|line| line.start > first.start).all(|line| goes_on(&line))
    {
        return None;
    }
    let opened = At { source: at.source, at: open };
    Some(flow::expression(&opened).unwrap_or_else(|| {
        unclosed_quote(&opened).also(
            at.source,
            Span::new(end - quote.len_utf8(), end),
            "the next of its kind",
        )
    }))
}

pub(super) fn escape(at: &At<'_>) -> Diagnostic {
    let text = at.text();
    let mut rest = text[at.at..].char_indices().skip(1).peekable();
    while let Some((found, c)) = rest.next() {
        if c == '"' {
            break;
        }
        if c != '\\' {
            continue;
        }
        let Some((_, next)) = rest.next() else { break };
        let digits = match next {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let start = at.at + found;
        let end = start + 1 + next.len_utf8();
        let hex = text[end..].chars().take(digits).filter(char::is_ascii_hexdigit).count();
        let known = "0abtnvfre \"/\\N_LP\n\r\t".contains(next) || digits > 0 && hex == digits;
        if known {
            continue;
        }
        return at
            .error(format!("`\\{next}` is no escape"), Span::new(start, end))
            .label("`\\` begins an escape in double quotes")
            .help(format!("write `\\\\{next}` for a backslash, or use single quotes, in which `\\` is one"));
    }
    at.rest_is("an escape in these quotes is wrong")
        .label("in here")
        .help("use single quotes, in which `\\` is a backslash")
}
