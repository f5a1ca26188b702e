//! The document's tree to the typed model.
//!
//! Purpose: every key is looked at once, and everything that is wrong is said, with its place and what
//! to write instead. Owner: [`parse`]'s call. Invariants: a fault never stops the rest from being
//! looked at; a workflow is given only when there is no error.
//!
//! ```text
//! Source ──doc──▶ Node ─┬─ workflow ─┬─ on (triggers, inputs) ── filters
//!                       │            └─ jobs ── job ─┬─ matrix (data)
//!                       │                            ├─ container
//!                       │                            └─ steps ── step
//!                       └─ action ── steps
//! ```
//!
//! Which keys there are says `shape`; kinds of values are looked at in `values` and `settings`.

mod action;
mod beside;
mod container;
mod data;
mod filters;
mod job;
mod lost;
mod meant;
mod on;
mod settings;
mod step;
mod traps;
mod values;

use std::collections::HashSet;

use doc::{Diagnostic, Entry, Map, Node, Source, Span};

pub(crate) use action::action_for_rules;
pub use action::{ParsedAction, parse_action};
pub(crate) use lost::Lost;

use crate::{
    Site, Workflow,
    model::MAX_JOBS,
    rules,
    shape::{
        job::{JOB, STEP},
        workflow::WORKFLOW,
    },
    support,
};

/// What became of a document.
#[derive(Debug)]
pub struct Parsed {
    /// The workflow; none when there is an error.
    pub workflow: Option<Workflow>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The workflow and its warnings, or all errors and warnings.
    ///
    /// # Errors
    /// When the document is no good workflow.
    pub fn into_result(self) -> Result<(Workflow, Vec<Diagnostic>), Vec<Diagnostic>> {
        match self.workflow {
            Some(workflow) => Ok((workflow, self.diagnostics)),
            None => Err(self.diagnostics),
        }
    }
}

/// Most diagnostics of one file; nobody reads more, and each is rendered.
pub(crate) const MAX_DIAGNOSTICS: usize = 100;

/// A workflow as far as it could be read, for rules.
pub(crate) struct Lowered<T> {
    /// What there is of it.
    pub(crate) model: Option<T>,
    /// Errors and warnings in no order.
    pub(crate) faults: Vec<Diagnostic>,
    /// Whether every job is in the model, also of one with errors.
    pub(crate) whole: bool,
    /// Of one with errors, what is missing.
    pub(crate) lost: Lost,
}

impl<T> Lowered<T> {
    fn none(faults: Vec<Diagnostic>) -> Lowered<T> {
        Lowered { model: None, faults, whole: false, lost: Lost::default() }
    }
}

/// Reads a workflow for rules.
pub(crate) fn for_rules(source: &Source) -> Lowered<Workflow> {
    let (root, mut lower) = match Lower::of(source) {
        Ok(begun) => begun,
        Err(faults) => return Lowered::none(faults),
    };
    let twice = lower.lost.all();
    let model = lower.workflow(&root);
    let written = root.map().and_then(|map| map.get("jobs")).and_then(Node::map);
    let read = model.as_ref().map(|workflow| workflow.jobs.len());
    let whole = !twice && read == written.map(|jobs| jobs.entries.len());
    Lowered { whole, model, faults: lower.faults, lost: lower.lost }
}

/// Parses and checks a workflow that is to run. Of one with errors, what is not possible yet is among them as
/// well, of whichever job; of a good one [`support::check`] says it, of the jobs that are to run.
pub fn parse(source: &Source) -> Parsed {
    to_run(lowered(source, Origin::File))
}

/// Parses and checks a workflow that is only to be looked at: what of the language is not possible here yet is no
/// fault of it.
pub fn parse_only(source: &Source) -> Parsed {
    let (workflow, faults) = lowered(source, Origin::File);
    parsed(workflow, faults)
}

/// Parses a task's payload: what a server made of a workflow for one job. It is checked as a workflow, but for
/// what the server has already used (`on`), for keys at its top that this version
/// does not know, and for ids of jobs that the server expanded, `call.inner`.
pub fn parse_payload(source: &Source) -> Parsed {
    to_run(lowered(source, Origin::Payload))
}

