//! A step.
//!
//! Purpose: what a job, or a composite action, does. Owner: [`super::Job`] or [`super::Action`].
//! Invariant: a step does exactly one thing.

use doc::Spanned;

use super::{Defaults, Variables};
use crate::{Condition, Template, Uses};

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// `id`.
    pub id: Option<Spanned<String>>,
    /// `name`.
    pub name: Option<Template>,
    /// `if`.
    pub condition: Condition,
    /// `run` or `uses`.
    pub action: StepAction,
    /// `env` of the step.
    pub env: Variables,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// `background`: the next step begins at once. Only GitHub has it.
    pub background: Option<Spanned<bool>>,
    /// Where the step stands.
    pub span: doc::Span,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepAction {
    /// `run`
    Run {
        /// The script.
        script: Template,
        /// `shell`; see [`crate::Shell::parse`] for its value.
        shell: Option<Template>,
        /// `working-directory`.
        working_directory: Option<Template>,
    },
    /// `uses`
    Uses {
        /// What.
        uses: Spanned<Uses>,
        /// `with`.
        with: Variables,
    },
    /// `uses` with an expression in it, which Forgejo takes.
    Computed {
        /// What.
        uses: Template,
        /// `with`.
        with: Variables,
    },
    /// `wait`: until these steps in the background are done. Only GitHub has it and what follows.
    Wait(Vec<Spanned<String>>),
    /// `wait-all`: until all are.
    WaitAll,
    /// `cancel`: ends a step in the background.
    Cancel(Spanned<String>),
    /// `parallel`: steps that run at once.
    Parallel(Vec<Step>),
}

impl Step {
    /// What a step without a name is called: GitHub's `Run` and the first line, or the action.
    pub fn title(&self) -> String {
        match &self.action {
            StepAction::Run { script, .. } => {
                let first = script.raw().lines().find(|line| !line.trim().is_empty());
                format!("Run {}", first.unwrap_or_default().trim())
            }
            StepAction::Uses { uses, .. } => format!("Run {}", uses.value),
            StepAction::Computed { uses, .. } => format!("Run {}", uses.raw()),
            StepAction::Wait(_) | StepAction::WaitAll => "Wait".to_owned(),
            StepAction::Cancel(step) => format!("Cancel {}", step.value),
            StepAction::Parallel(_) => "Run in parallel".to_owned(),
        }
    }

    /// The step's shell by its own key, else by the defaults, else bash.
    ///
    /// Gives the template to evaluate; [`crate::Shell::parse`] reads its value. `None` means [`crate::Shell::Bash`].
    pub fn shell<'a>(&'a self, defaults: &'a Defaults) -> Option<&'a Template> {
        match &self.action {
            StepAction::Run { shell, .. } => shell.as_ref().or(defaults.shell.as_ref()),
            StepAction::Uses { .. }
            | StepAction::Computed { .. }
            | StepAction::Wait(_)
            | StepAction::WaitAll
            | StepAction::Cancel(_)
            | StepAction::Parallel(_) => None,
        }
    }
}
