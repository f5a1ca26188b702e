//! Branches: copies of running VMs, memory and disk of one moment.
//!
//! Purpose: one [`Branch`] per call of [`crate::Sandbox::branch`]; any number of VMs are forked of it. It is private
//! to whoever asked, never listed, never pooled, and never on disk but for the copy of the scratch disk, which lies
//! in a slot of its own, so that a crash leaves nothing of it.
//! Owner: whoever holds it; the last clone that is dropped removes it, and so does the engine's close.
//!
//! ```text
//!                 VM's owner task lends its machine       the guest is frozen, saved, thawed      last one dropped
//!  Sandbox::branch ─────────────────────────▶ (slot, empty copy) ─────────────────────▶ Branch ──────────────▶ gone
//!                                                │ refused, failed: slot removed        │  ▲
//!                                                ▼ the VM runs on                       ▼  │ branch of a fork
//!                                              error                        Engine::lease_branch ──▶ VM
//! ```
//!
//! Invariants
//! - The VM goes on, whatever comes of the branch; what was said to it and by it is neither lost nor doubled.
//! - A machine is lent to one branch at a time: others wait for their turn.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use vm::{Guest, Machine, OwnerLoss, SlotId};
use wire::message::Answer as Reply;

use crate::{
    Bind, Error, GuestInfo, LeaseSpec, Result, Root, Sandbox, command::Answer, connection::Connection,
    journal::Held, local::Inner, owner::tear_down, remote::FarBranch, scratch, snapshots,
};

/// How long the guest may take to stand still, and to go on; less where it is taken for dead sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// The part of the time after which a silent guest is taken for dead: it may be silent while it stands still.
const PART: u32 = 4;
/// Branches that wait for the machine of one VM.
const MOST_WAITING: usize = 64;

/// A copy of a running VM, of which others can be forked. Cheap to clone.
#[derive(Clone)]
pub struct Branch {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// The engine is in this process.
    Here(Arc<Copy>),
    /// It is in another one.
    There(Arc<FarBranch>),
}

/// What a branch is made of.
pub(crate) struct Copy {
    source: SlotId,
    pub(crate) snapshot: vm::Snapshot,
    /// What its VM was leased as.
    pub(crate) spec: LeaseSpec,
    /// What was known of its guest.
    pub(crate) info: GuestInfo,
    times: BranchTimes,
    /// None: the engine is closed.
    place: Mutex<Option<Place>>,
}

/// How long it took to make a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchTimes {
    /// The whole VM stood still.
    pub pause: Duration,
    /// What runs in it stood still: from the request to freeze to the answer that it goes on.
    pub frozen: Duration,
    /// From the request to the branch.
    pub total: Duration,
}

/// What a fork of a branch is to be, beside what it is a fork of.
#[derive(Clone, Debug)]
pub struct ForkSpec {
    /// Its name. Directories that its parent has stay as they are.
    pub bind: Bind,
    /// What becomes of it when this process dies.
    pub on_owner_loss: OwnerLoss,
    /// What becomes of the commands that ran in its parent. Nobody hears of them any more.
    pub inherited: wire::message::Inherited,
}

impl Branch {
    pub(crate) fn there(branch: FarBranch) -> Self {
        Self { kind: Kind::There(Arc::new(branch)) }
    }

    /// What it is made of, where that is in this process.
    pub(crate) fn here(&self) -> Option<&Arc<Copy>> {
        match &self.kind {
            Kind::Here(copy) => Some(copy),
            Kind::There(_) => None,
        }
    }

    /// Its number, where the engine is in another process.
    pub(crate) fn far(&self) -> Option<u64> {
        match &self.kind {
            Kind::Here(_) => None,
            Kind::There(branch) => Some(branch.branch),
        }
    }

    /// The VM that it is a copy of.
    #[must_use]
    pub fn source(&self) -> SlotId {
        match &self.kind {
            Kind::Here(copy) => copy.source,
            Kind::There(branch) => branch.source,
        }
    }

    /// How long it took.
    #[must_use]
    pub fn times(&self) -> BranchTimes {
        match &self.kind {
            Kind::Here(copy) => copy.times,
            Kind::There(branch) => branch.times,
        }
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Branch(of {})", self.source())
    }
}

