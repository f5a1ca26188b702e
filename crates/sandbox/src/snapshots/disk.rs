//! The snapshots of a state directory, on disk.
//!
//! ```text
//! snapshots/<key>/manifest   what it depends on, digests        snapshots/<key>/ram    the memory, with holes
//! snapshots/<key>/state      devices                            snapshots/<key>/disk   the scratch disk, with holes
//! snapshots/<key>/used       touched at each load
//! snapshots/.new-<id>/       being written                      snapshots/.dead-<id>/  being removed
//! snapshots/locks/<key>      held while one is built            snapshots/pins/<key>   it stays, used or not
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jail::lock::Lock;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use store::Digest;
use vm::{Backend, Mebibytes, SlotId, Snapshot};

use super::{
    Built, Guest, MAX_AGE, Template,
    hosts::Hosts,
    key::Kind,
    manifest::{Manifest, Ready},
    memory::{self, Fault},
};
use crate::{Error, Result, identity::lock_failed};

const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = "manifest";
const RAM: &str = "ram";
const STATE: &str = "state";
const DISK: &str = "disk";
const USED: &str = "used";
const OWNER: &str = "lock";
const NEW: &str = ".new-";
const DEAD: &str = ".dead-";
const LOCKS: &str = "locks";
const PINS: &str = "pins";
/// A manifest has about 100 bytes for each MiB of memory.
const MOST_MANIFEST: u64 = 64 << 20;
const MOST_STATE: u64 = 64 << 20;

/// What stays when a new one is kept: nobody has to collect by hand.
const TIDY: SnapshotGc =
    SnapshotGc { unused: Some(Duration::from_secs(7 * 24 * 60 * 60)), quota: Some(16 << 30) };

/// The snapshots of a state directory.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    hosts: Hosts,
}

/// A snapshot as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// 64 hexadecimal digits.
    pub key: String,
    /// When it was made.
    pub made: SystemTime,
    /// When it was loaded last.
    pub used: SystemTime,
    /// The root image; none where the backend boots nothing.
    pub root: Option<PathBuf>,
    /// Virtual processors.
    pub cpus: u8,
    /// Memory.
    pub memory: Mebibytes,
    /// Size of the writable disk of its forks in bytes; none where the backend boots nothing.
    pub disk_bytes: Option<u64>,
    /// What it depends on beside those: the VMM and this host.
    pub backend: String,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
    /// Whether anybody can use it.
    pub standing: Standing,
    /// Whether it stays as long as it is of use, however long nobody used it.
    pub pinned: bool,
}

/// Whether anybody can use a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// By a VM of its kind; where no backend was asked, on a host and a VMM as those that it was made on.
    Usable,
    /// It is too old.
    Expired,
    /// Something that it was made of is gone, or is another: no VM asks for it any more.
    Orphaned,
    /// It was made by another version of the VMM, with other arguments or on another host: none asks for it either.
    Unfit,
}

