//! A VM of QEMU: what is behind a shim, and the control channel for what only QEMU can do.

use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parked {
    No,
    Yes,
}

impl QemuMachine {
    pub(super) fn new(shimmed: Shimmed, ram: MachineRam) -> Self {
        Self { shimmed, ram, parked: Parked::No }
    }

    async fn tell(&self, what: &str) -> Result<()> {
        let mut qmp = Qmp::open(self.shimmed.dir().connect(CONTROL_SOCKET).await?).await?;
        qmp.execute::<Value>(what, None).await.map(drop)
    }
}

#[async_trait]
impl Machine for QemuMachine {
    async fn link(&mut self) -> Result<Link> {
        self.shimmed.link().await
    }

    async fn park(&mut self) -> Result<()> {
        self.tell("stop").await?;
        self.parked = Parked::Yes;
        Ok(())
    }

    async fn unpark(&mut self) -> Result<()> {
        self.tell("cont").await?;
        self.parked = Parked::No;
        Ok(())
    }

    async fn save(&mut self, guest: &mut dyn Guest) -> Result<Saved> {
        let again = match self.parked {
            Parked::No => save::Again::Yes,
            Parked::Yes => save::Again::No,
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
