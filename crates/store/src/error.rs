//! What can go wrong in a store.

use std::{io, path::Path, path::PathBuf};

use crate::Digest;

/// Result of a store's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of the store failed. Nothing half done is left behind by any of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or this user's share of it, is full.
    #[error("no space left on the disk of {}", at.display())]
    Full {
        /// What was being written.
        at: PathBuf,
    },
    /// Another failure of the file system.
    #[error("could not {doing} {}", at.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        at: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such blob.
    #[error("the store has no blob {digest}")]
    Missing {
        /// The one that was asked for.
        digest: Digest,
    },
    /// A blob's content is not what its name says; it was damaged on the disk.
    #[error("the blob {digest} is damaged: its content has the digest {found}")]
    Corrupt {
        /// What it should be.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// The blob may not be removed.
    #[error("the blob {digest} is in use by {pin:?}")]
    Pinned {
        /// The blob.
        digest: Digest,
        /// One of the pins that hold it.
        pin: String,
    },
    /// A blob is larger than the caller allows.
    #[error("the blob {digest} has {size} bytes; at most {limit} were expected")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// A pin or key file holds something else.
    #[error("{} is not a record of the store", at.display())]
    Record {
        /// The file.
        at: PathBuf,
    },
}

/// Why [`crate::Store::get_or_build`] made nothing: the store's failure or the builder's own.
#[derive(Debug, thiserror::Error)]
pub enum BuildError<E> {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The builder failed.
    #[error(transparent)]
    Build(E),
}

impl Error {
    /// Sorts an error of the system: a full disk is told apart from all others.
    #[must_use]
    pub fn from_io(doing: &'static str, at: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { at: at.to_owned() },
            _ => Error::Io { doing, at: at.to_owned(), source },
        }
    }
}

pub(crate) trait During<T> {
    fn during(self, doing: &'static str, at: &Path) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, doing: &'static str, at: &Path) -> Result<T> {
        self.map_err(|source| Error::from_io(doing, at, source))
    }
}
