//! What a forge hands out and is told back.
//!
//! Purpose: tasks and their states, in types of ours.
//! Owner: the runner, from the fetch to the last report.
//!
//! Invariants: a [`Task`] holds secrets and tokens: its Debug shows none, and it has no Serialize.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

/// The number of a task, on its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(i64);

impl TaskId {
    /// A number that a forge gave; they begin at 1.
    #[must_use]
    pub const fn new(number: i64) -> Option<Self> {
        if number > 0 { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a task or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaskResult {
    /// It did not end.
    #[default]
    Unspecified,
    /// Well.
    Success,
    /// Badly.
    Failure,
    /// By a cancel.
    Cancelled,
    /// It was not run.
    Skipped,
}

impl TaskResult {
    /// The word that expressions know it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job to run.
#[derive(Clone)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// A workflow file with this one job.
    pub payload: Vec<u8>,
    /// What the contexts `github` and `forge` hold, tokens among it.
    pub context: Map<String, Value>,
    /// The context `secrets`.
    pub secrets: BTreeMap<String, SecretString>,
    /// The context `needs`.
    pub needs: BTreeMap<String, Need>,
    /// The context `vars`.
    pub vars: BTreeMap<String, String>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .field("context", &self.context.keys().collect::<Vec<_>>())
            .field("secrets", &format_args!("[{} redacted]", self.secrets.len()))
            .field("needs", &self.needs.keys().collect::<Vec<_>>())
            .field("vars", &format_args!("[{} redacted]", self.vars.len()))
            .finish()
    }
}

/// What a job that this one waited for left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// How it ended.
    pub result: TaskResult,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// The task.
    pub id: TaskId,
    /// Its end; [`TaskResult::Unspecified`] while it runs.
    pub result: TaskResult,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// Its steps.
    pub steps: Vec<StepState>,
}

impl TaskState {
    /// The least state: it says that the runner lives, and asks what the forge has.
    ///
    /// Forgejo shows a step that began and is not named as running, also where it had ended: so this is for a task
    /// whose steps are not known yet, or which was ended there.
    #[must_use]
    pub fn heartbeat(id: TaskId) -> Self {
        Self { id, result: TaskResult::Unspecified, started_at: None, stopped_at: None, steps: Vec::new() }
    }
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepState {
    /// Its number, from 0.
    pub id: i64,
    /// Its end; [`TaskResult::Unspecified`] while it runs, or before.
    pub result: TaskResult,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// The number of its first row in the task's log.
    pub log_index: i64,
    /// How many rows it has.
    pub log_length: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_of_a_task_shows_no_secret() {
        let task = Task {
            id: TaskId::new(7).unwrap(),
            payload: b"env: hunter2".to_vec(),
            context: Map::from_iter([("token".to_owned(), Value::from("hunter2"))]),
            secrets: BTreeMap::from([("NAME".to_owned(), SecretString::from("hunter2"))]),
            needs: BTreeMap::from([("one".to_owned(), Need::default())]),
            vars: BTreeMap::from([("V".to_owned(), "hunter2".to_owned())]),
        };
        let shown = format!("{task:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("TaskId(7)") && shown.contains("token") && shown.contains("one"), "{shown}");
    }

    #[test]
    fn a_task_has_a_positive_number() {
        assert_eq!(TaskId::new(0), None);
        assert_eq!(TaskId::new(-1), None);
        assert_eq!(TaskId::new(7).unwrap().to_string(), "7");
    }
}
