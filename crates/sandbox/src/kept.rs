//! What the next owner of a VM has to know of it.
//!
//! Purpose: a VM with `Keep` is whole again when another engine takes it over. Owner: the slot's owner writes it when
//! the VM is ready, before it is handed out and before the shim is told to keep it; whoever finds the slot reads it.
//! Without it a slot is one whose VM goes with its owner.
//!
//! Invariants
//! - The file is whole or not there: it is written beside and renamed.
//! - Nothing secret is in it: what a job is given never is part of a lease.
//! - What cannot be read, or is of another version, is as if it were not there: the VM is ended and removed.

use std::{
    fs::{self, File},
    io::{self, Read},
    num::NonZeroU8,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use vm::{Mebibytes, OwnerLoss, SlotId};

use crate::{Bind, Error, GuestInfo, LeaseSpec, Origin, Policy, Result, Root, Start, WhenFull};

const FILE: &str = "kept.json";
const BESIDE: &str = "kept.json.new";
/// One with the most directories that a lease can have is far shorter.
const MAX: u64 = 1 << 20;
/// Of the format.
const VERSION: u32 = 1;

/// A VM that is kept: nobody owns it, or the engine holds it since [`crate::Lease::leave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Name of its slot.
    pub id: SlotId,
    /// Whose it is, as its lease said.
    pub mark: Option<String>,
    /// When it was ready.
    pub made: SystemTime,
    /// It ends then.
    pub until: SystemTime,
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory.
    pub memory: Mebibytes,
    /// Logical size of its scratch disk.
    pub scratch_bytes: u64,
    /// What it has as `/`.
    pub root: Root,
    /// Its host name.
    pub hostname: String,
    /// How it began.
    pub origin: Origin,
    /// What it may reach. Nothing, whatever it was leased with, since the engine that made it is gone: what its card
    /// led to has gone with that.
    pub network: Policy,
    /// What it may use of that.
    #[serde(default, skip_serializing_if = "net::Limits::is_default")]
    pub limits: net::Limits,
    /// Names that lead out of it, over its link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<crate::Forward>,
    /// Who has it.
    pub holder: Holder,
}

/// Who has a VM that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// Nobody: the first who asks gets it.
    Nobody,
    /// This engine.
    ThisEngine,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) until: SystemTime,
    pub(crate) made: SystemTime,
    mark: Option<String>,
    kernel: PathBuf,
    initramfs: PathBuf,
    root: Root,
    cpus: NonZeroU8,
    memory: Mebibytes,
    scratch_bytes: u64,
    bind: Bind,
    pub(crate) info: GuestInfo,
}

impl Record {
    /// That of a VM that is ready now.
    pub(crate) fn new(spec: &LeaseSpec, info: &GuestInfo, until: SystemTime) -> Self {
        let LeaseSpec { kernel, initramfs, root, cpus, memory, scratch_bytes, bind, mark, .. } = spec.clone();
        Self {
            version: VERSION,
            until,
            made: SystemTime::now(),
            mark,
            kernel,
            initramfs,
            root,
            cpus,
            memory,
            scratch_bytes,
            bind,
            info: info.clone(),
        }
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Mebibytes {
        self.memory
    }

    /// What it was leased as.
    pub(crate) fn spec(&self) -> LeaseSpec {
        let Self { until, mark, kernel, initramfs, root, cpus, memory, scratch_bytes, bind, .. } =
            self.clone();
        LeaseSpec {
            kernel,
            initramfs,
            root,
            cpus,
            memory,
            scratch_bytes,
            bind,
            on_owner_loss: OwnerLoss::Keep { until },
            mark,
            start: Start::Fork,
            when_full: WhenFull::Wait,
        }
    }

    /// As others see it.
    pub(crate) fn shown(&self, id: SlotId, holder: Holder) -> Kept {
        let Self { until, made, mark, root, cpus, memory, scratch_bytes, bind, info, .. } = self.clone();
        let Bind { hostname, network, limits, forwards, .. } = bind;
        let origin = info.origin;
        Kept {
            id,
            mark,
            made,
            until,
            cpus,
            memory,
            scratch_bytes,
            root,
            hostname,
            origin,
            network,
            limits,
            forwards,
            holder,
        }
    }
}

/// Writes it into the directory of a slot. Blocks. Not synced: it says something of a VM, which a start of the host
/// ends.
pub(crate) fn write(dir: &Path, record: &Record) -> Result<()> {
    let beside = dir.join(BESIDE);
    let text =
        serde_json::to_vec(record).map_err(io::Error::other).map_err(Error::state("write", &beside))?;
    fs::write(&beside, text).map_err(Error::state("write", &beside))?;
    let path = dir.join(FILE);
    fs::rename(&beside, &path).map_err(Error::state("write", path))
}

/// Reads that of a slot's directory; `None` where it is not there or cannot be used. Blocks.
pub(crate) fn read(dir: &Path) -> Result<Option<Record>> {
    let path = dir.join(FILE);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::state("read", path)(error)),
    }
    match serde_json::from_slice::<Record>(&text) {
        // whoever reads it is not the engine that made the VM
        Ok(mut record) if record.version == VERSION => {
            record.bind.network = Policy::none();
            Ok(Some(record))
        }
        Ok(Record { version, .. }) => {
            tracing::warn!(path = %path.display(), version, "a VM was kept by another version; it is ended");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the record of a kept VM is damaged; it is ended");
            Ok(None)
        }
    }
}

#[cfg(test)]
impl Record {
    /// Some VM's.
    pub(crate) fn of_a_test(until: SystemTime) -> Self {
        let info = GuestInfo {
            root_prefix: String::new(),
            kernel: "6.12".to_owned(),
            agent: "1".to_owned(),
            origin: Origin::Forked,
            boot: std::time::Duration::from_millis(3),
            tries: 1,
        };
        let spec = LeaseSpec {
            kernel: "/kernel".into(),
            initramfs: "/initramfs".into(),
            root: Root::Image("/root".into()),
            cpus: NonZeroU8::MIN,
            memory: Mebibytes(256),
            scratch_bytes: 1 << 30,
            bind: Bind { hostname: "guest".to_owned(), ..Bind::default() },
            on_owner_loss: OwnerLoss::Keep { until },
            mark: Some("a test's".to_owned()),
            start: Start::Fork,
            when_full: WhenFull::Wait,
        };
        Self::new(&spec, &info, until)
    }
}
