//! A VM of QEMU: what is behind a shim, and the control channel for what only QEMU can do.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::{sync::watch, time::timeout};
use vm::{Error, Exit, Link, Machine, Ram, Result, Saved};

use super::{boot::CONTROL_SOCKET, qmp::Qmp, save};
use crate::shimmed::Shimmed;

/// How long QEMU may take for one thing.
const LIMIT: Duration = Duration::from_secs(30);

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
        let told = async {
            let mut qmp = Qmp::open(self.shimmed.dir().connect(CONTROL_SOCKET).await?).await?;
            qmp.execute::<Value>(what, None).await.map(drop)
        };
        timeout(LIMIT, told).await.unwrap_or(Err(Error::TimedOut { what: "QEMU's answer", limit: LIMIT }))
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

    async fn save(&mut self) -> Result<Saved> {
        let again = match self.parked {
            Parked::No => save::Again::Yes,
            Parked::Yes => save::Again::No,
        };
        let saved = timeout(LIMIT, save::save(self.shimmed.dir(), &self.ram, again)).await;
        match saved {
            Ok(saved) => saved,
            Err(_) => {
                if again == save::Again::Yes {
                    // best effort: the owner will see a VM that is silent
                    let _ = self.tell("cont").await;
                }
                Err(Error::TimedOut { what: "saving a VM", limit: LIMIT })
            }
        }
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.shimmed.exited()
    }
}
