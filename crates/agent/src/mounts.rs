//! The disks of a machine: from the initramfs to the root that jobs see.
//!
//! Owner: `prepare` and `warm`, one call each.
//!
//! ```text
//!   initramfs /            (agent, modules)
//!     /mnt/root            the root image, read-only         ─┐ lower
//!     /mnt/scratch         the scratch disk, ext4             │
//!       upper, work        ───────────────────────────────────┴▶ overlay ▶ becomes /
//!       dirs/0, dirs/1 …   bound to the directories of the request, not overlaid
//! ```
//!
//! Invariants
//! - The scratch disk ends with the machine, so the overlay is `volatile` and nothing waits for the disk.
//! - Everything that the image must have for a mount (`/proc`, `/run` …) is made if it is missing.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::symlink},
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

/// The block device with a serial number; waits for one that the kernel is still finding.
fn disk(serial: &str) -> Result<PathBuf, Failure> {
    let end = Instant::now() + DISK;
    loop {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            if found.trim_end_matches(['\n', '\0', ' ']) == serial {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        if Instant::now() >= end {
            return Err(failure(FailureKind::NotFound, format!("no disk has the serial number {serial:?}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
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

/// Mounts the root image.
pub(crate) fn image(root: &str, root_fs: RootFs) -> Result<(), Failure> {
    mkdir(IMAGE)?;
    mounted(disk(root)?, IMAGE, root_fs.name(), MountFlags::RDONLY | MountFlags::NODEV, "")
}

/// A fork's disk may be larger than its parent's, and the kernel may be told so a moment after it runs again: until
/// then a file system is larger than its disk, and is refused.
fn mount_scratch(disk: &Path) -> Result<(), Failure> {
    let end = Instant::now() + SIZE;
    loop {
        match mounted(disk, "/mnt/scratch", "ext4", MountFlags::NOATIME, "barrier=0") {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            outcome => return outcome,
        }
    }
}

/// Mounts the scratch disk, and the overlay on the root image; returns the scratch disk.
pub(crate) fn overlay(scratch: &str) -> Result<OwnedFd, Failure> {
    for dir in ["/mnt/scratch", NEW] {
        mkdir(dir)?;
    }
    mount_scratch(&disk(scratch)?)?;
    for dir in ["upper", "work", "dirs"] {
        mkdir(Path::new("/mnt/scratch").join(dir))?;
    }
    let layers = "lowerdir=/mnt/root,upperdir=/mnt/scratch/upper,workdir=/mnt/scratch/work";
    let lazily = format!("{layers},volatile");
    mounted("overlay", NEW, "overlay", MountFlags::NOATIME, &lazily)
        // Kernels before 5.10 do not know it.
        .or_else(|_| mounted("overlay", NEW, "overlay", MountFlags::NOATIME, layers))?;
    rustix::fs::open("/mnt/scratch", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| io_failure("the scratch disk", errno))
}

/// Makes the overlay the root of everything.
pub(crate) fn switch_root() -> Result<(), Failure> {
    for dir in ["proc", "sys", "dev"] {
        let inside = format!("{NEW}/{dir}");
        mkdir(&inside)?;
        mount_move(format!("/{dir}"), inside.as_str()).map_err(|errno| io_failure(&inside, errno))?;
    }
    // Memory that nobody needs any more; what stays does no harm.
    let _ = fs::remove_dir_all("/lib");
    let _ = fs::remove_file("/init");
    let moved = rustix::process::chdir(NEW)
        .and_then(|()| mount_move(".", "/"))
        .and_then(|()| rustix::process::chroot("."))
        .and_then(|()| rustix::process::chdir("/"));
    moved.map_err(|errno| io_failure("the switch to the new root", errno))
}

pub(crate) fn inner_mounts() -> Result<(), Failure> {
    let usual = MountFlags::NOSUID | MountFlags::NODEV;
    mkdir("/run")?;
    mounted("tmpfs", "/run", "tmpfs", usual, "mode=755")?;
    mkdir("/run/lock")?;
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
    Ok(())
}