impl Copy {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        // nothing panics while it is held
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its disk, opened; `None` where its VM has none.
    pub(crate) fn disk(&self) -> Result<Option<File>> {
        match &*self.place() {
            None => Err(Error::Closed),
            Some(place) => match (&self.spec.root, place.disk()) {
                (Root::Hosted, _) => Ok(None),
                (Root::Image(_), disk) => File::open(&disk).map(Some).map_err(Error::state("open", disk)),
            },
        }
    }

    /// Removes it while others still hold it.
    pub(crate) fn close(&self) {
        drop(self.place().take());
    }
}

/// The disk of a VM and the empty file that it is copied to.
struct Files {
    from: File,
    to: File,
    /// Of `to`.
    path: PathBuf,
}

/// The slot of a branch, which goes with it.
struct Place {
    engine: Arc<Inner>,
    held: Option<Held>,
}

impl Place {
    /// Makes it, with an empty file for the copy of `disk`.
    async fn make(engine: &Arc<Inner>, disk: Option<PathBuf>) -> Result<(Self, Option<Files>)> {
        let engine = Arc::clone(engine);
        let made = spawn_blocking(move || {
            let held = engine.journal.create(engine.backend.name())?;
            let place = Self { engine, held: Some(held) };
            let Some(disk) = disk else { return Ok((place, None)) };
            let path = place.disk();
            let from = File::open(&disk).map_err(Error::state("open", disk))?;
            let to = scratch::create(&path).map_err(Error::state("make", &path))?;
            Ok((place, Some(Files { from, to, path })))
        });
        made.await.unwrap_or(Err(Error::Lost))
    }

    fn disk(&self) -> PathBuf {
        self.held.as_ref().map(|held| scratch::path(&held.slot().dir)).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let engine = Arc::clone(&self.engine);
        if tokio::runtime::Handle::try_current().is_ok() {
            let tasks = engine.tasks.clone();
            tasks.spawn(async move {
                // what is left is told there, and swept later
                let _ = tear_down(&engine, held).await;
            });
        } else if let Err(error) = engine.journal.remove(held) {
            tracing::error!(%error, "something of a branch is left, for the next sweep");
        }
    }
}

/// What a machine is lent for.
pub(crate) enum Errand {
    Branch(Answer<Branch>),
    /// To be kept until then.
    Keep(SystemTime, Answer<()>),
}

