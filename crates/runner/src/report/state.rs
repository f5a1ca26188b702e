//! What the server has to be told of one task, and what of it the server has acknowledged.
//!
//! Purpose: events to rows and step states by the server's rules. Owner: the task's reporter, which sends what
//! this says is due. Pure.
//!
//! ```text
//!  set-up rows │ step 0's rows │ step 1's rows │ … │ completion rows
//!              ▲ log_index of step 0               ▲ where the server lets "Complete job" begin:
//!                                                    log_index of step 0 plus the sum of all log_length
//! ```
//! Invariants
//! - A row's index is its place from the first row of the task on; acknowledged rows are forgotten, none before.
//! - From the first step's first row to the last step's end every row belongs to a step.
//! - The last call brings a row, because the server ignores `no_more` without a new one: where all rows were
//!   sent before, and it may have them whatever it answered, there is one of ours ([`Report::close`]), so that
//!   none has to be held back while the job runs. No call before [`Report::close`] is the last: behind one that
//!   was, the server takes no row.

use std::collections::VecDeque;

use forgejo::{LogRow, StepState, TaskId, TaskResult, TaskState};
use jiff::Timestamp;
use job::{Event, EventKind, Outcome};

/// Bytes of rows in one call: half of what a reverse proxy takes at most in its default.
pub(super) const MAX_CALL: usize = 512 << 10;
/// Rows in one call.
const MAX_ROWS: usize = 10_000;
/// Bytes that a row takes beside its text.
const OVERHEAD: usize = 24;

/// The state of one task's report.
#[derive(Debug)]
pub(super) struct Report {
    task: TaskId,
    rows: VecDeque<LogRow>,
    /// Bytes in `rows`.
    bytes: usize,
    /// Index of the first of `rows`: what the server has.
    acknowledged: i64,
    /// Index of the first row that was in no call.
    unsent: i64,
    started: Timestamp,
    steps: Vec<Step>,
    /// Set when nothing follows.
    end: Option<End>,
    /// Whether the next call may be the last.
    closed: bool,
    /// The time of the newest event.
    latest: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Timestamp,
    result: Outcome,
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    result: Option<Outcome>,
    started: Option<Timestamp>,
    stopped: Option<Timestamp>,
    index: Option<i64>,
    length: i64,
}

/// What to send of the log now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Index of the first row.
    pub(super) index: i64,
    /// The rows.
    pub(super) rows: Vec<LogRow>,
    /// Whether these are the last.
    pub(super) last: bool,
}

impl Report {
    pub(super) fn new(task: TaskId, steps: usize, now: Timestamp) -> Self {
        Self {
            task,
            rows: VecDeque::new(),
            bytes: 0,
            acknowledged: 0,
            unsent: 0,
            started: now,
            steps: vec![Step::default(); steps],
            end: None,
            closed: false,
            latest: now,
        }
    }

    /// Takes what the job said.
    pub(super) fn take(&mut self, event: Event) {
        self.latest = event.time;
        match event.kind {
            EventKind::JobStart => self.started = event.time,
            EventKind::StepStart { step, .. } => {
                let index = self.next_index();
                if let Some(step) = self.steps.get_mut(step) {
                    step.started = Some(event.time);
                    step.index = Some(index);
                }
            }
            EventKind::Log { step, line } => {
                if let Some(step) = step.and_then(|step| self.steps.get_mut(step)) {
                    step.length += 1;
                }
                self.push(event.time, line);
            }
            // the protocol has no place for it, and the row of the log in front of it says the same
            EventKind::Annotation { .. } => {}
            EventKind::StepEnd { step, conclusion, .. } => {
                let index = self.next_index();
                if let Some(step) = self.steps.get_mut(step) {
                    step.started.get_or_insert(event.time);
                    step.index.get_or_insert(index);
                    step.stopped = Some(event.time);
                    step.result = Some(conclusion);
                }
            }
            EventKind::JobEnd { result, .. } => self.finish(event.time, result),
        }
    }

