//! The disks of a machine: from the initramfs to the root that jobs see.
//!
//! Owner: `prepare` and `warm`, one call each.
//!
//! ```text
//!   initramfs /            (agent, modules)
//!     /mnt/root            the root image, read-only         ─┐ lower
//!     /mnt/run             becomes /run                       │
//!     /mnt/scratch         the scratch disk, ext4             │
//!       upper, work        ───────────────────────────────────┴▶ overlay ▶ becomes /
//!       dirs/0, dirs/1 …   bound to the directories of the request, not overlaid
//! ```
//!
//! Invariants
//! - All of it is done before a template is saved, and no fork does it again: an emulator translates everything that
//!   runs after a fork anew, however often it ran before. What needs no scratch disk is [`base`]'s.
//! - The scratch disk ends with the machine, so the overlay is `volatile` and nothing waits for the disk.
//! - Everything that the image must have for a mount (`/proc`, `/run` …) is made if it is missing.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, chown, symlink},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, mount, mount_move},
};
use wire::message::{Failure, FailureKind, RootFs};

use crate::failure::{failure, io_failure};

/// How long a disk may take to appear.
const DISK: Duration = Duration::from_secs(20);
/// How long a disk may take to have its size.
const SIZE: Duration = Duration::from_secs(2);
/// Where the root image is mounted.
pub(crate) const IMAGE: &str = "/mnt/root";
/// Where the new root is built.
const NEW: &str = "/mnt/new";

/// Where the scratch disk is mounted until the new root is in place.
const SCRATCH: &str = "/mnt/scratch";
/// What is written to the root.
const UPPER: &str = "/mnt/scratch/upper";
/// What becomes `/run`.
const RUN: &str = "/mnt/run";

/// What is the same in every fork.
#[derive(Debug)]
pub(crate) struct Base {
    /// Serial numbers and devices: to ask for one is a request to the disk.
    disks: Vec<(String, PathBuf)>,
}

impl Base {
    /// The block device with a serial number; waits for one that the kernel is still finding.
    fn disk(&mut self, serial: &str) -> Result<PathBuf, Failure> {
        let end = Instant::now() + DISK;
        loop {
            if let Some((_, disk)) = self.disks.iter().find(|(known, _)| known == serial) {
                return Ok(disk.clone());
            }
            if Instant::now() >= end {
                let text = format!("no disk has the serial number {serial:?}");
                return Err(failure(FailureKind::NotFound, text));
            }
            self.disks = disks();
            if self.disks.iter().all(|(known, _)| known != serial) {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// The block devices with their serial numbers.
fn disks() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let serial = fs::read_to_string(entry.path().join("serial")).ok()?;
            let serial = serial.trim_end_matches(['\n', '\0', ' ']).to_owned();
            Some((serial, Path::new("/dev").join(entry.file_name())))
        })
        .collect()
}

pub(crate) fn mkdir(path: impl AsRef<Path>) -> Result<(), Failure> {
    let path = path.as_ref();
    match fs::create_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_failure(&path.to_string_lossy(), error))
        }
        _ => Ok(()),
    }
}

fn mounted(
    source: impl AsRef<Path>,
    target: &str,
    kind: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), Failure> {
    let data = std::ffi::CString::new(data).unwrap_or_default();
    mount(source.as_ref(), target, kind, flags, data.as_c_str())
        .map_err(|errno| io_failure(&format!("mounting {kind} on {target}"), errno))
}

/// Mounts the root image, and everything else that needs no scratch disk.
pub(crate) fn base(root: &str, root_fs: RootFs) -> Result<Base, Failure> {
    let mut base = Base { disks: Vec::new() };
    for dir in [IMAGE, NEW, SCRATCH, RUN] {
        mkdir(dir)?;
    }
    mounted(base.disk(root)?, IMAGE, root_fs.name(), MountFlags::RDONLY | MountFlags::NODEV, "")?;
    let usual = MountFlags::NOSUID | MountFlags::NODEV;
    mounted("tmpfs", RUN, "tmpfs", usual, "mode=755")?;
    mkdir(Path::new(RUN).join("lock"))?;
    mkdir("/dev/shm")?;
    mounted("tmpfs", "/dev/shm", "tmpfs", usual, "mode=1777")?;
    mkdir("/dev/pts")?;
    let terminals = "gid=5,mode=620,ptmxmode=666";
    mounted("devpts", "/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, terminals)?;
    for (name, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        match symlink(target, name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_failure(name, error));
            }
            _ => {}
        }
    }
    // Memory that nobody needs any more; what stays does no harm.
    let _ = fs::remove_dir_all("/lib");
    let _ = fs::remove_file("/init");
    Ok(base)
}

/// A fork's disk may be larger than its parent's, and the kernel may be told so a moment after it runs again: until
/// then a file system is larger than its disk, and is refused.
fn mount_scratch(disk: &Path) -> Result<(), Failure> {
    let end = Instant::now() + SIZE;
    loop {
        match mounted(disk, SCRATCH, "ext4", MountFlags::NOATIME, "barrier=0") {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            outcome => return outcome,
        }
    }
}

/// Mounts the scratch disk; returns it.
pub(crate) fn scratch(base: &mut Base, serial: &str) -> Result<OwnedFd, Failure> {
    mount_scratch(&base.disk(serial)?)?;
    for dir in ["upper", "work", "dirs"] {
        mkdir(Path::new(SCRATCH).join(dir))?;
    }
    rustix::fs::open(SCRATCH, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| io_failure("the scratch disk", errno))
}

/// The directory that lies over the image's `/etc`, before it does: what is written there costs no look below.
/// `None` where the image has something else in its place.
pub(crate) fn etc() -> Result<Option<PathBuf>, Failure> {
    let etc = Path::new(UPPER).join("etc");
    let fail = |error: io::Error| io_failure("/etc", error);
    match fs::symlink_metadata(Path::new(IMAGE).join("etc")) {
        Ok(below) if below.is_dir() => {
            mkdir(&etc)?;
            chown(&etc, Some(below.uid()), Some(below.gid())).map_err(fail)?;
            fs::set_permissions(&etc, below.permissions()).map_err(fail)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => mkdir(&etc)?,
        Ok(_) => return Ok(None),
        Err(error) => return Err(fail(error)),
    }
    Ok(Some(etc))
}

/// Mounts the overlay on the root image.
pub(crate) fn overlay() -> Result<(), Failure> {
    let layers = "lowerdir=/mnt/root,upperdir=/mnt/scratch/upper,workdir=/mnt/scratch/work";
    let lazily = format!("{layers},volatile");
    mounted("overlay", NEW, "overlay", MountFlags::NOATIME, &lazily)
        // Kernels before 5.10 do not know it.
        .or_else(|_| mounted("overlay", NEW, "overlay", MountFlags::NOATIME, layers))
}

/// Makes the overlay the root of everything.
pub(crate) fn switch_root() -> Result<(), Failure> {
    for (from, name) in [("/proc", "proc"), ("/sys", "sys"), ("/dev", "dev"), (RUN, "run")] {
        let inside = format!("{NEW}/{name}");
        mkdir(&inside)?;
        mount_move(from, inside.as_str()).map_err(|errno| io_failure(&inside, errno))?;
    }
    let moved = rustix::process::chdir(NEW)
        .and_then(|()| mount_move(".", "/"))
        .and_then(|()| rustix::process::chroot("."))
        .and_then(|()| rustix::process::chdir("/"));
    moved.map_err(|errno| io_failure("the switch to the new root", errno))
}