/// What may stay when snapshots are collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotGc {
    /// Those that were not used for longer go.
    pub unused: Option<Duration>,
    /// Then, the one first that was not used for the longest time, while all together have more bytes than this.
    pub quota: Option<u64>,
}

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsRemoved {
    /// Keys of what was removed.
    pub removed: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

impl Disk {
    pub(super) fn open(state_dir: &Path, hosts: Hosts) -> Result<Self> {
        let dir = state_dir.join(SNAPSHOTS);
        let locks = dir.join(LOCKS);
        DirBuilder::new().recursive(true).mode(0o700).create(&locks).map_err(Error::state("make", &locks))?;
        let disk = Self { dir, hosts };
        disk.sweep()?;
        Ok(disk)
    }

    /// Removes what dead processes were writing or removing.
    fn sweep(&self) -> Result<()> {
        for name in self.names()? {
            let dir = self.dir.join(&name);
            if name.starts_with(DEAD) || (name.starts_with(NEW) && self.is_abandoned(&dir)?) {
                remove_tree(&dir)?;
            }
        }
        Ok(())
    }

    fn is_abandoned(&self, dir: &Path) -> Result<bool> {
        let path = dir.join(OWNER);
        match Lock::try_take(&path) {
            Ok(free) => Ok(free.is_some()),
            Err(_) if !dir.exists() => Ok(false),
            Err(error) => Err(lock_failed(error, &path)),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.dir).map_err(Error::state("read", &self.dir))?;
        entries
            .map(|entry| entry.map_err(Error::state("read", &self.dir)))
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    /// Held by whoever builds `key`. Blocks until nobody else does.
    pub(super) fn lock(&self, key: &str) -> Result<Lock> {
        let path = self.dir.join(LOCKS).join(key);
        Lock::take(&path).map_err(|error| lock_failed(error, &path))
    }

    /// The snapshot `key`, compared and in memory. `None`: it is not there, too old, or damaged, which moves it
    /// away.
    pub(super) fn load(&self, key: &str) -> Result<Option<Template>> {
        match self.try_load(key) {
            Ok(Some(template)) if template.is_fresh() => Ok(Some(template)),
            Ok(None) => Ok(None),
            Ok(Some(_)) => {
                tracing::info!(key, "a template is too old and is made anew");
                self.remove(key)?;
                Ok(None)
            }
            Err(why) => {
                tracing::warn!(key, "the snapshot cannot be used and is made anew: {why}");
                self.remove(key)?;
                Ok(None)
            }
        }
    }

    /// `Err`: what is wrong with it.
    fn try_load(&self, key: &str) -> Result<Option<Template>, String> {
        let dir = self.dir.join(key);
        let Some(manifest) = self.manifest(key)? else { return Ok(None) };
        let words = |what: &str, fault: Fault| match fault {
            Fault::Io(error) => format!("its {what} cannot be read: {error}"),
            Fault::Damaged(text) => text,
        };
        let state =
            read_capped(&dir.join(STATE), MOST_STATE).map_err(|error| words("state", error.into()))?;
        if Digest::of(&state) != manifest.state {
            return Err("the state of its devices is not what was saved".to_owned());
        }
        let size = Mebibytes(manifest.kind.memory_mib);
        let ram = open(&dir.join(RAM)).map_err(Fault::from);
        let ram = ram.and_then(|file| memory::read(&file, size, &manifest.memory));
        let ram = ram.map_err(|fault| words("memory", fault))?;
        let guest = match manifest.ready {
            None => None,
            Some(Ready { kernel, disk }) => {
                let size = manifest.kind.scratch_bytes.unwrap_or_default();
                let file = open(&dir.join(DISK)).map_err(Fault::from);
                let file = file.and_then(|file| memory::read_disk(&file, size, &disk));
                Some(Guest { kernel, disk: file.map_err(|fault| words("disk", fault))? })
            }
        };
        // a matter of what is collected first
        let _ = File::create(dir.join(USED)).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(Template { snapshot: Snapshot { ram, state: state.into() }, guest, made: manifest.made }))
    }

    fn manifest(&self, key: &str) -> Result<Option<Manifest>, String> {
        match read_capped(&self.dir.join(key).join(MANIFEST), MOST_MANIFEST) {
            Ok(text) => Manifest::parse(&text, key).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.dir.join(key).exists() => Ok(None),
            Err(error) => Err(format!("its manifest cannot be read: {error}")),
        }
    }

    /// Keeps what was saved, whose machine is gone, under `key`; the lock of `key` is held.
    pub(super) fn keep(&self, key: &str, kind: &Kind, built: Built) -> Result<Template> {
        let Built { saved: vm::Saved { ram, state, .. }, guest } = built;
        memory::seal(&ram).map_err(Error::state("seal the memory of a template in", &self.dir))?;
        let made = SystemTime::now();
        let new = self.dir.join(format!("{NEW}{}", SlotId::new()));
        let written = self.write(&new, &ram, &state, guest.as_ref(), |memory, ready| Manifest {
            kind: kind.clone(),
            made,
            state: Digest::of(&state),
            memory,
            ready,
        });
        let kept = written.and_then(|lock| {
            self.remove(key)?;
            fs::rename(&new, self.dir.join(key)).map_err(Error::state("keep", &new))?;
            drop(lock);
            Ok(())
        });
        let tidied = kept.and_then(|()| self.collect(&TIDY).map(drop));
        if let Err(error) = tidied {
            // it serves this engine all the same
            tracing::warn!(%error, "a template cannot be kept on disk, or an old one not be removed");
            let _ = remove_tree(&new);
        }
        Ok(Template { snapshot: Snapshot { ram, state: state.into() }, guest, made })
    }

    fn write(
        &self,
        new: &Path,
        ram: &vm::Ram,
        state: &[u8],
        guest: Option<&Guest>,
        manifest: impl FnOnce(Vec<memory::Extent>, Option<Ready>) -> Manifest,
    ) -> Result<Lock> {
        DirBuilder::new().mode(0o700).create(new).map_err(Error::state("make", new))?;
        let lock_path = new.join(OWNER);
        let lock = Lock::take(&lock_path).map_err(|error| lock_failed(error, &lock_path))?;
        let sparse = |name: &str, from: BorrowedFd<'_>| {
            let path = new.join(name);
            let extents = create(&path).and_then(|file| memory::write(from, &file));
            extents.map_err(Error::state("write", &path))
        };
        let extents = sparse(RAM, ram.as_fd())?;
        let ready = match guest {
            None => None,
            Some(Guest { kernel, disk }) => {
                Some(Ready { kernel: kernel.clone(), disk: sparse(DISK, disk.as_fd())? })
            }
        };
        for (name, bytes) in [(STATE, state), (MANIFEST, &manifest(extents, ready).text())] {
            let path = new.join(name);
            let written = create(&path).and_then(|mut file| io::Write::write_all(&mut file, bytes));
            written.map_err(Error::state("write", &path))?;
        }
        Ok(lock)
    }

    /// Moves `key` away and removes it; fine when it is not there.
    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        let dir = self.dir.join(key);
        let dead = self.dir.join(format!("{DEAD}{}", SlotId::new()));
        match fs::rename(&dir, &dead) {
            Ok(()) => remove_tree(&dead),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::state("remove", dir)(error)),
        }
    }

    /// All, the oldest first. What is damaged is passed over: its next use finds out.
    pub(crate) fn list(&self) -> Result<Vec<SnapshotInfo>> {
        let all = self.manifests()?.into_iter();
        let mut found: Vec<SnapshotInfo> = all.map(|(key, manifest)| self.info(key, manifest)).collect();
        found.sort_by_key(|info| info.made);
        Ok(found)
    }

    fn manifests(&self) -> Result<Vec<(String, Manifest)>> {
        let keys = self.names()?.into_iter().filter(|name| name.len() == 64);
        Ok(keys.filter_map(|key| self.manifest(&key).ok().flatten().map(|found| (key, found))).collect())
    }

    fn info(&self, key: String, manifest: Manifest) -> SnapshotInfo {
        let dir = self.dir.join(&key);
        let used = fs::metadata(dir.join(USED)).and_then(|found| found.modified()).unwrap_or(manifest.made);
        let sizes = [RAM, STATE, DISK, MANIFEST]
            .map(|name| fs::metadata(dir.join(name)).map_or(0, |found| found.blocks() * 512));
        let Manifest { kind, made, .. } = manifest;
        let standing = if made.elapsed().is_ok_and(|age| age >= MAX_AGE) {
            Standing::Expired
        } else if self.hosts.is_stale(&kind.backend) {
            Standing::Unfit
        } else if kind.is_current() {
            Standing::Usable
        } else {
            Standing::Orphaned
        };
        let pinned = self.dir.join(PINS).join(&key).exists();
        SnapshotInfo {
            pinned,
            key,
            made,
            used,
            root: kind.root.map(|root| root.path.into()),
            cpus: kind.cpus,
            memory: Mebibytes(kind.memory_mib),
            disk_bytes: kind.scratch_bytes,
            backend: kind.backend.0,
            bytes: sizes.iter().sum(),
            standing,
        }
    }

    /// Removes what `policy` does not keep, and what nobody can use.
    pub(crate) fn collect(&self, policy: &SnapshotGc) -> Result<SnapshotsRemoved> {
        let mut all = self.list()?;
        all.sort_by_key(|info| info.used);
        let mut left: u64 = all.iter().map(|info| info.bytes).sum();
        let mut done = SnapshotsRemoved::default();
        for key in self.names()?.into_iter().filter(|name| name.len() == 64) {
            // one that another process makes or removes at this moment is not there, or whole
            if self.manifest(&key).is_err() {
                self.remove(&key)?;
                done.removed.push(key);
            }
        }
        for info in all {
            let unused = policy.unused.is_some_and(|limit| info.used.elapsed().is_ok_and(|age| age >= limit));
            let over = policy.quota.is_some_and(|quota| left > quota);
            let unwanted = (unused || over) && !info.pinned;
            if info.standing != Standing::Usable || unwanted {
                self.remove(&info.key)?;
                left -= info.bytes;
                done.bytes += info.bytes;
                done.removed.push(info.key);
            }
        }
        Ok(done)
    }
}

