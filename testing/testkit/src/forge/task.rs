//! Jobs in the queue, and what becomes of them.
//!
//! Purpose: what a test puts in, and the server's record of it, with the rules of a task's state.
//! Owner: the state of the server.
//!
//! Invariants: a final result stays; behind it no step and no output that others see changes.

use std::collections::{BTreeMap, BTreeSet};

use doc::{Source, parse_yaml};
use forgejo::{Need, TaskId, TaskResult, messages::runner};
use serde_json::{Map, Value};

use super::{context, log::Log};

/// The longest name of an output.
const MAX_OUTPUT_NAME: usize = 255;
/// The longest value of an output.
const MAX_OUTPUT: usize = 1 << 20;

/// A job that a test puts into the queue.
#[derive(Debug, Clone, Default)]
pub struct TaskSpec {
    payload: String,
    labels: Vec<String>,
    secrets: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
    needs: BTreeMap<String, Need>,
    context: Map<String, Value>,
    handle: String,
}

impl TaskSpec {
    /// A job of this workflow text, for any runner.
    #[must_use]
    pub fn new(payload: impl Into<String>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// What it runs on: a runner has to declare all of these.
    #[must_use]
    pub fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|&label| label.to_owned()).collect();
        self
    }

    /// A secret beside the three tokens.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What a job before it left.
    #[must_use]
    pub fn need(mut self, job: &str, result: TaskResult, outputs: &[(&str, &str)]) -> Self {
        let outputs = outputs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.needs.insert(job.to_owned(), Need { outputs, result });
        self
    }

    /// A key of the context in place of the usual one.
    #[must_use]
    pub fn context(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.context.insert(name.to_owned(), value.into());
        self
    }

    /// What FetchSingleTask can ask for it by.
    #[must_use]
    pub fn handle(mut self, handle: &str) -> Self {
        handle.clone_into(&mut self.handle);
        self
    }

    /// How many steps the server makes of it.
    fn count_steps(&self) -> usize {
        let steps = || {
            let file = parse_yaml(&Source::new("payload", self.payload.as_str())).ok()?;
            let jobs = file.map()?.get("jobs")?.map()?;
            Some(jobs.entries.first()?.value.map()?.get("steps")?.seq()?.len())
        };
        steps().unwrap_or_default()
    }
}

/// A step on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How it ended; unspecified while it waits or runs.
    pub result: TaskResult,
    /// The seconds of its beginning; 0 before.
    pub started: i64,
    /// The seconds of its end; 0 before.
    pub stopped: i64,
    /// The number of its first row.
    pub log_index: i64,
    /// How many rows it has.
    pub log_length: i64,
}

/// A job of the queue, and its task once a runner has it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: TaskId,
    pub(super) spec: TaskSpec,
    /// The runner, by number.
    pub(super) runner: Option<i64>,
    pub(super) request_key: Option<String>,
    pub(super) token: String,
    pub(super) result: TaskResult,
    pub(super) reported: Option<runner::TaskState>,
    pub(super) steps: Vec<Step>,
    pub(super) log: Log,
    pub(super) outputs: BTreeMap<String, String>,
    pub(super) late_outputs: BTreeMap<String, String>,
    pub(super) summaries: BTreeMap<i64, String>,
}

impl Record {
    pub(super) fn new(id: TaskId, spec: TaskSpec) -> Self {
        let waiting =
            Step { result: TaskResult::Unspecified, started: 0, stopped: 0, log_index: 0, log_length: 0 };
        let steps = vec![waiting; spec.count_steps()];
        Self {
            id,
            spec,
            runner: None,
            request_key: None,
            token: String::new(),
            result: TaskResult::Unspecified,
            reported: None,
            steps,
            log: Log::default(),
            outputs: BTreeMap::new(),
            late_outputs: BTreeMap::new(),
            summaries: BTreeMap::new(),
        }
    }

    pub(super) fn is_final(&self) -> bool {
        self.result != TaskResult::Unspecified
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.runner.is_none() && !self.is_final()
    }

