//! From files to what will run: parsed, checked, planned, with an event, and every job that can be looked
//! at before a VM starts looked at.
//!
//! Invariant: after this a workflow has no fault that could have been found without running a job.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use doc::{Diagnostic, Limits, Source};
use serde_json::{Map, Value as Json};
use workflow::{
    ContextName, Contexts, MatrixFilter, Plan, RefFacts, Results, RunState, Surroundings, UnknownJob, Value,
    Workflow,
};

use super::{
    github::{self, Facts},
    inputs::{self, InputError},
};
use crate::{cli::args::ExecArgs, input};

/// A workflow that can run.
#[derive(Debug)]
pub struct Prepared {
    /// Its jobs.
    pub plan: Plan,
    /// The event.
    pub event: String,
    /// What `run-name` calls the run; the job's token is not in it.
    pub title: Option<String>,
    /// The `github` context, without what only a job knows.
    pub github: Value,
    /// The `inputs` context.
    pub inputs: Value,
    /// `github`, `vars`, `inputs` and `secrets`.
    pub contexts: Contexts,
}

/// Why a workflow cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The file cannot be read.
    #[error("the workflow {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is no good workflow; at least one error.
    #[error("{}", .0.iter().find(|d| d.is_error()).map(ToString::to_string).unwrap_or_default())]
    Diagnostics(Vec<Diagnostic>),
    /// The event does not start it.
    #[error(transparent)]
    NoEvent(#[from] NoEvent),
    /// The event starts no workflow of a directory.
    #[error("no workflow is started by {event}: {workflows}")]
    EventNowhere {
        /// The event.
        event: String,
        /// What starts each.
        workflows: String,
    },
    /// It has no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// No workflow of a directory has such a job.
    #[error("no workflow has a job `{name}`{}; the jobs are {jobs}",
        suggestion.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default())]
    JobNowhere {
        /// What was asked for.
        name: String,
        /// The nearest there is.
        suggestion: Option<String>,
        /// Those of each workflow.
        jobs: String,
    },
    /// The inputs do not fit.
    #[error("{workflow}: {source}")]
    Input {
        /// The file.
        workflow: String,
        /// Why.
        #[source]
        source: InputError,
    },
}

/// An event that does not start a workflow.
#[derive(Debug, thiserror::Error)]
#[error("{workflow} is not started by {event}; its events are {events}: choose one with `--event`")]
pub struct NoEvent {
    /// The file.
    pub workflow: String,
    /// The event.
    pub event: String,
    /// What starts it.
    pub events: String,
}

impl PrepareError {
    /// What is said of an event that starts none of some workflows; nothing if there are none.
    #[must_use]
    pub fn event_nowhere(mut lacking: Vec<NoEvent>) -> Option<Self> {
        if lacking.len() < 2 {
            return lacking.pop().map(Into::into);
        }
        let event = lacking.first()?.event.clone();
        let workflows = lacking.iter().map(|of| format!("{} has {}", of.workflow, of.events));
        Some(Self::EventNowhere { event, workflows: workflows.collect::<Vec<_>>().join("; ") })
    }

    /// What is said of a job that none of some workflows has; nothing if there are none.
    #[must_use]
    pub fn job_nowhere(mut lacking: Vec<UnknownJob>) -> Option<Self> {
        if lacking.len() < 2 {
            return lacking.pop().map(Into::into);
        }
        let name = lacking.first()?.name.clone();
        let suggestion = lacking.iter_mut().find_map(|of| of.suggestion.take());
        let jobs = lacking.iter().map(|of| format!("{} in {}", of.jobs.join(", "), of.workflow));
        Some(Self::JobNowhere { name, suggestion, jobs: jobs.collect::<Vec<_>>().join("; ") })
    }
}

/// Reads and parses a file; messages call it by its path below `root`.
pub fn parse(root: &Path, path: &Path) -> Result<(Arc<Workflow>, Vec<Diagnostic>), PrepareError> {
    let source = read(root, path)?;
    let (workflow, warnings) = workflow::parse(&source).into_result().map_err(PrepareError::Diagnostics)?;
    Ok((Arc::new(workflow), warnings))
}

/// Reads a file, within the size that is parsed.
pub(crate) fn read(root: &Path, path: &Path) -> Result<Source, PrepareError> {
    read_as(path, &path.strip_prefix(root).unwrap_or(path).display().to_string())
}

/// The same, under a name that messages call it by.
pub(crate) fn read_as(path: &Path, name: &str) -> Result<Source, PrepareError> {
    let limit = Limits::default().bytes as u64;
    let bytes =
        input::read(path, limit).map_err(|source| PrepareError::Read { path: path.to_owned(), source })?;
    Source::from_bytes(name, &bytes).map_err(|found| PrepareError::Diagnostics(vec![*found]))
}

/// What all workflows of a command line share.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    /// The command line.
    pub args: &'a ExecArgs,
    /// The repository.
    pub facts: &'a Facts,
    /// `vars`.
    pub vars: &'a Value,
    /// `secrets`, which a job's `if` can look at.
    pub secrets: &'a Value,
    /// `--eventpath`.
    pub payload: Option<&'a Map<String, Json>>,
    /// `--matrix`.
    pub filters: &'a [MatrixFilter],
    /// The job's token.
    pub token: &'a str,
}

