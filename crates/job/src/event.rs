//! What a job says: the only output of a job, masked once, read by every sink.
//!
//! Purpose: one ordered stream that a terminal, `--json` and a forge's journal can be made from.
//! Owner: the job's task writes; sinks read and never answer.
//!
//! Invariants, for the events of one job in their order:
//! - `JobStart` first (unless the job is skipped: then `JobEnd` alone), `JobEnd` last, once;
//! - step events nest: `StepStart`, its `Log` rows, `StepEnd`; rows with `step: None` stand before the
//!   first step (set-up) or after the last (completion);
//! - an `Annotation` stands behind the first row of the log that shows it;
//! - `time` never goes back; a text holds no unmasked secret and no line feed, but that an annotation's message
//!   may have several lines.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use workflow::command::Annotation;

/// How a job or step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// It was stopped, also by the time-out of its job.
    Cancelled,
    /// Its condition was false.
    Skipped,
}

/// One thing that a job said.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by the agent's clock, clamped to the frame's arrival and to the event before.
    pub time: Timestamp,
    /// The job's name with its matrix values.
    pub job: String,
    /// What.
    pub kind: EventKind,
}

/// What a job said.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The job begins: a VM is being made for it.
    JobStart,
    /// A step begins.
    StepStart {
        /// Its index from 0.
        step: usize,
        /// Its name.
        name: String,
    },
    /// A row of the log, without its line feed.
    Log {
        /// The step that it belongs to; `None` for set-up and completion rows.
        step: Option<usize>,
        /// The masked text.
        line: String,
    },
    /// A step, or a matcher of its rows, said something about a place in the sources.
    Annotation {
        /// The step that it belongs to.
        step: usize,
        /// What; its texts are masked.
        annotation: Box<Annotation>,
    },
    /// A step ended, or was skipped (then without `StepStart`).
    StepEnd {
        /// Its index from 0.
        step: usize,
        /// How it really ended.
        outcome: Outcome,
        /// The same after `continue-on-error`.
        conclusion: Outcome,
        /// How long it ran.
        duration: Duration,
    },
    /// The job ended.
    JobEnd {
        /// How.
        result: Outcome,
        /// Its outputs, without those that hold a secret.
        outputs: BTreeMap<String, String>,
        /// From `JobStart` on.
        duration: Duration,
    },
}
