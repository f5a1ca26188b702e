//! What an expression can see.
//!
//! Purpose: the named contexts, the status behind `success()` and its kin, and answers from the guest.
//! Owner: the caller fills one per site and may change it between steps. Invariant: `Debug` shows names
//! only; `secrets` is in here.

use std::{collections::BTreeMap, fmt};

use crate::Value;

/// A context of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContextName {
    /// `github`, also `forgejo`, `gitea` and `forge`: the event and the repository.
    Github,
    /// Environment variables of workflow, job and step.
    Env,
    /// The repository's variables.
    Vars,
    /// The running job.
    Job,
    /// The jobs of a reusable workflow.
    Jobs,
    /// Steps that have run, by id.
    Steps,
    /// The machine.
    Runner,
    /// Secrets.
    Secrets,
    /// The matrix's settings.
    Strategy,
    /// This job's matrix values.
    Matrix,
    /// Results and outputs of the jobs that this one needs.
    Needs,
    /// Inputs of a manual or called workflow.
    Inputs,
}

impl ContextName {
    /// All, under every name that they can be written with.
    pub const NAMES: [(&'static str, ContextName); 15] = [
        ("github", ContextName::Github),
        ("forgejo", ContextName::Github),
        ("gitea", ContextName::Github),
        ("forge", ContextName::Github),
        ("env", ContextName::Env),
        ("vars", ContextName::Vars),
        ("job", ContextName::Job),
        ("jobs", ContextName::Jobs),
        ("steps", ContextName::Steps),
        ("runner", ContextName::Runner),
        ("secrets", ContextName::Secrets),
        ("strategy", ContextName::Strategy),
        ("matrix", ContextName::Matrix),
        ("needs", ContextName::Needs),
        ("inputs", ContextName::Inputs),
    ];

    /// By name, case aside.
    pub fn parse(name: &str) -> Option<ContextName> {
        let found = ContextName::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, context)| *context)
    }

    /// Its first name.
    pub fn name(self) -> &'static str {
        ContextName::NAMES.iter().find(|(_, context)| *context == self).map_or("", |(name, _)| name)
    }
}

/// What the status functions say. `always()` is always true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// `success()`: all that came before went well.
    pub success: bool,
    /// `failure()`: something before failed.
    pub failure: bool,
    /// `cancelled()`: the run was cancelled.
    pub cancelled: bool,
}

impl Status {
    /// All went well so far.
    pub const SUCCESS: Status = Status { success: true, failure: false, cancelled: false };
    /// Something failed.
    pub const FAILURE: Status = Status { success: false, failure: true, cancelled: false };
    /// The run was cancelled.
    pub const CANCELLED: Status = Status { success: false, failure: false, cancelled: true };
}

/// A question that only the machine of the job can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Query {
    /// The digest that `hashFiles` gives for these patterns: lower-case hex, or empty for no match.
    HashFiles(Vec<String>),
}

/// What an expression can see. A context that was not set is an empty object.
#[derive(Clone)]
pub struct Contexts {
    values: BTreeMap<ContextName, Value>,
    status: Status,
    answers: BTreeMap<Query, String>,
}

impl Default for Contexts {
    fn default() -> Contexts {
        Contexts { values: BTreeMap::new(), status: Status::SUCCESS, answers: BTreeMap::new() }
    }
}

impl Contexts {
    /// Nothing set, status success.
    pub fn new() -> Contexts {
        Contexts::default()
    }

    /// Sets or replaces a context.
    pub fn set(&mut self, name: ContextName, value: impl Into<Value>) -> &mut Contexts {
        self.values.insert(name, value.into());
        self
    }

    /// A context's value; an empty object when it was not set.
    pub fn get(&self, name: ContextName) -> Value {
        self.values.get(&name).cloned().unwrap_or_else(|| crate::Object::new().into())
    }

    /// Whether it was set.
    pub(crate) fn has(&self, name: ContextName) -> bool {
        self.values.contains_key(&name)
    }

    /// Sets what the status functions say.
    pub fn set_status(&mut self, status: Status) -> &mut Contexts {
        self.status = status;
        self
    }

    /// What the status functions say.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Adds the answer to a question of [`crate::Eval::Need`].
    pub fn answer(&mut self, query: Query, answer: String) -> &mut Contexts {
        self.answers.insert(query, answer);
        self
    }

    /// Forgets all answers: a step may have changed the files that they are about.
    pub fn forget_answers(&mut self) -> &mut Contexts {
        self.answers.clear();
        self
    }

    pub(crate) fn answered(&self, query: &Query) -> Option<&str> {
        self.answers.get(query).map(String::as_str)
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts")
            .field("set", &self.values.keys().collect::<Vec<_>>())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