fn to_run((workflow, mut faults): (Option<Workflow>, Vec<Diagnostic>)) -> Parsed {
    let good = !faults.iter().any(Diagnostic::is_error);
    if let Some(workflow) = workflow.as_ref().filter(|_| !good) {
        // Nobody will plan it: say at once what would be refused once the faults are mended.
        faults.extend(support::check_workflow(workflow).into_iter().filter(Diagnostic::is_error));
    }
    parsed(workflow, faults)
}

fn parsed(workflow: Option<Workflow>, faults: Vec<Diagnostic>) -> Parsed {
    let good = !faults.iter().any(Diagnostic::is_error);
    let source = workflow.as_ref().map(|workflow| workflow.source.clone());
    let faults = source.into_iter().fold(faults, |faults, source| rules::allowed(&source, faults));
    Parsed { workflow: workflow.filter(|_| good), diagnostics: finish(faults, MAX_DIAGNOSTICS) }
}

fn lowered(source: &Source, origin: Origin) -> (Option<Workflow>, Vec<Diagnostic>) {
    let (root, mut lower) = match Lower::of(source) {
        Ok(begun) => begun,
        Err(faults) => return (None, faults),
    };
    lower.origin = origin;
    if origin == Origin::Payload {
        lower.job_ids = Dots::Allowed;
    }
    let workflow = lower.workflow(&root);
    (workflow, lower.faults)
}

/// Diagnostics in the order of the file, each once, and not too many.
pub(crate) fn finish(mut diagnostics: Vec<Diagnostic>, most: usize) -> Vec<Diagnostic> {
    let good = !diagnostics.iter().any(Diagnostic::is_error);
    diagnostics.sort_by_key(|fault| fault.primary.as_ref().map_or(0, |label| label.span.start));
    // An alias that holds a fault says it once for each use, perhaps with others between them: once is enough.
    let mut said = HashSet::new();
    diagnostics.retain(|fault| {
        let span = fault.primary.as_ref().map(|label| (label.span.start, label.span.end));
        said.insert((span, fault.message.clone()))
    });
    if diagnostics.len() > most {
        let more = diagnostics.len() - most;
        diagnostics.truncate(most);
        let rest = format!("{more} more errors and warnings are not shown");
        diagnostics.push(if good { Diagnostic::warning(rest) } else { Diagnostic::error(rest) });
    }
    diagnostics
}

/// Whether an id may have dots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Allowed,
    Refused,
}

/// Who wrote the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Payload,
}

/// The state of a lowering: where it is, and what it found.
pub(crate) struct Lower<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
    origin: Origin,
    /// A server's payload has jobs of expanded workflows, `call.inner`.
    job_ids: Dots,
    lost: Lost,
}

impl<'a> Lower<'a> {
    /// Reads the YAML, and begins with what is wrong with it and does not hinder.
    fn of(source: &'a Source) -> Result<(Node, Lower<'a>), Vec<Diagnostic>> {
        let (root, faults) = match doc::parse_yaml(source) {
            Ok(root) => (root, Vec::new()),
            Err(error) => match error.first_of_each {
                Some(root) => (*root, error.diagnostics),
                None => return Err(error.diagnostics),
            },
        };
        let (origin, job_ids) = (Origin::File, Dots::Refused);
        let lost = Lost::with(&root, &faults);
        Ok((root, Lower { source, faults, origin, job_ids, lost }))
    }

