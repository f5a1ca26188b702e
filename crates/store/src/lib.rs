//! Content-addressed blobs on this host's disk.
//!
//! Purpose: images, kernels, initramfs and, later, actions and OCI layers are kept once, by the digest
//! of what they hold, and shared by every process that uses one state directory.
//! Owner: any number of processes; each has its own [`Store`] on the same directory. All calls block;
//! async callers move them to a blocking thread.
//!
//! Invariants
//! - A blob's path exists only when its whole content is on disk and has that digest. Blobs are mode
//!   0444 and never change.
//! - What makes a blob writes to `tmp/`, syncs, renames, syncs the directory. After a crash there is the
//!   old state or the new one; what was left in `tmp/` goes when the store is next opened, because its
//!   lock is free.
//! - A pin names blobs that [`Store::gc`] keeps; a key is a weak name, which may lose its blob.
//! - One key is built once at a time, across processes ([`Store::get_or_build`], [`Store::lock`]).
//!
//! ```text
//! DIR/blobs/ab/ab12…    content          DIR/pins/<name>     digests, one per line
//! DIR/keys/<sha256>     a weak name      DIR/locks/<sha256>  flock of a key
//! DIR/tmp/<random>      being written, flocked by its writer
//!
//!   writer ──finish: sync, digest, rename──▶ blob ──gc: not pinned, old or over quota──▶ (gone)
//!     └─────────── drop, crash ────────────▶ (gone)
//! ```

mod blob;
mod digest;
mod error;
mod gc;
mod lock;
mod names;
mod temp;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use blob::Writer;
pub use digest::{Digest, InvalidDigest};
pub use error::{BuildError, Error, Result};
pub use gc::{Collected, Collecting, GcPolicy};
pub use lock::{Hold, KeyLock};
pub use names::{InvalidPinName, PinName};
pub use temp::Scratch;

use error::During as _;

/// A store in one directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, which is made if it is not there, and removes what crashed writers left.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Store> {
        let store = Store { dir: dir.into() };
        for part in ["blobs", "keys", "pins", "locks", "tmp"] {
            let path = store.dir.join(part);
            fs::create_dir_all(&path).during("make the store's directory", &path)?;
        }
        store.sweep(&mut |path| remove_any(path));
        Ok(store)
    }

    /// The directory of this store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn part(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Removes a file or a whole directory.
fn remove_any(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Makes a rename or removal in `dir` last through a crash.
fn sync_dir(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).during("sync a directory", dir)
}
