//! What a job is run with: plain data.

use std::{collections::BTreeMap, fmt, num::NonZeroU8, path::PathBuf, sync::Arc};

use sandbox::{Engine, Forward, LeaseSpec, NetLimits, Policy, Root, Services};
use secrecy::SecretString;
use vm::Mebibytes;
use workflow::{ExpandedJob, Value};

use crate::{Authorities, Failures, Outcome, Reason, Repository, WorkingTree};

/// Which job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// The job, its `if` and matrix evaluated. One whose verdict is `Skip` has only its `JobEnd`.
    pub job: ExpandedJob,
}

/// What surrounds a job. Holds secrets: `Debug` shows names only.
#[derive(Clone)]
pub struct JobContext {
    /// The `github` context as an object, as far as the caller knows it; paths, `job`, `action` and the like
    /// are added here.
    pub github: Value,
    /// The `vars` context.
    pub vars: Value,
    /// The `inputs` context.
    pub inputs: Value,
    /// The `secrets` context; every value is masked.
    pub secrets: BTreeMap<String, SecretString>,
    /// Further values to mask.
    pub masks: Vec<SecretString>,
    /// Environment below the workflow's own.
    pub env: Vec<(String, String)>,
    /// The job's repository.
    pub repository: Repository,
    /// Its files.
    pub tree: Arc<dyn WorkingTree>,
    /// What the workspace holds before the first step.
    pub workspace: Workspace,
    /// Who runs the job.
    pub runner: RunnerFacts,
    /// Who is shown each step that fails the job, before the steps that follow it; nobody: none waits. Not
    /// one whose failure `continue-on-error` forgives, and none while the job ends.
    pub failures: Option<Failures>,
    /// Names in its VM that lead to somewhere on this side.
    pub forwards: Vec<Forward>,
    /// What answers at those of them that lead to a service.
    pub services: Services,
    /// Whom its VM trusts beside those of its image.
    pub authorities: Option<Authorities>,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("repository", &self.repository)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("secrets", &self.secrets.len())
            .field("workspace", &self.workspace)
            .field("runner", &self.runner)
            .finish_non_exhaustive()
    }
}

/// What the workspace holds before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspace {
    /// The tree: local runs. A job that reads it without a checkout step is told that a server gives it nothing.
    Tree,
    /// Nothing, as on a server.
    Empty,
}

/// Who runs the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerFacts {
    /// `RUNNER_NAME`.
    pub name: String,
    /// Version of this program.
    pub version: String,
}

/// What the job's VM is made with.
#[derive(Clone, Copy, Debug)]
pub struct Machinery<'a> {
    /// Makes the VM.
    pub engine: &'a Engine,
    /// What boots in it.
    pub image: &'a JobImage,
    /// How large it is.
    pub size: Size,
    /// Parts of the jail that this host cannot give, for the log.
    pub missing: &'a [String],
    /// What it may reach.
    pub network: &'a Policy,
    /// What it may use of that.
    pub limits: NetLimits,
}

impl Machinery<'_> {
    /// What is leased for a job of theirs, whichever it is: for [`Engine::keep_ready`].
    #[must_use]
    pub fn any_job(&self) -> LeaseSpec {
        crate::run::lease_spec(self, "/workspace")
    }
}

/// What boots in a job's VM.
#[derive(Clone, Debug)]
pub struct JobImage {
    /// Its name and version, for the log: `standard (sha256:0123abcd, built 2026-11-20)`.
    pub description: String,
    /// `ImageOS`: `debian13`.
    pub os: String,
    /// Linux kernel.
    pub kernel: PathBuf,
    /// Initramfs with the agent.
    pub initramfs: PathBuf,
    /// What the guest has as `/`.
    pub root: Root,
}

/// How large a job's VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory.
    pub memory: Mebibytes,
    /// Logical size of its scratch disk in bytes.
    pub scratch_bytes: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// As its `JobEnd` says it.
    pub result: Outcome,
    /// Its outputs; none of them holds a secret.
    pub outputs: BTreeMap<String, String>,
    /// Why it is cancelled, where it is.
    pub stopped: Option<Stopped>,
    /// `GITHUB_STEP_SUMMARY` of each step that wrote one, masked, at most 1 MiB each.
    pub summaries: BTreeMap<usize, String>,
}

/// Why a job was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody wanted it.
    Cancelled(Reason),
    /// Its time was over. That of a step is the step's failure.
    TimedOut,
}
