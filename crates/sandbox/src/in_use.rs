//! What the files that VMs boot from are used for, for whoever wants to remove some.
//!
//! Purpose: a VM that is kept outlives the process that made sure of its files, and is reached by another process, which
//! forks branches of it; a snapshot that is usable is of no use without what it was made of. Owner: nobody; it is read
//! from the state directory, where nothing is changed and nothing made.

use std::path::{Path, PathBuf};

use vm::SlotId;

use crate::{
    Result, Root,
    journal::{self, Journal},
    kept,
    snapshots::files_of_usable,
};

/// The files of images that are in use beside those of leases: whoever leases holds what it leases of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesInUse {
    /// By VMs that are kept and run, whether anybody owns them or not; the oldest first.
    pub vms: Vec<FilesOfVm>,
    /// By snapshots that are usable.
    pub snapshots: Vec<PathBuf>,
}

/// What a VM was leased with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesOfVm {
    /// Name of its slot.
    pub id: SlotId,
    /// Whose it is, as its lease said.
    pub mark: Option<String>,
    /// Linux kernel.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initramfs: PathBuf,
    /// What it has as `/`.
    pub root: PathBuf,
}

impl FilesOfVm {
    /// `None`: nothing of an image boots in it.
    fn of((id, record): (SlotId, kept::Record)) -> Option<Self> {
        let spec = record.spec();
        let Root::Image(root) = spec.root else { return None };
        Some(Self { id, mark: spec.mark, kernel: spec.kernel, initramfs: spec.initramfs, root })
    }
}

/// The files of images that something in a state directory uses. Blocks.
///
/// # Errors
/// The directory cannot be read.
pub fn files_in_use(state_dir: &Path) -> Result<FilesInUse> {
    let vms = journal::kept_by_anybody(state_dir)?.into_iter().filter_map(FilesOfVm::of).collect();
    Ok(FilesInUse { vms, snapshots: files_of_usable(state_dir)? })
}

/// Whether an engine was ever opened in a directory: elsewhere nothing is kept, and nothing has to be made to see that.
#[must_use]
pub fn is_state_dir(dir: &Path) -> bool {
    Journal::is_in(dir)
}
