//! The enclosure with stand-ins for mmdebstrap and mksquashfs: real namespaces, no network, no packages.

use std::{
    fs::File, os::unix::fs::PermissionsExt as _, os::unix::process::ExitStatusExt as _, path::PathBuf,
};

use super::*;

#[test]
fn errors_of_apt_get_a_hint() {
    let of = |text| hint(text).unwrap_or_default();
    assert!(of("W: GPG error: … NO_PUBKEY 6ED0E7B82643E131").contains("debian-archive-keyring"));
    assert!(of("E: Unable to locate package nope").contains("does not have"));
    assert!(of("Temporary failure resolving 'mirror'").contains("mirror"));
    assert_eq!(hint("E: something else"), None);
}

#[test]
fn a_full_disk_is_told_apart() {
    let mut log = Log::new(&crate::Silent);
    log.line(b"dpkg: error: No space left on device");
    let failed = ExitStatus::from_raw(256);
    let fine = ExitStatus::from_raw(0);
    let work = Path::new("/w");
    let outcome = |built, said: &[u8]| outcome(Room::Disk, built, fine, said, &log, work);
    assert!(matches!(outcome(failed, b""), Err(Error::Full { .. })));
    assert!(matches!(outcome(fine, b""), Ok(())));
    assert!(matches!(outcome(fine, b"Write failed: No space left on device"), Err(Error::Full { .. })));
}

struct Stage {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Stage {
    /// A build's directory, and a program directory in which mmdebstrap is this script.
    fn new(mmdebstrap: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        for part in ["work/in", "work/out", "work/tree", "bin"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        fs::write(dir.path().join("work/enclosure.sh"), ENCLOSURE).unwrap();
        fs::write(dir.path().join("work/in/given"), "given").unwrap();
        let program = |name: &str, text: &str| {
            let path = dir.path().join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("mmdebstrap", mmdebstrap);
        program("mksquashfs", "cat > \"$2\"");
        let root = dir.path().join("work/root.squashfs");
        Stage { dir, root }
    }

    async fn run(&self, room: Room, cancel: &CancellationToken) -> Result<()> {
        let job = Job {
            work: &self.dir.path().join("work"),
            room,
            mmdebstrap: vec!["one argument".into()],
            path: format!("{}:{}", self.dir.path().join("bin").display(), search_path()),
            env: Vec::new(),
            root: &self.root,
        };
        run(job, &mut Log::new(&crate::Silent), cancel).await
    }

    /// A lock that every process of [`HOLDS_ON`] holds.
    fn lock(&self) -> File {
        File::create(self.dir.path().join("work/out/lock")).unwrap()
    }
}

/// Takes a lock, starts a process that left its session, says that it is there, and never ends.
const HOLDS_ON: &str = "exec 9>>/mnt/out/lock; flock 9; setsid sleep 1000 & echo up > /mnt/out/up; wait";

async fn until_up(stage: &Stage) {
    let up = stage.dir.path().join("work/out/up");
    while fs::read(&up).map_or(true, |text| text.is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const ROOMS: [Room; 2] = [Room::Memory(16 << 20), Room::Disk];

#[tokio::test]
async fn what_is_made_comes_out_and_what_is_mounted_does_not() {
    for room in ROOMS {
        let stage =
            Stage::new("cat /mnt/in/given; echo \"$1\"; id -u; echo seen > /mnt/out/seen; : > /mnt/tmp/x");
        stage.run(room, &CancellationToken::new()).await.unwrap();
        assert_eq!(fs::read_to_string(&stage.root).unwrap(), "givenone argument\n0\n");
        let work = stage.dir.path().join("work");
        assert_eq!(fs::read_to_string(work.join("out/seen")).unwrap(), "seen\n");
        assert_eq!(fs::read_dir(work.join("view")).unwrap().count(), 0, "{room:?}");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*work.to_string_lossy()));
    }
}

#[tokio::test]
async fn a_failure_shows_the_last_lines() {
    let stage = Stage::new("echo 'E: Unable to locate package nope' >&2; exit 25");
    let error = stage.run(Room::Disk, &CancellationToken::new()).await.unwrap_err();
    let Error::Packages { log, hint } = error else { panic!("{error:?}") };
    assert_eq!(log, "E: Unable to locate package nope\n");
    assert!(hint.is_some());
}

#[tokio::test]
async fn a_full_room_is_told_apart() {
    let stage = Stage::new("head -c 3000000 /dev/zero > /mnt/tmp/x");
    let ended = stage.run(Room::Memory(1 << 20), &CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::Full { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_cancelled_build_is_gone_when_the_call_returns() {
    for room in ROOMS {
        let stage = Stage::new(HOLDS_ON);
        let cancel = CancellationToken::new();
        let running = stage.run(room, &cancel);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            () = until_up(&stage) => {}
        }
        assert!(stage.lock().try_lock().is_err(), "the build does not hold its lock");
        cancel.cancel();
        let ended = running.await;
        assert!(matches!(ended, Err(Error::Cancelled)));
        assert!(stage.lock().try_lock().is_ok(), "a process of the build lives");
    }
}

#[tokio::test]
async fn a_build_whose_owner_drops_it_ends() {
    let stage = Stage::new(HOLDS_ON);
    let cancel = CancellationToken::new();
    tokio::select! {
        ended = stage.run(Room::Disk, &cancel) => panic!("{ended:?}"),
        () = until_up(&stage) => {}
    }
    let lock = stage.lock();
    // Waits for as long as a process of the build lives.
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
}
