//! The engine process's side: it accepts, and each connection is one task.
//!
//! ```text
//!   listening ── accepted ──▶ greeted ──▶ asked ──▶ (lease, command, copy, …) ──▶ closed
//!       │ idle for long, told to stop
//!       ▼
//!   ending: what is asked is refused, what is kept is left to the next, every other lease ends ──▶ over
//! ```
//! Invariant: only the engine's own user, and root, are served; what is not the protocol ends its connection and
//! nothing else.

mod lease;
mod operation;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vm::SlotId;

use self::{lease::Leasing, operation::Serve};
use super::{
    error::EngineError,
    fault::Fault,
    forward::{self, Asked},
    link::{self, Reader, Writer, nonsense},
    message::{Ask, Hello, PROTOCOL, Say, build},
    sighting::EngineStatus,
    socket::{Listening, is_trusted},
};
use crate::{Branch, Engine, Error, ForkSpec, Result, Sandbox, Services, SnapshotGc};

/// Connections at a time: a lease of some hundred VMs, each with a dozen operations.
const MOST: usize = 16 << 10;
/// How long a client may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);
/// Between two looks whether anybody needs the engine, and how many VMs stand by.
const LOOK: Duration = Duration::from_millis(500);
/// Connections of a guest that wait to be said to its client.
const OFFERS: usize = 64;
/// How long clients are given to hear of the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why an engine ended that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Nobody needed it.
    Idle,
    /// It was told to stop.
    Stopped,
}

/// What all connections share.
struct Service {
    engine: Engine,
    branches: Mutex<HashMap<u64, Branch>>,
    /// Connections that clients are to make.
    asked: Asked,
    next: AtomicU64,
    ending: CancellationToken,
    /// Leases that are served, and not given up yet.
    leases: TaskTracker,
    since: SystemTime,
    idle: Option<Duration>,
    need: Mutex<Need>,
}

/// Who needs the engine. Whoever only looks at it does not.
struct Need {
    askers: usize,
    /// When the last one went.
    last: Instant,
}

/// One who needs it, for as long as this is there.
struct Asker<'a>(&'a Service);

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        let mut need = self.0.need();
        need.askers -= 1;
        need.last = Instant::now();
    }
}

/// Serves `engine` until `stop`, or until nobody needed it for `idle`: no connection, and no VM that is kept. Then it is
/// closed: every VM that goes with its owner ends, and those that are kept run on for the next engine.
///
/// # Errors
/// The socket cannot be used any more.
pub async fn serve(
    engine: Engine,
    listening: &Listening,
    idle: Option<Duration>,
    stop: CancellationToken,
) -> Result<Served> {
    let failed =
        |source| EngineError::Socket { what: "accept at", path: listening.path().to_owned(), source };
    let listener = listening.listener().map_err(failed)?;
    let shared = Service {
        engine,
        branches: Mutex::default(),
        asked: Asked::default(),
        next: AtomicU64::new(1),
        ending: CancellationToken::new(),
        leases: TaskTracker::new(),
        since: SystemTime::now(),
        idle,
        need: Mutex::new(Need { askers: 0, last: Instant::now() }),
    };
    let shared = Arc::new(shared);
    let mut connections = JoinSet::new();
    let end = loop {
        let look = sleep(LOOK);
        // nobody is left without an answer either, who may not have asked yet
        let unneeded = shared.unneeded().filter(|_| connections.is_empty());
        let late = idle.and_then(|idle| Some(unneeded? + idle));
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(Served::Stopped),
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection panicked");
                }
            }
            accepted = listener.accept(), if connections.len() < MOST => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&shared), stream));
                }
                Err(error) if is_passing(&error) => sleep(LOOK).await,
                Err(error) => break Err(failed(error)),
            },
            () = look => {}
            () = until(late) => break Ok(Served::Idle),
        }
    };
    shared.ending.cancel();
    shared.leases.close();
    // those that are to be kept are left to the next engine before this one ends all that is leased
    let _ = timeout(FAREWELL, shared.leases.wait()).await;
    shared.branches.lock().unwrap_or_else(PoisonError::into_inner).clear();
    shared.engine.close().await;
    let farewell = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL, farewell).await;
    connections.shutdown().await;
    Ok(end?)
}

