//! How jobs ended, as other jobs see it.
//!
//! Purpose: what `needs` and the status functions of jobs are made from. Owner: whoever runs the plan
//! keeps one [`Results`]. Invariant: a result is there exactly when the job has ended or was skipped.

use std::{collections::BTreeMap, fmt};

use crate::{Object, Value};

/// How a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// It was stopped.
    Cancelled,
    /// Its condition was false.
    Skipped,
}

impl Conclusion {
    /// As contexts name it.
    pub fn name(self) -> &'static str {
        match self {
            Conclusion::Success => "success",
            Conclusion::Failure => "failure",
            Conclusion::Cancelled => "cancelled",
            Conclusion::Skipped => "skipped",
        }
    }

    /// One for several: a failure wins, then a cancel, then success; all skipped is skipped.
    pub fn of_all(all: impl IntoIterator<Item = Conclusion>) -> Conclusion {
        let rank = |conclusion: &Conclusion| match conclusion {
            Conclusion::Skipped => 0,
            Conclusion::Success => 1,
            Conclusion::Cancelled => 2,
            Conclusion::Failure => 3,
        };
        all.into_iter().max_by_key(rank).unwrap_or(Conclusion::Success)
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a job ended: that of its matrix jobs together.
#[derive(Clone, PartialEq, Eq)]
pub struct JobResult {
    /// How.
    pub conclusion: Conclusion,
    /// Its outputs; of a matrix the last one that was set and not empty.
    pub outputs: BTreeMap<String, String>,
}

impl JobResult {
    /// A job without outputs.
    pub fn new(conclusion: Conclusion) -> JobResult {
        JobResult { conclusion, outputs: BTreeMap::new() }
    }

    /// The results of a matrix's jobs, in the order in which they ended, as one.
    pub fn of_all(all: impl IntoIterator<Item = JobResult>) -> JobResult {
        let mut outputs = BTreeMap::new();
        let mut conclusions = Vec::new();
        for result in all {
            conclusions.push(result.conclusion);
            outputs.extend(result.outputs.into_iter().filter(|(_, value)| !value.is_empty()));
        }
        JobResult { conclusion: Conclusion::of_all(conclusions), outputs }
    }

    /// As the `needs` context has it.
    pub fn to_value(&self) -> Value {
        let outputs: Object =
            self.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut object = Object::new();
        object.insert("result", self.conclusion.name());
        object.insert("outputs", outputs);
        object.into()
    }
}

/// Outputs may hold what nobody should read in a log of ours: names only.
impl fmt::Debug for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobResult")
            .field("conclusion", &self.conclusion)
            .field("outputs", &self.outputs.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The results so far, by job id.
pub type Results = BTreeMap<String, JobResult>;