    /// Adds a row of the runner's own; before the first step or after the last.
    pub(super) fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.push(self.latest, line.to_owned());
        }
    }

    /// Nothing follows. Steps that were never told get an end too.
    pub(super) fn finish(&mut self, at: Timestamp, result: Outcome) {
        if self.end.is_some() {
            return;
        }
        let next = self.next_index();
        for step in &mut self.steps {
            step.index.get_or_insert(next);
            if step.result.is_none() {
                step.result = Some(match result {
                    Outcome::Cancelled => Outcome::Cancelled,
                    // one that had begun did not end well
                    Outcome::Failure if step.started.is_some() => Outcome::Failure,
                    _ => Outcome::Skipped,
                });
                step.started.get_or_insert(at);
                step.stopped = Some(at);
            }
        }
        self.end = Some(End { at, result });
    }

    /// No call is under way any more: makes sure that the last one will have a row to bring, once.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let Some(End { at, result }) = self.end.filter(|_| self.unsent == self.next_index()) else { return };
        let text = match result {
            Outcome::Success => "the job succeeded",
            Outcome::Failure => "the job failed",
            Outcome::Cancelled => "the job was cancelled",
            Outcome::Skipped => "the job was skipped: its `if` is false",
        };
        self.push(at, text.to_owned());
    }

    fn push(&mut self, time: Timestamp, content: String) {
        self.bytes += content.len() + OVERHEAD;
        self.rows.push_back(LogRow { time, content });
    }

    fn next_index(&self) -> i64 {
        self.acknowledged + i64::try_from(self.rows.len()).unwrap_or(i64::MAX)
    }

    /// Bytes that the server has not acknowledged.
    pub(super) fn backlog(&self) -> usize {
        self.bytes
    }

    /// How many rows the server has.
    pub(super) fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Whether the rows fill a call of `limit` bytes.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.bytes >= limit || self.rows.len() >= MAX_ROWS
    }

    /// The rows of the next call, at most `limit` bytes; none if nothing is due.
    pub(super) fn due(&mut self, limit: usize) -> Option<Due> {
        let mut bytes = 0;
        let mut rows = Vec::new();
        for row in self.rows.iter().take(MAX_ROWS) {
            bytes += row.content.len() + OVERHEAD;
            if bytes > limit && !rows.is_empty() {
                break;
            }
            rows.push(row.clone());
        }
        let last = self.closed && rows.len() == self.rows.len();
        self.unsent = self.unsent.max(self.acknowledged + i64::try_from(rows.len()).unwrap_or(i64::MAX));
        (!rows.is_empty()).then_some(Due { index: self.acknowledged, rows, last })
    }

    /// The server has so many rows now.
    pub(super) fn acknowledge(&mut self, stored: i64) -> Result<(), Impossible> {
        if stored < self.acknowledged || stored > self.next_index() {
            return Err(Impossible { stored, from: self.acknowledged, to: self.next_index() });
        }
        while self.acknowledged < stored {
            if let Some(row) = self.rows.pop_front() {
                self.bytes -= row.content.len() + OVERHEAD;
            }
            self.acknowledged += 1;
        }
        Ok(())
    }

    /// The state as the server wants it. `Unspecified` is a sign of life.
    pub(super) fn state(&self, which: Which) -> TaskState {
        let (result, stopped_at) = match (which, self.end) {
            (Which::Final, Some(end)) => (result(end.result), Some(end.at)),
            _ => (TaskResult::Unspecified, None),
        };
        let next = self.next_index();
        let steps = self.steps.iter().enumerate().map(|(id, step)| StepState {
            id: i64::try_from(id).unwrap_or(i64::MAX),
            result: step.result.map_or(TaskResult::Unspecified, self::result),
            started_at: step.started,
            stopped_at: step.stopped,
            log_index: step.index.unwrap_or(next),
            log_length: step.length,
        });
        TaskState {
            id: self.task,
            result,
            started_at: Some(self.started),
            stopped_at,
            steps: steps.collect(),
        }
    }
}

/// Which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// So far.
    Running,
    /// The last.
    Final,
}

/// An acknowledgement of rows that were never sent, or of fewer than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server says that it has {stored} rows of the log, and it can have {from} to {to}")]
pub(super) struct Impossible {
    stored: i64,
    from: i64,
    to: i64,
}

