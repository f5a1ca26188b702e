//! Garbage collection: what no pin holds, and nobody else uses, goes when it is old, or while the store is over its
//! quota. Who uses a blob without a pin is known to the caller, who looks after [`Store::collecting`]: nobody that holds
//! the store has begun anything since.
//!
//! While a process holds the store ([`Store::hold`]), blobs that were used within the last day stay
//! whatever the policy says, because it may be about to pin them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    Digest, Result, Store,
    error::{During as _, Error},
    lock::{open_lock, try_exclusive},
    sync_dir,
};

/// What may stay. The default removes all that no pin holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcPolicy {
    /// Blobs that no pin holds stay for this long after their last use.
    pub max_age: Duration,
    /// And then go, oldest use first, while all blobs together have more bytes than this.
    pub quota: Option<u64>,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the blobs that remain.
    pub remaining: u64,
}

const IN_USE: Duration = Duration::from_secs(24 * 60 * 60);

/// A collection that has begun. Until it ends no process can begin to hold the store, unless one held it before.
#[derive(Debug)]
pub struct Collecting<'a> {
    store: &'a Store,
    alone: bool,
    _lock: File,
}

struct Candidate {
    used: SystemTime,
    size: u64,
    path: PathBuf,
}

impl Store {
    /// Removes what `policy` does not keep.
    ///
    /// # Errors
    /// When pins or blobs cannot be listed or removed. A pin that cannot be read stops it before anything
    /// is removed.
    pub fn gc(&self, policy: &GcPolicy) -> Result<Collected> {
        self.collecting()?.run(policy, &BTreeSet::new())
    }

    /// Begins a collection.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn collecting(&self) -> Result<Collecting<'_>> {
        let path = self.dir.join("gc.lock");
        let lock = open_lock(&path)?;
        let alone = try_exclusive(&lock, &path)?;
        Ok(Collecting { store: self, alone, _lock: lock })
    }

    /// The blob that is at `path`, by whatever way; `None` where that is no blob of this store.
    #[must_use]
    pub fn digest_at(&self, path: &Path) -> Option<Digest> {
        let path = fs::canonicalize(path).ok()?;
        let digest = path.file_name()?.to_str()?.parse().ok()?;
        (fs::canonicalize(self.blob_path(&digest)).ok()? == path).then_some(digest)
    }

    fn collect(&self, alone: bool, policy: &GcPolicy, used: &BTreeSet<Digest>) -> Result<Collected> {
        let max_age = if alone { policy.max_age } else { policy.max_age.max(IN_USE) };
        let mut wanted = used.clone();
        wanted.extend(self.pins()?.into_iter().flat_map(|(_, digests)| digests));
        let wanted: BTreeSet<String> = wanted.iter().map(Digest::hex).collect();
        let now = SystemTime::now();
        let mut done = Collected::default();
        let mut kept = Vec::new();
        for candidate in self.blobs()? {
            let name = candidate.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let age = now.duration_since(candidate.used).unwrap_or_default();
            done.remaining += candidate.size;
            if wanted.contains(name) || (!alone && age < IN_USE) {
                continue;
            }
            if age >= max_age {
                drop_blob(&candidate, &mut done)?;
            } else {
                kept.push(candidate);
            }
        }
        kept.sort_by_key(|candidate| candidate.used);
        for candidate in kept {
            if policy.quota.is_none_or(|quota| done.remaining <= quota) {
                break;
            }
            drop_blob(&candidate, &mut done)?;
        }
        self.drop_dead_records(alone)?;
        Ok(done)
    }

    fn blobs(&self) -> Result<Vec<Candidate>> {
        let dir = self.part("blobs");
        let mut found = Vec::new();
        for shard in fs::read_dir(&dir).during("list", &dir)? {
            let shard = shard.during("list", &dir)?.path();
            for entry in fs::read_dir(&shard).during("list", &shard)? {
                let path = entry.during("list", &shard)?.path();
                let is_blob = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|n| n.parse::<Digest>().is_ok());
                match fs::metadata(&path) {
                    Ok(meta) if is_blob => found.push(Candidate {
                        used: meta.modified().during("look at", &path)?,
                        size: meta.len(),
                        path,
                    }),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Keys whose blob is gone, and locks that nobody has.
    fn drop_dead_records(&self, alone: bool) -> Result<()> {
        let keys = self.part("keys");
        for entry in fs::read_dir(&keys).during("list", &keys)?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let live = text.trim_end().parse::<Digest>().is_ok_and(|digest| self.blob_path(&digest).exists());
            if !live {
                remove_if_there(&entry.path())?;
            }
        }
        if alone {
            let locks = self.part("locks");
            for entry in fs::read_dir(&locks).during("list", &locks)?.flatten() {
                let lock = open_lock(&entry.path())?;
                if try_exclusive(&lock, &entry.path())? {
                    remove_if_there(&entry.path())?;
                }
            }
        }
        sync_dir(&keys)
    }
}

impl Collecting<'_> {
    /// Whether no other process holds the store.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Removes what `policy` does not keep and is not among what somebody uses.
    ///
    /// # Errors
    /// As [`Store::gc`].
    pub fn run(self, policy: &GcPolicy, used: &BTreeSet<Digest>) -> Result<Collected> {
        self.store.collect(self.alone, policy, used)
    }
}

fn drop_blob(candidate: &Candidate, done: &mut Collected) -> Result<()> {
    remove_if_there(&candidate.path)?;
    done.blobs += 1;
    done.bytes += candidate.size;
    done.remaining -= candidate.size;
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::from_io("remove", path, error)),
        _ => Ok(()),
    }
}
