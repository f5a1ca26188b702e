//! Directories that one archive is made in.
//!
//! Purpose: what a killed runner leaves is removed by the next one that makes an archive.
//! Owner: the archive; a directory goes when it is dropped. Invariant: each holds a lock file that is locked for
//! as long as its owner lives, and directories are made and swept under one lock, so that none is taken for dead
//! before it is locked.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

const LOCK: &str = "lock";
const PREFIX: &str = "tree-";

/// A directory of its own.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: tempfile::TempDir,
    _alive: File,
}

impl Scratch {
    /// Makes one below `place`, and removes those of the dead. Blocks.
    pub(super) fn new(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        let making = lock_file(&place.join(LOCK))?;
        making.lock()?;
        sweep(place)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        let alive = lock_file(&dir.path().join(LOCK))?;
        alive.lock()?;
        fs::create_dir(dir.path().join("repository"))?;
        Ok(Self { dir, _alive: alive })
    }

    /// Where the repository is made.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("repository")
    }
}

/// A file that exists to be locked.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

fn sweep(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if named && lock_file(&path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_goes_and_what_lives_stays() {
        let place = tempfile::tempdir().unwrap();
        let dead = place.path().join("tree-dead");
        fs::create_dir_all(dead.join("repository")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let first = Scratch::new(place.path()).unwrap();
        assert!(!dead.exists());
        let second = Scratch::new(place.path()).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        let gone = first.path();
        drop(first);
        assert!(!gone.exists() && second.path().is_dir());
    }
}
