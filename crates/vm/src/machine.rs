//! The traits that a backend implements.

use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{BootSpec, Error, Forks, Guest, Result, Saved, Slot};

/// A byte stream in both directions.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// The one byte stream between the host and the agent of a VM.
pub type Link = Box<dyn Bytes>;

/// What no host says: whoever reads it at the place of a frame drops all that it knows of the link and says Hello.
/// For backends whose guests cannot always see that a link has ended and begun again.
pub const NO_FRAME: [u8; 16] = [0xff; 16];

/// What stands between a job and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Hardware virtualisation and the jail around the VMM.
    Hardware,
    /// Software emulation, whose bugs are no security bugs to its authors, and the jail around it.
    Emulated,
    /// Nothing that may run foreign code: tests only.
    None,
}

impl Boundary {
    /// As `doctor` and every job log say it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hardware => "hardware + jail",
            Self::Emulated => "emulated + jail",
            Self::None => "none",
        }
    }
}

/// What a backend can do on this host: data for config checks, `doctor` and the job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Version of the VMM, as it says it.
    pub version: String,
    /// `kvm`, `tcg`, or what the backend calls its way of running code.
    pub accelerator: String,
    /// What stands between a job and the host.
    pub boundary: Boundary,
    /// Parts of the isolation that this host cannot give, in words for `doctor` and the job's log; empty
    /// where nothing is missing.
    pub lacking: Vec<String>,
    /// Why its VMs have no network card; `None` where they have one.
    pub no_card: Option<String>,
    /// Whether [`Backend::adopt`] can work.
    pub adopt: bool,
}

/// How a machine ended. Code 0 without a signal says that the guest ended it, by a power-off, a reset or a
/// panic: whoever is told counts that as the doing of what runs in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code of the VMM, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Last lines of the VMM's error output, without control characters.
    pub stderr: String,
}

/// Something that runs VMs. Object-safe; one value serves all VMs of an engine.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The name by which it is chosen and journalled: lower-case letters.
    fn name(&self) -> &'static str;

    /// What it can do on this host.
    fn capabilities(&self) -> &Capabilities;

    /// Starts a VM in a slot that holds none.
    ///
    /// Returns when the VMM runs; the guest's agent may take seconds more to say Hello. When this fails
    /// or its future is dropped nothing runs on, and the engine's teardown of the slot removes the rest.
    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>>;

    /// Takes over the running VM of a [`crate::OwnerLoss::Keep`] slot whose owner is gone.
    async fn adopt(&self, slot: &Slot) -> Result<Box<dyn Machine>>;

    /// Saving and forking, where it can.
    fn forks(&self) -> Option<&dyn Forks> {
        None
    }
}

/// One running VM, held by exactly one owner. Every method may be called again after an error.
#[async_trait]
pub trait Machine: Send {
    /// Opens the one stream to the agent. Opening it again closes the one before; the agent answers an
    /// opening with a Hello. Where none comes it is opened again: a busy guest can miss one.
    async fn link(&mut self) -> Result<Link>;

    /// Stops its processors: it then costs no processor time. Fine when they stand still already.
    async fn park(&mut self) -> Result<()> {
        Err(unsupported("stop a VM"))
    }

    /// Lets them go on. Fine when they run.
    async fn unpark(&mut self) -> Result<()> {
        Err(unsupported("stop a VM"))
    }

    /// Saves memory and devices as they are at one moment, while the machine stands still, and lets `guest` copy
    /// its drives as they are at the same moment. What can be done before the guest is frozen, or after it was
    /// thawed, is.
    ///
    /// The machine runs again on return, also after an error, and as it was parked where it was. One with
    /// [`crate::Memory::Shared`] stands still instead, for its memory is the snapshot's now; nothing runs in it,
    /// so that its `guest` is not asked for anything. When the future is dropped the machine is of no use.
    async fn save(&mut self, guest: &mut dyn Guest) -> Result<Saved> {
        let _ = guest;
        Err(unsupported("save a VM"))
    }

    /// Keeps the VM until then when its owner is gone, whatever its slot said: [`crate::OwnerLoss::Keep`]. May be
    /// said again with another time; what was said last before the owner went counts.
    async fn keep(&mut self, until: SystemTime) -> Result<()> {
        let _ = until;
        Err(unsupported("keep a VM for another owner"))
    }

    /// `None` while it runs.
    fn exited(&self) -> watch::Receiver<Option<Exit>>;
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!("it cannot {what}"))
}
