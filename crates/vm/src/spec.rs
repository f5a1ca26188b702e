//! What a VM is made of.

use std::{fmt, num::NonZeroU8, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Ram;

/// An amount of memory in MiB (1,048,576 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub u32);

impl Mebibytes {
    /// The same amount in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// Which drive of a VM; the guest sees it as the serial number of a virtio block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriveId {
    /// The shared, read-only root image; serial `root`.
    Root,
    /// The fresh, writable disk of this VM; serial `scratch`.
    Scratch,
}

impl DriveId {
    /// The serial number that the guest reads.
    #[must_use]
    pub const fn serial(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Scratch => "scratch",
        }
    }
}

/// How a drive may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriveMode {
    /// The guest cannot write it, whatever it does.
    ReadOnly,
    /// The guest may write it; a full host disk becomes an I/O error in the guest.
    ReadWrite,
}

/// One drive: a raw image file.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Its name.
    pub id: DriveId,
    /// The raw image; its size is a multiple of 512 bytes.
    pub image: PathBuf,
    /// How it may be used.
    pub mode: DriveMode,
}

/// Where the memory of a machine is.
#[derive(Clone, Debug)]
pub enum Memory {
    /// Its own, of that size.
    Own(Mebibytes),
    /// In a file of the engine's that the machine writes to: a machine that is booted to be saved. It is
    /// saved once and stands still after that.
    Shared(Ram),
}

impl Memory {
    /// Its size.
    #[must_use]
    pub fn size(&self) -> Mebibytes {
        match self {
            Self::Own(size) => *size,
            Self::Shared(ram) => ram.size(),
        }
    }
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct BootSpec {
    /// Uncompressed or bzImage Linux kernel.
    pub kernel: PathBuf,
    /// Initramfs with the agent as `/init`.
    pub initramfs: PathBuf,
    /// Added to the backend's own kernel arguments.
    pub kernel_args: Vec<String>,
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory.
    pub memory: Memory,
    /// Drives, in the order in which the guest meets them.
    pub drives: Vec<Drive>,
    /// Where its network card leads: a tap of any network namespace, with `IFF_VNET_HDR` and without packet
    /// information. None: nowhere. Whether there is one changes nothing in the machine; a backend whose VMs have no
    /// card ([`crate::Capabilities::no_card`]) refuses one, or lets it be.
    pub tap: Option<Arc<OwnedFd>>,
}
