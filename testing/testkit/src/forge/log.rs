//! A task's log, as the server takes it.
//!
//! Purpose: the rules of UpdateLog, apart from whose task it is.
//! Owner: the task.
//!
//! Invariants: the length only grows, and not at all behind the archive.

use forgejo::messages::runner;

/// The longest row.
const MAX_ROW: usize = 64 << 10;

/// One row of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Seconds and nanoseconds since 1970.
    pub time: (i64, i32),
    /// The text.
    pub content: String,
}

/// What happened to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Append {
    /// The server has so many rows now.
    Acknowledged(i64),
    /// The log was closed before.
    Archived,
}

/// A log.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    rows: Vec<Row>,
    archived: bool,
}

impl Log {
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn is_archived(&self) -> bool {
        self.archived
    }

    pub(super) fn archive(&mut self) {
        self.archived = true;
    }

    /// Takes the rows that are new. Where none is, the answer is the length, whatever else the request says.
    pub(super) fn append(&mut self, index: i64, rows: &[runner::LogRow], no_more: bool) -> Append {
        let length = count(self.rows.len());
        let known = length.checked_sub(index).filter(|known| *known >= 0);
        let new = known.and_then(|known| rows.get(usize::try_from(known).ok()?..)).unwrap_or_default();
        if new.is_empty() {
            return Append::Acknowledged(length);
        }
        if self.archived {
            return Append::Archived;
        }
        self.rows.extend(new.iter().map(kept));
        self.archived = no_more;
        Append::Acknowledged(count(self.rows.len()))
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A line feed would make two rows of one; the cut does not look for the end of a character.
fn kept(row: &runner::LogRow) -> Row {
    let escaped = row.content.replace('\n', "\\n");
    let content = String::from_utf8_lossy(&escaped.as_bytes()[..escaped.len().min(MAX_ROW)]).into_owned();
    let time = row.time.unwrap_or_default();
    Row { time: (time.seconds, time.nanos), content }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Vec<runner::LogRow> {
        texts.iter().map(|&text| runner::LogRow { time: None, content: text.to_owned() }).collect()
    }

    fn texts(log: &Log) -> Vec<&str> {
        log.rows().iter().map(|row| row.content.as_str()).collect()
    }

    #[test]
    fn what_is_new_is_appended_and_the_length_acknowledged() {
        let mut log = Log::default();
        let table: [(i64, &[&str], i64, &str); 8] = [
            (0, &[], 0, "empty"),
            (1, &["x"], 0, "a gap"),
            (0, &["a", "b"], 2, "the first"),
            (0, &["x", "y"], 2, "duplicates keep what is there"),
            (1, &["x", "c"], 3, "of an overlap the tail"),
            (9, &["x"], 3, "a gap again"),
            (3, &[], 3, "empty at the end"),
            (3, &["d"], 4, "the next"),
        ];
        for (index, new, length, why) in table {
            assert_eq!(log.append(index, &rows(new), false), Append::Acknowledged(length), "{why}");
        }
        assert_eq!(texts(&log), ["a", "b", "c", "d"]);
        assert_eq!(log.append(-1, &rows(&["x"; 5]), false), Append::Acknowledged(4));
        assert_eq!(log.append(i64::MIN, &rows(&["x"]), false), Append::Acknowledged(4));
    }

    #[test]
    fn only_new_rows_close_the_log() {
        let mut log = Log::default();
        log.append(0, &rows(&["a"]), false);
        for (index, new) in [(1, &[][..]), (0, &["a"]), (5, &["x"])] {
            assert_eq!(log.append(index, &rows(new), true), Append::Acknowledged(1));
            assert!(!log.is_archived(), "{index} {new:?}");
        }
        assert_eq!(log.append(1, &rows(&["b"]), true), Append::Acknowledged(2));
        assert!(log.is_archived());
        assert_eq!(log.append(2, &rows(&["c"]), false), Append::Archived);
        assert_eq!(log.append(1, &rows(&["b", "c"]), true), Append::Archived);
        assert_eq!(log.append(1, &rows(&["b"]), true), Append::Acknowledged(2), "a repeated last call");
        assert_eq!(texts(&log), ["a", "b"]);
    }

    #[test]
    fn long_rows_are_cut_and_line_feeds_are_escaped() {
        let mut log = Log::default();
        let long = "x".repeat(MAX_ROW - 1);
        log.append(0, &rows(&["a\nb", &format!("{long}yz"), &format!("{long}ä"), "\r"]), false);
        assert_eq!(texts(&log), ["a\\nb", &format!("{long}y"), &format!("{long}\u{fffd}"), "\r"]);
    }
}
