//! A sandbox whose engine process is gone, and that is kept: its VM runs on without an owner until the next engine.
//!
//! ```text
//!   engine lost, or left it ──▶ adrift ──an engine is there, and has it or adopts it──▶ live again
//!                                 ├── deleted in that moment, the controller closes: an engine is asked once to end it
//!                                 ├── its time is over: its own shim ends it
//!                                 └── an engine is there and has no such VM: it ended
//! ```
//! Owner: the sandbox's keeper. Invariants: it stays in the table and in the ledger, so that clients see it, and the
//! next controller has it; nobody but an engine that says that there is no such VM makes it one that is gone.

use std::time::Duration;

use sandbox::Lease;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    resume::left_of,
    sandboxes::{Inner, SandboxInfo},
};

/// Between two tries to have it again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What became of one that was adrift.
pub(crate) enum Landed {
    /// An engine has it.
    Again(Lease),
    /// It is gone: why, and what could not be removed.
    Over(String, Result<(), String>),
    /// It is the next controller's.
    Stays,
}

impl Inner {
    /// Waits for an engine that has the sandbox, or for its end.
    pub(crate) async fn adrift(&self, delete: &CancellationToken, info: &SandboxInfo) -> Landed {
        let id = info.id;
        self.reach(id, None);
        tracing::warn!(%id, "the engine process that had a sandbox is gone; it waits for the next one");
        let landed = tokio::select! {
            biased;
            () = delete.cancelled() => self.over(info, "it was deleted").await,
            () = self.ends_for_good() => self.over(info, "the controller is shutting down").await,
            () = sleep(left_of(info)) => Landed::Over(info.was_too_old(), Ok(())),
            landed = self.again(info) => landed,
        };
        if let Landed::Again(lease) = &landed {
            self.reach(id, Some(lease.sandbox()));
            tracing::info!(%id, "a sandbox has an engine again");
        }
        landed
    }

    /// What is there is not left to the next controller.
    async fn ends_for_good(&self) {
        self.closing.cancelled().await;
        if self.leaving.is_cancelled() {
            std::future::pending().await
        }
    }

    /// A try that is given up ends the VM, so that one under way goes to its end where the sandbox is to stay.
    async fn again(&self, info: &SandboxInfo) -> Landed {
        let (mut wait, most) = AGAIN;
        let mut told = String::new();
        loop {
            // never closed
            let permit = self.boots.acquire().await;
            let error = match self.engine.adopt(info.id.slot()).await {
                Ok(lease) => return Landed::Again(lease),
                Err(sandbox::Error::NotKept { .. }) => {
                    return Landed::Over("it ended while no engine was there".to_owned(), Ok(()));
                }
                Err(error) => error.to_string(),
            };
            drop(permit);
            if error != told {
                tracing::info!(id = %info.id, error, "a sandbox has no engine yet");
                told = error;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.leaving.cancelled() => return Landed::Stays,
            }
            wait = (2 * wait).min(most);
        }
    }

    async fn over(&self, info: &SandboxInfo, why: &str) -> Landed {
        let end = self.engine.end(info.id.slot()).await;
        Landed::Over(
            why.to_owned(),
            end.map_err(|error| format!("{error}; its VM ends when its time is over")),
        )
    }
}
