//! What makes a guest ready: ahead of its snapshot, after a boot, and after a fork.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Account, ExecId, Network};

/// Random bytes for the guest's kernel; their `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Entropy(pub Vec<u8>);

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entropy({} bytes)", self.0.len())
    }
}

impl Serialize for Entropy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Entropy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Self).map_err(|_| D::Error::custom("entropy is not base64"))
    }
}

/// What to do ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    /// Serial number of the read-only disk, as `DriveId::serial` has it.
    pub root: String,
    /// Its file system.
    pub fs: RootFs,
}

/// Who a guest is, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// As in [`Prepare`].
    pub hostname: String,
    /// As in [`Prepare`].
    pub machine_id: String,
    /// As in [`Prepare`].
    pub clock_ns: u64,
    /// As in [`Prepare`].
    pub entropy: Entropy,
    /// As in [`Prepare`]; those that it made stay.
    pub directories: Vec<Directory>,
    /// What becomes of executions that another host asked for, before this one's first [`Start`].
    #[serde(default, skip_serializing_if = "Inherited::is_going_on")]
    pub inherited: Inherited,
    /// When the image's hooks run.
    #[serde(default, skip_serializing_if = "Hooks::is_now")]
    pub hooks: Hooks,
    /// The ways out; none: what there was stays, at first nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// What becomes, in a fork, of the executions that ran when its parent was saved. Nobody hears of them any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inherited {
    /// They go on.
    #[default]
    GoOn,
    /// All are killed, with everything that they started, before anything of the job goes on.
    Kill,
    /// Those of the parent's last epoch with these names are killed so; the others go on.
    KillOnly(Vec<ExecId>),
}

impl Inherited {
    fn is_going_on(&self) -> bool {
        *self == Self::GoOn
    }
}

/// When the image's own hooks for a new guest run: the programs in `/etc/ampoule/after-fork.d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hooks {
    /// At the end of the request.
    #[default]
    Now,
    /// At the end of a `Bind` that follows.
    Later,
}

impl Hooks {
    fn is_now(&self) -> bool {
        *self == Self::Now
    }
}

/// Makes a guest ready for commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// What becomes `/`.
    pub root: Root,
    /// Host name: letters, digits, `-` and `.`, at most 64.
    pub hostname: String,
    /// 32 lower-case hexadecimal digits, for `/etc/machine-id`.
    pub machine_id: String,
    /// The time now, in nanoseconds since 1970 (UTC).
    pub clock_ns: u64,
    /// At least 64 bytes for the kernel's random generator.
    pub entropy: Entropy,
    /// Made in this order.
    pub directories: Vec<Directory>,
    /// When the image's hooks run.
    #[serde(default, skip_serializing_if = "Hooks::is_now")]
    pub hooks: Hooks,
    /// The ways out; none: what there was stays, at first nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// What becomes the root file system of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Root {
    /// A read-only disk under an overlay whose upper half is on a writable ext4 disk.
    Disks {
        /// Serial number of the read-only disk, as `DriveId::serial` has it.
        root: String,
        /// Its file system.
        fs: RootFs,
        /// Serial number of the writable disk, formatted as ext4.
        scratch: String,
    },
    /// What the agent finds: it is no PID 1 and mounts nothing (hosted mode).
    Hosted,
}

/// File system of a root image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootFs {
    /// squashfs
    Squashfs,
    /// erofs
    Erofs,
}

impl RootFs {
    /// Its name as mount(2) takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

/// A directory that lies on the scratch disk itself, not in the overlay, mounted over `path`. One below
/// another such directory is simply made there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute path in the guest.
    pub path: String,
    /// Who owns it.
    pub owner: Account,
    /// Permission bits, as 0o1777.
    pub mode: u32,
}
