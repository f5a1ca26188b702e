//! The journal of slots: what exists on this host for VMs, on disk before it exists.
//!
//! Purpose: whatever dies, the next engine finds and removes what is left, and never anything else.
//! Owner: each slot by the engine that made it, told by the lock on `slot.lock`, which the kernel frees when
//! the engine is gone, however it went.
//!
//! ```text
//!   .new-<id>/  slot.lock made and locked, slot.json written and synced
//!       │ rename                       (a crash until here: swept by the free lock, or by age without one)
//!       ▼
//!   <id>/       the backend is called: shim.lock, sockets, scratch disk, logs
//!       │ every process ended, then rename
//!       ▼
//!   .dead-<id>/ nothing runs; removed, by whoever comes first
//! ```
//!
//! Invariants
//! - A backend sees a slot only under its final name, with its record on disk.
//! - A directory is taken from its owner only with its lock held, and moved away before it is removed.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jail::lock::{Lock, is_held};
use serde::{Deserialize, Serialize};
use vm::{Ids, OwnerLoss, Slot, SlotId};

use crate::{
    Error, Result, Swept,
    identity::{Identities, Identity, lock_failed},
};

const LOCK: &str = "slot.lock";
const RECORD: &str = "slot.json";
const NEW: &str = ".new-";
const DEAD: &str = ".dead-";
/// A `.new-` directory without a lock file is younger than this or its maker is dead.
const CREATION_WINDOW: Duration = Duration::from_secs(60);
/// How often a slot is begun before its loss is an error.
const CREATIONS: u32 = 5;
/// A record is a few hundred bytes.
const MAX_RECORD: u64 = 64 << 10;

/// What `slot.json` says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: SlotId,
    backend: String,
    ids: Option<Ids>,
    on_owner_loss: OwnerLoss,
    made: SystemTime,
}

/// The slots of one state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    slots: PathBuf,
    identities: Option<Identities>,
    /// How long the end of a slot's processes may take.
    teardown: Duration,
}

/// A slot that this process owns. Dropping it without [`Journal::remove`] leaves it for a sweep.
#[derive(Debug)]
pub(crate) struct Held {
    slot: Slot,
    lock: Lock,
    identity: Option<Identity>,
}

impl Journal {
    /// The journal in `state_dir`, which is made where it is not there. Blocks.
    pub(crate) fn open(state_dir: &Path, teardown: Duration) -> Result<Self> {
        let slots = state_dir.join("slots");
        DirBuilder::new().recursive(true).mode(0o700).create(&slots).map_err(Error::state("make", &slots))?;
        // Absolute and without links: the names in it are compared with those that other processes wrote.
        let slots = fs::canonicalize(&slots).map_err(Error::state("find", &slots))?;
        Ok(Self { slots, identities: Identities::of_this_process()?, teardown })
    }

    /// The state directory, absolute and without links.
    pub(crate) fn state_dir(&self) -> &Path {
        self.slots.parent().unwrap_or(&self.slots)
    }

