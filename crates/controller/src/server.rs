//! The service: from a door to its end.
//!
//! ```text
//!  the last one's sandboxes adopted ──▶ serving
//!     ├──shutdown──▶ no new connections, every sandbox destroyed ──answers, at most 5 s──▶ engine closed
//!     └──leave─────▶ no new connections ──answers, at most 5 s──▶ sandboxes left ────────▶ engine closed
//! ```
//! Invariants: there are at most as many connections as the configuration says, and one that sends no request is
//! cut off, so that those who have no token cannot keep out those who have.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sandbox::Engine;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vm::Link;

use crate::{Access, Config, Door, Error, Images, Result, door::Kind, routes, sandboxes::Sandboxes};

/// How long answers that are under way may take at the end: what they wait for is gone by then.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long nothing is accepted after the host could not give a connection.
const BREATHER: Duration = Duration::from_secs(1);

/// What every route has.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) images: Images,
    pub(crate) sandboxes: Sandboxes,
}

/// Takes over what the last controller left, where sandboxes outlive one ([`Config::keeping`]), and serves until
/// `shutdown`; then no sandbox is left when it returns. Or until [`crate::Keeping::leave`]: then they are left to the
/// next controller. The engine is closed in either case: whoever shares it ends first, or with it.
///
/// # Errors
/// [`Error::Open`] and [`Error::Inside`] before anything is served, where there is no token and who comes in is not of
/// this host; [`Error::Listen`]; [`Error::Ledger`] and [`Error::Kept`] where it cannot be found out what was left, which then
/// stays.
pub async fn serve(
    config: Config,
    engine: impl Into<Arc<Engine>>,
    images: Images,
    door: impl Into<Door>,
    shutdown: CancellationToken,
) -> Result<()> {
    let sandboxes = Sandboxes::new(engine.into(), config.boots, config.max_sandboxes, config.keeping.clone());
    let served = run(config, images, &sandboxes, door.into(), shutdown).await;
    // after an error: what is there stays
    sandboxes.leave().await;
    served
}

async fn run(
    config: Config,
    images: Images,
    sandboxes: &Sandboxes,
    mut door: Door,
    shutdown: CancellationToken,
) -> Result<()> {
    match (&door.kind, &config.access) {
        (Kind::Address(listener), access) => access.check(listener.local_addr().map_err(Error::Listen)?)?,
        (Kind::Inside(_), Access::Token(_)) => {}
        (Kind::Inside(_), Access::Loopback) => return Err(Error::Inside),
    }
    sandboxes.resume().await?;
    let leave = config.keeping.as_ref().map(|keeping| keeping.leave.clone()).unwrap_or_default();
    let config = Arc::new(config);
    let shared = Shared { config: Arc::clone(&config), images, sandboxes: sandboxes.clone() };
    let connections = Connections {
        router: routes::router(shared),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        cut: CancellationToken::new(),
        head_timeout: config.head_timeout,
    };
    let leaves = tokio::select! {
        () = connections.accept(&mut door, config.max_connections) => Leaves::No,
        () = shutdown.cancelled() => Leaves::No,
        () = leave.cancelled() => Leaves::Yes,
    };
    connections.shutdown.cancel();
    // whoever comes now is refused
    drop(door);
    match leaves {
        Leaves::No => {
            sandboxes.close().await;
            connections.finish().await;
        }
        Leaves::Yes => {
            connections.finish().await;
            sandboxes.leave().await;
        }
    }
    Ok(())
}

/// What becomes of the sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// They end.
    No,
    /// They stay.
    Yes,
}

/// The connections that there are, each a task.
struct Connections {
    router: Router,
    tasks: TaskTracker,
    /// Each ends after the answer that is under way.
    shutdown: CancellationToken,
    /// Each ends now.
    cut: CancellationToken,
    head_timeout: Duration,
}

impl Connections {
    /// Accepts for ever.
    async fn accept(&self, door: &mut Door, most: usize) {
        let places = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        loop {
            // it is never closed
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match door.next().await {
                Ok(link) => {
                    let connection = self.connection(link);
                    self.tasks.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) if of_one(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(BREATHER).await;
                }
            }
        }
    }

    fn connection(&self, link: Link) -> impl Future<Output = ()> + Send + 'static {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(link), TowerToHyperService::new(self.router.clone()));
        let (shutdown, cut) = (self.shutdown.clone(), self.cut.clone());
        async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => ended,
                        () = cut.cancelled() => return,
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        }
    }

    /// Lets answers go that are under way, and ends what is left then.
    async fn finish(&self) {
        self.tasks.close();
        if timeout(FAREWELL, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Whether an error is about one connection that was gone before it was accepted.
fn of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
