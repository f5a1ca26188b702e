//! What is being made: files and directories in `tmp/`, each locked by its maker.
//!
//! ```text
//!  made ──flock, under a shared lock of tmp.lock──▶ owned ──drop──▶ (gone)
//!                                                     │ crash: the lock is free
//!                                                     ▼
//!                                                   stale ──sweep──▶ (gone)
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    Result, Store,
    error::During as _,
    lock::{open_lock, try_exclusive},
    remove_any,
};

/// A directory in the store's `tmp/`, on the file system of the blobs; it goes when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    _lock: File,
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), |dir| dir.path())
    }

    /// Removes it and says whether that worked; a drop tries the same in silence.
    ///
    /// # Errors
    /// When something in it cannot be removed; the next sweep tries again.
    pub fn close(mut self) -> Result<()> {
        match self.dir.take() {
            Some(dir) => {
                let path = dir.path().to_owned();
                dir.close().during("remove", &path)
            }
            None => Ok(()),
        }
    }
}

/// A file in `tmp/`, locked, open for writing, removed by whoever drops the path.
pub(crate) fn temp_file(store: &Store) -> Result<(File, tempfile::TempPath)> {
    let tmp = store.part("tmp");
    let _making = making(store)?;
    let made = tempfile::Builder::new().prefix("blob-").tempfile_in(&tmp).during("make a file in", &tmp)?;
    made.as_file().lock().during("lock", made.path())?;
    Ok(made.into_parts())
}

/// Keeps a sweep away between the making of an entry and its lock.
fn making(store: &Store) -> Result<File> {
    let path = store.dir.join("tmp.lock");
    let file = open_lock(&path)?;
    file.lock_shared().during("lock", &path)?;
    Ok(file)
}

impl Store {
    /// A new directory for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch> {
        let tmp = self.part("tmp");
        let _making = making(self)?;
        let dir =
            tempfile::Builder::new().prefix("work-").tempdir_in(&tmp).during("make a directory in", &tmp)?;
        let lock = File::open(dir.path()).during("open", dir.path())?;
        lock.lock().during("lock", dir.path())?;
        Ok(Scratch { dir: Some(dir), _lock: lock })
    }

    /// Removes what makers that are gone have left in `tmp/`, by `remove`, and returns what it could not
    /// remove. Opening a store does this with ordinary means; an image build, whose files may belong to
    /// other users of a namespace, has its own.
    pub fn sweep(&self, remove: &mut dyn FnMut(&Path) -> io::Result<()>) -> Vec<PathBuf> {
        let mut left = Vec::new();
        let lock_path = self.dir.join("tmp.lock");
        let Ok(lock) = open_lock(&lock_path) else { return left };
        if !try_exclusive(&lock, &lock_path).unwrap_or(false) {
            // Somebody makes or sweeps right now; the next opening comes soon enough.
            return left;
        }
        let Ok(entries) = fs::read_dir(self.part("tmp")) else { return left };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(file) = File::open(&path) else { continue };
            if !try_exclusive(&file, &path).unwrap_or(false) {
                continue;
            }
            if let Err(error) = remove(&path).or_else(|_| remove_any(&path)) {
                tracing::debug!(path = %path.display(), %error, "a stale temporary entry stays");
                left.push(path);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_nobody_holds_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let held = store.scratch().unwrap();
        fs::write(held.path().join("x"), "x").unwrap();
        let stale = dir.path().join("tmp/work-stale");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join("x"), "x").unwrap();
        fs::write(dir.path().join("tmp/blob-stale"), "half").unwrap();

        Store::open(dir.path()).unwrap();
        assert!(held.path().join("x").exists());
        assert!(!stale.exists());
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 1);
        drop(held);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
