//! The client: an engine that is in another process.
//!
//! Owner: whoever opened the [`crate::Engine`]. One connection tells that the engine is there and how many VMs stand
//! by; each lease and each operation has its own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vm::{Capabilities, SlotId};

use super::{
    error::EngineError,
    handle::{self, Leased},
    link::{self, Reader, Writer, nonsense},
    message::{Ask, Hello, PROTOCOL, Say, build},
    socket,
};
use crate::{
    BranchTimes, Error, Lease, LeaseSpec, Result, Sandbox, Services, SnapshotGc, SnapshotInfo,
    SnapshotsRemoved,
    lease::{Coming, Keeper},
};

/// How long an engine may take to say who it is: one that a service manager starts now looks for a backend first.
const GREETING: Duration = Duration::from_secs(30);

/// Between two looks whether another engine is there, when the one that was greeted is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// An engine in another process.
pub(crate) struct Remote {
    path: PathBuf,
    backend: String,
    capabilities: Capabilities,
    no_network: Option<String>,
    network_notes: Vec<String>,
    standbys: AtomicUsize,
    waiting: watch::Sender<Option<String>>,
    /// Why each lease waits that does.
    waits: Mutex<Vec<(u64, String)>>,
    next: AtomicUsize,
    /// Parent of every lease's token.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Remote {
    /// Greets the engine at `path`.
    pub(crate) async fn connect(path: &Path) -> Result<Arc<Self>> {
        let (mut reader, writer) = open(path, &Ask::Session).await?;
        let Say::Session { backend, capabilities, no_network, network_notes } = reader.say().await? else {
            return Err(nonsense("no word of its backend"));
        };
        let remote = Self {
            path: path.to_owned(),
            backend,
            capabilities,
            no_network,
            network_notes,
            standbys: AtomicUsize::new(0),
            waiting: watch::Sender::new(None),
            waits: Mutex::default(),
            next: AtomicUsize::new(0),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let remote = Arc::new(remote);
        remote.tasks.spawn(listen(Arc::clone(&remote), reader, writer));
        Ok(remote)
    }

    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn no_network(&self) -> Option<&str> {
        self.no_network.as_deref()
    }

    pub(crate) fn network_notes(&self) -> &[String] {
        &self.network_notes
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn ready(&self) -> usize {
        self.standbys.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> watch::Receiver<Option<String>> {
        self.waiting.subscribe()
    }

    fn waits(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        // nothing panics while it is held
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why one of our leases waits, or that it does not.
    pub(super) fn waits_for(&self, lease: u64, why: Option<String>) {
        let mut waits = self.waits();
        waits.retain(|(id, _)| *id != lease);
        waits.extend(why.map(|why| (lease, why)));
        let first = waits.iter().min_by_key(|(id, _)| *id).map(|(_, why)| why.clone());
        self.waiting.send_if_modified(|told| {
            let changed = *told != first;
            *told = first;
            changed
        });
    }

    /// A new connection on which `ask` was asked.
    pub(super) async fn open(&self, ask: &Ask) -> Result<(Reader, Writer)> {
        open(&self.path, ask).await
    }

    /// The one answer to `ask`.
    pub(super) async fn once(&self, ask: &Ask) -> Result<Say> {
        let (mut reader, _writer) = self.open(ask).await?;
        reader.say().await
    }

    /// A lease, by an `ask` that gives one.
    pub(crate) async fn lease(self: &Arc<Self>, ask: Ask, cancel: &CancellationToken) -> Result<Lease> {
        if self.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        let destroy = self.closing.child_token();
        let (ready_to, ready) = oneshot::channel();
        let (ended_to, ended) = oneshot::channel();
        let (leave_to, leave) = mpsc::channel(1);
        let coming = Coming { ready, ended, destroy: destroy.clone().drop_guard() };
        let number = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        let services = match &ask {
            Ask::Lease(spec) => spec.bind.services.clone(),
            Ask::LeaseBranch { bind, .. } => bind.services.clone(),
            _ => Services::default(),
        };
        let leased = Leased { number, destroy, ended: ended_to, leave, services };
        self.tasks.spawn(handle::leased(Arc::clone(self), ask, leased, ready_to));
        coming.leased(Keeper::There(leave_to), cancel).await
    }

    pub(crate) async fn attach(self: &Arc<Self>, id: SlotId) -> Result<Sandbox> {
        if self.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        let (ready_to, ready) = oneshot::channel();
        self.tasks.spawn(handle::attached(Arc::clone(self), id, ready_to));
        ready.await.unwrap_or(Err(Error::Lost))
    }

    pub(crate) async fn kept(&self) -> Result<Vec<crate::Kept>> {
        match self.once(&Ask::Kept).await? {
            Say::Kept(kept) => Ok(kept),
            _ => Err(unasked()),
        }
    }

    /// Asks for what has no other answer than that it is done.
    pub(crate) async fn done(&self, ask: Ask) -> Result<()> {
        match self.once(&ask).await? {
            Say::Done => Ok(()),
            _ => Err(unasked()),
        }
    }

    pub(crate) async fn template(&self, spec: &LeaseSpec) -> Result<Option<String>> {
        match self.once(&Ask::Template(Box::new(spec.clone()))).await? {
            Say::Template(key) => Ok(key),
            _ => Err(unasked()),
        }
    }

    pub(crate) async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        match self.once(&Ask::Snapshots).await? {
            Say::Snapshots(snapshots) => Ok(snapshots),
            _ => Err(unasked()),
        }
    }

    pub(crate) async fn collect_snapshots(&self, policy: SnapshotGc) -> Result<SnapshotsRemoved> {
        match self.once(&Ask::collect(policy)).await? {
            Say::Collected(removed) => Ok(removed),
            _ => Err(unasked()),
        }
    }

    /// Ends every VM that was leased here, and waits for that.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} at {})", self.backend, self.path.display())
    }
}

fn unasked() -> Error {
    nonsense("another answer than to what was asked")
}

/// A branch that an engine in another process holds for as long as this is there.
pub(crate) struct FarBranch {
    pub(crate) branch: u64,
    pub(crate) source: SlotId,
    pub(crate) times: BranchTimes,
    /// Its end is the branch's.
    pub(super) _connection: (Reader, Writer),
}

/// A new connection to the engine at `path`, on which `ask` was asked.
async fn open(path: &Path, ask: &Ask) -> Result<(Reader, Writer)> {
    greet(socket::connect(path).await?, path, ask).await
}

/// Says who we are and what we ask, and hears who is there.
pub(super) async fn greet(stream: UnixStream, path: &Path, ask: &Ask) -> Result<(Reader, Writer)> {
    let (mut reader, mut writer) = link::split(stream);
    let ours = Hello { protocol: PROTOCOL, build: build() };
    writer.put(&ours)?;
    writer.message(ask).await?;
    let theirs: Hello = match timeout(GREETING, reader.message()).await {
        Ok(theirs) => theirs?.ok_or(EngineError::Lost)?,
        Err(_) => {
            let source = io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
            return Err(EngineError::Socket {
                what: "speak with the engine at",
                path: path.to_owned(),
                source,
            }
            .into());
        }
    };
    if theirs == ours {
        Ok((reader, writer))
    } else {
        let (theirs, ours) = (theirs.build, ours.build);
        Err(EngineError::Build { path: path.to_owned(), theirs, ours }.into())
    }
}

/// Hears how many VMs stand by, until this client closes: of the engine that was greeted, and of the next in its
/// place when that is gone.
async fn listen(remote: Arc<Remote>, reader: Reader, writer: Writer) {
    let heard = async {
        let mut session = (reader, writer);
        loop {
            let error = hear(&remote, &mut session.0).await;
            remote.standbys.store(0, Ordering::Relaxed);
            tracing::debug!(%error, "the engine process does not answer any more");
            session = loop {
                sleep(AGAIN).await;
                if let Ok(next) = remote.open(&Ask::Session).await {
                    break next;
                }
            };
        }
    };
    tokio::select! {
        biased;
        () = remote.closing.cancelled() => {}
        () = heard => {}
    }
}

/// Hears it until the connection ends, and why that does.
async fn hear(remote: &Remote, reader: &mut Reader) -> Error {
    loop {
        match reader.say().await {
            Ok(Say::Standbys(count)) => remote.standbys.store(count, Ordering::Relaxed),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}
