//! What an engine is opened with and what is leased from it: plain data.

use std::{
    num::NonZeroU8,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use vm::{Backend, Mebibytes, OwnerLoss};
use wire::message::Directory;

use crate::{Networking, Policy};

pub use crate::pool::PoolLimits;

/// What an engine is opened with.
pub struct EngineConfig {
    /// Directory of slots and scratch disks; made if it is not there. Several engines, also of several
    /// processes, may share one.
    pub state_dir: PathBuf,
    /// What runs the VMs.
    pub backend: Arc<dyn Backend>,
    /// How long a guest may be silent, and when.
    pub patience: Patience,
    /// How many VMs may wait for their lease.
    pub pool: PoolLimits,
    /// What no VM may take.
    pub reserve: Reserve,
    /// What makes the networks of its VMs.
    pub network: Networking,
}

/// What stays free for the rest of the host when a VM begins, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Of the memory.
    pub memory: u64,
    /// On the disk of the state directory.
    pub disk: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { memory: 256 << 20, disk: 512 << 20 }
    }
}

/// How long a guest may be silent, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the backend's start of the VM to the agent's Hello; one retry follows.
    pub boot: Duration,
    /// From Hello to the end of the guest's preparation (mounts, seeding); one retry follows.
    pub prepare: Duration,
    /// Between two pings.
    pub ping_every: Duration,
    /// A guest that answered no ping for this long is gone.
    pub silence: Duration,
    /// How long the end of a VM may take before its destruction is reported as failed.
    pub teardown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            prepare: Duration::from_secs(30),
            ping_every: Duration::from_secs(5),
            silence: Duration::from_secs(60),
            teardown: Duration::from_secs(10),
        }
    }
}

/// What a VM is made of and for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseSpec {
    /// Linux kernel.
    pub kernel: PathBuf,
    /// Initramfs with the agent as `/init`.
    pub initramfs: PathBuf,
    /// What the guest has as `/`.
    pub root: Root,
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory.
    pub memory: Mebibytes,
    /// Logical size of the fresh scratch disk, rounded up to a MiB, at least 16 MiB; sparse on the host.
    pub scratch_bytes: u64,
    /// What is known only now, at the time of the lease.
    pub bind: Bind,
    /// What becomes of the VM when this process dies.
    pub on_owner_loss: OwnerLoss,
    /// Whose it is, in words of whoever leases it: a VM that is kept shows it to the next owner.
    pub mark: Option<String>,
    /// How it begins.
    pub start: Start,
    /// What becomes of the lease while this host has no room.
    pub when_full: WhenFull,
}

/// What becomes of a lease while this host has no room for its VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits until another VM of the engine ends.
    #[default]
    Wait,
    /// It fails: whoever asked can come again.
    Refuse,
}

/// How a VM begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// As a fork of a template, where the backend can fork; booted elsewhere.
    #[default]
    Fork,
    /// Booted.
    Boot,
}

/// What the guest has as `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// A read-only squashfs or erofs image, with a writable layer on the scratch disk.
    Image(PathBuf),
    /// The agent's own surroundings: backends without a VM. Nothing is mounted and no disk is made.
    Hosted,
}

/// What is known of a VM only when it is leased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Its host name.
    pub hostname: String,
    /// Directories to make on the scratch disk and to mount over the root, in order.
    pub directories: Vec<Directory>,
    /// What it may reach by its network card.
    #[serde(default)]
    pub network: Policy,
    /// What it may use of that.
    #[serde(default, skip_serializing_if = "net::Limits::is_default")]
    pub limits: net::Limits,
    /// Names that lead out of it, over its link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<crate::Forward>,
    /// The services behind those of them that lead to one; they stay in this process.
    #[serde(skip)]
    pub services: crate::Services,
}

impl Bind {
    /// The directories that lie in no other one: a lease's own ones lie in them.
    pub(crate) fn common(&self) -> Vec<Directory> {
        let (mut common, mut above): (Vec<Directory>, Vec<&Path>) = (Vec::new(), Vec::new());
        for directory in &self.directories {
            let path = Path::new(&directory.path);
            if !above.iter().any(|above| path.starts_with(above)) {
                above.push(path);
                common.push(directory.clone());
            }
        }
        common
    }
}

/// What the sweep at [`crate::Engine::open`] did with the slots of dead owners.
#[derive(Debug, Default)]
pub struct Swept {
    /// Slots whose VM, if it still ran, was ended and whose files were removed.
    pub removed: Vec<String>,
    /// Slots that could not be removed, and why; they stay for the next sweep.
    pub failed: Vec<(String, crate::Error)>,
}
