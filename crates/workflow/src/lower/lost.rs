//! What errors keep out of a model, or under another name.
//!
//! Purpose: a rule that asks whether a name is there has to know whether names can be missing. Owner: the lowering.
//! Invariant: an error that costs no name (a value, an expression, a key that has nothing to do with names) loses
//! nothing; whatever may have cost one does.

use std::collections::HashSet;

use doc::{Diagnostic, Kind, Node, Span};

use super::Lower;
use crate::shape::{
    Shape,
    action::COMPOSITE_STEP,
    job::{JOB, STEP, STRATEGY},
};

/// What is not as the file has it.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Names of the job, or of the action, that is being read: of its steps, needs, matrix and outputs.
    pub(crate) names: bool,
    /// The jobs that lost some, also those that are not there at all; in lower case.
    jobs: HashSet<String>,
    /// Inputs.
    pub(crate) inputs: bool,
    /// Anything: of keys that are there twice only the first is read.
    all: bool,
}

impl Lost {
    /// Of a document whose keys that are there twice these faults tell.
    pub(super) fn with(root: &Node, faults: &[Diagnostic]) -> Lost {
        let first = |fault: &Diagnostic| fault.others.first().map(|label| label.span);
        let all = faults
            .iter()
            .any(|fault| first(fault).is_none_or(|first| costs_names(root, first, &mut Vec::new())));
        Lost { names: all, inputs: all, all, ..Lost::default() }
    }

    /// Whether it can be anything.
    pub(super) fn all(&self) -> bool {
        self.all
    }

    /// Whether a job lost names, or is not there.
    pub(crate) fn job(&self, id: &str) -> bool {
        self.all || !self.jobs.is_empty() && self.jobs.contains(&id.to_ascii_lowercase())
    }
}

impl Lower<'_> {
    /// Reads what holds names: any error in it may cost one.
    pub(super) fn names<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.faults.len();
        let found = read(self);
        self.lost.names |= self.has_error(before);
        found
    }

    /// Whether there is an error among the faults from this number on.
    pub(super) fn has_error(&self, before: usize) -> bool {
        self.faults.get(before..).unwrap_or_default().iter().any(Diagnostic::is_error)
    }

    /// Reads a job, and notes whether it is whole.
    pub(super) fn noting<T>(&mut self, id: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.lost.names = self.lost.all;
        let job = read(self);
        if job.is_none() || self.lost.names {
            self.lost.jobs.insert(id.to_ascii_lowercase());
        }
        job
    }

    /// A key that is not known, and the one that was probably meant.
    pub(super) fn lose_key(&mut self, shape: &Shape, meant: Option<&str>) {
        const NAMES: [&str; 8] =
            ["id", "needs", "strategy", "matrix", "outputs", "steps", "uses", "parallel"];
        let with_names = [JOB.id, STEP.id, COMPOSITE_STEP.id, STRATEGY.id].contains(&shape.id);
        self.lost.names |= with_names && meant.is_none_or(|key| NAMES.contains(&key));
    }
}

/// Whether a key that is there twice may keep a name out of the model, wherever it stands.
fn costs_names<'a>(node: &'a Node, key: Span, path: &mut Vec<&'a str>) -> bool {
    match &node.kind {
        Kind::Scalar(_) => false,
        Kind::Seq(items) => items.iter().any(|item| costs_names(item, key, path)),
        Kind::Map(map) => map.entries.iter().any(|entry| {
            path.push(&entry.key.value);
            let costs = match entry.key.span == key {
                true => !is_nameless(path),
                false => costs_names(&entry.value, key, path),
            };
            path.pop();
            costs
        }),
    }
}

/// Whether nothing at this place is a name that is looked for elsewhere.
fn is_nameless(path: &[&str]) -> bool {
    const KEYS: [&str; 8] = [
        "continue-on-error",
        "env",
        "permissions",
        "runs-on",
        "shell",
        "timeout-minutes",
        "with",
        "working-directory",
    ];
    let key = match path {
        // one of its variables
        [before @ .., variables @ ("env" | "with"), _] => [before, &[*variables]].concat(),
        _ => path.to_vec(),
    };
    match key.as_slice() {
        ["jobs", _, "steps", key] | ["jobs", _, key] | ["runs", "steps", key] | [key] => KEYS.contains(key),
        _ => false,
    }
}
