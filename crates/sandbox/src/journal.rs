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
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use jail::lock::{Lock, is_held};
use serde::{Deserialize, Serialize};
use vm::{Ids, OwnerLoss, Slot, SlotId};

use crate::{
    Error, Result, Swept,
    identity::{Identities, Identity, lock_failed},
    kept,
    network::VmNetwork,
};

const SLOTS: &str = "slots";
const LOCK: &str = "slot.lock";
const RECORD: &str = "slot.json";
const NEW: &str = ".new-";
const DEAD: &str = ".dead-";
/// A `.new-` directory without a lock file is younger than this, or its maker is dead, or will begin again.
const CREATION_WINDOW: Duration = Duration::from_secs(2);
/// How often a slot is begun before its loss is an error.
const CREATIONS: u32 = 5;
/// A record is a few hundred bytes.
const MAX_RECORD: u64 = 64 << 10;
/// How often, and after what time, a lock that is held is tried again before its holder is believed to be an owner.
const LOOKS: u32 = 25;
const LOOK: Duration = Duration::from_millis(10);

/// What `slot.json` says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: SlotId,
    backend: String,
    ids: Option<Ids>,
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
    /// Where the VM's card leads; none: nowhere.
    network: Option<Arc<VmNetwork>>,
}

impl Journal {
    /// The journal in `state_dir`, which is made where it is not there. Blocks.
    pub(crate) fn open(state_dir: &Path, teardown: Duration) -> Result<Self> {
        let slots = state_dir.join(SLOTS);
        DirBuilder::new().recursive(true).mode(0o700).create(&slots).map_err(Error::state("make", &slots))?;
        // Absolute and without links: the names in it are compared with those that other processes wrote.
        let slots = fs::canonicalize(&slots).map_err(Error::state("find", &slots))?;
        Ok(Self { slots, identities: Identities::of_this_process()?, teardown })
    }

    /// Whether there is one in `state_dir`.
    pub(crate) fn is_in(state_dir: &Path) -> bool {
        state_dir.join(SLOTS).is_dir()
    }

    /// The state directory, absolute and without links.
    pub(crate) fn state_dir(&self) -> &Path {
        self.slots.parent().unwrap_or(&self.slots)
    }

