//! `--shell-on-failure`: a terminal in the VM of a step that failed.
//!
//! ```text
//!  job ── FailedStep ──▶ waits for its turn ──▶ output held, shell on the terminal ──▶ the job goes on
//!                          └── the job or the run is to end: no shell ◀──────┘
//! ```
//! Owner: the task of each job serves its own failed steps, after it has passed on all that the job said.
//! Invariants: one shell at a time, and while it is open nothing else is written to the terminal; other jobs run
//! on until their output finds no more room. A job of whose matrix another failed keeps a shell that is open,
//! and gets none later.

use std::{sync::Arc, time::Duration};

use job::{Cancel, FailedStep};
use sandbox::{Error as SandboxError, ExecRequest, FailureKind, Sandbox};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::warn;
use crate::{
    signals::Wish,
    sink::{Look, Out, Say},
    terminal::{Left, Terminal, TerminalError},
};

/// What a prompt says where the step has none of its own: both shells replace the variable.
const PROMPT: &str = "$PWD # ";

/// How long a job may not know what its shell knew.
const TOLD: Duration = Duration::from_secs(1);

/// The one terminal, and who may have it.
#[derive(Clone)]
pub(super) struct Shells {
    turn: Arc<Semaphore>,
    wish: watch::Receiver<Wish>,
}

impl Shells {
    pub(super) fn new(wish: watch::Receiver<Wish>) -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), wish }
    }

    /// Waits until no shell has the terminal.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // an error is a closed one, which this never is
        self.turn.acquire().await.ok()
    }

    /// Opens a shell in the VM of a failed step, and returns when it is left. The job's output so far has to
    /// be in `out`.
    pub(super) async fn open(&self, mut step: FailedStep, out: &Out, look: Look) {
        let (sandbox, shells) = (step.sandbox.clone(), std::mem::take(&mut step.shells));
        let name = format!("step `{}` of job `{}`", step.step, step.job);
        let cancel = step.cancel.clone();
        let held = async {
            let turn = self.turn().await;
            let text =
                format!("{name} failed: this is a shell in its VM; `exit` leaves it, and the job goes on");
            out.send(Say::Notice(text)).await;
            Some((turn, out.hold().await?))
        };
        let held = tokio::select! {
            biased;
            () = self.ended() => None,
            _ = cancel.any() => None,
            held = held => held,
        };
        let Some((turn, held)) = held else { return told(&cancel).await };
        let left = tokio::select! {
            left = self.on_terminal(&sandbox, shells) => left,
            // its VM is being destroyed
            () = step.abandoned() => Ok(Left::Stopped),
        };
        drop(held);
        match left {
            Ok(Left::Exited(_)) => out.send(Say::Notice(format!("{name}: the job goes on"))).await,
            Ok(Left::Stopped) => {
                drop(turn);
                told(&cancel).await;
            }
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                warn(look, &format!("{name}: no shell, or no longer: {error}{why}"));
            }
        }
    }

    /// The first of these shells whose program is there.
    async fn on_terminal(&self, sandbox: &Sandbox, shells: Vec<ExecRequest>) -> Result<Left, TerminalError> {
        let terminal = Terminal::open()?;
        let mut missing = None;
        for mut shell in shells {
            if !shell.env.iter().any(|(name, _)| name == "PS1") {
                shell.env.push(("PS1".to_owned(), PROMPT.to_owned()));
            }
            match terminal.run(sandbox, shell, self.ended()).await {
                Err(TerminalError::Sandbox(error)) if is_missing(&error) => missing = Some(error),
                other => return other,
            }
        }
        Err(missing.unwrap_or(SandboxError::Lost).into())
    }

    /// Returns when the user wants the end.
    async fn ended(&self) {
        super::runner::ended(&mut self.wish.clone()).await;
    }
}

/// Waits until the job is told to end, as it will be where a shell was: before that it must not go on.
async fn told(cancel: &Cancel) {
    // unless it was the terminal alone that went
    let _ = tokio::time::timeout(TOLD, cancel.any()).await;
}

fn is_missing(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Guest { kind: FailureKind::NotFound, .. })
}