async fn until(late: Option<Instant>) {
    match late {
        Some(late) => sleep_until(late).await,
        None => std::future::pending().await,
    }
}

/// Whether a listener is none the worse for an error.
fn is_passing(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(
        code,
        Some(
            rustix::io::Errno::CONNABORTED
                | rustix::io::Errno::MFILE
                | rustix::io::Errno::NFILE
                | rustix::io::Errno::NOBUFS
                | rustix::io::Errno::NOMEM
                | rustix::io::Errno::INTR
        )
    )
}

async fn connection(shared: Arc<Service>, stream: UnixStream) {
    match is_trusted(&stream) {
        Ok(true) => {}
        Ok(false) => return tracing::warn!("a user who may not use this engine was turned away"),
        Err(error) => return tracing::warn!(%error, "it cannot be told who connected"),
    }
    let (mut reader, mut writer) = link::split(stream);
    let ours = Hello { protocol: PROTOCOL, build: build() };
    let greeted = async {
        writer.message(&ours).await?;
        let theirs: Option<Hello> = reader.message().await?;
        if theirs.is_none_or(|theirs| theirs != ours) {
            // it hears of it by our own word, and knows more of what to do
            return Ok(None);
        }
        reader.message::<Ask>().await
    };
    let asked = match timeout(GREETING, greeted).await {
        Ok(Ok(Some(ask))) => Ok(ask),
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => Err(error),
    };
    let served = match asked {
        Ok(_) if shared.ending.is_cancelled() => Err(EngineError::Ending.into()),
        Ok(ask) => answer(&shared, ask, &mut reader, &mut writer).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        if let Error::Engine(EngineError::Protocol(text)) = &error {
            tracing::warn!(text, "a client said what is not the protocol");
        }
        let error = match error {
            // not by its own wish
            Error::Cancelled if shared.ending.is_cancelled() => Fault::Ending,
            Error::Engine(EngineError::Ending) => Fault::Ending,
            error => error.into(),
        };
        let _ = writer.message(&Say::Failed(error)).await;
    }
}

impl Service {
    fn need(&self) -> MutexGuard<'_, Need> {
        self.need.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self) -> Asker<'_> {
        self.need().askers += 1;
        Asker(self)
    }

    /// Since when nobody needs the engine; `None` while somebody does.
    fn unneeded(&self) -> Option<Instant> {
        let mut need = self.need();
        if self.engine.holds_kept() {
            need.last = Instant::now();
            return None;
        }
        (need.askers == 0).then_some(need.last)
    }

    fn status(&self) -> EngineStatus {
        let (leased, kept) = self.engine.counts();
        EngineStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: self.engine.backend_name().to_owned(),
            accelerator: self.engine.capabilities().accelerator.clone(),
            since: self.since,
            leased,
            kept,
            ready: self.engine.ready(),
            idle: self.idle,
            unneeded: self.unneeded().map(|since| since.elapsed()),
        }
    }

    fn sandbox(&self, id: SlotId) -> Result<Sandbox> {
        self.engine.handle(id)
    }

    fn branch(&self, branch: u64) -> Result<Branch> {
        let branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        branches.get(&branch).cloned().ok_or_else(|| nonsense("there is no such branch"))
    }
}