    /// Makes a slot. Blocks.
    pub(crate) fn create(&self, backend: &str, on_owner_loss: OwnerLoss) -> Result<Held> {
        let mut tries = 0;
        loop {
            tries += 1;
            let id = SlotId::new();
            let made = self.slots.join(format!("{NEW}{id}"));
            let dir = self.slots.join(id.to_string());
            match self.create_at(id, &made, &dir, backend, on_owner_loss) {
                // A sweep came between the making of its lock file and the locking.
                Err(Error::State { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < CREATIONS => {}
                Err(error) => {
                    // Half a slot of ours; what cannot be removed now is swept later.
                    let _ = fs::remove_dir_all(&made);
                    return Err(error);
                }
                Ok(held) => return Ok(held),
            }
        }
    }

    fn create_at(
        &self,
        id: SlotId,
        made: &Path,
        dir: &Path,
        backend: &str,
        on_owner_loss: OwnerLoss,
    ) -> Result<Held> {
        DirBuilder::new().mode(0o700).create(made).map_err(Error::state("make", made))?;
        let lock_path = made.join(LOCK);
        let lock = Lock::take(&lock_path).map_err(|error| lock_failed(error, &lock_path))?;
        let identity = self.identities.as_ref().map(|ids| ids.claim(dir)).transpose()?;
        let ids = identity.as_ref().map(|identity| identity.ids);
        let record = Record { id, backend: backend.to_owned(), ids, on_owner_loss, made: SystemTime::now() };
        let path = made.join(RECORD);
        write_synced(&path, &record).map_err(Error::state("write", &path))?;
        sync_dir(made).map_err(Error::state("sync", made))?;
        fs::rename(made, dir).map_err(Error::state("make", dir))?;
        sync_dir(&self.slots).map_err(Error::state("sync", &self.slots))?;
        Ok(Held { slot: Slot { id, dir: dir.to_owned(), ids, on_owner_loss }, lock, identity })
    }

    /// Removes what engines left that are gone. Blocks.
    pub(crate) fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        for entry in fs::read_dir(&self.slots).map_err(Error::state("read", &self.slots))? {
            let entry = entry.map_err(Error::state("read", &self.slots))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match self.sweep_one(&name) {
                Ok(Sweep::Removed) => swept.removed.push(name),
                Ok(Sweep::Spared) => {}
                Err(error) => swept.failed.push((name, error)),
            }
        }
        Ok(swept)
    }

    fn sweep_one(&self, name: &str) -> Result<Sweep> {
        let dir = self.slots.join(name);
        if name.strip_prefix(DEAD).is_some_and(is_id) {
            let lock_path = dir.join(LOCK);
            if is_held(&lock_path).map_err(|error| lock_failed(error, &lock_path))? {
                // Its owner is removing it.
                return Ok(Sweep::Spared);
            }
            remove_tree(&dir)?;
            return Ok(Sweep::Removed);
        }
        let (id, is_new) = match name.strip_prefix(NEW) {
            Some(id) => (id, true),
            None => (name, false),
        };
        if !is_id(id) {
            // Not ours.
            return Ok(Sweep::Spared);
        }
        let lock_path = dir.join(LOCK);
        if !exists(&lock_path)? && is_new && is_young(&dir) {
            return Ok(Sweep::Spared);
        }
        let Some(_lock) = Lock::try_take(&lock_path).or_else(|error| gone_is_fine(error, &lock_path))? else {
            return Ok(Sweep::Spared);
        };
        if !is_new && waits_for_an_owner(&dir)? {
            return Ok(Sweep::Spared);
        }
        self.end_and_remove(&dir, id)?;
        Ok(Sweep::Removed)
    }

    /// The one teardown of a slot, whoever owned it: its lock is held by the caller.
    fn end_and_remove(&self, dir: &Path, id: &str) -> Result<()> {
        jail::end(dir, self.teardown)
            .map_err(|error| Error::Teardown { dir: dir.to_owned(), detail: error.to_string() })?;
        let dead = self.slots.join(format!("{DEAD}{id}"));
        match fs::rename(dir, &dead) {
            Ok(()) => remove_tree(&dead),
            // Somebody removed the state directory by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::state("remove", dir)(error)),
        }
    }

    /// Ends every process of the slot and removes all of it. Blocks, at most for the limit of the end.
    pub(crate) fn remove(&self, held: Held) -> Result<()> {
        let Held { slot, lock, identity } = held;
        let result = self.end_and_remove(&slot.dir, &slot.id.to_string());
        // Only now may another one have them.
        drop((identity, lock));
        result
    }
}

impl Held {
    /// The slot.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }
}

enum Sweep {
    Removed,
    Spared,
}

fn is_id(text: &str) -> bool {
    text.parse::<SlotId>().is_ok()
}

fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::state("look at", path)(error)),
    }
}

/// A slot whose directory went while we looked was somebody else's to remove.
fn gone_is_fine(error: jail::Error, path: &Path) -> Result<Option<Lock>> {
    match error {
        jail::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Err(lock_failed(other, path)),
    }
}

/// Whether the directory was made a moment ago; one whose age cannot be told is not.
fn is_young(dir: &Path) -> bool {
    let made = fs::symlink_metadata(dir).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().map_or(true, |age| age < CREATION_WINDOW))
}

/// Whether the VM of this slot runs on without an owner because it was told to.
fn waits_for_an_owner(dir: &Path) -> Result<bool> {
    let path = dir.join(RECORD);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::state("read", path)(error)),
    }
    // What cannot be read says nothing that could be kept.
    let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(false) };
    match record.on_owner_loss {
        OwnerLoss::Kill => Ok(false),
        OwnerLoss::Keep { until } => Ok(until > SystemTime::now()
            && jail::is_running(dir)
                .map_err(|error| Error::Teardown { dir: dir.to_owned(), detail: error.to_string() })?),
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        // Somebody else was at it too.
        Err(_) if matches!(exists(dir), Ok(false)) => Ok(()),
        Err(error) => Err(Error::state("remove", dir)(error)),
    }
}

