//! Files of `--env-file` and `--secret-file`: `NAME=VALUE` in each line.
//!
//! A value is the rest of its line without white space around it; in double quotes it may span lines and
//! has the escapes `\n`, `\r`, `\t`, `\"`, `\\` and `\$`; in single quotes it may span lines and has none.
//! Empty lines and lines that begin with `#` are left out, `export ` before a name as well.
//! Invariant: no error shows a value.

use std::{io, path::Path};

use crate::{cli::pair::Pair, input};

/// Largest file, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DotenvError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is too large.
    #[error("{path} is larger than {SIZE_MAX} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A line is of another form.
    #[error("{path}:{line}: {fault}")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has no `=`.
    #[error("expected `NAME=VALUE`")]
    NoEquals,
    /// Its name is no name.
    #[error("a name consists of letters, digits, `_`, `.` and `-`, and does not begin with a digit")]
    BadName,
    /// A quote is never closed.
    #[error("this quote is never closed")]
    OpenQuote,
    /// Something stands behind the closing quote.
    #[error("nothing may follow the closing quote")]
    AfterQuote,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<Pair>, DotenvError> {
    let name = path.display().to_string();
    let failed = |source| DotenvError::Read { path: name.clone(), source };
    let bytes = input::read(path, SIZE_MAX).map_err(failed)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(DotenvError::TooLarge { path: name });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
    parse(&text).map_err(|(line, fault)| DotenvError::Line { path: name, line, fault })
}

/// Reads a text; an error has its line from 1.
pub fn parse(text: &str) -> Result<Vec<Pair>, (usize, Fault)> {
    let mut pairs = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut number = 1;
    while !rest.is_empty() {
        let line = rest.split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after_line(rest, line.len());
            number += 1;
            continue;
        }
        let (name, value) = line.split_once('=').ok_or((number, Fault::NoEquals))?;
        let start = name.len() + 1;
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim);
        if !is_name(name) {
            return Err((number, Fault::BadName));
        }
        let lead = value.len() - value.trim_start().len();
        let opening = value.trim_start().chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, taken) = match opening {
            None => (value.trim().to_owned(), line.len()),
            Some(quote) => {
                let body = rest.get(start + lead + 1..).unwrap_or_default();
                let (value, end) = quoted(body, quote).ok_or((number, Fault::OpenQuote))?;
                let taken = start + lead + 1 + end;
                let tail = rest.get(taken..).unwrap_or_default().split('\n').next().unwrap_or_default();
                if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
                    return Err((number, Fault::AfterQuote));
                }
                (value, taken + tail.len())
            }
        };
        number += 1 + rest.get(..taken).unwrap_or_default().matches('\n').count();
        pairs.push(Pair { key: name.to_owned(), value });
        rest = after_line(rest, taken);
    }
    Ok(pairs)
}

fn after_line(rest: &str, taken: usize) -> &str {
    rest.get(taken + 1..).unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    let fits = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || at > 0 && (c.is_ascii_digit() || matches!(c, '.' | '-'))
    };
    !name.is_empty() && name.char_indices().all(fits)
}

/// The value up to the closing quote, and the length of what was read with it.
fn quoted(body: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => {
                    value.push('\\');
                    value.push(c);
                }
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|pair| (pair.key, pair.value)).collect()
    }

    #[test]
    fn every_form_is_read() {
        let text = "# comment\nA=1\n\n export B = two words # kept \nC=\"x\\ny\\\"\" # gone\nD='a\n\\n b'\nE=\nF=a=b\r\n";
        let expected = [
            ("A", "1"),
            ("B", "two words # kept"),
            ("C", "x\ny\""),
            ("D", "a\n\\n b"),
            ("E", ""),
            ("F", "a=b"),
        ];
        assert_eq!(pairs(text), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn faults_have_their_line_and_no_value() {
        assert_eq!(parse("A=1\nhunter2").unwrap_err(), (2, Fault::NoEquals));
        assert_eq!(parse("A='x\ny'\n1B=2").unwrap_err(), (3, Fault::BadName));
        assert_eq!(parse("A=\"x").unwrap_err(), (1, Fault::OpenQuote));
        assert_eq!(parse("A=\"x\"y").unwrap_err(), (1, Fault::AfterQuote));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[A=\"'\\\\\n #xé]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_value_in_single_quotes_comes_back(value in "[^']{0,40}") {
            prop_assert_eq!(pairs(&format!("A='{value}'")), [("A".to_owned(), value)]);
        }
    }
}
