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
    /// `concurrency` of the workflow
    WorkflowConcurrency,
    /// `jobs.x.environment.url`
    EnvironmentUrl,
    /// `jobs.x.container`, `jobs.x.services.y`
    Container,
    /// `env` of a container
    ContainerEnv,
    /// `credentials` of a container
    Credentials,
    /// `jobs.x.with`
    CallWith,
    /// `jobs.x.secrets.y`
    CallSecret,
    /// `on.workflow_call.inputs.x.default`
    CallDefault,
    /// `on.workflow_call.outputs.x.value`
    CallOutput,
    /// `inputs.x.default` of an action
    ActionDefault,
    /// `outputs.x.value` of an action
    ActionOutput,
    /// `args` and `env` of a docker action
    ActionArgs,
    /// `pre-if` and `post-if` of an action
    ActionIf,
    /// `if` of a composite action's step
    ActionStepIf,
    /// Every other key of a composite action's step
    ActionStep,
    /// None: an expression that stands alone, which may look at everything.
    Anywhere,
}

impl Site {
    /// Every site, for tables.
    pub const ALL: [Site; 28] = [
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
        Site::WorkflowConcurrency,
        Site::EnvironmentUrl,
        Site::Container,
        Site::ContainerEnv,
        Site::Credentials,
        Site::CallWith,
        Site::CallSecret,
        Site::CallDefault,
        Site::CallOutput,
        Site::ActionDefault,
        Site::ActionOutput,
        Site::ActionArgs,
        Site::ActionIf,
        Site::ActionStepIf,
        Site::ActionStep,
        Site::Anywhere,
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
            Site::WorkflowConcurrency => "the workflow's `concurrency`",
            Site::EnvironmentUrl => "an environment's `url`",
            Site::Container => "a container",
            Site::ContainerEnv => "a container's `env`",
            Site::Credentials => "a container's `credentials`",
            Site::CallWith => "a job's `with`",
            Site::CallSecret => "a job's `secrets`",
            Site::CallDefault => "the default of an input",
            Site::CallOutput => "an output of a called workflow",
            Site::ActionDefault => "the default of an action's input",
            Site::ActionOutput => "an action's output",
            Site::ActionArgs => "a docker action",
            Site::ActionIf => "`pre-if` and `post-if`",
            Site::ActionStepIf => "the `if` of an action's step",
            Site::ActionStep => "an action's step",
            Site::Anywhere => "an expression",
        }
    }

    /// The contexts that are there.
    pub fn contexts(self) -> &'static [ContextName] {
        use ContextName::*;
        match self {
            Site::RunName => &[Github, Inputs, Vars],
            Site::WorkflowEnv => &[Github, Secrets, Inputs, Vars],
            // GitHub has no `secrets` and `env` here, Forgejo does; `matrix` and `strategy` neither, which is
            // a warning.
            Site::JobIf => &[Github, Needs, Strategy, Matrix, Env, Vars, Secrets, Inputs],
            Site::JobName | Site::RunsOn | Site::JobSetting => {
                &[Github, Needs, Strategy, Matrix, Vars, Inputs]
            }
            Site::Strategy => &[Github, Needs, Vars, Inputs],
            Site::JobEnv => &[Github, Needs, Strategy, Matrix, Vars, Secrets, Inputs],
            Site::JobDefaults => &[Github, Needs, Strategy, Matrix, Env, Vars, Inputs],
            Site::JobOutputs | Site::StepIf | Site::Step => {
                &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Steps, Inputs]
            }
            Site::WorkflowConcurrency | Site::CallDefault => &[Github, Inputs, Vars],
            Site::EnvironmentUrl => &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Steps, Inputs],
            Site::Container | Site::CallWith => &[Github, Needs, Strategy, Matrix, Env, Vars, Inputs],
            Site::ContainerEnv => {
                &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Steps, Inputs]
            }
            Site::Credentials => &[Github, Env, Vars, Secrets, Inputs, Needs, Strategy, Matrix],
            Site::CallSecret => &[Github, Needs, Strategy, Matrix, Secrets, Vars, Inputs],
            Site::CallOutput => &[Github, Jobs, Vars, Inputs],
            Site::ActionDefault => &[Github, Strategy, Matrix, Job, Runner, Env, Vars, Inputs],
            // Secrets do not reach an action but as inputs.
            Site::ActionOutput | Site::ActionStepIf | Site::ActionStep => {
                &[Github, Strategy, Matrix, Steps, Job, Runner, Env, Vars, Inputs]
            }
            Site::ActionArgs => &[Inputs],
            Site::ActionIf => &[Github, Strategy, Matrix, Job, Runner, Env, Vars, Inputs],
            Site::Anywhere => {
                &[Github, Needs, Strategy, Matrix, Job, Jobs, Runner, Env, Vars, Secrets, Steps, Inputs]
            }
        }
    }

    /// Whether `success()` and its kin are there.
    pub fn has_status(self) -> bool {
        matches!(self, Site::JobIf | Site::StepIf | Site::ActionIf | Site::ActionStepIf | Site::Anywhere)
    }

    /// Whether there is a machine with files to look at.
    pub fn has_files(self) -> bool {
        matches!(
            self,
            Site::StepIf
                | Site::Step
                | Site::ActionDefault
                | Site::ActionIf
                | Site::ActionStepIf
                | Site::ActionStep
                | Site::Anywhere
        )
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