/// Pins the snapshot with this key, or lets it go again. The pin outlives a snapshot that is made anew. Blocks.
///
/// # Errors
/// The directory cannot be written.
pub fn pin_snapshot(state_dir: &Path, key: &str, pin: Pin) -> Result<()> {
    let dir = state_dir.join(SNAPSHOTS).join(PINS);
    let path = dir.join(key);
    match pin {
        Pin::Set => {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(Error::state("make", &dir))?;
            File::create(&path).map(drop).map_err(Error::state("make", path))
        }
        Pin::Cleared => match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::state("remove", path)(error)),
            _ => Ok(()),
        },
    }
}

/// What becomes of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The snapshot is pinned.
    Set,
    /// It is not any more.
    Cleared,
}

/// The files that the usable snapshots of a state directory were made of. Nothing is changed, and nothing made. Blocks.
pub(crate) fn files_of_usable(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let disk = Disk { dir: state_dir.join(SNAPSHOTS), hosts: Hosts(Vec::new()) };
    let mut files = Vec::new();
    for (key, manifest) in if disk.dir.is_dir() { disk.manifests()? } else { Vec::new() } {
        let made_of: Vec<PathBuf> = manifest.kind.files().collect();
        if disk.info(key, manifest).standing == Standing::Usable {
            files.extend(made_of);
        }
    }
    Ok(files)
}

/// The snapshots of a state directory, the oldest first, for whoever has no engine in it. Nothing is changed, and
/// nothing made. `backends` say which still fit this host; those of others are taken for fit. Blocks.
///
/// # Errors
/// The directory cannot be read.
pub fn list_snapshots(state_dir: &Path, backends: &[Arc<dyn Backend>]) -> Result<Vec<SnapshotInfo>> {
    let dir = state_dir.join(SNAPSHOTS);
    if dir.is_dir() { Disk { dir, hosts: Hosts(backends.to_vec()) }.list() } else { Ok(Vec::new()) }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file, and nothing else: a pipe of that name would be waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

fn read_capped(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let taken = open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if taken as u64 > most { Err(io::Error::other("it is larger than it can be")) } else { Ok(bytes) }
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::state("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
