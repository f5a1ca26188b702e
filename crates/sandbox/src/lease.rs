//! The lease of a VM: whoever holds it decides how long the VM lives.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result, Sandbox};

/// The lease of a VM. [`Lease::destroy`] is its normal end. Dropping it has the same effect, but the caller
/// does not learn when: the engine's close waits for it.
#[derive(Debug)]
pub struct Lease {
    sandbox: Sandbox,
    /// Tells the owner task to end; cancelled by our drop too.
    destroy: CancellationToken,
    ended: Option<oneshot::Receiver<Result<()>>>,
}

impl Lease {
    pub(crate) fn new(
        sandbox: Sandbox,
        destroy: CancellationToken,
        ended: oneshot::Receiver<Result<()>>,
    ) -> Self {
        Self { sandbox, destroy, ended: Some(ended) }
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
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.destroy.cancel();
    }
}