fn write_synced(path: &Path, record: &Record) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: OwnerLoss = OwnerLoss::Kill;

    fn journal(dir: &Path) -> Journal {
        Journal::open(dir, Duration::from_secs(10)).unwrap()
    }

    fn names(journal: &Journal) -> Vec<String> {
        let entries = fs::read_dir(&journal.slots).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_slot_is_on_disk_before_it_is_handed_out_and_gone_after_its_removal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let held = journal.create("fake", KILL).unwrap();
        let slot = held.slot().clone();
        let record: Record = serde_json::from_slice(&fs::read(slot.dir.join(RECORD)).unwrap()).unwrap();
        assert_eq!((record.id, record.backend.as_str(), record.ids), (slot.id, "fake", slot.ids));
        assert_eq!(slot.ids.is_some(), journal.identities.is_some());
        assert!(slot.dir.is_absolute());
        journal.remove(held).unwrap();
        assert!(names(&journal).is_empty());
    }

    /// A process that another test starts holds our descriptors, and with them a lock that we dropped, from its
    /// fork to its exec. A sweep then spares the slot, as it should.
    fn until_free(lock: &Path) {
        while is_held(lock).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_sweep_takes_what_dead_owners_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let alive = journal.create("fake", KILL).unwrap();
        // Dropped without a removal: as after the death of its process.
        let dead = journal.create("fake", KILL).unwrap().slot().id;
        let half = journal.slots.join(format!("{NEW}{}", SlotId::new()));
        fs::create_dir(&half).unwrap();
        drop(Lock::take(&half.join(LOCK)).unwrap());
        let young = journal.slots.join(format!("{NEW}{}", SlotId::new()));
        fs::create_dir(&young).unwrap();
        let removed = journal.slots.join(format!("{DEAD}{}", SlotId::new()));
        fs::create_dir_all(removed.join("deep/er")).unwrap();
        fs::create_dir(journal.slots.join("not ours")).unwrap();
        fs::write(journal.slots.join("nor this"), "").unwrap();

        until_free(&journal.slots.join(dead.to_string()).join(LOCK));
        until_free(&half.join(LOCK));
        let mut swept = journal.sweep().unwrap();
        assert!(swept.failed.is_empty(), "{swept:?}");
        swept.removed.sort();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = vec![dead.to_string(), name(&half), name(&removed)];
        expected.sort();
        assert_eq!(swept.removed, expected);
        let mut left = names(&journal);
        left.sort();
        let mut expected =
            vec![alive.slot().id.to_string(), name(&young), "nor this".into(), "not ours".into()];
        expected.sort();
        assert_eq!(left, expected);
        // A young one without a lock grows old.
        File::open(&young).unwrap().set_modified(SystemTime::now() - 2 * CREATION_WINDOW).unwrap();
        assert_eq!(journal.sweep().unwrap().removed, [name(&young)]);
    }

    #[test]
    fn a_slot_whose_vm_waits_for_an_owner_is_spared_until_its_time_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let keep = |after| {
            let held = journal.create("fake", OwnerLoss::Keep { until: SystemTime::now() + after }).unwrap();
            held.slot().dir.clone()
        };
        let waits = keep(Duration::from_secs(3600));
        let shim = Lock::take(&waits.join("shim.lock")).unwrap();
        let ended = keep(Duration::from_secs(3600));
        until_free(&waits.join(LOCK));
        until_free(&ended.join(LOCK));
        let swept = journal.sweep().unwrap();
        assert_eq!(swept.removed, [ended.file_name().unwrap().to_str().unwrap()]);
        assert!(waits.exists());
        drop(shim);
        until_free(&waits.join("shim.lock"));
        assert_eq!(journal.sweep().unwrap().removed.len(), 1);
    }

    #[test]
    fn what_cannot_be_ended_stays_in_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Duration::ZERO).unwrap();
        let slot = journal.create("fake", KILL).unwrap().slot().dir.clone();
        // A shim that cannot be killed: nobody knows its process.
        let _shim = Lock::take(&slot.join("shim.lock")).unwrap();
        until_free(&slot.join(LOCK));
        let swept = journal.sweep().unwrap();
        assert!(matches!(swept.failed.as_slice(), [(_, Error::Teardown { .. })]), "{swept:?}");
        assert!(slot.join(RECORD).exists());
    }
}