/// Does what is asked, to its end.
async fn answer(shared: &Arc<Service>, ask: Ask, reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    let engine = &shared.engine;
    let _asker = (!matches!(ask, Ask::Status)).then(|| shared.asker());
    let leasing = Leasing { shared };
    let mut serve = Serve { reader, writer };
    let said = match ask {
        Ask::Session => return session(engine, serve).await,
        Ask::Status => Say::Status(shared.status()),
        Ask::Lease(mut spec) => {
            let cancel = CancellationToken::new();
            let (offers, offered) = mpsc::channel(OFFERS);
            spec.bind.services = Services::of(offers);
            return leasing.lease(engine.lease(*spec, &cancel), &cancel, offered, serve).await;
        }
        Ask::LeaseBranch { branch, mut bind, on_owner_loss, inherited } => {
            let (offers, offered) = mpsc::channel(OFFERS);
            bind.services = Services::of(offers);
            let cancel = CancellationToken::new();
            let branch = shared.branch(branch)?;
            let fork = ForkSpec { bind, on_owner_loss, inherited };
            // the lease does not keep what it is a fork of
            let lease = {
                let cancel = cancel.clone();
                async move { engine.lease_branch(&branch, fork, &cancel).await }
            };
            return leasing.lease(lease, &cancel, offered, serve).await;
        }
        Ask::Connected { number, connected } => {
            let opening = shared.asked.take(number).ok_or(Error::Request("nobody waits for it"))?;
            if connected {
                return forward::carry(opening, serve.reader, serve.writer).await;
            }
            // what is dropped is refused
            drop(opening);
            Say::Done
        }
        Ask::Adopt { id } => return leasing.adopt(id, serve).await,
        Ask::Attach { id } => return leasing.attach(id, serve).await,
        Ask::Exec { id, exec } => return operation::exec(shared.sandbox(id)?, *exec, serve).await,
        Ask::CopyIn { id, dest, owner } => {
            return operation::copy_in(shared.sandbox(id)?, dest, owner, serve).await;
        }
        Ask::CopyOut { id, path } => return operation::copy_out(shared.sandbox(id)?, path, serve).await,
        Ask::Branch { id } => return branch(shared, id, serve).await,
        Ask::Signal { id, exec, signal } => {
            serve.done(shared.sandbox(id)?.control(exec).signal(signal)).await?
        }
        Ask::Kill { id, exec } => serve.done(shared.sandbox(id)?.control(exec).kill()).await?,
        Ask::Resize { id, exec, size } => {
            let size = crate::TerminalSize::new(size.rows, size.columns);
            let size = size.ok_or_else(|| nonsense("a terminal without rows or columns"))?;
            serve.done(shared.sandbox(id)?.control(exec).resize(size)).await?
        }
        Ask::Keep { id, until } => serve.done(engine.keep_until(id, until)).await?,
        Ask::Ping { id } => serve.done(async { shared.sandbox(id)?.ping().await.map(drop) }).await?,
        Ask::Refused { id } => {
            Say::Refused(serve.wanted(async { shared.sandbox(id)?.refused().await }).await?)
        }
        Ask::Kept => Say::Kept(serve.wanted(engine.kept()).await?),
        Ask::End { id } => serve.done(engine.end(id)).await?,
        Ask::Template(spec) => Say::Template(serve.wanted(engine.template(&spec)).await?),
        Ask::KeepReady { spec, count } => serve.done(engine.keep_ready(&spec, count)).await?,
        Ask::Snapshots => Say::Snapshots(serve.wanted(engine.snapshots()).await?),
        Ask::RemoveSnapshot { key } => serve.done(engine.remove_snapshot(key)).await?,
        Ask::CollectSnapshots { unused, quota } => {
            Say::Collected(serve.wanted(engine.collect_snapshots(SnapshotGc { unused, quota })).await?)
        }
    };
    serve.writer.message(&said).await
}

/// Says what the engine is, and how many VMs stand by, until the client goes.
async fn session(engine: &Engine, serve: Serve<'_>) -> Result<()> {
    let Serve { reader, writer } = serve;
    let capabilities = engine.capabilities().clone();
    let no_network = engine.no_network().map(str::to_owned);
    let backend = engine.backend_name().to_owned();
    let network_notes = engine.network_notes();
    writer.message(&Say::Session { backend, capabilities, no_network, network_notes }).await?;
    let mut told = 0;
    let tell = async {
        loop {
            let ready = engine.ready();
            if ready != told {
                told = ready;
                writer.message(&Say::Standbys(ready)).await?;
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = reader.closed() => Ok(()),
        () = engine.closing() => Err(EngineError::Ending.into()),
        told = tell => told,
    }
}

/// Makes a branch and keeps it until the client goes.
async fn branch(shared: &Arc<Service>, id: SlotId, serve: Serve<'_>) -> Result<()> {
    let sandbox = shared.sandbox(id)?;
    let mut serve = serve;
    let made = serve.wanted(sandbox.branch()).await?;
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let (source, times) = (made.source(), made.times());
    shared.branches.lock().unwrap_or_else(PoisonError::into_inner).insert(number, made);
    let said = serve.writer.message(&Say::Branched { branch: number, source, times }).await;
    tokio::select! {
        () = serve.reader.closed() => {}
        () = shared.ending.cancelled() => {}
    }
    shared.branches.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    said
}
