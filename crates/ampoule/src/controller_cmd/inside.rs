//! A controller inside of another command, for the VMs of that command.
//!
//! ```text
//!  a job ─▶ controller.ampoule.internal ─▶ its VM's link ─▶ the engine ─▶ service ─▶ here ─▶ forks of the same engine
//! ```
//! Owner: `daemon` and `one-job`, which have the engine. Invariants: it listens at no address; its sandboxes end with it,
//! whose jobs they are for.

use std::{path::Path, sync::Arc};

use controller::{Access, Door, Token, Visitors};
use sandbox::{Engine, Service};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{config, images};
use crate::{exec::machine::MachineError, registry::Needs};

/// A controller that runs.
pub(crate) struct Inside {
    visitors: Visitors,
    shutdown: CancellationToken,
    served: JoinHandle<controller::Result<()>>,
}

impl Inside {
    /// Starts one on an engine that others use too.
    pub(crate) fn start(
        token: Token,
        engine: Arc<Engine>,
        needs: Needs,
        state_dir: &Path,
    ) -> Result<Self, MachineError> {
        let images = images::of(needs, state_dir)?;
        let (visitors, door) = Door::inside();
        let shutdown = CancellationToken::new();
        let served =
            controller::serve(config(Access::Token(token), None), engine, images, door, shutdown.clone());
        Ok(Self { visitors, shutdown, served: tokio::spawn(served) })
    }

    /// What VMs reach it by.
    pub(crate) fn service(&self) -> Arc<dyn Service> {
        Arc::new(self.visitors.clone())
    }

    /// Ends it: no sandbox of it is left, and the engine is closed.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        match self.served.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the jobs' controller failed");
            }
            Err(error) => tracing::error!(%error, "the jobs' controller crashed"),
        }
    }
}
