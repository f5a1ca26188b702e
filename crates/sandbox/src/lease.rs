//! The lease of a VM: whoever holds it decides how long the VM lives.

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, Result, Sandbox, holding, local::Inner, remote::Leave};

/// The lease of a VM. [`Lease::destroy`] is its normal end, [`Lease::leave`] that of one which the VM outlives.
/// Dropping it has the effect of the first, but the caller does not learn when: the engine's close waits for it.
pub struct Lease {
    keeper: Keeper,
    sandbox: Sandbox,
    /// Tells the owner task to end; cancelled by our drop too.
    destroy: CancellationToken,
    /// None: it is not ours any more.
    ended: Option<oneshot::Receiver<Result<()>>>,
}

/// The engine that has the VM.
pub(crate) enum Keeper {
    /// It is in this process.
    Here(Arc<Inner>),
    /// It is in another one.
    There(Leave),
}

/// A VM on its way to its lease.
pub(crate) struct Coming {
    /// Told by its task when it is ready.
    pub(crate) ready: oneshot::Receiver<Result<Sandbox>>,
    /// Told when nothing of it is left.
    pub(crate) ended: oneshot::Receiver<Result<()>>,
    /// Ends it; dropped, too.
    pub(crate) destroy: DropGuard,
}

impl Coming {
    /// Waits until it is ready. Where `cancel` fires first, it returns when nothing of it is left.
    pub(crate) async fn leased(self, keeper: Keeper, cancel: &CancellationToken) -> Result<Lease> {
        let Self { mut ready, ended, destroy } = self;
        let first = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            ready = &mut ready => Some(ready),
        };
        match first {
            Some(ready) => {
                let sandbox = ready.unwrap_or(Err(Error::Lost))?;
                Ok(Lease::new(keeper, sandbox, destroy.disarm(), ended))
            }
            None => {
                drop(destroy);
                // it may also have become ready in this moment
                if let Ok(Ok(_)) = ready.await {
                    let _ = ended.await;
                }
                Err(Error::Cancelled)
            }
        }
    }
}

impl Lease {
    pub(crate) fn new(
        keeper: Keeper,
        sandbox: Sandbox,
        destroy: CancellationToken,
        ended: oneshot::Receiver<Result<()>>,
    ) -> Self {
        Self { keeper, sandbox, destroy, ended: Some(ended) }
    }

    /// A handle of the VM.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        self.sandbox.clone()
    }

    /// Ends the VM at once, whatever is under way in it, and removes everything that it had on this host.
    /// Returns when nothing is left. Fine when it is gone already.
    ///
    /// # Errors
    /// What could not be removed; its slot stays in the journal for the next sweep.
    pub async fn destroy(mut self) -> Result<()> {
        self.destroy.cancel();
        match self.ended.take() {
            Some(ended) => ended.await.unwrap_or(Err(Error::Lost)),
            None => Ok(()),
        }
    }

    /// Gives a VM up that is kept ([`vm::OwnerLoss::Keep`]) without ending it. The engine holds it until its time is
    /// up and then destroys it; when the engine closes before that, it is left running for the next one. What is
    /// under way in it goes on.
    ///
    /// # Errors
    /// [`Error::NotToKeep`] for a VM that goes with its owner, which is destroyed now; [`Error::Gone`] where it is
    /// gone.
    pub async fn leave(mut self) -> Result<()> {
        let Some(ended) = self.ended.take() else { return Err(Error::Lost) };
        match &self.keeper {
            Keeper::Here(engine) => engine.holding.leave(self.sandbox.id(), ended)?,
            Keeper::There(leave) => {
                let (answer, answered) = oneshot::channel();
                if leave.send(answer).await.is_err() {
                    return Err(self.sandbox.why());
                }
                answered.await.unwrap_or_else(|_| Err(self.sandbox.why()))?;
            }
        }
        // our drop is none of its business any more
        self.destroy = CancellationToken::new();
        Ok(())
    }

    /// Keeps a VM that is kept ([`vm::OwnerLoss::Keep`]) until another time: for its shim, for the next owner, and for
    /// the engine after [`Lease::leave`].
    ///
    /// # Errors
    /// [`Error::NotToKeep`] for a VM that goes with its owner; [`Error::Gone`]; the time cannot be written down.
    pub async fn keep_until(&self, until: SystemTime) -> Result<()> {
        holding::keep_until(&self.sandbox, until).await
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.sandbox.id())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.destroy.cancel();
    }
}
