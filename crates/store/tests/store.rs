//! The store through its public face: what is put is got, damage is seen, one key is built once.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use store::{BuildError, Digest, Error, GcPolicy, PinName, Store};

fn new() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn name(text: &str) -> PinName {
    text.parse().unwrap()
}

fn temp_entries(store: &Store) -> usize {
    fs::read_dir(store.dir().join("tmp")).unwrap().count()
}

/// Gives its bytes in the pieces that a test wants, then ends or fails.
struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
    fails: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let count = self.step.min(self.bytes.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn what_is_put_is_got(bytes in proptest::collection::vec(any::<u8>(), 0..5000), step in 1_usize..700) {
        let (_dir, store) = new();
        let digest = store.put(Pieces { bytes: &bytes, step, fails: false }).unwrap();
        prop_assert_eq!(digest, Digest::of(&bytes));
        prop_assert_eq!(store.put(&bytes[..]).unwrap(), digest);
        prop_assert_eq!(fs::read(store.verify(&digest).unwrap()).unwrap(), bytes.clone());
        prop_assert_eq!(store.read(&digest, 5000).unwrap(), bytes);
        prop_assert_eq!(temp_entries(&store), 0);
    }

    #[test]
    fn a_failed_put_leaves_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..3000), step in 1_usize..700) {
        let (_dir, store) = new();
        let error = store.put(Pieces { bytes: &bytes, step, fails: true }).unwrap_err();
        prop_assert!(matches!(error, Error::Full { .. }), "{error:?}");
        prop_assert_eq!(temp_entries(&store), 0);
        prop_assert_eq!(store.gc(&GcPolicy::default()).unwrap().blobs, 0);
    }

    #[test]
    fn any_damage_is_seen(mut bytes in proptest::collection::vec(any::<u8>(), 1..2000), at in any::<prop::sample::Index>()) {
        let (_dir, store) = new();
        let digest = store.put(&bytes[..]).unwrap();
        let path = store.get(&digest).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        let seen = matches!(store.verify(&digest), Err(Error::Corrupt { .. }));
        prop_assert!(seen);
        let seen = matches!(store.read(&digest, 1 << 20), Err(Error::Corrupt { .. }));
        prop_assert!(seen);
    }

    #[test]
    fn a_pin_name_never_leaves_its_directory(text in "[ -~]{0,120}") {
        if let Ok(name) = text.parse::<PinName>() {
            prop_assert!(!name.as_str().contains('/') && name.as_str() != "." && name.as_str() != "..");
        }
    }
}

#[test]
fn blobs_are_read_only() {
    let (_dir, store) = new();
    let path = store.get(&store.put(&b"x"[..]).unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o444);
}

#[test]
fn a_file_is_adopted_by_rename() {
    let (_dir, store) = new();
    let scratch = store.scratch().unwrap();
    let file = scratch.path().join("root");
    fs::write(&file, "content").unwrap();
    let digest = store.adopt(&file).unwrap();
    assert!(!file.exists());
    assert_eq!(store.read(&digest, 100).unwrap(), b"content");
    fs::write(&file, "content").unwrap();
    assert_eq!(store.adopt(&file).unwrap(), digest);
    assert!(!file.exists());
}

#[test]
fn a_blob_above_the_callers_limit_is_not_read() {
    let (_dir, store) = new();
    let digest = store.put(&b"four"[..]).unwrap();
    assert!(matches!(store.read(&digest, 3), Err(Error::TooLarge { size: 4, limit: 3, .. })));
    assert!(matches!(store.read(&Digest::of("none"), 3), Err(Error::Missing { .. })));
}

