//! A text by its lines, around one place.
//!
//! Purpose: what a person sees there: the line, its indentation, the line before. Owner: the diagnosis.
//! Invariant: a span of it is one of the text; looking back is bounded.

use crate::Span;

/// How many lines a diagnosis looks back: an error is answered at once also in a file of a megabyte.
const BACK: usize = 2000;

/// One line of a text, without its line feed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Where it begins.
    pub(super) start: usize,
    /// The line.
    pub(super) text: &'a str,
}

impl<'a> Line<'a> {
    /// The line of a place.
    pub(super) fn at(text: &'a str, at: usize) -> Line<'a> {
        let start = text[..at].rfind('\n').map_or(0, |before| before + 1);
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        Line { start, text: text[start..end].trim_end_matches('\r') }
    }

    /// Spaces in front of it.
    pub(super) fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start_matches(' ').len()
    }

    /// The white space in front of it.
    pub(super) fn blank(&self) -> &'a str {
        &self.text[..self.text.len() - self.text.trim_start().len()]
    }

    /// It without white space around.
    pub(super) fn trimmed(&self) -> &'a str {
        self.text.trim()
    }

    /// Where that stands.
    pub(super) fn span(&self) -> Span {
        let start = self.start + (self.text.len() - self.text.trim_start().len());
        Span::new(start, start + self.trimmed().len())
    }

    /// It without the `- ` of list entries in front, and how far that is in.
    pub(super) fn entry(&self) -> (usize, &'a str) {
        let mut rest = self.text.trim_start();
        while let Some(inner) = rest.strip_prefix("- ") {
            rest = inner.trim_start();
        }
        let rest = rest.trim_end();
        let at = self.text.trim_end().len() - rest.len();
        (self.start + at, rest)
    }

    /// Whether it is an entry of a list.
    pub(super) fn is_item(&self) -> bool {
        self.trimmed() == "-" || self.trimmed().starts_with("- ")
    }

    /// Key and value, of a line that has both or the first.
    pub(super) fn key(&self) -> Option<(&'a str, &'a str)> {
        let (_, rest) = self.entry();
        if rest.starts_with(['"', '\'', '{', '[', '#']) {
            return None;
        }
        match rest.split_once(": ") {
            Some((key, value)) => Some((key, value.trim())),
            None => rest.strip_suffix(':').map(|key| (key, "")),
        }
    }

    /// Whether a block of text begins below it.
    pub(super) fn begins_block(&self) -> bool {
        let Some((_, value)) = self.key() else { return false };
        let value = value.split(" #").next().unwrap_or_default().trim_end();
        value.starts_with(['|', '>']) && value[1..].chars().all(|c| matches!(c, '+' | '-' | '0'..='9'))
    }

    /// It and the lines behind it.
    pub(super) fn onward(&self, text: &'a str) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let mut start = Some(self.start);
        let lines = std::iter::from_fn(move || {
            let line = Line::at(text, start?);
            let end = text[line.start..].find('\n').map(|end| line.start + end + 1);
            start = end.filter(|end| *end < text.len());
            Some(line)
        });
        lines.take(BACK)
    }

    /// The lines before it that say something, the nearest first.
    pub(super) fn before(&self, text: &'a str) -> impl Iterator<Item = Line<'a>> + use<'a> {
        self.above(text).filter(|line| !line.trimmed().is_empty() && !line.trimmed().starts_with('#'))
    }

    /// All lines before it, the nearest first.
    pub(super) fn above(&self, text: &'a str) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let mut start = self.start;
        let lines = std::iter::from_fn(move || {
            let end = start.checked_sub(1)?;
            let line = Line::at(text, end);
            start = line.start;
            Some(line)
        });
        lines.take(BACK)
    }
}

/// A number of spaces in words.
pub(super) fn spaces(count: usize) -> String {
    match count {
        0 => "no spaces".to_owned(),
        1 => "1 space".to_owned(),
        count => format!("{count} spaces"),
    }
}

/// Where a line belongs, in words.
pub(super) fn indent_to(count: usize) -> String {
    match count {
        0 => "begin it at the left edge".to_owned(),
        count => format!("indent it by {}", spaces(count)),
    }
}

/// A value in quotes, in those that need no escape where there are such; none of what is no line's part.
pub(super) fn quoted(value: &str) -> Option<String> {
    const LONGEST: usize = 60; // a help is one line
    let value = value.trim();
    (!value.is_empty() && value.len() <= LONGEST).then(|| quote(value))
}

/// A value in quotes, whatever is in it.
pub(crate) fn quote(value: &str) -> String {
    match (value.contains('\''), value.contains(['"', '\\'])) {
        (false, _) => format!("'{value}'"),
        (true, false) => format!("\"{value}\""),
        (true, true) => format!("'{}'", value.replace('\'', "''")),
    }
}

/// A line's value without the comment behind it.
pub(super) fn uncommented(value: &str) -> &str {
    value.split(" #").next().unwrap_or_default().trim_end()
}

/// What to write for a value that needs quotes.
pub(super) fn in_quotes(value: &str) -> String {
    match quoted(value) {
        Some(quoted) => format!("put it in quotes: `{quoted}`"),
        None => "put the value in quotes, or below `|` on lines of its own".to_owned(),
    }
}
