//! What a run says, and to whom: the terminal or a program that reads JSON.
//!
//! Purpose: both are made from the same events, so that neither knows what the other does not.
//! Owner: one thread of its own, which may block on a slow terminal; it reads a bounded channel, and a slow
//! reader slows the jobs down instead of growing this process.
//!
//! Invariants: rows of one job are in their order; nothing is written after the end of the run.

mod json;
mod style;
mod terminal;
mod thread;

use std::{collections::BTreeMap, io, time::Duration};

use jiff::Timestamp;
use job::event::{Event, Outcome};

pub use json::Json;
pub(crate) use json::{escaped, millis};
pub use style::Look;
pub use terminal::{Prefix, Terminal};
pub use thread::{Broken, Held, Out, Writer};

/// One thing that a run says.
#[derive(Clone, Debug)]
pub enum Say {
    /// A workflow begins.
    RunStart(RunStart),
    /// A job said something.
    Job(Event),
    /// The workflow ended.
    RunEnd(RunEnd),
    /// Something that the user should know, about no job.
    Notice(String),
}

/// What may have a time, which never goes back from one row to the next.
pub trait Timed {
    /// When, where it has a time.
    fn time_mut(&mut self) -> Option<&mut Timestamp> {
        None
    }
}

impl Timed for Say {
    fn time_mut(&mut self) -> Option<&mut Timestamp> {
        match self {
            Self::RunStart(start) => Some(&mut start.time),
            Self::Job(event) => Some(&mut event.time),
            Self::RunEnd(end) => Some(&mut end.time),
            Self::Notice(_) => None,
        }
    }
}

/// A workflow begins.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// When.
    pub time: Timestamp,
    /// The workflow's name, or that of its file.
    pub workflow: String,
    /// What `run-name` calls this run.
    pub title: Option<String>,
    /// The event.
    pub event: String,
    /// Ids of the jobs that will be looked at, in the order of the file.
    pub jobs: Vec<String>,
}

/// A workflow ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// When.
    pub time: Timestamp,
    /// How.
    pub result: Outcome,
    /// From its start on.
    pub duration: Duration,
}

/// Someone who is told what a run says.
pub trait Sink<T = Say>: Send {
    /// Tells one thing. An error ends the run: nobody listens any more.
    fn say(&mut self, say: &T) -> io::Result<()>;
    /// Nothing more is under way just now: what was held back for speed is shown.
    fn flush(&mut self) -> io::Result<()>;
}

/// The word for an outcome, as workflows and `--json` have it.
#[must_use]
pub const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Cancelled => "cancelled",
        Outcome::Skipped => "skipped",
    }
}

/// Results of jobs by their name, as the summary shows them.
type Results = BTreeMap<String, (Outcome, Duration)>;
