//! Rows out of bytes: the first stage of a step's output.
//!
//! Purpose: joins what arrives in chunks into rows of text.
//! Owner: whoever shows what a guest prints, one [`Assembler`] per stream.
//!
//! Invariants: every byte comes out once and in order, except the `\n` or `\r\n` that ends a row; bytes that
//! are not UTF-8 become U+FFFD; no more than the longest whole row and a chunk is held.

/// A row up to this many bytes is seen as a whole, and so may be a command; a longer one comes in parts.
pub(crate) const MAX_WHOLE: usize = 1 << 20;

/// A row, or a part of one that is too long to be held.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text, without the end of the row.
    pub text: String,
    /// Whether it is a whole row; only such a row can be a command.
    pub whole: bool,
    /// Whether the row ends here.
    pub ends: bool,
}

/// Joins chunks of one stream.
#[derive(Debug)]
pub struct Assembler {
    held: Vec<u8>,
    /// A row of this many bytes comes in parts.
    longest: usize,
    /// Parts of the row that `held` belongs to are out already.
    in_parts: bool,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::with_longest(MAX_WHOLE)
    }
}

impl Assembler {
    /// One that holds rows of less than `longest` bytes as a whole.
    #[must_use]
    pub fn with_longest(longest: usize) -> Self {
        Self { held: Vec::new(), longest, in_parts: false }
    }

    /// Takes a chunk and gives each piece that it completes.
    pub fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Piece)) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let row = &chunk[..end];
            chunk = &chunk[end + 1..];
            if self.held.is_empty() {
                let row = row.strip_suffix(b"\r").unwrap_or(row);
                each(Piece { text: lossy(row), whole: !self.in_parts, ends: true });
            } else {
                self.held.extend_from_slice(row);
                if self.held.last() == Some(&b'\r') {
                    self.held.pop();
                }
                each(Piece { text: lossy(&self.held), whole: !self.in_parts, ends: true });
                self.held.clear();
            }
            self.in_parts = false;
        }
        self.held.extend_from_slice(chunk);
        if self.held.len() >= self.longest {
            let rest = self.held.split_off(whole_chars(&self.held));
            each(Piece { text: lossy(&self.held), whole: false, ends: false });
            self.held = rest;
            self.in_parts = true;
        }
    }

    /// The stream has ended: gives what has no line feed behind it.
    pub fn finish(&mut self) -> Option<Piece> {
        let held = std::mem::take(&mut self.held);
        let in_parts = std::mem::take(&mut self.in_parts);
        if held.is_empty() && !in_parts {
            return None;
        }
        Some(Piece { text: lossy(&held), whole: !in_parts, ends: true })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where to cut so that neither a character nor a `\r\n` is cut in two: at most 3 bytes before the end.
fn whole_chars(bytes: &[u8]) -> usize {
    if bytes.last() == Some(&b'\r') {
        return bytes.len() - 1;
    }
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needed = match bytes[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => break,
        };
        if bytes.len() - at < needed {
            return at;
        }
        break;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(chunks: &[&[u8]]) -> Vec<String> {
        let mut assembler = Assembler::default();
        let mut rows = Vec::new();
        for chunk in chunks {
            assembler.push(chunk, |piece| {
                assert!(piece.whole && piece.ends);
                rows.push(piece.text);
            });
        }
        rows.extend(assembler.finish().map(|piece| piece.text));
        rows
    }

    #[test]
    fn rows_are_the_same_however_they_are_cut() {
        let text = "one\r\n\ntwo\rthree\n\u{e9}\u{1F600}\r\nend".as_bytes();
        let whole = ["one", "", "two\rthree", "\u{e9}\u{1F600}", "end"];
        for first in 0..=text.len() {
            for second in first..=text.len() {
                assert_eq!(rows(&[&text[..first], &text[first..second], &text[second..]]), whole);
            }
        }
        assert!(rows(&[b""]).is_empty());
        assert_eq!(rows(&[b"a\n"]), ["a"]);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(rows(&[b"a\xffb\n\xe2\x82\n"]), ["a\u{fffd}b", "\u{fffd}"]);
    }

    #[test]
    fn a_long_row_comes_in_parts_and_loses_nothing() {
        let row = "\u{20ac}".repeat(1_000_000); // 3 MB, which no cut at a power of two leaves whole
        let mut assembler = Assembler::default();
        let (mut text, mut parts, mut ends) = (String::new(), 0, 0);
        let mut take = |piece: Piece| {
            assert!(!piece.whole);
            text.push_str(&piece.text);
            parts += 1;
            ends += usize::from(piece.ends);
        };
        for chunk in row.as_bytes().chunks(65_536) {
            assembler.push(chunk, &mut take);
            assert!(assembler.held.len() <= MAX_WHOLE);
        }
        assembler.push(b"\r", &mut take);
        assembler.push(b"\n", &mut take);
        assert_eq!(text, row);
        assert_eq!((parts, ends), (3, 1));
        let mut next = Vec::new();
        assembler.push(b"next\n", |piece| next.push(piece));
        assert_eq!(next, [Piece { text: "next".to_owned(), whole: true, ends: true }]);
        assert_eq!(assembler.finish(), None);
    }
}