#[test]
fn one_key_is_built_once_by_many() {
    let (_dir, store) = new();
    let built = AtomicU32::new(0);
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                // A store of its own each: locks are per open file, as between processes.
                let store = Store::open(store.dir()).unwrap();
                let built = &built;
                scope.spawn(move || {
                    store
                        .get_or_build("key", |writer| {
                            built.fetch_add(1, Ordering::SeqCst);
                            writer.copy(&mut &b"value"[..]).map(|_| ())
                        })
                        .unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(built.load(Ordering::SeqCst), 1);
    assert!(digests.iter().all(|digest| *digest == Digest::of("value")));
}

#[test]
fn a_failed_build_is_built_again() {
    let (_dir, store) = new();
    let failed = store.get_or_build("key", |_| Err("no"));
    assert!(matches!(failed, Err(BuildError::Build("no"))));
    assert_eq!(temp_entries(&store), 0);
    assert_eq!(store.lookup("key").unwrap(), None);
    let built = store.get_or_build("key", |writer| writer.copy(&mut &b"v"[..]).map(|_| ())).unwrap();
    assert_eq!(store.lookup("key").unwrap(), Some(built));
    store.remove(&built).unwrap();
    assert_eq!(store.lookup("key").unwrap(), None);
}

#[test]
fn a_lock_has_one_holder() {
    let (_dir, store) = new();
    let held = store.try_lock("key").unwrap();
    assert!(held.is_some());
    assert!(store.try_lock("key").unwrap().is_none());
    assert!(store.try_lock("other").unwrap().is_some());
    drop(held);
    assert!(store.try_lock("key").unwrap().is_some());
}

#[test]
fn gc_keeps_what_is_pinned_young_or_held() {
    let (_dir, store) = new();
    let pinned = store.put(&b"pinned"[..]).unwrap();
    let loose = store.put(&b"loose"[..]).unwrap();
    store.pin(&name("image"), &[pinned]).unwrap();
    assert!(matches!(store.remove(&pinned), Err(Error::Pinned { .. })));

    let young = GcPolicy { max_age: Duration::from_secs(3600), quota: None };
    assert_eq!(store.gc(&young).unwrap().blobs, 0);
    let hold = store.hold().unwrap();
    assert_eq!(store.gc(&GcPolicy::default()).unwrap().blobs, 0);
    drop(hold);
    let done = store.gc(&GcPolicy::default()).unwrap();
    assert_eq!((done.blobs, done.bytes, done.remaining), (1, 5, 6));
    assert!(store.get(&pinned).is_some() && store.get(&loose).is_none());

    assert!(store.unpin(&name("image")).unwrap());
    assert!(!store.unpin(&name("image")).unwrap());
    assert_eq!(store.gc(&GcPolicy::default()).unwrap().remaining, 0);
}

#[test]
fn gc_keeps_what_its_caller_says_is_used() {
    let (dir, store) = new();
    let used = store.put(&b"used"[..]).unwrap();
    let loose = store.put(&b"loose"[..]).unwrap();
    let hold = store.hold().unwrap();
    assert!(!store.collecting().unwrap().is_alone());
    drop(hold);
    let collecting = store.collecting().unwrap();
    assert!(collecting.is_alone());
    let done = collecting.run(&GcPolicy { quota: Some(0), ..GcPolicy::default() }, &[used].into()).unwrap();
    assert_eq!((done.blobs, done.remaining), (1, 4));
    assert!(store.get(&used).is_some() && store.get(&loose).is_none());

    // by whatever way it is named
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(store.dir(), &link).unwrap();
    let path = store.get(&used).unwrap();
    let by_link = link.join(path.strip_prefix(store.dir()).unwrap());
    for path in [&path, &by_link] {
        assert_eq!(store.digest_at(path), Some(used));
    }
    let copy = dir.path().join(used.hex());
    fs::write(&copy, "used").unwrap();
    for other in [&copy, store.dir(), &path.join("none")] {
        assert_eq!(store.digest_at(other), None, "{}", other.display());
    }
}

#[test]
fn gc_frees_down_to_the_quota_oldest_first() {
    let (_dir, store) = new();
    let at = |digest: &Digest, ago: u64| {
        let when = std::time::SystemTime::now() - Duration::from_secs(ago);
        fs::File::open(store.get(digest).unwrap()).unwrap().set_modified(when).unwrap();
    };
    let old = store.put(&b"old!"[..]).unwrap();
    let new = store.put(&b"new!"[..]).unwrap();
    at(&old, 100);
    at(&new, 10);
    let policy = GcPolicy { max_age: Duration::from_secs(3600), quota: Some(4) };
    assert_eq!(store.gc(&policy).unwrap().blobs, 1);
    assert!(store.get(&old).is_none() && store.get(&new).is_some());
}

#[test]
fn pins_are_listed_and_replaced() {
    let (_dir, store) = new();
    let (a, b) = (store.put(&b"a"[..]).unwrap(), store.put(&b"b"[..]).unwrap());
    assert!(matches!(store.pin(&name("x"), &[Digest::of("c")]), Err(Error::Missing { .. })));
    store.pin(&name("x"), &[a, b]).unwrap();
    store.pin(&name("w"), &[b]).unwrap();
    store.pin(&name("x"), &[b, a]).unwrap();
    assert_eq!(store.pins().unwrap(), vec![(name("w"), vec![b]), (name("x"), vec![b, a])]);
    assert_eq!(store.pinned(&name("y")).unwrap(), None);
}

#[test]
fn a_damaged_pin_stops_gc_before_it_removes() {
    let (_dir, store) = new();
    let blob = store.put(&b"x"[..]).unwrap();
    fs::write(store.dir().join("pins/bad"), "not a digest\n").unwrap();
    assert!(matches!(store.gc(&GcPolicy::default()), Err(Error::Record { .. })));
    assert!(store.get(&blob).is_some());
}
