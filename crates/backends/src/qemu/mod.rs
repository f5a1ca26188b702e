//! QEMU's microvm machine: runs anywhere, with KVM where that works and by software emulation elsewhere.
//!
//! ```text
//!   Qemu::open: find the program, ask its version inside the jail, choose the accelerator
//!     │
//!     ├─ boot ──▶ sockets and files opened here ──▶ jail::launch ──▶ QMP: it runs ──▶ Machine
//!     ├─ fork ──▶ the same with a saved one's memory and devices, and no kernel ──▶ Machine
//!     └─ adopt ─▶ jail::attach ──▶ QMP: it runs ──▶ Machine
//! ```
//!
//! Invariants
//! - QEMU opens no path of the host: kernel, initramfs, disks, logs and sockets are descriptors that were
//!   opened here. It needs no access to its own slot's directory.
//! - Both sockets are inherited *listening*, so that another owner can connect later.
//! - Nobody stays connected to QMP: without a reader QEMU would keep what the guest makes it report.
//! - No default devices, a network card that is down where this host can make one, our system call filter and QEMU's whole one within it, an identity
//!   of its own.

mod argv;
mod boot;
mod filter;
mod find;
mod fork;
mod key;
mod kvm;
mod machine;
mod overlay;
mod pages;
mod places;
mod probe;
mod qmp;
mod save;
mod state;
mod tsc;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use jail::{Filter, Level};
use vm::{Backend, BackendKey, BootSpec, Boundary, Capabilities, Forks, Machine, Result, Slot, Snapshot};

use crate::of_jail;

pub use find::{OLDEST, Version};
pub use kvm::KvmAccess;
pub use probe::{Kvm, Verdict};

/// How a guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// KVM where a probe boot shows that it works, else emulation.
    Auto,
    /// KVM, whether it works or not.
    Kvm,
    /// Emulation.
    Tcg,
}

/// What this backend has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program; looked up in `PATH` where it has no slash.
    pub program: PathBuf,
    /// The shim's program and leading arguments, see [`jail::Launch::shim`].
    pub shim: Vec<OsString>,
    /// How much of the jail must be there.
    pub level: Level,
    /// The accelerator.
    pub accel: Accel,
    /// Kernel and initramfs of the probe boot; without them [`Accel::Auto`] takes emulation.
    pub probe: Option<Kvm>,
}

/// File below the slot's directory with the last of what the guest wrote to its console.
pub const CONSOLE: &str = "console.log";
/// File below the slot's directory with the last of QEMU's own error output.
pub const ERRORS: &str = "qemu.log";
/// The name of the program where nothing else is said.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// By which it is chosen, and with which its keys begin.
const NAME: &str = "qemu";
/// How long QEMU may take until its control channel answers. A loaded host has taken seconds.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The backend.
#[derive(Debug)]
pub struct Qemu {
    program: PathBuf,
    shim: Vec<OsString>,
    level: Level,
    filter: Filter,
    accel: argv::Accelerator,
    capabilities: Capabilities,
    note: Option<String>,
    key: BackendKey,
    /// Those that VMs here may have otherwise.
    keys: Vec<BackendKey>,
    /// Whether VMs have a network card.
    card: bool,
}

impl Qemu {
    /// Finds QEMU, asks its version, and chooses the accelerator: by a probe boot of some seconds where the
    /// answer is not remembered.
    ///
    /// # Errors
    /// [`vm::Error::Missing`] where it is not there or too old; what the jail says where that cannot be had.
    pub async fn open(config: Config) -> Result<Self> {
        let program = find::program(&config.program)?;
        let filter = filter::filter().map_err(of_jail)?;
        let found = find::survey(&program, &config.shim, config.level, &filter).await?;
        let mut qemu = Self {
            program,
            card: found.no_card.is_none(),
            shim: config.shim,
            level: config.level,
            filter,
            accel: argv::Accelerator::Kvm,
            capabilities: Capabilities {
                version: found.version.to_string(),
                accelerator: String::new(),
                boundary: Boundary::Emulated,
                lacking: found.missing.iter().map(ToString::to_string).collect(),
                no_card: found.no_card,
                adopt: true,
            },
            note: None,
            key: BackendKey(String::new()),
            keys: Vec::new(),
        };
        let kvm = match config.accel {
            Accel::Kvm => match probe::hindrance().and_then(Verdict::reason) {
                Some(reason) => {
                    let (program, reason) = (kvm::DEVICE.into(), reason.to_owned());
                    return Err(vm::Error::Missing { program, reason });
                }
                None => true,
            },
            Accel::Tcg => false,
            Accel::Auto => {
                let verdict = probe::kvm(&qemu, config.probe.as_ref()).await;
                qemu.note = verdict.note();
                verdict == Verdict::Works
            }
        };
        let host = key::Host::look().await;
        if kvm {
            qemu.capabilities.accelerator = "kvm".to_owned();
            qemu.capabilities.boundary = Boundary::Hardware;
        } else {
            qemu.capabilities.accelerator = "tcg".to_owned();
            qemu.accel = host.tcg();
        }
        qemu.key = host.key(found.version, qemu.accel, qemu.card);
        qemu.keys = host.keys(found.version);
        Ok(qemu)
    }

    /// Why emulation is used although KVM was wanted, for the user to read once.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

#[async_trait]
impl Backend for Qemu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        let machine = boot::boot(self, spec, slot).await?;
        Ok(Box::new(machine))
    }

    async fn adopt(&self, slot: &Slot) -> Result<Box<dyn Machine>> {
        let machine = boot::adopt(slot).await?;
        Ok(Box::new(machine))
    }

    fn forks(&self) -> Option<&dyn Forks> {
        Some(self)
    }
}

#[async_trait]
impl Forks for Qemu {
    fn key(&self) -> &BackendKey {
        &self.key
    }

    fn is_stale(&self, key: &BackendKey) -> bool {
        key.backend() == NAME && *key != self.key && !self.keys.contains(key)
    }

    async fn fork(&self, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        let machine = fork::fork(self, from, spec, slot).await?;
        Ok(Box::new(machine))
    }
}
