//! The directory that a running Gitea lives in.
//!
//! Purpose: a place that the server's user can read whatever the modes above the target directory are, with the
//! binary and its files linked into it, and a part that is its own.
//! Owner: the process that made it, for as long as it holds the lock on the directory.
//!
//! Invariants
//! - It is locked before it gets the name that [`Home::sweep`] looks for: a directory of that name whose lock is
//!   free belongs to a process that died, and is removed by the next one.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use super::{Error, Result, program::Program, user::User};

const PREFIX: &str = "ampoule-gitea-";

/// How a tree of files is taken over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A copy that shares nothing.
    Copy,
    /// A second name where the file system allows it, since nobody writes to it.
    Link,
}

/// A running server's directory, removed on drop.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    /// Its lock, free when this process is gone.
    _lock: File,
}

impl Home {
    /// Makes one, after removing those of dead processes.
    pub(super) fn new() -> Result<Self> {
        let all = std::env::temp_dir();
        Self::sweep(&all);
        let fresh = tempfile::Builder::new().prefix(".new-ampoule-gitea-").tempdir_in(&all);
        let fresh = fresh.map_err(Error::io(format!("make a directory in {}", all.display())))?.keep();
        let lock = File::open(&fresh).map_err(Error::io(format!("open {}", fresh.display())))?;
        lock.lock().map_err(Error::io(format!("lock {}", fresh.display())))?;
        let dir = all.join(format!("{PREFIX}{}", random_part(&fresh)));
        fs::rename(&fresh, &dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let home = Self { dir, _lock: lock };
        // the server's user looks through it, and sees only what it is given
        mode(&home.dir, 0o711)?;
        Ok(home)
    }

    /// Removes what processes left that were killed.
    fn sweep(all: &Path) {
        let Ok(entries) = fs::read_dir(all) else { return };
        for entry in entries.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if ours && File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
                // another user's stays where it is
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Gives it what the server reads; where that is.
    pub(super) fn install(&self, program: &Program) -> Result<Program> {
        let here = Program { binary: self.dir.join("gitea"), files: self.dir.join("static") };
        place(&program.binary, &here.binary, How::Link)?;
        copy_tree(&program.files, &here.files, How::Link)?;
        Ok(here)
    }

    /// The part that the server's user may write to.
    pub(super) fn work(&self, user: User) -> Result<PathBuf> {
        let work = self.dir.join("work");
        for dir in [work.clone(), work.join("home"), work.join("tmp")] {
            fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
            give(&dir, user)?;
        }
        mode(&work, 0o700)?;
        Ok(work)
    }

    /// Where the server's output goes.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("gitea.log")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // a process of the server's that is just ending may write once more: the next start sweeps
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The random end of a temporary name.
fn random_part(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('-').next().unwrap_or_default().to_owned()
}

/// Makes a path the server's user's.
pub(super) fn give(path: &Path, user: User) -> Result<()> {
    match user {
        User::Same => Ok(()),
        User::Other { uid, gid } => {
            chown(path, Some(uid), Some(gid)).map_err(Error::io(format!("give away {}", path.display())))
        }
    }
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    let done = fs::set_permissions(path, Permissions::from_mode(mode));
    done.map_err(Error::io(format!("set the mode of {}", path.display())))
}

/// Takes over directories and plain files, readable for all.
pub(super) fn copy_tree(from: &Path, to: &Path, how: How) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io(format!("make {}", to.display())))?;
    mode(to, 0o755)?;
    for entry in fs::read_dir(from).map_err(Error::io(format!("read {}", from.display())))? {
        let entry = entry.map_err(Error::io(format!("read {}", from.display())))?;
        let kind = entry.file_type().map_err(Error::io(format!("look at {}", entry.path().display())))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&from, &to, how)?;
        } else if kind.is_file() {
            place(&from, &to, how)?;
        }
    }
    Ok(())
}

fn place(from: &Path, to: &Path, how: How) -> Result<()> {
    // not across file systems, and not to another user's file: then a copy does
    if how == How::Link && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map_err(Error::io(format!("copy {}", from.display())))?;
    let executable = fs::metadata(from).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    mode(to, if executable { 0o755 } else { 0o644 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_its_owner_or_at_the_next_start() {
        let home = Home::new().expect("a directory");
        let dir = home.dir.clone();
        Home::sweep(&std::env::temp_dir());
        assert!(dir.is_dir(), "a living one's stays");
        drop(home);
        assert!(!dir.exists());
        fs::create_dir(&dir).expect("what a killed process left");
        Home::sweep(&std::env::temp_dir());
        assert!(!dir.exists());
    }

    #[test]
    fn a_tree_is_taken_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("below")).expect("directories");
        fs::write(from.join("below/file"), "text").expect("a file");
        for (how, name) in [(How::Copy, "copied"), (How::Link, "linked")] {
            let to = dir.path().join(name);
            copy_tree(&from, &to, how).expect("taken over");
            assert_eq!(fs::read_to_string(to.join("below/file")).expect("the file"), "text");
        }
    }
}