fn result(outcome: Outcome) -> TaskResult {
    match outcome {
        Outcome::Success => TaskResult::Success,
        Outcome::Failure => TaskResult::Failure,
        Outcome::Cancelled => TaskResult::Cancelled,
        Outcome::Skipped => TaskResult::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn event(second: i64, kind: EventKind) -> Event {
        Event { time: at(second), job: "j".to_owned(), kind }
    }

    fn log(step: Option<usize>, line: &str) -> EventKind {
        EventKind::Log { step, line: line.to_owned() }
    }

    fn step_end(step: usize, conclusion: Outcome) -> EventKind {
        EventKind::StepEnd { step, outcome: Outcome::Failure, conclusion, duration: Duration::ZERO }
    }

    fn job_end(result: Outcome) -> EventKind {
        EventKind::JobEnd { result, outputs: BTreeMap::new(), duration: Duration::ZERO }
    }

    /// A step that logs, one that says nothing, one that is skipped.
    fn told() -> Report {
        let mut report = Report::new(TaskId::new(7).unwrap(), 3, at(0));
        for (second, kind) in [
            (0, EventKind::JobStart),
            (1, log(None, "set up")),
            (2, EventKind::StepStart { step: 0, name: "a".to_owned() }),
            (3, log(Some(0), "one")),
            (4, log(Some(0), "two")),
            (5, step_end(0, Outcome::Success)),
            (6, EventKind::StepStart { step: 1, name: "b".to_owned() }),
            (7, step_end(1, Outcome::Success)),
            (8, step_end(2, Outcome::Skipped)),
            (9, log(None, "done")),
        ] {
            report.take(event(second, kind));
        }
        report
    }

    #[test]
    fn rows_belong_to_their_steps_and_a_step_without_rows_stands_at_the_end() {
        let mut report = told();
        report.take(event(10, job_end(Outcome::Success)));
        let state = report.state(Which::Final);
        assert_eq!((state.result, state.stopped_at), (TaskResult::Success, Some(at(10))));
        let logs: Vec<_> = state.steps.iter().map(|step| (step.log_index, step.log_length)).collect();
        assert_eq!(logs, [(1, 2), (3, 0), (3, 0)]);
        let results: Vec<_> = state.steps.iter().map(|step| step.result).collect();
        assert_eq!(results, [TaskResult::Success, TaskResult::Success, TaskResult::Skipped]);
        assert_eq!(report.state(Which::Running).result, TaskResult::Unspecified);
    }

    #[test]
    fn no_row_waits_for_the_next_and_the_end_brings_one() {
        let mut report = told();
        let due = report.due(MAX_CALL).unwrap();
        let texts: Vec<_> = due.rows.iter().map(|row| row.content.as_str()).collect();
        assert_eq!((due.index, texts, due.last), (0, vec!["set up", "one", "two", "done"], false));
        // the job ends while the call is under way
        report.take(event(10, job_end(Outcome::Failure)));
        report.acknowledge(4).unwrap();
        assert_eq!(report.due(MAX_CALL), None);
        report.close();
        let due = report.due(MAX_CALL).unwrap();
        assert_eq!((due.index, due.rows.len(), due.last), (4, 1, true));
        report.close();
        report.acknowledge(5).unwrap();
        assert_eq!((report.due(MAX_CALL), report.backlog()), (None, 0));
    }

    #[test]
    fn the_end_brings_a_row_where_the_server_may_have_all_others_without_having_said_so() {
        let mut report = told();
        report.take(event(10, job_end(Outcome::Success)));
        let lost = report.due(MAX_CALL).unwrap();
        report.close();
        let due = report.due(MAX_CALL).unwrap();
        assert_eq!((lost.last, due.last, due.index, due.rows.len()), (false, true, 0, lost.rows.len() + 1));
        // the same call again brings the same
        report.close();
        assert_eq!(report.due(MAX_CALL), Some(due));
    }

    #[test]
    fn the_end_brings_a_row_where_everything_else_was_acknowledged() {
        let mut report = Report::new(TaskId::new(7).unwrap(), 0, at(0));
        report.finish(at(1), Outcome::Skipped);
        report.close();
        let due = report.due(MAX_CALL).unwrap();
        assert!(due.last && due.rows.len() == 1);
    }

    #[test]
    fn a_call_is_no_larger_than_its_limit_but_for_one_row() {
        let mut report = Report::new(TaskId::new(7).unwrap(), 1, at(0));
        for _ in 0..10 {
            report.take(event(1, log(None, &"x".repeat(1000))));
        }
        assert_eq!(report.due(3 * (1000 + OVERHEAD)).unwrap().rows.len(), 3);
        assert!(report.is_full(10 * (1000 + OVERHEAD)) && !report.is_full(10 * (1000 + OVERHEAD) + 1));
        assert_eq!(report.due(1).unwrap().rows.len(), 1);
        // a duplicate and what was never sent
        report.acknowledge(3).unwrap();
        assert!(report.acknowledge(2).is_err());
        assert!(report.acknowledge(11).is_err());
        assert_eq!((report.due(MAX_CALL).unwrap().index, report.acknowledged()), (3, 3));
        for _ in 7..MAX_ROWS {
            assert!(!report.is_full(MAX_CALL));
            report.take(event(1, log(None, "")));
        }
        assert!(report.is_full(MAX_CALL));
    }

    #[test]
    fn steps_that_never_ended_get_an_end() {
        let mut report = Report::new(TaskId::new(7).unwrap(), 3, at(0));
        report.take(event(1, EventKind::StepStart { step: 0, name: "a".to_owned() }));
        report.take(event(2, job_end(Outcome::Failure)));
        let results: Vec<_> = report.state(Which::Final).steps.iter().map(|step| step.result).collect();
        assert_eq!(results, [TaskResult::Failure, TaskResult::Skipped, TaskResult::Skipped]);
        let mut report = Report::new(TaskId::new(7).unwrap(), 1, at(0));
        report.finish(at(1), Outcome::Cancelled);
        assert_eq!(report.state(Which::Final).steps[0].result, TaskResult::Cancelled);
    }
}
