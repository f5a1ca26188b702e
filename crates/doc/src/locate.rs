//! From a place in a scalar's text back to the place in the file.
//!
//! Purpose: an expression's error inside of a quoted or block scalar gets its exact column.
//! Owner: whoever looks into a scalar. Invariant: every character that is no white space maps to
//! itself in the source; white space maps to some of the white space that it came from (folding).

use crate::{Scalar, Source, Span, Style};

/// Maps byte offsets of one scalar's text to byte offsets of its source.
pub struct Locator {
    map: Places,
    len: usize,
}

/// How text and source lie to each other.
enum Places {
    /// They are the same from this place of the source on.
    Shifted(usize),
    /// Each line is: where it begins in the text, and in the source, which ends there.
    Lines(Vec<(usize, usize)>, usize),
    /// For each byte of the text where its character stands in the source; one more, empty, for the end.
    Bytes(Vec<Span>),
}

impl Locator {
    /// For a scalar that stands at `span` of `source`.
    pub fn new(source: &Source, span: Span, scalar: &Scalar) -> Locator {
        let raw = source.slice(span);
        let skip = match scalar.style {
            Style::Plain => 0,
            Style::SingleQuoted | Style::DoubleQuoted => 1,
            Style::Literal | Style::Folded => header(raw),
        };
        let len = scalar.text.len();
        let same = raw.get(skip..).is_some_and(|rest| rest.starts_with(&scalar.text));
        let map = if same {
            Places::Shifted(span.start + skip)
        } else {
            let by_line = match scalar.style {
                Style::Literal => lines(raw, skip, &scalar.text, span.start),
                Style::Plain | Style::SingleQuoted | Style::DoubleQuoted | Style::Folded => None,
            };
            match by_line {
                Some(lines) => Places::Lines(lines, span.start + raw.len()),
                None => Places::Bytes(align(raw, skip, &scalar.text, scalar.style, span.start)),
            }
        };
        Locator { map, len }
    }

    /// The source span of a byte range of the text.
    pub fn locate(&self, start: usize, end: usize) -> Span {
        let start = start.min(self.len);
        let end = end.clamp(start, self.len);
        match &self.map {
            Places::Shifted(shift) => Span::new(shift + start, shift + end),
            Places::Lines(lines, last) => {
                let place = |at: usize| {
                    let line = lines.partition_point(|(begin, _)| *begin <= at).saturating_sub(1);
                    lines.get(line).map_or(at, |(begin, source)| source + (at - begin)).min(*last)
                };
                let from = place(start);
                // The end of the last character, not the start of the next: an indentation lies between them.
                // A line feed that the file's end stands for is not in it.
                let to = if end > start { (place(end - 1) + 1).min(*last) } else { from };
                Span::new(from, to)
            }
            Places::Bytes(map) => {
                let from = map[start].start;
                let to = if end > start { map[end - 1].end } else { from };
                Span::new(from, to)
            }
        }
    }
}

/// The lines of a literal block: each is one of the source, without its indentation. None where they are not.
fn lines(raw: &str, skip: usize, text: &str, base: usize) -> Option<Vec<(usize, usize)>> {
    let mut found = Vec::new();
    let mut source = skip;
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let written = raw.get(source..)?.split_inclusive('\n').next()?;
        let bare = written.trim_end_matches(['\n', '\r']);
        let wanted = line.trim_end_matches(['\n', '\r']);
        let indent = bare.len().checked_sub(wanted.len())?;
        if !bare.ends_with(wanted) || !bare.as_bytes()[..indent].iter().all(|byte| *byte == b' ') {
            return None;
        }
        found.push((begin, base + source + indent));
        source += written.len();
        begin += line.len();
    }
    Some(found)
}

/// Length of `|2-  # comment` and its line feed, if the span includes it.
fn header(raw: &str) -> usize {
    if raw.starts_with(['|', '>']) { raw.find('\n').map_or(raw.len(), |at| at + 1) } else { 0 }
}

fn align(raw: &str, skip: usize, text: &str, style: Style, base: usize) -> Vec<Span> {
    let bytes = raw.as_bytes();
    let mut at = skip;
    let mut map = Vec::with_capacity(text.len() + 1);
    // a fold of lines: how long it is, and how much of the text it still gives
    let mut folds: Option<(usize, usize)> = None;
    // up to here white space ends no line
    let mut blank = 0;
    let mut joined = false;
    for wanted in text.chars() {
        let here = loop {
            if let Some((length, left)) = folds {
                folds = (left > 1).then_some((length, left - 1));
                at += if left > 1 { 0 } else { length };
                break at - if left > 1 { 0 } else { length };
            }
            let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) else { break bytes.len() };
            let Some(found) = rest.chars().next() else { break bytes.len() };
            if style == Style::DoubleQuoted && at >= blank && found.is_whitespace() {
                let (length, breaks) = fold(rest);
                if breaks > 0 {
                    // one line feed is a space, each further one itself, as all are behind a joined line
                    folds = Some((length, if joined { breaks } else { breaks.saturating_sub(1).max(1) }));
                    joined = false;
                    continue;
                }
                blank = at + length;
            }
            if style == Style::DoubleQuoted && found == '\\' {
                let length = escape(rest);
                if rest[1..].starts_with(['\n', '\r']) {
                    at += length; // a joined line: nothing of the text, nor the indentation of the next
                    let blank = raw[at..].trim_start_matches([' ', '\t']);
                    joined = blank.starts_with(['\n', '\r']);
                    if !joined {
                        at = raw.len() - blank.len();
                    }
                    continue;
                }
                at += length;
                break at - length;
            }
            if style == Style::SingleQuoted && rest.starts_with("''") {
                at += 2;
                break at - 2;
            }
            if wanted.is_whitespace() {
                let here = at;
                if found.is_whitespace() {
                    at += found.len_utf8();
                }
                break here;
            }
            at += found.len_utf8();
            if found == wanted || !found.is_whitespace() {
                break at - found.len_utf8();
            }
        };
        let end = at.clamp(here, bytes.len());
        map.extend(std::iter::repeat_n(Span::new(base + here, base + end), wanted.len_utf8()));
    }
    let end = base + at.min(bytes.len());
    map.push(Span::new(end, end));
    map
}

/// How long the white space is that a text begins with, and how many lines end in it.
fn fold(text: &str) -> (usize, usize) {
    let length = text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len();
    (length, text[..length].matches('\n').count())
}

/// The length of an escape of a double-quoted scalar, at least 2 unless the text ends.
fn escape(rest: &str) -> usize {
    let length = match rest.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => {
            let high = rest.get(2..6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            if high.is_some_and(|high| (0xd800..0xdc00).contains(&high)) { 12 } else { 6 }
        }
        Some(b'U') => 10,
        Some(b'\r') if rest.as_bytes().get(2) == Some(&b'\n') => 3,
        _ => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
    };
    let mut length = length.min(rest.len());
    while !rest.is_char_boundary(length) {
        length += 1;
    }
    length
}
