//! Locks between processes: advisory locks on files (flock) that end with the process, however it ends.
//!
//! Purpose: "does the owner of this still live" without process ids. Owner: whoever holds the [`Lock`].
//! Invariant: a lock file is never removed by whoever holds or wants its lock alone, only together with the
//! directory around it; where a file is removed in spite of that, [`Lock::try_take`] notices that the file
//! it locked is no longer the one with that name and tries again.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{Error, Result};

/// An exclusive lock on a file; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Lock {
    /// Takes the lock on `path`, which is made (mode 0600) where it is not there. `None`: another one has it.
    ///
    /// # Errors
    /// The file cannot be made or opened, or its file system has no locks.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        Self::take_with(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock on `path`, and waits for it. Blocks its thread.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub fn take(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::take_with(path, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    fn take_with(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let failed = |verb: &str| format!("{verb} {}", path.display());
        loop {
            let file = open(path).map_err(Error::io(failed("open")))?;
            match flock(&file, operation) {
                Ok(()) if is_at(&file, path) => return Ok(Some(Self(file.into()))),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(Error::io(failed("lock"))(error)),
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether some process holds the lock on `path`. A file that is not there is not locked.
///
/// # Errors
/// The file is there and cannot be opened.
pub fn is_held(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io(format!("open {}", path.display()))(error)),
    };
    // A shared lock, so that two who only look do not see each other as the holder.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(Error::io(format!("lock {}", path.display()))(error)),
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_none_after_a_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let lock = Lock::try_take(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(lock);
        assert!(!is_held(&path).unwrap());
        drop(Lock::take(&path).unwrap());
    }

    #[test]
    fn the_lock_of_a_removed_file_is_not_the_lock_of_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _old = Lock::try_take(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