    /// Whether a runner with these labels, which asks for this handle or for any, may have it.
    pub(super) fn suits(&self, labels: &BTreeSet<&str>, handle: Option<&str>) -> bool {
        self.is_waiting()
            && self.spec.labels.iter().all(|label| labels.contains(label.as_str()))
            && handle.is_none_or(|handle| handle == self.spec.handle)
    }

    /// What travels to the runner, with a token of this delivery's own.
    pub(super) fn deliver(&mut self, token: String, server_url: &str) -> runner::Task {
        let mut secrets = self.spec.secrets.clone();
        for name in ["FORGEJO_TOKEN", "GITEA_TOKEN", "GITHUB_TOKEN"] {
            secrets.insert(name.to_owned(), token.clone());
        }
        let needs = self.spec.needs.iter().map(|(job, need)| {
            let need = runner::TaskNeed { outputs: need.outputs.clone(), result: wire(need.result).into() };
            (job.clone(), need)
        });
        let task = runner::Task {
            id: self.id.get(),
            workflow_payload: Some(self.spec.payload.clone().into_bytes()),
            context: Some(context::fill(&token, self.id.get(), server_url, &self.spec.context)),
            secrets,
            needs: needs.collect(),
            vars: self.spec.vars.clone(),
            ..runner::Task::default()
        };
        self.token = token;
        task
    }

    /// Ends it from the server's side; steps that did not end get the same result and are frozen with it.
    pub(super) fn stop(&mut self, result: TaskResult) {
        if self.is_final() {
            return;
        }
        self.result = result;
        for step in self.steps.iter_mut().filter(|step| step.result == TaskResult::Unspecified) {
            step.result = result;
        }
    }

    /// A state from the runner; a final one that is there already stays.
    pub(super) fn report(&mut self, state: &runner::TaskState) {
        if self.is_final() {
            return;
        }
        self.reported = Some(state.clone());
        self.result = result(state.result());
        for (number, step) in self.steps.iter_mut().enumerate() {
            let told = state.steps.iter().rev().find(|told| usize::try_from(told.id) == Ok(number));
            if let Some(told) = told {
                let seconds = |time: Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
                step.started = seconds(told.started_at);
                step.stopped = seconds(told.stopped_at);
                step.log_index = told.log_index;
                step.log_length = told.log_length;
            }
            match told.map(runner::StepState::result).unwrap_or_default() {
                // one that began runs, also where it had ended before or is not named
                runner::Result::Unspecified if step.started != 0 => step.result = TaskResult::Unspecified,
                runner::Result::Unspecified => {}
                ended => step.result = result(ended),
            }
        }
    }

    /// Outputs from the runner: the first value of a name stays.
    pub(super) fn take_outputs(&mut self, outputs: &BTreeMap<String, String>, when: When) {
        for (name, value) in outputs {
            let known = self.outputs.contains_key(name) || self.late_outputs.contains_key(name);
            if known || name.len() > MAX_OUTPUT_NAME || value.len() > MAX_OUTPUT {
                continue;
            }
            let kept = match when {
                When::InTime => &mut self.outputs,
                When::Late => &mut self.late_outputs,
            };
            kept.insert(name.clone(), value.clone());
        }
    }

    /// The names of all outputs that the server has.
    pub(super) fn sent_outputs(&self) -> Vec<String> {
        self.outputs.keys().chain(self.late_outputs.keys()).cloned().collect()
    }
}

/// Whether outputs came before dependent jobs could start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    InTime,
    Late,
}

pub(super) fn wire(result: TaskResult) -> runner::Result {
    match result {
        TaskResult::Unspecified => runner::Result::Unspecified,
        TaskResult::Success => runner::Result::Success,
        TaskResult::Failure => runner::Result::Failure,
        TaskResult::Cancelled => runner::Result::Cancelled,
        TaskResult::Skipped => runner::Result::Skipped,
    }
}

fn result(result: runner::Result) -> TaskResult {
    match result {
        runner::Result::Unspecified => TaskResult::Unspecified,
        runner::Result::Success => TaskResult::Success,
        runner::Result::Failure => TaskResult::Failure,
        runner::Result::Cancelled => TaskResult::Cancelled,
        runner::Result::Skipped => TaskResult::Skipped,
    }
}
