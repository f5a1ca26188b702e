//! Where an expression stands, and what is allowed there.
//!
//! Purpose: one table of contexts and functions per site, the union of GitHub's and Forgejo's.
//! Owner: lowering names the site; the parser checks. Invariant: what the table lacks is an error when
//! the workflow is read, never a silent null at run time.

use super::{ContextName, function::Function};

/// A place of the workflow that can hold expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// `run-name`
    RunName,
    /// `env` of the workflow
    WorkflowEnv,
    /// `jobs.x.if`
    JobIf,
    /// `jobs.x.name`
    JobName,
    /// `jobs.x.runs-on`
    RunsOn,
    /// `jobs.x.strategy`
    Strategy,
    /// `jobs.x.env`
    JobEnv,
    /// `jobs.x.defaults.run`
    JobDefaults,
    /// `jobs.x.outputs.y`
    JobOutputs,
    /// `jobs.x.timeout-minutes`, `jobs.x.continue-on-error`
    JobSetting,
    /// `jobs.x.steps[*].if`
    StepIf,
    /// Every other key of a step
    Step,
}

impl Site {
    /// Every site, for tables.
    pub const ALL: [Site; 12] = [
        Site::RunName,
        Site::WorkflowEnv,
        Site::JobIf,
        Site::JobName,
        Site::RunsOn,
        Site::Strategy,
        Site::JobEnv,
        Site::JobDefaults,
        Site::JobOutputs,
        Site::JobSetting,
        Site::StepIf,
        Site::Step,
    ];

    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Site::RunName => "`run-name`",
            Site::WorkflowEnv => "the workflow's `env`",
            Site::JobIf => "a job's `if`",
            Site::JobName => "a job's `name`",
            Site::RunsOn => "`runs-on`",
            Site::Strategy => "`strategy`",
            Site::JobEnv => "a job's `env`",
            Site::JobDefaults => "a job's `defaults`",
            Site::JobOutputs => "a job's `outputs`",
            Site::JobSetting => "this key of a job",
            Site::StepIf => "a step's `if`",
            Site::Step => "a step",
        }
    }

    /// The contexts that are there.
    pub fn contexts(self) -> &'static [ContextName] {
        use ContextName::*;
        match self {
            Site::RunName => &[Github, Inputs, Vars],
            Site::WorkflowEnv => &[Github, Secrets, Inputs, Vars],
            // Forgejo makes the matrix before it looks at `if`; GitHub does not.
            Site::JobIf => &[Github, Needs, Strategy, Matrix, Vars, Inputs],
            Site::JobName | Site::RunsOn | Site::JobSetting => {
                &[Github, Needs, Strategy, Matrix, Vars, Inputs]
            }
            Site::Strategy => &[Github, Needs, Vars, Inputs],
            Site::JobEnv => &[Github, Needs, Strategy, Matrix, Vars, Secrets, Inputs],
            Site::JobDefaults => &[Github, Needs, Strategy, Matrix, Env, Vars, Inputs],
            Site::JobOutputs | Site::StepIf | Site::Step => {
                &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Steps, Inputs]
            }
        }
    }

    /// Whether `success()` and its kin are there.
    pub fn has_status(self) -> bool {
        matches!(self, Site::JobIf | Site::StepIf)
    }

    /// Whether there is a machine with files to look at.
    pub fn has_files(self) -> bool {
        matches!(self, Site::StepIf | Site::Step)
    }

    pub(crate) fn allows(self, function: Function) -> bool {
        match function {
            Function::Success | Function::Failure | Function::Always | Function::Cancelled => {
                self.has_status()
            }
            Function::HashFiles => self.has_files(),
            _ => true,
        }
    }
}
