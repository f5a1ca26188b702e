//! A user id per VM, where the engine may choose one: it runs as root.
//!
//! Purpose: no two VMs of this host, of whichever engine and state directory, run as the same user.
//! Owner: the slot that claimed it. The journal is `/run/ampoule/uids/<uid>`: the lock of the file is held by
//! the engine while it owns the slot; its text is the slot's directory, for the time after a dead engine. An
//! id is free when its lock is free and that directory is gone. Nothing is ever released by hand.
//!
//! The range is 1,879,048,192 (0x7000_0000) and the 4,096 ids above it, which lie outside of what systemd,
//! containers and /etc/subuid give out. In a user namespace that does not map them it is the upper part of
//! what is mapped.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use jail::lock::Lock;
use vm::Ids;

use crate::{Error, Result};

/// First id of the range.
const FIRST: u32 = 0x7000_0000;
/// How many there are.
const COUNT: u32 = 4096;
/// Where they are journalled: gone after a start of the host, as are the VMs.
const DIR: &str = "/run/ampoule/uids";
/// How many ids of a small user namespace are taken at least, or there is no isolation to speak of.
const FEWEST: u32 = 256;

/// How often, and after what time, the lock of an id that is ours is tried again.
const LOOKS: u32 = 25;
const LOOK: Duration = Duration::from_millis(10);

/// Where user ids for VMs come from.
#[derive(Debug)]
pub(crate) struct Identities {
    dir: PathBuf,
    first: u32,
    count: u32,
}

/// One claimed user id; dropping it frees the lock, and the id is free when the slot's directory is gone.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) ids: Ids,
    _lock: Lock,
}

impl Identities {
    /// Those that this process may give: `None` as a plain user, who has none but his own.
    pub(crate) fn of_this_process() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let map = |path: &'static str| fs::read_to_string(path).map_err(Error::state("read", path));
        let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
        // A root of a user namespace with hardly any ids is a plain user in all but name.
        Ok(range(&uids, &gids).map(|(first, count)| Self { dir: DIR.into(), first, count }))
    }

    /// Claims a free one for the slot that has or will have the directory `slot`.
    pub(crate) fn claim(&self, slot: &Path) -> Result<Identity> {
        fs::create_dir_all(&self.dir).map_err(Error::state("make", &self.dir))?;
        for id in self.first..self.first + self.count {
            let path = self.dir.join(id.to_string());
            let Some(lock) = Lock::try_take(&path).map_err(|error| lock_failed(error, &path))? else {
                continue;
            };
            if is_taken(&path)? {
                continue;
            }
            fs::write(&path, slot.as_os_str().as_bytes()).map_err(Error::state("write", &path))?;
            return Ok(Identity { ids: Ids { uid: id, gid: id }, _lock: lock });
        }
        Err(Error::NoIdentity { first: self.first, tried: self.count, dir: self.dir.clone() })
    }
}

impl Identities {
    /// Holds an id again, that of a slot whose owner is gone.
    pub(crate) fn claim_again(&self, ids: Ids, slot: &Path) -> Result<Identity> {
        let path = self.dir.join(ids.uid.to_string());
        let not_ours = |why: &str| Error::state("lock", &path)(io::Error::other(why.to_owned()));
        for _ in 0..LOOKS {
            let Some(lock) = Lock::try_take(&path).map_err(|error| lock_failed(error, &path))? else {
                // somebody looks whether it is free
                thread::sleep(LOOK);
                continue;
            };
            let text = fs::read(&path).map_err(Error::state("read", &path))?;
            if text != slot.as_os_str().as_bytes() {
                return Err(not_ours("another VM has this user id"));
            }
            return Ok(Identity { ids, _lock: lock });
        }
        Err(not_ours("somebody else holds this user id"))
    }
}

/// A failure of the lock on `path` as an error of ours.
pub(crate) fn lock_failed(error: jail::Error, path: &Path) -> Error {
    match error {
        jail::Error::Io { source, .. } => Error::state("lock", path)(source),
        other => Error::state("lock", path)(io::Error::other(other)),
    }
}

/// Whether the slot that claimed the id last is still there. Its lock is held by us.
fn is_taken(path: &Path) -> Result<bool> {
    let text = fs::read(path).map_err(Error::state("read", path))?;
    match fs::symlink_metadata(OsStr::from_bytes(&text)) {
        Ok(_) => Ok(true),
        Err(error) if text.is_empty() || error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Not ours to see: a slot in a directory that is mounted elsewhere, perhaps.
        Err(_) => Ok(true),
    }
}

/// The ids to use, from the texts of `uid_map` and `gid_map`: first and count.
fn range(uids: &str, gids: &str) -> Option<(u32, u32)> {
    let (uids, gids) = (extents(uids), extents(gids));
    let inside = |extents: &[(u64, u64)], first: u64, count: u64| {
        extents.iter().any(|(start, length)| *start <= first && first + count <= start + length)
    };
    let usable = |first: u64, count: u64| inside(&uids, first, count) && inside(&gids, first, count);
    if usable(u64::from(FIRST), u64::from(COUNT)) {
        return Some((FIRST, COUNT));
    }
    // The upper quarter of the largest extent: distributions give out ids from below.
    let (start, length) = uids.iter().copied().max_by_key(|(_, length)| *length)?;
    let count = (length / 4).min(u64::from(COUNT));
    let first = start + length - length.div_ceil(4);
    let (first, count) = (u32::try_from(first).ok()?, u32::try_from(count).ok()?);
    (count >= FEWEST && usable(u64::from(first), u64::from(count))).then_some((first, count))
}

/// Pairs of first id inside and length.
fn extents(map: &str) -> Vec<(u64, u64)> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let start = fields.next()?.parse().ok()?;
            let length = fields.nth(1)?.parse().ok()?;
            Some((start, length))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";

    #[test]
    fn the_range_is_the_documented_one_or_what_the_namespace_maps() {
        assert_eq!(range(ALL, ALL), Some((FIRST, COUNT)));
        let small = "0 100000 65536";
        assert_eq!(range(small, small), Some((49152, 4096)));
        assert_eq!(range("0 1000 1", "0 1000 1"), None);
        assert_eq!(range(small, "0 1000 1"), None);
        assert_eq!(range("nonsense", ""), None);
    }

    #[test]
    fn an_id_is_free_when_its_holder_and_the_slot_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let ids = Identities { dir: dir.path().join("uids"), first: 7000, count: 2 };
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::create_dir(&one).unwrap();
        let first = ids.claim(&one).unwrap();
        let second = ids.claim(&two).unwrap();
        assert_eq!((first.ids.uid, second.ids.uid), (7000, 7001));
        assert!(matches!(ids.claim(&two), Err(Error::NoIdentity { tried: 2, .. })));
        drop((first, second));
        // The slot `one` is still there, as after the death of its engine; `two` never came to be.
        let third = ids.claim(&dir.path().join("three")).unwrap();
        assert_eq!(third.ids.uid, 7001);
        fs::remove_dir(&one).unwrap();
        assert_eq!(ids.claim(&dir.path().join("four")).unwrap().ids.uid, 7000);
    }
}
