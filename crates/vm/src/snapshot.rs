//! Saved machines and what may be made of them.
//!
//! ```text
//!   boot with Ram::Shared ──▶ Machine ──save──▶ Saved ──engine seals, verifies──▶ Snapshot ──fork──▶ Machine
//!                                                  ▲                                                   │
//!                                                  └────────────────────── save (a branch) ◀───────────┘
//! ```

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{BootSpec, Machine, Mebibytes, Result, Slot};

/// All that a backend's snapshots depend on and that is not the engine's choice: the VMM's version, the
/// accelerator, the processor's model and the rate of its time stamp counter. A snapshot is loaded only by a
/// backend whose key is the same to the letter. Its first word is the backend's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendKey(pub String);

impl BackendKey {
    /// The name of its backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        self.0.split([' ', '\n']).next().unwrap_or_default()
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The memory of a machine as a file without a name (memfd) of exactly the machine's size; holes are zeroes.
#[derive(Clone, Debug)]
pub struct Ram {
    file: Arc<OwnedFd>,
    size: Mebibytes,
}

impl Ram {
    /// Name of such files, as /proc shows it.
    pub const NAME: &str = "ampoule-ram";

    /// Takes `file`, which has `size`.
    #[must_use]
    pub fn new(file: OwnedFd, size: Mebibytes) -> Self {
        Self { file: Arc::new(file), size }
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> Mebibytes {
        self.size
    }
}

impl AsFd for Ram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What is in a machine that is saved: whoever speaks with its agent and owns its disks.
#[async_trait]
pub trait Guest: Send {
    /// Stops what runs in it. Nothing is saved where this fails, and it runs on.
    async fn freeze(&mut self) -> Result<()>;

    /// Lets it go on. Called once after each `freeze` that did not fail, whatever became of the saving.
    async fn thaw(&mut self);

    /// Copies the images of the drives that may be written. The machine runs again, but they are as they were
    /// while it stood still, and stay so until this returns.
    async fn copy_disks(&mut self) -> Result<()>;
}

/// The guest of a machine in which nothing runs, and that stands still when it is saved: a template's.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

#[async_trait]
impl Guest for Nobody {
    async fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    async fn thaw(&mut self) {}

    async fn copy_disks(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What [`crate::Machine::save`] gives.
#[derive(Debug)]
pub struct Saved {
    /// The memory. That of a template is written by nobody once the machine is gone; that of a branch by
    /// nobody at all.
    pub ram: Ram,
    /// The state of processors and devices; only the backend that wrote it can read it.
    pub state: Vec<u8>,
    /// How long the machine stood still for it.
    pub pause: Duration,
}

/// A saved machine that can be forked: verified, and sealed against every write.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The memory, sealed: forks map it privately.
    pub ram: Ram,
    /// The state of processors and devices.
    pub state: Arc<[u8]>,
}

/// What a backend that can save machines can do besides.
#[async_trait]
pub trait Forks: Send + Sync {
    /// What its snapshots depend on.
    fn key(&self) -> &BackendKey;

    /// Whether `key` is one of this backend that no VM of this host asks for any more, however the backend is made:
    /// another version of the VMM, other arguments, another processor. What is not known is not said.
    fn is_stale(&self, key: &BackendKey) -> bool {
        let _ = key;
        false
    }

    /// Starts a machine from `from`, in a slot that holds none, as [`crate::Backend::boot`] does from a kernel.
    ///
    /// Processors, memory and the order of the drives in `spec` are those of the snapshot; the images may be
    /// others: a read-only one has the same content, a writable one may be larger, which the guest is told.
    /// The agent says Hello on a new link, and forgets what was under way when its parent was saved.
    async fn fork(&self, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>>;
}
