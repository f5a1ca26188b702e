//! The files by which a step talks to its runner: `GITHUB_OUTPUT`, `GITHUB_ENV`, `GITHUB_STATE`
//! ([`variables`]) and `GITHUB_PATH` ([`paths`]).
//!
//! Purpose: reads `name=value` rows and `name<<DELIMITER` blocks. What it cannot read is an error that names
//! the row, never a value that is half right. And which variables no file may set.
//! Owner: `job`, after each step. The files are written by foreign code: every size is capped here and the
//! caller reads no more than [`MAX_FILE`] bytes.

/// Most bytes of one file.
pub const MAX_FILE: usize = 8 << 20;

/// Most bytes of one value, as the server takes them.
pub const MAX_VALUE: usize = 1 << 20;

/// Most bytes of one name, as the server takes them.
pub const MAX_NAME: usize = 255;

/// Most variables or paths of one file.
pub const MAX_ENTRIES: usize = 10_000;

/// What some programs write in front of a text in UTF-8.
const BOM: char = '\u{feff}';

/// Why a file is not readable. Rows count from 1; no text of the file is repeated, for it may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The delimiter that ends the block never came.
    #[error("line {line}: the value of `{name}` has no end: no later line is exactly `{delimiter}`")]
    NoEnd {
        /// Where the block begins.
        line: usize,
        /// The variable.
        name: String,
        /// What was looked for.
        delimiter: String,
    },
    /// A row that is neither form.
    #[error("line {line}: expected `NAME=VALUE` or `NAME<<DELIMITER`")]
    Form {
        /// The row.
        line: usize,
    },
    /// A name or delimiter of no characters.
    #[error("line {line}: the {what} is empty")]
    Empty {
        /// The row.
        line: usize,
        /// `name` or `delimiter`.
        what: &'static str,
    },
    /// A text that no variable can hold.
    #[error("line {line}: {what} that is not valid here: {reason}")]
    Text {
        /// The row where it begins.
        line: usize,
        /// `a name`, `a value`, `a path`.
        what: &'static str,
        /// `a NUL byte`, `not UTF-8`.
        reason: &'static str,
    },
    /// Larger than a cap.
    #[error("line {line}: {what} is longer than {limit} bytes")]
    Long {
        /// The row where it begins.
        line: usize,
        /// `the name`, `the value`, `the path`.
        what: &'static str,
        /// The cap.
        limit: usize,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("line {line}: more than {MAX_ENTRIES} entries")]
    Many {
        /// The row that is one too many.
        line: usize,
    },
    /// More than [`MAX_FILE`].
    #[error("the file is larger than {MAX_FILE} bytes")]
    Large,
}

