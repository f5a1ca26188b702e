//! A named text and places in it.
//!
//! Purpose: what a diagnostic needs in order to show a line. Owner: shared by all that was parsed from
//! it. Invariant: the text never changes; a [`Span`] never lies outside of it or inside a character.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{Diagnostic, Limits};

/// A named text, shared. Two clones of one source are equal; two sources with the same text are not.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    name: String,
    text: String,
    /// Where its lines begin, once somebody asks.
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// A source from text that is already known to be UTF-8.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source(Arc::new(Inner { name: name.into(), text: text.into(), lines: OnceLock::new() }))
    }

    /// A source from the bytes of a file.
    ///
    /// # Errors
    /// A diagnostic without a place when the file is larger than [`Limits::default`] allows, and one
    /// with line and column when it is not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Source, Box<Diagnostic>> {
        let name = name.into();
        Limits::default().check_bytes(&name, bytes.len())?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Source::new(name, text)),
            Err(_) if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) => {
                let what = Diagnostic::error(format!("`{name}` is UTF-16 text"));
                Err(Box::new(what.help("save the file as UTF-8")))
            }
            Err(error) => {
                let good = &bytes[..error.valid_up_to()];
                let shown = Source::new(name, String::from_utf8_lossy(good).into_owned() + "\u{fffd}");
                let at = good.len();
                Err(Box::new(
                    Diagnostic::error("the file is not UTF-8")
                        .at(&shown, Span::new(at, at + '\u{fffd}'.len_utf8()))
                        .label(format!("byte 0x{:02x} begins no character", bytes[at]))
                        .help("save the file as UTF-8"),
                ))
            }
        }
    }

    /// The name that messages show, usually the path as the user gave it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The text of a span; empty when the span is of another source and does not fit.
    pub fn slice(&self, span: Span) -> &str {
        self.0.text.get(span.start..span.end).unwrap_or("")
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.0.text.len());
        while !self.0.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let (line, start) = self.line(offset);
        (line, self.0.text[start..offset].chars().count() + 1)
    }

    /// The line of a byte offset, from 1, and where it begins.
    pub(crate) fn line(&self, offset: usize) -> (usize, usize) {
        let feeds = || self.0.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines =
            self.0.lines.get_or_init(|| std::iter::once(0).chain(feeds().map(|(at, _)| at + 1)).collect());
        let line = lines.partition_point(|start| *start <= offset);
        (line, lines.get(line.saturating_sub(1)).copied().unwrap_or_default())
    }

    /// The span moved and cut so that it lies in this text, on character boundaries.
    pub(crate) fn fit(&self, span: Span) -> Span {
        let text = self.text();
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Span { start, end }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Source {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.0.name)
    }
}

/// A byte range of one source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte; never before `start`.
    pub end: usize,
}

impl Span {
    /// The range from `start` to `end`; empty at `start` when `end` lies before it.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end: end.max(start) }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = Source::new("x", "aä\nöb\n");
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(3), (1, 3));
        assert_eq!(source.line_column(6), (2, 2));
        assert_eq!(source.line_column(5), (2, 1), "inside a character");
        assert_eq!(source.line_column(99), (3, 1));
    }

    #[test]
    fn not_utf8_has_a_place() {
        let error = Source::from_bytes("x.yml", b"a: b\nc: \xff\n").expect_err("not UTF-8");
        assert_eq!(error.to_string(), "x.yml:2:4: error: the file is not UTF-8");
    }

    #[test]
    fn utf16_is_said() {
        let error = Source::from_bytes("x.yml", b"\xff\xfea\0:\0").expect_err("not UTF-8");
        assert_eq!(error.to_string(), "error: `x.yml` is UTF-16 text");
    }

    #[test]
    fn too_large() {
        let error = Source::from_bytes("x.yml", &vec![b' '; (1 << 20) + 1]).expect_err("too large");
        assert_eq!(error.to_string(), "error: `x.yml` is larger than 1 MiB (1048576 bytes)");
    }
}