    /// Makes a slot. Blocks.
    pub(crate) fn create(&self, backend: &str) -> Result<Held> {
        let mut tries = 0;
        loop {
            tries += 1;
            let id = SlotId::new();
            let made = self.slots.join(format!("{NEW}{id}"));
            let dir = self.slots.join(id.to_string());
            match self.create_at(id, &made, &dir, backend) {
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

    fn create_at(&self, id: SlotId, made: &Path, dir: &Path, backend: &str) -> Result<Held> {
        DirBuilder::new().mode(0o700).create(made).map_err(Error::state("make", made))?;
        let lock_path = made.join(LOCK);
        let lock = Lock::take(&lock_path).map_err(|error| lock_failed(error, &lock_path))?;
        let identity = self.identities.as_ref().map(|ids| ids.claim(dir)).transpose()?;
        let ids = identity.as_ref().map(|identity| identity.ids);
        let record = Record { id, backend: backend.to_owned(), ids, made: SystemTime::now() };
        let path = made.join(RECORD);
        write_synced(&path, &record).map_err(Error::state("write", &path))?;
        sync_dir(made).map_err(Error::state("sync", made))?;
        fs::rename(made, dir).map_err(Error::state("make", dir))?;
        sync_dir(&self.slots).map_err(Error::state("sync", &self.slots))?;
        Ok(Held {
            slot: Slot { id, dir: dir.to_owned(), ids, on_owner_loss: OwnerLoss::Kill },
            lock,
            identity,
            network: None,
        })
    }

    /// The slots whose VM runs and waits for an owner, but for `ours`. Blocks, for a moment where others are owned: a
    /// process that a dead owner was just starting may hold its locks for a moment longer than it lived.
    pub(crate) fn kept(&self, ours: &[SlotId]) -> Result<Vec<(SlotId, kept::Record)>> {
        let mut ids = ids(&self.slots)?;
        ids.retain(|id| !ours.contains(id));
        let mut found = Vec::new();
        for look in 0..LOOKS {
            let mut owned = Vec::new();
            for id in ids {
                let dir = self.slots.join(id.to_string());
                match waits_for_an_owner(&dir)? {
                    Some(_) if is_locked(&dir.join(LOCK))? => owned.push(id),
                    Some(record) => found.push((id, record)),
                    None => {}
                }
            }
            if owned.is_empty() || look + 1 == LOOKS {
                break;
            }
            ids = owned;
            thread::sleep(LOOK);
        }
        found.sort_by_key(|(id, _)| *id);
        Ok(found)
    }

    /// Takes the slot of a VM that waits for an owner, and with it all that belongs to it. `None`: there is none, or
    /// no more; what was left of it is removed. Blocks.
    pub(crate) fn take_over(&self, id: SlotId, backend: &str) -> Result<Option<(Held, kept::Record)>> {
        let dir = self.slots.join(id.to_string());
        let Some(lock) = self.lock(id, &dir)? else { return Ok(None) };
        let Some(kept) = waits_for_an_owner(&dir)? else {
            self.end_and_remove(&dir, &id.to_string())?;
            return Ok(None);
        };
        let record = match read_record(&dir)? {
            Some(record) if record.id == id && record.backend == backend => record,
            Some(record) if record.id == id => return Err(Error::Foreign { id, backend: record.backend }),
            Some(_) | None => {
                tracing::warn!(slot = %id, "the record of a slot is damaged; its VM is ended");
                self.end_and_remove(&dir, &id.to_string())?;
                return Ok(None);
            }
        };
        let identity = match (&self.identities, record.ids) {
            (Some(identities), Some(ids)) => Some(identities.claim_again(ids, &dir)?),
            (_, None) => None,
            // as root it was given one; who is not root any more cannot have its processes either
            (None, Some(_)) => return Err(Error::Owned { id }),
        };
        let on_owner_loss = OwnerLoss::Keep { until: kept.until };
        let slot = Slot { id, dir, ids: record.ids, on_owner_loss };
        Ok(Some((Held { slot, lock, identity, network: None }, kept)))
    }

    /// The lock of a slot; `None` where the slot is not there.
    fn lock(&self, id: SlotId, dir: &Path) -> Result<Option<Lock>> {
        let path = dir.join(LOCK);
        for _ in 0..LOOKS {
            if !exists(dir)? {
                return Ok(None);
            }
            match Lock::try_take(&path) {
                Ok(Some(lock)) => return Ok(Some(lock)),
                // somebody may be looking; or a process that its dead owner was just starting still holds it
                Ok(None) => thread::sleep(LOOK),
                Err(error) => return gone_is_fine(error, &path),
            }
        }
        Err(Error::Owned { id })
    }

    /// Writes down what the next owner of a slot has to know. Blocks.
    pub(crate) fn keep(&self, slot: &Slot, record: &kept::Record) -> Result<()> {
        kept::write(&slot.dir, record)
    }

    /// Ends and removes a VM that nobody owns. Fine when it is not there. Blocks.
    pub(crate) fn end(&self, id: SlotId) -> Result<()> {
        let dir = self.slots.join(id.to_string());
        match self.lock(id, &dir)? {
            Some(_lock) => self.end_and_remove(&dir, &id.to_string()),
            None => Ok(()),
        }
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
        // without a lock: an owner that comes for it now must not find it taken
        if !is_new && waits_for_an_owner(&dir)?.is_some() {
            return Ok(Sweep::Spared);
        }
        let lock_path = dir.join(LOCK);
        if !exists(&lock_path)? && is_new && is_young(&dir) {
            return Ok(Sweep::Spared);
        }
        let Some(_lock) = Lock::try_take(&lock_path).or_else(|error| gone_is_fine(error, &lock_path))? else {
            return Ok(Sweep::Spared);
        };
        if !is_new && waits_for_an_owner(&dir)?.is_some() {
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
        let Held { slot, lock, identity, network } = held;
        let result = self.end_and_remove(&slot.dir, &slot.id.to_string());
        // Only now may another one have them.
        drop((identity, lock, network));
        result
    }
}

impl Held {
    /// The slot.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Gives it the namespace of its VM, which from now on goes when all else of it is gone.
    pub(crate) fn connect(&mut self, network: Option<Arc<VmNetwork>>) {
        self.network = network;
    }

    /// The namespace of its VM.
    pub(crate) fn network(&self) -> Option<&Arc<VmNetwork>> {
        self.network.as_ref()
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

fn ids(slots: &Path) -> Result<Vec<SlotId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(slots).map_err(Error::state("read", slots))? {
        let entry = entry.map_err(Error::state("read", slots))?;
        ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<SlotId>().ok()));
    }
    Ok(ids)
}

/// The VMs of a state directory that run and are kept, whoever owns them, the oldest first. Nothing is changed, and
/// nothing made. Blocks.
pub(crate) fn kept_by_anybody(state_dir: &Path) -> Result<Vec<(SlotId, kept::Record)>> {
    if !Journal::is_in(state_dir) {
        return Ok(Vec::new());
    }
    let slots = state_dir.join(SLOTS);
    let mut found = Vec::new();
    for id in ids(&slots)? {
        found.extend(waits_for_an_owner(&slots.join(id.to_string()))?.map(|record| (id, record)));
    }
    found.sort_by_key(|(id, _)| *id);
    Ok(found)
}

/// Whether the directory was made a moment ago; one whose age cannot be told is not.
fn is_young(dir: &Path) -> bool {
    let made = fs::symlink_metadata(dir).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().map_or(true, |age| age < CREATION_WINDOW))
}

/// What is known of the VM of this slot where it runs on without an owner, now or when it has none, because it was told
/// to.
fn waits_for_an_owner(dir: &Path) -> Result<Option<kept::Record>> {
    let Some(record) = kept::read(dir)? else { return Ok(None) };
    let running = || {
        jail::is_running(dir)
            .map_err(|error| Error::Teardown { dir: dir.to_owned(), detail: error.to_string() })
    };
    if record.until > SystemTime::now() && running()? { Ok(Some(record)) } else { Ok(None) }
}

/// `None`: it says nothing that could be believed.
fn read_record(dir: &Path) -> Result<Option<Record>> {
    let path = dir.join(RECORD);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut text)) {
        Ok(_) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::state("read", path)(error)),
    }
}

