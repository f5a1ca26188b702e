//! What a template depends on, and the name that follows from it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use store::Digest;
use vm::BackendKey;
use wire::message::Directory;

use crate::{Error, LeaseSpec, Result, Root, scratch};

/// Changes with whatever a template is made by that is not in [`Kind`].
const FORMAT: u32 = 3;

/// Everything that a template depends on. Two leases with the same kind share one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kind {
    format: u32,
    /// The VMM and the host.
    pub(crate) backend: BackendKey,
    pub(crate) cpus: u8,
    pub(crate) memory_mib: u32,
    kernel: Option<Input>,
    initramfs: Option<Input>,
    /// None: hosted.
    pub(crate) root: Option<Input>,
    /// The writable disk, as it lies under the file system that the guest has mounted; none: hosted.
    pub(crate) scratch_bytes: Option<u64>,
    /// What lies on that disk, and is mounted.
    directories: Vec<Directory>,
}

/// A file that a VM boots from. One that nobody may write, as all of the store, never changes under its name, and
/// its time says when it was used; one that a person may write has another time when it is another file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) path: String,
    size: u64,
    inode: u64,
    changed_ns: Option<i128>,
}

impl Input {
    fn look(path: &Path) -> Result<Self> {
        let found = fs::canonicalize(path).and_then(|path| Ok((fs::metadata(&path)?, path)));
        let (metadata, path) = found.map_err(Error::state("look at", path))?;
        Ok(Self {
            path: path.to_string_lossy().into_owned(),
            size: metadata.size(),
            inode: metadata.ino(),
            changed_ns: (metadata.mode() & 0o222 != 0)
                .then(|| i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())),
        })
    }

    /// Whether it is what it was.
    fn is_there(&self) -> bool {
        Self::look(Path::new(&self.path)).is_ok_and(|now| now == *self)
    }
}

impl Kind {
    /// That of a VM of `spec` on the backend with this key. Blocks.
    pub(crate) fn of(backend: BackendKey, spec: &LeaseSpec) -> Result<Self> {
        let (kernel, initramfs, root) = match &spec.root {
            Root::Image(root) => {
                let [kernel, initramfs, root] =
                    [&spec.kernel, &spec.initramfs, root].map(|path| Input::look(path));
                (Some(kernel?), Some(initramfs?), Some(root?))
            }
            // nothing is booted
            Root::Hosted => (None, None, None),
        };
        let (scratch_bytes, directories) = match &spec.root {
            Root::Image(_) => (Some(scratch::size(spec.scratch_bytes)), spec.bind.common()),
            Root::Hosted => (None, Vec::new()),
        };
        Ok(Self {
            format: FORMAT,
            backend,
            cpus: spec.cpus.get(),
            memory_mib: spec.memory.0,
            kernel,
            initramfs,
            root,
            scratch_bytes,
            directories,
        })
    }

    /// Whether a lease can still ask for it, as far as it is about files. Blocks.
    pub(crate) fn is_current(&self) -> bool {
        self.format == FORMAT && self.inputs().all(Input::is_there)
    }

    /// The files that it is made of.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.inputs().map(|input| PathBuf::from(&input.path))
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        [&self.kernel, &self.initramfs, &self.root].into_iter().flatten()
    }

    /// Its name: 64 hexadecimal digits.
    pub(crate) fn key(&self) -> String {
        // numbers and texts: it cannot fail, and were it empty nothing would be found under it
        Digest::of(serde_json::to_vec(self).unwrap_or_default()).hex()
    }
}

#[cfg(test)]
pub(super) fn for_tests(root: &str) -> Kind {
    let input = |path: &str| Input { path: path.to_owned(), size: 1, inode: 2, changed_ns: Some(3) };
    Kind { kernel: Some(input("/k")), ..of_file_for_tests(input(root)) }
}

/// One that can be asked for as long as `root` is what it is.
#[cfg(test)]
pub(super) fn of_file(root: &Path) -> Kind {
    of_file_for_tests(Input::look(root).unwrap())
}

#[cfg(test)]
fn of_file_for_tests(root: Input) -> Kind {
    Kind {
        format: FORMAT,
        backend: BackendKey("fake".to_owned()),
        cpus: 1,
        memory_mib: 4,
        kernel: None,
        initramfs: None,
        root: Some(root),
        scratch_bytes: Some(1 << 20),
        directories: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use wire::message::Account;

    use super::*;

    #[test]
    fn the_use_of_a_file_that_nobody_may_write_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        let touch = || {
            let file = fs::File::open(&path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        };
        let before = Input::look(&path).unwrap();
        touch();
        assert_ne!(Input::look(&path).unwrap(), before);
        let mut mode = fs::metadata(&path).unwrap().permissions();
        mode.set_readonly(true);
        fs::set_permissions(&path, mode).unwrap();
        let before = Input::look(&path).unwrap();
        touch();
        assert_eq!(Input::look(&path).unwrap(), before);
    }

    #[test]
    fn whatever_changes_gives_another_key() {
        let kind = for_tests("/r");
        let mut others = vec![for_tests("/other")];
        for change in [
            (|kind| kind.cpus = 2) as fn(&mut Kind),
            |kind| kind.memory_mib = 8,
            |kind| kind.backend = BackendKey("fake 2".to_owned()),
            |kind| kind.kernel = None,
            |kind| kind.scratch_bytes = Some(2 << 20),
            |kind| {
                let directory = Directory { path: "/tmp".to_owned(), owner: Account::ROOT, mode: 0o1777 };
                kind.directories.push(directory);
            },
            |kind| kind.format += 1,
        ] {
            let mut other = kind.clone();
            change(&mut other);
            others.push(other);
        }
        assert_eq!(kind.key(), for_tests("/r").key());
        assert!(others.iter().all(|other| other.key() != kind.key()));
        assert_eq!(kind.key().len(), 64);
    }
}
