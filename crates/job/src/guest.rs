//! The job's VM as its steps use it: paths, small commands, errors told apart.
//!
//! Purpose: the difference between the path of a request and the path that a command sees (the agent may be
//! hosted below a directory), and between what fails a step and what fails the job.
//! Owner: the job's task; cheap to clone.

use std::io::Cursor;

use sandbox::{Account, Error as SandboxError, ExecRequest, FailureKind, OutputMode, Sandbox, Stdin};

use crate::{Error, Repository, TreeError};

/// Where the runner's own files lie in the guest.
pub(crate) const OWN_DIR: &str = "/tmp/_ampoule";

/// Who runs the steps and owns what is delivered: root, as in the containers that Forgejo's jobs expect.
pub(crate) const USER: Account = Account::ROOT;

/// Why a step went wrong.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The step fails, with this text in its log (masked by who shows it).
    Step(String),
    /// The job cannot go on.
    Job(Error),
}

impl Fault {
    pub(crate) fn step(text: impl Into<String>) -> Self {
        Self::Step(text.into())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Job(error)
    }
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::NotThere(text) => Self::Step(text),
            TreeError::Read(_) => Self::Job(Error::Tree(error)),
        }
    }
}

impl From<SandboxError> for Fault {
    /// What the guest could not do fails the step: the step's own doing, most of the time. A copy that
    /// failed on our side is the tree's.
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Guest { kind: FailureKind::Invalid | FailureKind::State, .. } => {
                Self::Job(Error::Vm(error))
            }
            SandboxError::Guest { message, .. } => Self::Step(message),
            SandboxError::Request(_) | SandboxError::TooMuchOutput { .. } => Self::Step(error.to_string()),
            SandboxError::CopySource(source) => Self::Job(Error::Tree(TreeError::Read(Box::new(source)))),
            other => Self::Job(Error::Vm(other)),
        }
    }
}

/// The job's VM.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) sandbox: Sandbox,
    /// As requests name it.
    workspace: String,
}

impl Guest {
    pub(crate) fn new(sandbox: Sandbox, repository: &Repository) -> Self {
        Self { sandbox, workspace: workspace(repository) }
    }

    /// The workspace as requests name it.
    pub(crate) fn workspace(&self) -> &str {
        &self.workspace
    }

    /// A path of a request as commands see it.
    pub(crate) fn seen(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.info().root_prefix)
    }

    /// A path that a workflow wrote, relative to the workspace, as requests name it.
    pub(crate) fn path(&self, written: &str) -> String {
        if !written.starts_with('/') {
            return match written {
                "" | "." => self.workspace.clone(),
                relative => format!("{}/{relative}", self.workspace),
            };
        }
        match written.strip_prefix(&self.sandbox.info().root_prefix) {
            Some(path) if path.starts_with('/') => path.to_owned(),
            _ => written.to_owned(),
        }
    }

    /// Unpacks an archive that was made here.
    pub(crate) async fn deliver(&self, dir: &str, archive: Vec<u8>) -> Result<(), SandboxError> {
        self.sandbox.copy_in(dir, USER, Cursor::new(archive)).await.map(drop)
    }

    /// Runs a small command of ours in the workspace and gives what it wrote, at most `limit` bytes.
    pub(crate) async fn ask(&self, argv: &[&str], stdin: Vec<u8>, limit: usize) -> Result<Vec<u8>, Fault> {
        let request = ExecRequest {
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec![
                ("PATH".to_owned(), crate::environ::PATH.to_owned()),
                ("LC_ALL".to_owned(), "C".to_owned()),
            ],
            cwd: self.workspace.clone(),
            user: USER,
            stdin: if stdin.is_empty() { Stdin::Null } else { Stdin::Bytes(stdin) },
            output: OutputMode::Separate,
            timeout: None,
        };
        let answer = self.sandbox.exec(request).await?.collect(limit).await?;
        if answer.exited.success() {
            return Ok(answer.stdout);
        }
        let said = String::from_utf8_lossy(&answer.stderr);
        Err(Fault::step(format!("`{}` failed: {}", argv[0], said.trim_end())))
    }
}

/// Where a repository's workspace lies, as requests name it.
pub(crate) fn workspace(repository: &Repository) -> String {
    format!("/workspace/{repository}")
}
