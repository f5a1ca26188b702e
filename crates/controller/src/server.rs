//! The service: from a listener to its end.
//!
//! ```text
//!  serving ──shutdown──▶ no new connections, every sandbox destroyed ──answers, at most 5 s──▶ engine closed
//! ```

use std::{sync::Arc, time::Duration};

use sandbox::Engine;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, Images, Result, routes, sandboxes::Sandboxes};

/// How long answers that are under way may take at the end: what they wait for is gone by then.
const FAREWELL: Duration = Duration::from_secs(5);

/// What every route has.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) images: Images,
    pub(crate) sandboxes: Sandboxes,
}

/// Serves until `shutdown`. When it returns, no sandbox is left and the engine is closed.
///
/// # Errors
/// [`Error::Open`] before anything is served, where there is no token and the address is not loopback;
/// [`Error::Listen`].
pub async fn serve(
    config: Config,
    engine: Engine,
    images: Images,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let sandboxes = Sandboxes::new(engine, config.boots, config.max_sandboxes);
    let served = run(config, images, &sandboxes, listener, shutdown).await;
    sandboxes.close().await;
    served
}

async fn run(
    config: Config,
    images: Images,
    sandboxes: &Sandboxes,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().map_err(Error::Listen)?;
    config.access.check(address)?;
    let shared = Shared { config: Arc::new(config), images, sandboxes: sandboxes.clone() };
    let server = axum::serve(listener, routes::router(shared))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let farewell = async {
        shutdown.cancelled().await;
        sandboxes.close().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(Error::Listen),
        () = farewell => Ok(()),
    }
}
