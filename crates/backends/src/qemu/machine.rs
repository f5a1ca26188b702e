//! A VM of QEMU: what is behind a shim, and the control channel for what only QEMU can do.

use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::Value;
use tokio::{net::UnixStream, sync::watch};
use vm::{Exit, Guest, Link, Machine, Ram, Result, Saved};

use super::{boot::CONTROL_SOCKET, qmp::Qmp, save};
use crate::shimmed::Shimmed;

/// Where the memory of a VM is.
#[derive(Clone, Debug)]
pub(super) enum MachineRam {
    /// QEMU's own: such a VM cannot be saved.
    Own,
    /// A file that it writes to.
    Shared(Ram),
    /// A file under what it has written.
    Private(Ram),
    /// It was adopted: what its file is is found when somebody asks.
    Unknown,
}

/// A running VM.
#[derive(Debug)]
pub(super) struct QemuMachine {
    shimmed: Shimmed,
    ram: MachineRam,
    parked: Parked,
}

#[derive(Debug)]
enum Parked {
    No,
    /// With the channel on which it is told to go on, for somebody waits for that; none: others needed it.
    Yes(Option<Qmp<UnixStream>>),
}

impl QemuMachine {
    pub(super) fn new(shimmed: Shimmed, ram: MachineRam) -> Self {
        Self { shimmed, ram, parked: Parked::No }
    }

    async fn control(&self) -> Result<Qmp<UnixStream>> {
        Qmp::open(self.shimmed.dir().connect(CONTROL_SOCKET).await?).await
    }
}

#[async_trait]
impl Machine for QemuMachine {
    async fn link(&mut self) -> Result<Link> {
        self.shimmed.link().await
    }

    async fn park(&mut self) -> Result<()> {
        if let Parked::No = self.parked {
            let mut qmp = self.control().await?;
            qmp.execute::<Value>("stop", None).await?;
            self.parked = Parked::Yes(Some(qmp));
        }
        Ok(())
    }

    async fn unpark(&mut self) -> Result<()> {
        let mut qmp = match std::mem::replace(&mut self.parked, Parked::No) {
            Parked::Yes(Some(qmp)) => qmp,
            // or it was adopted
            Parked::Yes(None) | Parked::No => self.control().await?,
        };
        qmp.execute::<Value>("cont", None).await.map(drop)
    }

    async fn save(&mut self, guest: &mut dyn Guest) -> Result<Saved> {
        let again = match &mut self.parked {
            Parked::No => save::Again::Yes,
            Parked::Yes(qmp) => {
                // QEMU takes one at a time
                drop(qmp.take());
                save::Again::No
            }
        };
        save::save(self.shimmed.dir(), &self.ram, again, guest).await
    }

    async fn keep(&mut self, until: SystemTime) -> Result<()> {
        self.shimmed.keep(until).await
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.shimmed.exited()
    }
}
