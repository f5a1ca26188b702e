//! What is kept, found, refused and collected.

use std::os::unix::fs::FileExt;

use vm::BackendKey;

use super::{super::key, *};

fn built(byte: u8) -> Built {
    let ram = memory::ram_file(Mebibytes(4)).unwrap();
    File::from(ram.as_fd().try_clone_to_owned().unwrap()).write_all_at(&[byte; 9000], 4096).unwrap();
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    disk.write_all_at(&[byte; 9000], 4096).unwrap();
    let guest = Guest { kernel: "6.1".to_owned(), disk: memory::disk(&disk).unwrap() };
    let saved = vm::Saved { ram, state: vec![byte; 500], pause: Duration::ZERO };
    Built { saved, guest: Some(guest) }
}

fn disk() -> (tempfile::TempDir, Disk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), Hosts(Vec::new())).unwrap();
    (dir, disk)
}

/// One that is made of a file with this name, which is there.
fn kept(disk: &Disk, root: &str, byte: u8) -> String {
    let path = root_file(disk, root);
    if !path.exists() {
        fs::write(&path, root).unwrap();
    }
    let kind = key::of_file(&path);
    let key = kind.key();
    let _lock = disk.lock(&key).unwrap();
    disk.keep(&key, &kind, built(byte)).unwrap();
    key
}

fn root_file(disk: &Disk, root: &str) -> PathBuf {
    disk.dir.join(format!("root-{root}"))
}

#[test]
fn what_is_kept_is_found_by_another_process() {
    let (dir, disk) = disk();
    let key = kept(&disk, "r", 1);
    let again = Disk::open(dir.path(), Hosts(Vec::new())).unwrap();
    let template = again.load(&key).unwrap().unwrap();
    assert_eq!(&*template.snapshot.state, [1; 500]);
    let mut at = [0; 2];
    template.guest.unwrap().disk().unwrap().read_exact_at(&mut at, 4096 + 8999).unwrap();
    assert_eq!(at, [1, 0]);
    assert!(again.load(&key::for_tests("/other").key()).unwrap().is_none());
    let listed = again.list().unwrap();
    assert_eq!((listed.len(), listed[0].key.as_str(), listed[0].memory), (1, key.as_str(), Mebibytes(4)));
    assert!(listed[0].bytes > 0);
    assert_eq!(list_snapshots(dir.path(), &[]).unwrap(), listed);
}