/// Variables of a file, in its order; the last of a name counts.
///
/// # Errors
/// Names the first row that cannot be read.
pub fn variables(file: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let mut rows = Rows::new(file)?;
    let mut found = Vec::new();
    while let Some((line, row)) = rows.next() {
        let row = text(row, line, "a value")?;
        if row.is_empty() {
            continue;
        }
        if found.len() == MAX_ENTRIES {
            return Err(Error::Many { line });
        }
        let (name, value) = match (row.find('='), row.find("<<")) {
            (Some(equals), block) if block.is_none_or(|block| equals < block) => {
                (name(&row[..equals], line)?, row[equals + 1..].to_owned())
            }
            (_, Some(block)) => {
                let name = name(&row[..block], line)?;
                let delimiter = &row[block + 2..];
                if delimiter.is_empty() {
                    return Err(Error::Empty { line, what: "delimiter" });
                }
                (name, rows.block(line, name, delimiter)?)
            }
            _ => return Err(Error::Form { line }),
        };
        if value.len() > MAX_VALUE {
            return Err(Error::Long { line, what: "the value", limit: MAX_VALUE });
        }
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// Paths of a file, one per row, in its order; each goes in front of those before it.
///
/// # Errors
/// Names the first row that cannot be read.
pub fn paths(file: &[u8]) -> Result<Vec<String>, Error> {
    let mut rows = Rows::new(file)?;
    let mut found = Vec::new();
    while let Some((line, row)) = rows.next() {
        let row = text(row, line, "a path")?;
        if row.is_empty() {
            continue;
        }
        if found.len() == MAX_ENTRIES {
            return Err(Error::Many { line });
        }
        if row.len() > 4096 {
            return Err(Error::Long { line, what: "the path", limit: 4096 });
        }
        found.push(row.to_owned());
    }
    Ok(found)
}

/// Whether `GITHUB_ENV`, or `set-env`, may set a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Free,
    /// It would run code in programs that later steps start: `NODE_OPTIONS`.
    Refused,
    /// It is one of the runner's own, which says the same in every step.
    Kept,
}

/// Variables with the prefix `GITHUB_` or `FORGEJO_` that the runner sets anew for every step. A token is
/// none: many set one of their own.
const KEPT: [&str; 36] = [
    "ACTION",
    "ACTIONS",
    "ACTION_PATH",
    "ACTION_REF",
    "ACTION_REPOSITORY",
    "ACTOR",
    "ACTOR_ID",
    "API_URL",
    "BASE_REF",
    "ENV",
    "EVENT_NAME",
    "EVENT_PATH",
    "GRAPHQL_URL",
    "HEAD_REF",
    "JOB",
    "OUTPUT",
    "PATH",
    "REF",
    "REF_NAME",
    "REF_PROTECTED",
    "REF_TYPE",
    "REPOSITORY",
    "REPOSITORY_ID",
    "REPOSITORY_OWNER",
    "REPOSITORY_OWNER_ID",
    "RUN_ATTEMPT",
    "RUN_ID",
    "RUN_NUMBER",
    "SERVER_URL",
    "SHA",
    "STATE",
    "STEP_SUMMARY",
    "TRIGGERING_ACTOR",
    "WORKFLOW",
    "WORKFLOW_REF",
    "WORKSPACE",
];

/// The same with the prefix `RUNNER_`.
const KEPT_OF_RUNNER: [&str; 7] = ["ARCH", "ENVIRONMENT", "NAME", "OS", "TEMP", "TOOL_CACHE", "WORKSPACE"];

/// What is to be done with a variable that a step wants to set for those that follow.
#[must_use]
pub fn standing(name: &str) -> Standing {
    let own = ["GITHUB_", "FORGEJO_"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    if name.eq_ignore_ascii_case("NODE_OPTIONS") {
        Standing::Refused
    } else if own.is_some_and(|name| KEPT.contains(&name))
        || name.strip_prefix("RUNNER_").is_some_and(|name| KEPT_OF_RUNNER.contains(&name))
    {
        Standing::Kept
    } else {
        Standing::Free
    }
}

/// The block by which a file sets a variable to any text.
#[must_use]
pub fn block(name: &str, value: &str) -> String {
    let taken = value
        .split('\n')
        .filter_map(|row| row.strip_suffix('\r').unwrap_or(row).strip_prefix("EOF"))
        .filter(|tail| tail.bytes().all(|byte| byte == b'_'))
        .map(|tail| tail.len() + 1);
    let delimiter = format!("EOF{}", "_".repeat(taken.max().unwrap_or_default()));
    // a byte order mark is one only at a file's beginning; behind a row it is part of the name
    let before = if name.starts_with(BOM) { "\n" } else { "" };
    format!("{before}{name}<<{delimiter}\n{value}\n{delimiter}\n")
}

fn name(name: &str, line: usize) -> Result<&str, Error> {
    if name.is_empty() {
        return Err(Error::Empty { line, what: "name" });
    }
    if name.len() > MAX_NAME {
        return Err(Error::Long { line, what: "the name", limit: MAX_NAME });
    }
    Ok(name)
}

fn text<'a>(bytes: &'a [u8], line: usize, what: &'static str) -> Result<&'a str, Error> {
    if bytes.contains(&0) {
        return Err(Error::Text { line, what, reason: "a NUL byte" });
    }
    std::str::from_utf8(bytes).map_err(|_| Error::Text { line, what, reason: "not UTF-8" })
}

/// Rows of a file with their numbers; each without its `\n` or `\r\n`.
struct Rows<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Rows<'a> {
    fn new(file: &'a [u8]) -> Result<Self, Error> {
        if file.len() > MAX_FILE {
            return Err(Error::Large);
        }
        let rest = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
        Ok(Self { rest, line: 0 })
    }

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let row = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = end.map_or(&[], |end| &self.rest[end + 1..]);
        Some((self.line, row.strip_suffix(b"\r").unwrap_or(row)))
    }

    /// The rows up to the delimiter, which is a row of its own. Line feeds between them are kept as written.
    fn block(&mut self, first: usize, name: &str, delimiter: &str) -> Result<String, Error> {
        let whole = self.rest;
        loop {
            let before = whole.len() - self.rest.len();
            match self.next() {
                Some((_, row)) if row == delimiter.as_bytes() => {
                    let value = &whole[..before];
                    let value = value.strip_suffix(b"\n").unwrap_or(value);
                    let value = value.strip_suffix(b"\r").unwrap_or(value);
                    return Ok(text(value, first, "a value")?.to_owned());
                }
                Some(_) => {}
                None => {
                    return Err(Error::NoEnd { line: first, name: shown(name), delimiter: shown(delimiter) });
                }
            }
        }
    }
}

