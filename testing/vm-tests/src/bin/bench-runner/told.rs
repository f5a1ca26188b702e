//! What a daemon's log tells of its tasks, with its times: `runner` at debug.
//!
//! Purpose: the moments that nobody sees from outside without asking the server all the time, which would be
//! part of what is measured. They are the daemon's own: an acknowledgement is there when its answer was read.

use jiff::Timestamp;

/// What the log must hold: a value of `$AMPOULE_LOG`.
pub(crate) const LEVELS: &str = "info,runner=debug";

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    id: i64,
    /// The server's answer was read.
    pub(crate) received: Timestamp,
    /// When the server had how many rows of its log, in order.
    pub(crate) rows: Vec<(Timestamp, usize)>,
    /// The server has its final state.
    pub(crate) ended: Option<Timestamp>,
}

impl Told {
    /// When the server had the row of this index.
    pub(crate) fn has(&self, row: usize) -> Option<Timestamp> {
        self.rows.iter().find(|(_, rows)| *rows > row).map(|(at, _)| *at)
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Received,
    Rows(usize),
    Ended,
}

/// The tasks of a log, in the order of their receipt.
pub(crate) fn tasks(log: &str) -> Vec<Told> {
    let mut tasks: Vec<Told> = Vec::new();
    for (at, id, what) in log.lines().filter_map(entry) {
        let known = tasks.iter_mut().rfind(|task| task.id == id);
        match (what, known) {
            (What::Received, _) => tasks.push(Told { id, received: at, rows: Vec::new(), ended: None }),
            (What::Rows(rows), Some(task)) => task.rows.push((at, rows)),
            (What::Ended, Some(task)) => task.ended = Some(at),
            // of a task whose receipt was not logged
            (What::Rows(_) | What::Ended, None) => {}
        }
    }
    tasks
}

fn entry(line: &str) -> Option<(Timestamp, i64, What)> {
    let (at, rest) = line.split_once(' ')?;
    let text = rest.trim_start().strip_prefix("DEBUG ")?;
    let field = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let what = if text.starts_with("received ") {
        What::Received
    } else if text.starts_with("the server has rows ") {
        What::Rows(field("rows")?.parse().ok()?)
    } else if text.starts_with("the server has the final state ") {
        What::Ended
    } else {
        return None;
    };
    Some((at.parse().ok()?, field("task")?.parse().ok()?, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read_from_a_log() {
        let log = "2026-11-27T00:17:41.250938Z  INFO takes jobs version=0.1.0\n\
                   2026-11-27T00:17:42.000001Z DEBUG received task=7\n\
                   2026-11-27T00:17:42.000002Z  INFO runs task=7 repository=a/b job=hello\n\
                   2026-11-27T00:17:42.100000Z DEBUG the server has rows task=7 rows=4\n\
                   2026-11-27T00:17:43.100000Z DEBUG the server has rows task=7 rows=9\n\
                   2026-11-27T00:17:43.200000Z DEBUG the server has the final state task=7\n\
                   2026-11-27T00:17:44.000000Z DEBUG received task=8\n";
        let tasks = tasks(log);
        assert_eq!(tasks.len(), 2);
        let at = |text: &str| Some(text.parse::<Timestamp>().expect("a time"));
        assert_eq!(tasks[0].has(0), at("2026-11-27T00:17:42.1Z"));
        assert_eq!(tasks[0].has(4), at("2026-11-27T00:17:43.1Z"));
        assert_eq!((tasks[0].has(9), tasks[0].ended), (None, at("2026-11-27T00:17:43.2Z")));
        assert_eq!((tasks[1].rows.len(), tasks[1].ended), (0, None));
    }
}