impl Errand {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Branch(answer) => answer.is_closed(),
            Self::Keep(_, answer) => answer.is_closed(),
        }
    }

    fn refuse(self, error: Error) {
        match self {
            Self::Branch(answer) => drop(answer.send(Err(error))),
            Self::Keep(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

/// The machine of a VM, which its owner task lends for one errand after the other.
pub(crate) struct Lending {
    /// None: it is lent.
    machine: Option<Box<dyn Machine>>,
    waiting: VecDeque<Errand>,
}

impl Lending {
    pub(crate) fn new(machine: Box<dyn Machine>) -> Self {
        Self { machine: Some(machine), waiting: VecDeque::new() }
    }

    /// One more that wants it.
    pub(crate) fn wanted(&mut self, errand: Errand) {
        if self.waiting.len() >= MOST_WAITING {
            return errand.refuse(Error::Request("too many branches at once"));
        }
        self.waiting.push_back(errand);
    }

    /// Whether it is lent.
    pub(crate) fn is_lent(&self) -> bool {
        self.machine.is_none()
    }

    /// Takes it back.
    pub(crate) fn returned(&mut self, machine: Box<dyn Machine>) {
        self.machine = Some(machine);
    }

    /// Lends it to the first who still waits, where it is there.
    pub(crate) fn next(&mut self) -> Option<(Box<dyn Machine>, Errand)> {
        let machine = self.machine.take()?;
        loop {
            match self.waiting.pop_front() {
                Some(errand) if errand.is_given_up() => {}
                Some(errand) => return Some((machine, errand)),
                None => {
                    self.machine = Some(machine);
                    return None;
                }
            }
        }
    }
}

/// What a branch is made from.
pub(crate) struct Source {
    pub(crate) engine: Arc<Inner>,
    pub(crate) spec: LeaseSpec,
    /// Directory of the VM's slot.
    pub(crate) dir: PathBuf,
    pub(crate) sandbox: Sandbox,
    pub(crate) connection: Connection,
}

impl Source {
    /// Makes a branch of the VM, which goes on in any case. When the future is dropped the VM is of no use.
    pub(crate) async fn branch(self, machine: &mut dyn Machine) -> Result<Branch> {
        let began = Instant::now();
        if self.engine.backend.forks().is_none() {
            return Err(Error::Save(vm::Error::Unsupported("it cannot fork".to_owned())));
        }
        let disk = match &self.spec.root {
            Root::Hosted => None,
            Root::Image(_) => Some(scratch::path(&self.dir)),
        };
        let (place, files) = Place::make(&self.engine, disk).await?;
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let limit = PATIENCE.min(self.engine.patience.silence / PART);
        let mut guest = Frozen { connection: self.connection, limit, files, stop, frozen: None, error: None };
        let saved = machine.save(&mut guest).await;
        let frozen = match guest.frozen {
            Some(Span::Over(frozen)) => frozen,
            Some(Span::Began(_)) | None => Duration::ZERO,
        };
        let saved = saved.map_err(|error| guest.error.take().unwrap_or(Error::Save(error)))?;
        let vm::Saved { ram, state, pause } = saved;
        let sealed = spawn_blocking(move || snapshots::seal(&ram).map(|()| ram)).await;
        let ram = sealed
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(Error::state("seal the memory of a branch in", &self.dir))?;
        let snapshot = vm::Snapshot { ram, state: state.into() };
        let times = BranchTimes { pause, frozen, total: began.elapsed() };
        tracing::debug!(vm = %self.sandbox.id(), ?times, "a VM was branched");
        let copy = Copy {
            source: self.sandbox.id(),
            snapshot,
            spec: self.spec,
            info: self.sandbox.info().clone(),
            times,
            place: Mutex::new(Some(place)),
        };
        let copy = Arc::new(copy);
        self.engine.branches.add(&copy);
        Ok(Branch { kind: Kind::Here(copy) })
    }
}

/// The guest of a VM that is branched.
struct Frozen {
    connection: Connection,
    limit: Duration,
    files: Option<Files>,
    /// Ends the copy.
    stop: CancellationToken,
    frozen: Option<Span>,
    /// What went wrong here.
    error: Option<Error>,
}

#[derive(Clone, Copy)]
enum Span {
    Began(Instant),
    Over(Duration),
}

impl Frozen {
    async fn go_on(&mut self) {
        match timeout(self.limit, self.connection.thaw()).await {
            Ok(Ok(_)) => {}
            // a guest that is gone is told by others, and one that says nothing is found out soon
            Ok(Err(error)) => tracing::warn!(%error, "a VM was told to go on and does not say that it does"),
            Err(_) => tracing::warn!("a VM was told to go on and does not answer"),
        }
        if let Some(Span::Began(began)) = self.frozen {
            self.frozen = Some(Span::Over(began.elapsed()));
        }
    }
}

#[async_trait]
impl Guest for Frozen {
    async fn freeze(&mut self) -> vm::Result<()> {
        self.frozen = Some(Span::Began(Instant::now()));
        let late = Error::NotFrozen { limit: self.limit };
        let error = match timeout(self.limit, self.connection.freeze()).await {
            Ok(Ok(Reply::Frozen)) => return Ok(()),
            Ok(Ok(_)) | Err(_) => late,
            Ok(Err(error)) => error,
        };
        // it may have frozen, or do so later
        self.go_on().await;
        let text = error.to_string();
        self.error = Some(error);
        Err(vm::Error::NotFrozen(text))
    }

    async fn thaw(&mut self) {
        self.go_on().await;
    }

    async fn copy_disks(&mut self) -> vm::Result<()> {
        let Some(Files { from, to, path }) = self.files.take() else { return Ok(()) };
        let stop = self.stop.clone();
        let copied = spawn_blocking(move || scratch::copy(&from, &to, || stop.is_cancelled()));
        copied.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
            let text = error.to_string();
            self.error = Some(Error::state("write", path)(error));
            vm::Error::Io { what: "copy the disk of a VM".to_owned(), source: io::Error::other(text) }
        })
    }
}

/// The branches of an engine that somebody holds.
#[derive(Default)]
pub(crate) struct Branches(Mutex<Vec<std::sync::Weak<Copy>>>);

impl Branches {
    fn add(&self, copy: &Arc<Copy>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|copy| copy.strong_count() > 0);
        all.push(Arc::downgrade(copy));
    }

    /// Removes them all.
    pub(crate) fn close(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for copy in all.iter().filter_map(std::sync::Weak::upgrade) {
            copy.close();
        }
    }
}