    fn workflow(&mut self, root: &Node) -> Option<Workflow> {
        if root.is_null() {
            self.fault("the workflow is empty", root.span, "a workflow needs `on` and `jobs`");
            return None;
        }
        let map = self.map(root, "a workflow")?;
        if !self.is_payload() && is_other(map) {
            let first = map.entries.first().map_or(root.span, |entry| entry.key.span);
            let fault = self.error("this is no workflow", first).label("there is neither `on` nor `jobs`");
            self.faults.push(fault.help("a workflow has both: a file of another kind belongs elsewhere"));
            return None;
        }
        if !self.is_payload() {
            self.keys(map, &WORKFLOW);
        }
        if map.get("__metadata").is_some() {
            self.job_ids = Dots::Allowed;
        }
        let start = Span::new(root.span.start, root.span.start);
        for key in ["on", "jobs"] {
            let used = key == "on" && self.origin == Origin::Payload;
            if map.get(key).is_none() && !used && !meant::misspelled(map, &WORKFLOW, key) {
                let fault = self
                    .error(format!("`{key}` is missing"), start)
                    .label("a workflow needs `on` and `jobs`");
                let example = if key == "on" { "on: push" } else { "jobs:" };
                self.faults.push(fault.help(format!("add `{example}`")));
            }
        }
        let there = |key| map.get(key).filter(|_| !beside::is_beside(self.source, map, key, &WORKFLOW));
        let (on, jobs) = (there("on"), there("jobs"));
        let before = self.faults.len();
        let on = on.map(|node| self.triggers(node)).unwrap_or_default();
        self.lost.inputs |= on.is_empty() || self.has_error(before);
        if self.origin == Origin::Payload {
            // the server has used it: nothing of the job hangs on it
            self.faults.truncate(before);
        }
        let jobs = jobs.map(|node| self.jobs(node)).unwrap_or_default();
        Some(Workflow {
            source: self.source.clone(),
            name: map.get("name").and_then(|node| self.text(node, "`name`")),
            run_name: map.get("run-name").and_then(|node| self.template(node, Site::RunName, "`run-name`")),
            description: map.get("description").and_then(|node| self.text(node, "`description`")),
            on,
            permissions: map.get("permissions").and_then(|node| self.permissions(node)),
            env: self.env(map, Site::WorkflowEnv),
            defaults: map.get("defaults").map(|node| self.defaults(node)).unwrap_or_default(),
            concurrency: map
                .entry("concurrency")
                .and_then(|entry| self.concurrency(entry, Site::WorkflowConcurrency)),
            email_notifications: self.switch(map, "enable-email-notifications"),
            openid_connect: self.switch(map, "enable-openid-connect"),
            jobs,
        })
    }

    fn jobs(&mut self, node: &Node) -> Vec<crate::Job> {
        let Some(map) = self.map(node, "`jobs`") else { return Vec::new() };
        if map.entries.is_empty() {
            self.fault("there are no jobs", node.span, "a workflow needs at least one");
        }
        if map.entries.len() > MAX_JOBS {
            let at = map.entries[MAX_JOBS].key.span;
            self.fault(format!("a workflow has at most {MAX_JOBS} jobs"), at, "one too many");
            return Vec::new();
        }
        for (id, first) in values::twice(map.entries.iter().map(|entry| &entry.key)) {
            let fault = self
                .error("two jobs differ only by case", id.span)
                .label("names of jobs compare without case")
                .also(self.source, first.span, "the first");
            self.faults.push(fault);
        }
        let entries = self.jobs_of(map);
        let mut jobs = Vec::with_capacity(entries.len());
        let read = |entry: &Entry| self.noting(&entry.key.value, |lower| lower.job(&entry.key, &entry.value));
        jobs.extend(entries.into_iter().filter_map(read));
        jobs
    }
}

/// Whether a file is of another kind: it has keys, and none that somebody writes who means a workflow.
fn is_other(map: &Map) -> bool {
    // other files have them as well
    const COMMON: [&str; 2] = ["name", "description"];
    let known = |key: &str| [&WORKFLOW, &JOB, &STEP].iter().any(|shape| shape.key(key).is_some());
    let other = |entry: &&Entry| !COMMON.contains(&entry.key.value.as_str());
    let ours = |entry: &Entry| known(&entry.key.value) || meant::part(entry).is_some();
    let mut keys = map.entries.iter().filter(other).peekable();
    keys.peek().is_some()
        && !keys.any(ours)
        && !["on", "jobs"].iter().any(|key| meant::misspelled(map, &WORKFLOW, key))
}
