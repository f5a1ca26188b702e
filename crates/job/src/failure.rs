//! A step that failed, shown to the caller while its VM is as the step left it.
//!
//! Purpose: somebody can look around in it before the steps that follow change it or the VM is gone.
//! Owner: the caller, until it drops the [`FailedStep`]; the job waits for that and then goes on as it would
//! have, with the time that it waited not counted as its own.
//!
//! Invariant: nothing that comes of it is an output of the job, or an input of its later steps, but for what
//! is changed in the VM itself.

use sandbox::{ExecRequest, OutputMode, Sandbox, Stdin};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use workflow::Shell;

use crate::{
    Cancel,
    environ::{StepPart, Vars},
    files::{File, StepFiles},
    guest::{Guest, USER},
    steps::Steps,
};

/// Where a caller is told of failed steps.
pub type Failures = mpsc::Sender<FailedStep>;

/// A step that failed. Its job stands still until this is dropped.
#[derive(Debug)]
pub struct FailedStep {
    /// The job's name, masked.
    pub job: String,
    /// The step's name, masked.
    pub step: String,
    /// Its VM.
    pub sandbox: Sandbox,
    /// Interactive shells as the step's user, in its working directory and with its environment; the first
    /// whose program is there is the one to take. What they read and write is the caller's to set. Their
    /// environments hold secrets as they are.
    pub shells: Vec<ExecRequest>,
    /// Whether the job is to end meanwhile. A graceful request does not end the wait: that is up to the
    /// caller.
    pub cancel: Cancel,
    resume: oneshot::Sender<()>,
}

impl FailedStep {
    /// Waits until the job does not wait any more: it had to end. Cancel-safe.
    pub async fn abandoned(&mut self) {
        self.resume.closed().await;
    }
}

/// What a step's command was started with, as far as it came.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) shell: Option<Shell>,
    pub(crate) env: Option<Vec<(String, String)>>,
    /// Set once it could be entered.
    pub(crate) cwd: Option<String>,
}

impl Steps<'_> {
    /// Shows a step that failed, unless the job is to end.
    pub(crate) async fn show(
        &mut self,
        guest: &Guest,
        step: String,
        own: &Vars,
        files: &StepFiles,
        place: Place,
    ) {
        let Some(failures) = &self.context.failures else { return };
        let env = place.env.unwrap_or_else(|| self.environment(guest, own, files));
        let cwd = place.cwd.unwrap_or_else(|| guest.workspace().to_owned());
        let shells = shells(place.shell)
            .iter()
            .map(|argv| ExecRequest {
                argv: argv.iter().map(|&word| word.to_owned()).collect(),
                env: env.clone(),
                cwd: cwd.clone(),
                user: USER,
                stdin: Stdin::Null,
                output: OutputMode::Merged,
                timeout: None,
            })
            .collect();
        let (resume, resumed) = oneshot::channel();
        let failed = FailedStep {
            job: self.log.job().to_owned(),
            step,
            sandbox: guest.sandbox.clone(),
            shells,
            cancel: self.cancel.clone(),
            resume,
        };
        let begun = Instant::now();
        if failures.send(failed).await.is_ok() {
            // An error is its drop, which is what is waited for.
            let _ = resumed.await;
        }
        self.deadline += begun.elapsed();
    }

    /// All variables of a step's command.
    pub(crate) fn environment(&self, guest: &Guest, own: &Vars, files: &StepFiles) -> Vec<(String, String)> {
        let file = |file: File| guest.seen(&files.file(file));
        self.scope.environ.of_step(&StepPart { github: &self.scope.github(), own, file: &file })
    }
}

/// Command lines of shells for a person, the step's own first where it is one. They read no settings of the
/// image, which the step's did not read either.
fn shells(of_step: Option<Shell>) -> &'static [&'static [&'static str]] {
    const BASH: &[&str] = &["bash", "--noprofile", "--norc", "-i"];
    const SH: &[&str] = &["sh", "-i"];
    match of_step {
        Some(Shell::Sh) => &[SH],
        Some(_) | None => &[BASH, SH],
    }
}