#[test]
fn a_look_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list_snapshots(dir.path(), &[]).unwrap().is_empty());
    assert!(files_of_usable(dir.path()).unwrap().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn whatever_is_damaged_is_refused_and_moved_away() {
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let at = 5000 % bytes.len().min(6000);
        bytes[at] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let cut = |path: PathBuf| File::options().write(true).open(path).unwrap().set_len(200).unwrap();
    let pipe = |path: PathBuf| {
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    };
    for name in [RAM, STATE, DISK, MANIFEST] {
        for damage in [&flip as &dyn Fn(PathBuf), &cut, &|path| fs::remove_file(path).unwrap(), &pipe] {
            let (_dir, disk) = disk();
            let key = kept(&disk, "r", 1);
            damage(disk.dir.join(&key).join(name));
            let why = disk.try_load(&key).map(|found| found.is_some());
            assert!(why.is_err(), "{name}: {why:?}");
            assert!(disk.load(&key).unwrap().is_none(), "{name}");
            assert!(!disk.dir.join(&key).exists());
        }
    }
}

#[test]
fn a_part_of_another_snapshot_is_refused() {
    for name in [RAM, STATE, DISK, MANIFEST] {
        let (_dir, disk) = disk();
        let (one, other) = (kept(&disk, "r", 1), kept(&disk, "other", 2));
        fs::rename(disk.dir.join(&other).join(name), disk.dir.join(&one).join(name)).unwrap();
        assert!(disk.load(&one).unwrap().is_none(), "{name}");
    }
    let (_dir, disk) = disk();
    let (one, other) = (kept(&disk, "r", 1), kept(&disk, "other", 2));
    disk.remove(&one).unwrap();
    fs::rename(disk.dir.join(&other), disk.dir.join(&one)).unwrap();
    assert!(disk.try_load(&one).unwrap_err().contains("another snapshot"));
}

#[test]
fn the_dead_are_swept_and_the_unused_collected() {
    let (dir, disk) = disk();
    for name in [format!("{NEW}x"), format!("{DEAD}y")] {
        fs::create_dir(disk.dir.join(name)).unwrap();
    }
    let (old, young) = (kept(&disk, "old", 1), kept(&disk, "young", 2));
    disk.load(&young).unwrap().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    File::create(disk.dir.join(&old).join(USED)).unwrap().set_modified(long_ago).unwrap();
    let again = Disk::open(dir.path(), Hosts(Vec::new())).unwrap();
    assert!(!again.names().unwrap().iter().any(|name| name.starts_with('.')));
    let keep = SnapshotGc { unused: Some(Duration::from_secs(2000)), quota: None };
    assert_eq!(again.collect(&keep).unwrap(), SnapshotsRemoved::default());
    let one = again.list().unwrap()[0].bytes;
    assert_eq!(again.collect(&SnapshotGc { unused: None, quota: Some(one) }).unwrap().removed, [old]);
    let none = SnapshotGc { unused: Some(Duration::ZERO), quota: None };
    assert_eq!(again.collect(&none).unwrap().removed, [young]);
}

#[test]
fn what_nobody_can_use_is_collected_whatever_the_policy() {
    let (dir, disk) = disk();
    let (orphan, good, damaged) = (kept(&disk, "a", 1), kept(&disk, "b", 2), kept(&disk, "c", 3));
    let all = SnapshotGc::default();
    assert_eq!(disk.collect(&all).unwrap(), SnapshotsRemoved::default());
    fs::remove_file(root_file(&disk, "a")).unwrap();
    fs::write(disk.dir.join(&damaged).join(MANIFEST), "x").unwrap();
    let standings = || disk.list().unwrap().into_iter().map(|info| (info.key, info.standing));
    assert_eq!(
        standings().collect::<Vec<_>>(),
        [(orphan.clone(), Standing::Orphaned), (good.clone(), Standing::Usable)]
    );
    let root = fs::canonicalize(root_file(&disk, "b")).unwrap();
    assert_eq!(files_of_usable(dir.path()).unwrap(), [root], "of what nobody can use no file is");
    let removed = disk.collect(&all).unwrap();
    assert_eq!(removed.removed, [damaged, orphan]);
    assert!(removed.bytes > 0);
    assert_eq!(standings().collect::<Vec<_>>(), [(good, Standing::Usable)]);
}

#[test]
fn what_fits_no_vm_of_this_host_is_told_and_goes_and_what_is_not_known_stays() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), Hosts(vec![testkit::fake::forking()])).unwrap();
    let root = root_file(&disk, "r");
    fs::write(&root, "r").unwrap();
    let keep = |backend: &str| {
        let mut kind = key::of_file(&root);
        kind.backend = BackendKey(backend.to_owned());
        let dir = disk.dir.join(kind.key());
        // as another engine does it
        let other = Disk::open(disk.dir.parent().unwrap(), Hosts(Vec::new())).unwrap();
        other.keep(&kind.key(), &kind, built(1)).unwrap();
        assert!(dir.exists());
        kind.key()
    };
    let [ours, old, strange] = ["fake", "fake 0.1\nother words", "another 0.1"].map(keep);
    let standings = |disk: &Disk| {
        let all = disk.list().unwrap().into_iter();
        all.map(|info| (info.key, info.standing)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let all = standings(&disk);
    let standing = |key: &String| all.get(key).copied();
    assert_eq!(standing(&ours), Some(Standing::Usable));
    assert_eq!(standing(&old), Some(Standing::Unfit));
    assert_eq!(standing(&strange), Some(Standing::Usable));
    // nobody was asked
    let unasked = list_snapshots(dir.path(), &[]).unwrap();
    assert!(unasked.iter().all(|info| info.standing == Standing::Usable));
    // whenever one is made they go
    let mut kind = key::of_file(&root);
    kind.cpus = 2;
    disk.keep(&kind.key(), &kind, built(1)).unwrap();
    let left = standings(&disk);
    assert_eq!(left.len(), 3);
    assert!(!left.contains_key(&old) && left.contains_key(&strange) && left.contains_key(&ours));
}

#[test]
fn a_pinned_one_stays_until_nobody_can_use_it() {
    let (dir, disk) = disk();
    let (one, other) = (kept(&disk, "a", 1), kept(&disk, "b", 2));
    let all = SnapshotGc { unused: Some(Duration::ZERO), quota: Some(0) };
    pin_snapshot(dir.path(), &one, Pin::Set).unwrap();
    assert_eq!(disk.collect(&all).unwrap().removed, [other]);
    let listed = disk.list().unwrap();
    assert_eq!((listed.len(), listed[0].pinned), (1, true));
    // made anew it is pinned as before
    assert_eq!(kept(&disk, "a", 3), one);
    assert!(disk.list().unwrap()[0].pinned);
    fs::remove_file(root_file(&disk, "a")).unwrap();
    assert_eq!(disk.collect(&SnapshotGc::default()).unwrap().removed, std::slice::from_ref(&one));
    assert_eq!(kept(&disk, "a", 1).len(), 64);
    pin_snapshot(dir.path(), &one, Pin::Cleared).unwrap();
    pin_snapshot(dir.path(), &one, Pin::Cleared).unwrap();
    disk.collect(&all).unwrap();
    assert!(disk.list().unwrap().is_empty());
}