/// For an error's text: short, and without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(file: &str) -> Result<Vec<(String, String)>, String> {
        variables(file.as_bytes()).map_err(|error| error.to_string())
    }

    fn pairs(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn both_forms_are_read() {
        for (file, expected) in [
            ("", &[][..]),
            ("\n\r\n\n", &[]),
            ("\u{feff}", &[]),
            ("a=1", &[("a", "1")]),
            ("a=1\n", &[("a", "1")]),
            ("a=1\r\n", &[("a", "1")]),
            ("\u{feff}a b= c ", &[("a b", " c ")]),
            ("a=", &[("a", "")]),
            ("a==b", &[("a", "=b")]),
            ("a=b=c=", &[("a", "b=c=")]),
            ("c=x=y<<z", &[("c", "x=y<<z")]),
            ("a=1\n\nb=\r\nc=2", &[("a", "1"), ("b", ""), ("c", "2")]),
            ("a=1\na=2", &[("a", "1"), ("a", "2")]),
            ("a=%0A\\n", &[("a", "%0A\\n")]),
            ("a=x\ry", &[("a", "x\ry")]),
            (" a=1", &[(" a", "1")]),
            ("# a=1", &[("# a", "1")]),
            ("a<<EOF\nx\n\ny=1\nEOF\nb=2\n", &[("a", "x\n\ny=1"), ("b", "2")]),
            ("a<<EOF\nEOF", &[("a", "")]),
            ("a<<EOF\n\nEOF", &[("a", "")]),
            ("a<<EOF\n\n\nEOF", &[("a", "\n")]),
            ("a<<EOF\n x \nEOF", &[("a", " x ")]),
            ("a<<EOF\n EOF\nEOF \nEOF\n", &[("a", " EOF\nEOF ")]),
            ("a<<EOF\neof\nEOF", &[("a", "eof")]),
            ("a<<EOF\r\nx\r\ny\r\nEOF\r\n", &[("a", "x\r\ny")]),
            ("a<<EOF\r\nx\nEOF\n", &[("a", "x")]),
            ("a<<E=F\nx\nE=F", &[("a", "x")]),
            ("a<<=EOF\nx\n=EOF", &[("a", "x")]),
            ("a<<<EOF\nx\n<EOF", &[("a", "x")]),
            ("a<< EOF\nx\n EOF", &[("a", "x")]),
            ("a <<EOF\nx\nEOF", &[("a ", "x")]),
            ("a<<EOF\nb<<EOF\nEOF\n", &[("a", "b<<EOF")]),
            ("a<<ghadelimiter_1\n{\n}\nghadelimiter_1\n", &[("a", "{\n}")]),
            ("a<<E\n\u{fffd}\u{1f511}\nE", &[("a", "\u{fffd}\u{1f511}")]),
        ] {
            assert_eq!(read(file), pairs(expected), "{file:?}");
        }
    }

    #[test]
    fn errors_name_the_row() {
        let error = |file: &str| read(file).unwrap_err();
        assert_eq!(
            error("a=1\nb<<EOF\nx\n"),
            "line 2: the value of `b` has no end: no later line is exactly `EOF`"
        );
        for (file, said) in [
            ("a=1\nb", "line 2: expected `NAME=VALUE` or `NAME<<DELIMITER`"),
            ("a\r\n", "line 1: expected `NAME=VALUE` or `NAME<<DELIMITER`"),
            ("a<EOF\n", "line 1: expected `NAME=VALUE` or `NAME<<DELIMITER`"),
            (" ", "line 1: expected `NAME=VALUE` or `NAME<<DELIMITER`"),
            ("=1", "line 1: the name is empty"),
            ("<<E\nE", "line 1: the name is empty"),
            ("a<<\nx\n", "line 1: the delimiter is empty"),
            ("a<<\r\n\r\n", "line 1: the delimiter is empty"),
            ("a=\0", "line 1: a value that is not valid here: a NUL byte"),
            ("a\0=1", "line 1: a value that is not valid here: a NUL byte"),
            ("a<<E\nx\0\nE", "line 1: a value that is not valid here: a NUL byte"),
            ("a<<E", "line 1: the value of `a` has no end: no later line is exactly `E`"),
            ("a<<E\nE x\n", "line 1: the value of `a` has no end: no later line is exactly `E`"),
            ("\n\na<<E\nx", "line 3: the value of `a` has no end: no later line is exactly `E`"),
            ("a<<E\nx\nE\nb", "line 4: expected `NAME=VALUE` or `NAME<<DELIMITER`"),
        ] {
            assert_eq!(error(file), said, "{file:?}");
        }
        assert_eq!(error(&format!("{}=1", "n".repeat(256))), "line 1: the name is longer than 255 bytes");
        assert_eq!(
            variables(b"a=1\nb=\xff").unwrap_err().to_string(),
            "line 2: a value that is not valid here: not UTF-8"
        );
    }

    #[test]
    fn long_values_work_and_endless_ones_are_refused() {
        let long = "x".repeat(MAX_VALUE);
        assert_eq!(read(&format!("a={long}")).unwrap()[0].1, long);
        assert_eq!(
            read(&format!("a={long}x")).unwrap_err(),
            "line 1: the value is longer than 1048576 bytes"
        );
        assert!(read(&format!("a<<E\n{long}x\nE")).is_err());
        assert_eq!(variables(&vec![b'\n'; MAX_FILE + 1]), Err(Error::Large));
        assert_eq!(read(&"a=\n".repeat(MAX_ENTRIES + 1)).unwrap_err(), "line 10001: more than 10000 entries");
    }

    #[test]
    fn some_variables_no_file_may_set() {
        for (name, expected) in [
            ("FOO", Standing::Free),
            ("NODE_OPTIONS", Standing::Refused),
            ("Node_Options", Standing::Refused),
            ("NODE_PATH", Standing::Free),
            ("GITHUB_SHA", Standing::Kept),
            ("FORGEJO_SHA", Standing::Kept),
            ("github_sha", Standing::Free),
            ("GITHUB_OUTPUT", Standing::Kept),
            ("GITHUB_TOKEN", Standing::Free),
            ("GITHUB_PR_NUMBER", Standing::Free),
            ("RUNNER_TEMP", Standing::Kept),
            ("RUNNER_X", Standing::Free),
            ("PATH", Standing::Free),
            ("CI", Standing::Free),
        ] {
            assert_eq!(standing(name), expected, "{name}");
        }
        assert!(KEPT.is_sorted() && KEPT_OF_RUNNER.is_sorted());
    }

    #[test]
    fn long_rows_take_no_longer_than_they_are() {
        let started = std::time::Instant::now();
        let long = "x=".repeat(MAX_FILE / 2 - 1);
        assert!(variables(long.as_bytes()).is_err());
        let rows = "\n".repeat(MAX_FILE - 2);
        assert_eq!(read(&rows), Ok(Vec::new()));
        assert!(read(&format!("a<<{}", "x".repeat(MAX_FILE - 3))).is_err());
        assert!(read(&format!("a<<E\n{}", "x\n".repeat(MAX_FILE / 2 - 3))).is_err());
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn a_block_holds_any_name_and_text() {
        for (name, value) in [
            ("\u{feff}a", "x"),
            ("\u{feff}", ""),
            ("a<b", "EOF"),
            ("a", "EOF_\nEOF\r\nEOF__x\n EOF____"),
            ("a", "\n\r\n"),
        ] {
            let block = block(name, value);
            assert_eq!(read(&block), pairs(&[(name, value)]), "{block:?}");
        }
        // every delimiter up to a length is taken: looking for a free one is no loop over the text
        let rows: Vec<String> = (0..1400).map(|count| format!("EOF{}", "_".repeat(count))).collect();
        let value = rows.join("\n");
        assert_eq!(read(&block("a", &value)), pairs(&[("a", &value)]));
    }

    #[test]
    fn paths_are_rows() {
        assert_eq!(paths(b"/a/bin\n\n/b c\r\n"), Ok(vec!["/a/bin".to_owned(), "/b c".to_owned()]));
        assert_eq!(
            paths(b"/a\n\0").unwrap_err().to_string(),
            "line 2: a path that is not valid here: a NUL byte"
        );
        assert!(paths("x".repeat(4097).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(file in proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(b'='), Just(b'<'), Just(b'\n'), Just(b'\r'), Just(0xff), Just(0)], 0..40,
        )) {
            let _ = variables(&file);
            let _ = paths(&file);
        }

        #[test]
        fn what_is_written_as_a_block_is_read_back(value in "[a=<\n éEOF_]{0,30}") {
            prop_assert_eq!(read(&block("n", &value)), pairs(&[("n", &value)]));
            let both = format!("x=1\n{}y=2", block("n", &value));
            prop_assert_eq!(read(&both), pairs(&[("x", "1"), ("n", &value), ("y", "2")]));
        }
    }
}