fn is_locked(path: &Path) -> Result<bool> {
    is_held(path).map_err(|error| lock_failed(error, path))
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

    fn journal(dir: &Path) -> Journal {
        Journal::open(dir, Duration::from_secs(10)).unwrap()
    }

    fn names(journal: &Journal) -> Vec<String> {
        let entries = fs::read_dir(&journal.slots).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_look_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(kept_by_anybody(dir.path()).unwrap().is_empty() && !Journal::is_in(dir.path()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_slot_is_on_disk_before_it_is_handed_out_and_gone_after_its_removal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let held = journal.create("fake").unwrap();
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
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_sweep_takes_what_dead_owners_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let alive = journal.create("fake").unwrap();
        // Dropped without a removal: as after the death of its process.
        let dead = journal.create("fake").unwrap().slot().id;
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
            let held = journal.create("fake").unwrap();
            journal.keep(held.slot(), &kept::Record::of_a_test(SystemTime::now() + after)).unwrap();
            held.slot().dir.clone()
        };
        let waits = keep(Duration::from_secs(3600));
        let shim = Lock::take(&waits.join("shim.lock")).unwrap();
        let ended = keep(Duration::from_secs(3600));
        until_free(&waits.join(LOCK));
        until_free(&ended.join(LOCK));
        let swept = journal.sweep().unwrap();
        assert_eq!(swept.removed, [ended.file_name().unwrap().to_str().unwrap()]);
        let kept = journal.kept(&[]).unwrap();
        assert_eq!(kept.iter().map(|(id, _)| waits.ends_with(id.to_string())).collect::<Vec<_>>(), [true]);
        let by_anybody = || kept_by_anybody(dir.path()).unwrap();
        assert_eq!(by_anybody(), kept);
        let in_use = crate::files_in_use(dir.path()).unwrap();
        assert_eq!(in_use.vms[0].root, Path::new("/root"), "{in_use:?}");
        // owned by one at a time
        let (held, record) = journal.take_over(kept[0].0, "fake").unwrap().unwrap();
        assert_eq!((held.slot().dir.as_path(), &record), (waits.as_path(), &kept[0].1));
        assert_eq!(held.slot().ids.is_some(), held.identity.is_some());
        assert!(matches!(journal.take_over(kept[0].0, "fake"), Err(Error::Owned { .. })));
        assert!(journal.kept(&[]).unwrap().is_empty());
        assert_eq!(by_anybody(), kept, "whoever owns it");
        drop(held);
        let foreign = journal.take_over(kept[0].0, "another").unwrap_err();
        assert!(matches!(&foreign, Error::Foreign { backend, .. } if backend == "fake"), "{foreign}");
        assert!(waits.exists());
        drop(shim);
        until_free(&waits.join("shim.lock"));
        assert!(by_anybody().is_empty());
        assert_eq!(journal.sweep().unwrap().removed.len(), 1);
        assert!(journal.take_over(kept[0].0, "fake").unwrap().is_none());
        journal.end(kept[0].0).unwrap();
    }

    #[test]
    fn a_slot_whose_record_cannot_be_used_is_removed_though_its_vm_waits() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let whole = kept::Record::of_a_test(SystemTime::now() + Duration::from_secs(3600));
        let text = serde_json::to_string(&whole).unwrap();
        let damaged = [
            text[..text.len() / 2].to_owned(),
            String::new(),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("\"cpus\":1", "\"cpus\":0"),
        ];
        for record in damaged {
            assert_ne!(record, text);
            let slot = journal.create("fake").unwrap().slot().clone();
            fs::write(slot.dir.join("kept.json"), &record).unwrap();
            until_free(&slot.dir.join(LOCK));
            assert!(journal.kept(&[]).unwrap().is_empty(), "{record}");
            assert_eq!(journal.sweep().unwrap().removed, [slot.id.to_string()], "{record}");
        }
    }

    #[test]
    fn what_cannot_be_ended_stays_in_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Duration::ZERO).unwrap();
        let slot = journal.create("fake").unwrap().slot().dir.clone();
        // A shim that cannot be killed: nobody knows its process.
        let _shim = Lock::take(&slot.join("shim.lock")).unwrap();
        until_free(&slot.join(LOCK));
        let swept = journal.sweep().unwrap();
        assert!(matches!(swept.failed.as_slice(), [(_, Error::Teardown { .. })]), "{swept:?}");
        assert!(slot.join(RECORD).exists());
    }
}