/// Plans a workflow for the event that the command line or the workflow names.
pub fn prepare(
    workflow: Arc<Workflow>,
    common: Common<'_>,
) -> Result<(Prepared, Vec<Diagnostic>), PrepareError> {
    let args = common.args;
    let file = workflow.source.name().to_owned();
    let event = event_of(&workflow, args.event.as_deref());
    if workflow.trigger(&event).is_none() {
        let events: Vec<_> = workflow.on.iter().map(|trigger| trigger.event.value.as_str()).collect();
        return Err(NoEvent { workflow: file, event, events: events.join(", ") }.into());
    }
    let mut plan = Plan::new(Arc::clone(&workflow)).map_err(PrepareError::Diagnostics)?;
    if let Some(job) = &args.job {
        plan = plan.select(job)?;
    }
    let mut warnings = workflow::support::check_for(&plan, &common.facts.repository);
    if warnings.iter().any(Diagnostic::is_error) {
        return Err(PrepareError::Diagnostics(warnings));
    }
    let inputs = inputs::typed(&workflow, &event, &args.inputs)
        .map_err(|source| PrepareError::Input { workflow: file.clone(), source })?;
    let mut payload = match common.payload {
        Some(payload) => payload.clone(),
        None => github::payload(common.facts, &event),
    };
    let inputs = Value::from(inputs);
    if event == "workflow_dispatch" {
        payload.insert("inputs".to_owned(), inputs.to_json());
    }
    let run = github::Run { workflow: workflow.title(), file: &file, event: &event };
    let mut github = github::context(common.facts, run, payload);
    let title = title(&workflow, &github, common.vars, &inputs).map_err(PrepareError::Diagnostics)?;
    github["token"] = common.token.into();
    let github = Value::from_json(&github);
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Github, github.clone());
    contexts.set(ContextName::Vars, common.vars.clone());
    contexts.set(ContextName::Inputs, inputs.clone());
    contexts.set(ContextName::Secrets, common.secrets.clone());
    warnings.extend(unlike_a_server(&workflow, &event, &contexts, common.payload.is_some()));
    let prepared = Prepared { plan, event, title, github, inputs, contexts };
    let faults = first_look(&prepared, common.filters);
    if !faults.is_empty() {
        warnings.extend(faults);
        return Err(PrepareError::Diagnostics(warnings));
    }
    Ok((prepared, warnings))
}

/// The run's title, which is shown and not masked: of the contexts without the token.
fn title(
    workflow: &Workflow,
    github: &Json,
    vars: &Value,
    inputs: &Value,
) -> Result<Option<String>, Vec<Diagnostic>> {
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Github, Value::from_json(github));
    contexts.set(ContextName::Vars, vars.clone());
    contexts.set(ContextName::Inputs, inputs.clone());
    workflow.run_title(&contexts)
}

/// What a server's look at the filters of `on` would say, as warnings: a run here was asked for by hand.
fn unlike_a_server(
    workflow: &Workflow,
    event: &str,
    contexts: &Contexts,
    with_payload: bool,
) -> Vec<Diagnostic> {
    let mut facts = RefFacts::of_contexts(contexts);
    if !with_payload {
        // these were invented with the event
        facts.base = None;
        facts.activity = None;
    }
    let trigger = workflow.trigger(event);
    trigger.map(|trigger| trigger.admits(&facts).to_diagnostics(&workflow.source)).unwrap_or_default()
}

/// The event of a run.
pub fn event_of(workflow: &Workflow, given: Option<&str>) -> String {
    given.unwrap_or_else(|| workflow.default_event()).to_owned()
}

/// Faults of jobs that do not depend on what other jobs put out: these are known before a VM starts.
fn first_look(prepared: &Prepared, filters: &[MatrixFilter]) -> Vec<Diagnostic> {
    let results = Results::new();
    let around =
        Surroundings { results: &results, contexts: &prepared.contexts, run: RunState::Running, filters };
    prepared
        .plan
        .jobs()
        .filter_map(|job| prepared.plan.foresee(&job.id.value, around).err())
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_a_server_would_not_run_is_a_warning_and_an_invented_one_is_not() {
        let text = "on:\n  push: {branches: [main]}\n  pull_request: {branches: [next]}\njobs: {a: {runs-on: x, steps: [{run: a}]}}\n";
        let workflow = workflow::parse(&Source::new("w.yml", text)).into_result().unwrap().0;
        let facts = |head: &str| Facts {
            repository: "a/b".to_owned(),
            server_url: "https://h".to_owned(),
            sha: "0".repeat(40),
            head: head.to_owned(),
            actor: "me".to_owned(),
        };
        let warned = |head: &str, event: &str, given: bool| {
            let facts = facts(head);
            let run = github::Run { workflow: "w", file: "w.yml", event };
            let github = github::context(&facts, run, github::payload(&facts, event));
            let mut contexts = Contexts::new();
            contexts.set(ContextName::Github, Value::from_json(&github));
            unlike_a_server(&workflow, event, &contexts, given)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(warned("refs/heads/main", "push", false), [""; 0]);
        let told = warned("refs/heads/side", "push", false);
        assert!(told.len() == 1 && told[0].contains("side"), "{told:?}");
        let told = warned("refs/heads/main", "pull_request", true);
        assert!(told.len() == 1 && told[0].contains("main"), "{told:?}");
        let told = warned("refs/heads/main", "pull_request", false);
        assert!(!told.iter().any(|text| text.contains("`main`")), "{told:?}");
    }
}
