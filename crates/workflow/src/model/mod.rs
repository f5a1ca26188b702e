//! The typed model of a workflow.
//!
//! Purpose: what a workflow says, with a place for everything that can be complained about.
//! Owner: `lower` makes it; `plan` and `expand` read it; shared as `Arc<Workflow>`.
//! Invariants: ids are unique and well formed; every job either has steps or is a reusable workflow;
//! expressions are checked. What the engine cannot do yet is still here: `support` speaks of it.

mod action;
mod container;
mod job;
mod settings;
mod step;
mod trigger;

use doc::{Diagnostic, Source, Spanned};

pub use action::{Action, ActionInput, ActionOutput, Branding, Hook, Image, Runs, Using};
pub use container::{Container, Credentials, Service};
pub use job::{Call, CallSecrets, Data, DataKind, Job, Matrix, RunsOn, Strategy};
pub use settings::{
    Access, Concurrency, Defaults, Environment, MachineImage, OrExpr, Permission, Permissions, Queue,
    Variable, Variables,
};
pub use step::{Step, StepAction};
pub use trigger::{CallOutput, CallSecret, Input, InputKind, Trigger};

use crate::{Contexts, Template, settings as values};

/// Most jobs of one workflow.
pub(crate) const MAX_JOBS: usize = 1000;

/// Most steps of one job.
pub(crate) const MAX_STEPS: usize = 1000;

/// A workflow.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The file.
    pub source: Source,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `run-name`.
    pub run_name: Option<Template>,
    /// `description`.
    pub description: Option<Spanned<String>>,
    /// `on`: what starts it, in the order of the file.
    pub on: Vec<Trigger>,
    /// `permissions`; Forgejo reads over them.
    pub permissions: Option<Spanned<Permissions>>,
    /// `env` of the workflow.
    pub env: Variables,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `enable-email-notifications`.
    pub email_notifications: Option<Spanned<bool>>,
    /// `enable-openid-connect`.
    pub openid_connect: Option<Spanned<bool>>,
    /// The jobs in the order of the file, at least one.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// Its name, else the file's.
    pub fn title(&self) -> &str {
        match &self.name {
            Some(name) => &name.value,
            None => self.source.name().rsplit('/').next().unwrap_or_default(),
        }
    }

    /// The title of a run, by `run-name`: one line, at most 255 characters, as the server cuts it; none
    /// without `run-name`, or where its value is empty. Of `contexts` it reads `github`, `inputs` and
    /// `vars`: a `github.token` in there is not masked here.
    ///
    /// # Errors
    /// An expression without a value.
    pub fn run_title(&self, contexts: &Contexts) -> Result<Option<String>, Vec<Diagnostic>> {
        const LONGEST: usize = 255;
        let Some(template) = &self.run_name else { return Ok(None) };
        let text = values::text(template, contexts)?;
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let title: String = line.chars().take(LONGEST).collect();
        Ok(Some(title).filter(|title| !title.is_empty()))
    }

    /// A job by its id, compared exactly.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.value == id)
    }

    /// The trigger of an event.
    pub fn trigger(&self, event: &str) -> Option<&Trigger> {
        self.on.iter().find(|trigger| trigger.event.value == event)
    }

    /// What a job that calls it has to give and gets: the trigger `workflow_call`, if it can be called.
    pub fn callable(&self) -> Option<&Trigger> {
        self.trigger("workflow_call")
    }

    /// The event of a run that names none: the only one of the workflow, else `push`.
    pub fn default_event(&self) -> &str {
        match self.on.as_slice() {
            [only] => &only.event.value,
            _ => "push",
        }
    }
}
