//! Snapshots: VMs that were saved, and can be forked.
//!
//! Purpose: one template per kind of VM (image, kernel, size, backend), made once, kept on disk, held in memory
//! once per engine. Owner: the engine.
//!
//! ```text
//!            nobody has it           boots, is made ready, saved      sealed, digests taken, renamed into place
//!  (wanted) ───────────────▶ lock ────────────────────────────▶ built ──────────────────────────────────▶ ready
//!     │                                                                                                   ▲ │
//!     └─ on disk, its key and age fit ──▶ every extent is copied into memory and compared ──▶ sealed ─────┘ │
//!                                              │ one differs, one is missing                               │
//!                                              ▼                                       too old, over quota  │
//!                                           damaged ──▶ moved away, built anew           ▶ moved away ◀─────┘
//!                                                                    (as is one of another VMM or host)
//! ```
//!
//! Invariants
//! - A directory is a snapshot only under its final name, after a rename; nothing in it changes after that.
//! - What is forked was compared with its digests while it was copied into memory, and the memory is sealed
//!   against every write before a VM sees it: neither a damaged disk nor a VMM that was taken over reaches the
//!   next VM.
//! - A template is made before any job and holds no secret: nothing of a lease is in it.
//! - Its disk is as it was when it was saved, for its guest has it mounted: memory and disk are one.
//! - A pin keeps a snapshot from being collected for its age of use or its size, not one that nobody can use.
//! - One key is built once at a time, over all processes that share a state directory.

mod build;
mod disk;
mod hosts;
mod key;
mod manifest;
mod memory;

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use vm::Backend;

pub use self::disk::{
    Pin, SnapshotGc, SnapshotInfo, SnapshotsRemoved, Standing, list_snapshots, pin_snapshot,
};
use self::{disk::Disk, hosts::Hosts};
pub(crate) use self::{
    disk::files_of_usable,
    key::Kind,
    memory::{disk as copy_of_disk, ram_file, seal},
};
use crate::{Error, LeaseSpec, Result, local::Inner};

/// A template is made anew when it is older: all forks of one share the places of everything in memory.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A VM that was saved.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) saved: vm::Saved,
    pub(crate) guest: Option<Guest>,
}

/// A guest that was made ready before it was saved: its forks have its disk, and need a name.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its kernel's version.
    pub(crate) kernel: String,
    /// Sealed: a fork gets a copy.
    disk: File,
}

impl Guest {
    /// Its disk, to be read.
    pub(crate) fn disk(&self) -> Result<File> {
        memory::opened(&self.disk).map_err(Error::state("open", "the disk of a template"))
    }
}

/// A saved VM that is ready to be forked.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) snapshot: vm::Snapshot,
    /// None: each fork is made ready for itself.
    pub(crate) guest: Option<Guest>,
    made: SystemTime,
}

impl Template {
    pub(crate) fn is_fresh(&self) -> bool {
        self.made.elapsed().is_ok_and(|age| age < MAX_AGE)
    }
}

type Outcome = Option<Result<Arc<Template>, Arc<Error>>>;

/// The snapshots of an engine.
#[derive(Debug)]
pub(crate) struct Snapshots {
    disk: Disk,
    /// By key: there, or under way.
    templates: Mutex<HashMap<String, watch::Receiver<Outcome>>>,
}

impl Snapshots {
    /// Those in `state_dir`, of VMs of `backend`. Blocks.
    pub(crate) fn open(state_dir: &Path, backend: Arc<dyn Backend>) -> Result<Self> {
        let hosts = Hosts(vec![backend]);
        Ok(Self { disk: Disk::open(state_dir, hosts)?, templates: Mutex::default() })
    }

    /// What is on disk.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Forgets what is held in memory of a template that turned out to be of no use, and moves it away.
    pub(crate) fn discard(&self, key: &str) {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Err(error) = self.disk.remove(key) {
            tracing::warn!(%error, "a snapshot that is of no use cannot be removed");
        }
    }

    fn under_way(&self, key: &str) -> Option<watch::Receiver<Outcome>> {
        let templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        templates
            .get(key)
            .filter(|outcome| match &*outcome.borrow() {
                None => true,
                Some(Ok(template)) => template.is_fresh(),
                Some(Err(_)) => false,
            })
            .cloned()
    }
}

/// The template for `spec`, with its key; `None` where such VMs are booted. It is built where nobody has it,
/// which goes on when the future is dropped: the next one will want it.
pub(crate) async fn template(
    engine: &Arc<Inner>,
    spec: &LeaseSpec,
) -> Result<Option<(String, Arc<Template>)>> {
    let Some(forks) = engine.backend.forks() else { return Ok(None) };
    let kind = {
        let (backend, spec) = (forks.key().clone(), spec.clone());
        tokio::task::spawn_blocking(move || Kind::of(backend, &spec)).await.unwrap_or(Err(Error::Lost))?
    };
    let key = kind.key();
    let mut outcome = match engine.snapshots.under_way(&key) {
        Some(outcome) => outcome,
        None => begin(engine, &key, kind, spec),
    };
    let found = outcome.wait_for(Option::is_some).await.map_err(|_| Error::Closed)?.clone();
    match found {
        Some(Ok(template)) => Ok(Some((key, template))),
        Some(Err(error)) => Err(Error::Template(error)),
        None => Err(Error::Lost),
    }
}

/// Starts a task that finds or builds a template.
fn begin(engine: &Arc<Inner>, key: &str, kind: Kind, spec: &LeaseSpec) -> watch::Receiver<Outcome> {
    let (to, outcome) = watch::channel(None);
    {
        let mut templates = engine.snapshots.templates.lock().unwrap_or_else(PoisonError::into_inner);
        // somebody else may have begun since we looked; both find it on disk then
        templates.insert(key.to_owned(), outcome.clone());
    }
    let (engine, key, spec) = (Arc::clone(engine), key.to_owned(), spec.clone());
    let tasks = engine.tasks.clone();
    tasks.spawn(async move {
        let found = find_or_build(&engine, &key, kind, spec).await;
        to.send_replace(Some(found.map(Arc::new).map_err(Arc::new)));
    });
    outcome
}

async fn find_or_build(engine: &Arc<Inner>, key: &str, kind: Kind, spec: LeaseSpec) -> Result<Template> {
    let blocking = |work: fn(&Snapshots, &str) -> Result<Option<Template>>| {
        let (engine, key) = (Arc::clone(engine), key.to_owned());
        async move {
            let work = move || work(&engine.snapshots, &key);
            tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Lost))
        }
    };
    if let Some(template) = blocking(|snapshots, key| snapshots.disk.load(key)).await? {
        return Ok(template);
    }
    let lock = {
        let (engine, key) = (Arc::clone(engine), key.to_owned());
        tokio::task::spawn_blocking(move || engine.snapshots.disk.lock(&key))
    };
    let lock = tokio::select! {
        biased;
        // another process may build for as long as it likes
        () = engine.closing.cancelled() => return Err(Error::Closed),
        lock = lock => lock.unwrap_or(Err(Error::Lost))?,
    };
    // another process may have built it while we waited
    if let Some(template) = blocking(|snapshots, key| snapshots.disk.load(key)).await? {
        return Ok(template);
    }
    let saved = build::build(engine, spec).await?;
    let (engine, key) = (Arc::clone(engine), key.to_owned());
    let kept = tokio::task::spawn_blocking(move || {
        let _lock = lock;
        engine.snapshots.disk.keep(&key, &kind, saved)
    });
    kept.await.unwrap_or(Err(Error::Lost))
}
