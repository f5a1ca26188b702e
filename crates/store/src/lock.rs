//! Locks between processes: one builder per key, and "in use" against garbage collection.
//!
//! They are flocks, so that a killed process holds none. A lock file is only unlinked by who holds it;
//! who then gets a lock on an unlinked file sees that and starts again.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Digest, Result, Store,
    error::{During as _, Error},
};

/// The right to build one key; ends when dropped.
#[derive(Debug)]
pub struct KeyLock {
    _file: File,
}

/// While one of these lives, garbage collection removes nothing that was used within a day.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Store {
    /// Waits for the right to build `key`.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self, key: &str) -> Result<KeyLock> {
        let path = self.lock_path(key);
        loop {
            let file = open_lock(&path)?;
            file.lock().during("lock", &path)?;
            if is_current(&file, &path)? {
                return Ok(KeyLock { _file: file });
            }
        }
    }

    /// The right to build `key`, or `None` while another has it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn try_lock(&self, key: &str) -> Result<Option<KeyLock>> {
        let path = self.lock_path(key);
        loop {
            let file = open_lock(&path)?;
            if !try_exclusive(&file, &path)? {
                return Ok(None);
            }
            if is_current(&file, &path)? {
                return Ok(Some(KeyLock { _file: file }));
            }
        }
    }

    /// Says that blobs which are not pinned yet are in use.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn hold(&self) -> Result<Hold> {
        let path = self.dir.join("gc.lock");
        let file = open_lock(&path)?;
        file.lock_shared().during("lock", &path)?;
        Ok(Hold { _file: file })
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.part("locks").join(Digest::of(key).hex())
    }
}

pub(crate) fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).during("open the lock", path)
}

/// Whether the exclusive lock could be had at once.
pub(crate) fn try_exclusive(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(Error::from_io("lock", path, source)),
    }
}

fn is_current(file: &File, path: &Path) -> Result<bool> {
    let held = file.metadata().during("look at", path)?;
    match std::fs::metadata(path) {
        Ok(named) => Ok(named.ino() == held.ino() && named.dev() == held.dev()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::from_io("look at", path, error)),
    }
}
