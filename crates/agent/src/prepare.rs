//! Prepare: from a bare kernel to a machine for jobs.
//!
//! Purpose: disks, overlay, switch of the root, names, clock, entropy.
//! Owner: one call; it happens once per boot.
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
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, mount, mount_bind, mount_move},
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use wire::message::{Directory, Failure, FailureKind, Prepare, Prepared, Root, RootFs};

use crate::{
    agent::Ground,
    failure::{failure, io_failure},
    hosted::Hosted,
    processors, system, users,
};

/// How long a disk may take to appear.
const DISK: Duration = Duration::from_secs(20);
/// Where the new root is built.
const NEW: &str = "/mnt/new";

/// Makes the guest ready.
pub(crate) fn prepare(ground: &Ground, wanted: &Prepare) -> Result<Prepared, Failure> {
    check(wanted)?;
    let root_prefix = match (ground, &wanted.root) {
        (Ground::Machine, Root::Disks { root, fs, scratch }) => {
            machine(wanted, root, *fs, scratch)?;
            String::new()
        }
        (Ground::Hosted(hosted), Root::Hosted) => {
            directories_below(hosted, &wanted.directories)?;
            hosted.root().to_string_lossy().into_owned()
        }
        (Ground::Machine, Root::Hosted) => {
            return Err(failure(FailureKind::Invalid, "this agent is a machine's: it needs disks"));
        }
        (Ground::Hosted(_), Root::Disks { .. }) => {
            return Err(failure(FailureKind::Invalid, "this agent is hosted: it has no disks"));
        }
    };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let up = clock_gettime(ClockId::Boottime);
    let boot_ms =
        u64::try_from(up.tv_sec).unwrap_or(0) * 1000 + u64::try_from(up.tv_nsec).unwrap_or(0) / 1_000_000;
    Ok(Prepared { root_prefix, kernel, boot_ms })
}

fn check(wanted: &Prepare) -> Result<(), Failure> {
    let invalid = |text: String| Err(failure(FailureKind::Invalid, text));
    let name = &wanted.hostname;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    {
        return invalid(format!("{name:?} is no host name"));
    }
    let id = &wanted.machine_id;
    if id.len() != 32 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return invalid(format!("{id:?} is no machine id"));
    }
    for directory in &wanted.directories {
        let path = Path::new(&directory.path);
        let plain = path.components().all(|part| part != std::path::Component::ParentDir);
        if !path.is_absolute() || path == Path::new("/") || !plain || directory.path.contains('\0') {
            return invalid(format!("{:?} is no absolute path of a directory", directory.path));
        }
        if directory.mode & !0o7777 != 0 {
            return invalid(format!("{:#o} is no mode", directory.mode));
        }
    }
    Ok(())
}

fn directories_below(hosted: &Hosted, wanted: &[Directory]) -> Result<(), Failure> {
    for directory in wanted {
        let path = hosted.path(Path::new(&directory.path));
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(directory.mode)))
            .map_err(|error| io_failure(&directory.path, error))?;
    }
    Ok(())
}

fn machine(wanted: &Prepare, root: &str, root_fs: RootFs, scratch: &str) -> Result<(), Failure> {
    // First of all, so that everything after has the right time and good random numbers.
    set_clock(wanted.clock_ns)?;
    system::add_entropy(&wanted.entropy.0).map_err(|error| io_failure("the random generator", error))?;
    let scratch = build_root(root, root_fs, scratch)?;
    switch_root()?;
    inner_mounts()?;
    names(wanted)?;
    directories(&scratch, &wanted.directories)?;
    system::loopback_up().map_err(|error| io_failure("the loopback interface", error))?;
    processors::bring_up();
    Ok(())
}

fn set_clock(now_ns: u64) -> Result<(), Failure> {
    let now = Timespec {
        tv_sec: i64::try_from(now_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(now_ns % 1_000_000_000).unwrap_or(0),
    };
    clock_settime(ClockId::Realtime, now).map_err(|errno| io_failure("the clock", errno))
}

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

fn mkdir(path: impl AsRef<Path>) -> Result<(), Failure> {
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

/// Mounts the disks and the overlay; returns the scratch disk.
fn build_root(root: &str, root_fs: RootFs, scratch: &str) -> Result<OwnedFd, Failure> {
    for dir in ["/mnt/root", "/mnt/scratch", NEW] {
        mkdir(dir)?;
    }
    mounted(disk(root)?, "/mnt/root", root_fs.name(), MountFlags::RDONLY | MountFlags::NODEV, "")?;
    mounted(disk(scratch)?, "/mnt/scratch", "ext4", MountFlags::NOATIME, "barrier=0")?;
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
fn switch_root() -> Result<(), Failure> {
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

fn inner_mounts() -> Result<(), Failure> {
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

fn names(wanted: &Prepare) -> Result<(), Failure> {
    let name = &wanted.hostname;
    rustix::system::sethostname(name.as_bytes()).map_err(|errno| io_failure("the host name", errno))?;
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n");
    mkdir("/etc")?;
    for (path, text) in [
        ("/etc/hostname", format!("{name}\n")),
        ("/etc/hosts", hosts),
        ("/etc/machine-id", format!("{}\n", wanted.machine_id)),
    ] {
        // An image may have a symbolic link there.
        let _ = fs::remove_file(path);
        fs::write(path, text).map_err(|error| io_failure(path, error))?;
    }
    Ok(())
}

/// Directories of the scratch disk, by way of its descriptor: it has no name any more.
fn directories(scratch: &OwnedFd, wanted: &[Directory]) -> Result<(), Failure> {
    let scratch = PathBuf::from(format!("/proc/self/fd/{}", scratch.as_raw_fd()));
    let mut bound: Vec<&Path> = Vec::new();
    for (index, directory) in wanted.iter().enumerate() {
        let path = Path::new(&directory.path);
        let fail = |error: io::Error| io_failure(&directory.path, error);
        mkdir(path)?;
        if !bound.iter().any(|above| path.starts_with(above)) {
            let source = scratch.join("dirs").join(index.to_string());
            mkdir(&source)?;
            mount_bind(&source, path).map_err(|errno| fail(errno.into()))?;
            bound.push(path);
        }
        let owner = users::resolve(&directory.owner)?;
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(fail)?;
        fs::set_permissions(path, fs::Permissions::from_mode(directory.mode)).map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{Account, Entropy};

    fn request() -> Prepare {
        Prepare {
            root: Root::Hosted,
            hostname: "job-1.local".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            clock_ns: 0,
            entropy: Entropy(vec![0; 64]),
            directories: vec![Directory { path: "/tmp".into(), owner: Account::ROOT, mode: 0o1777 }],
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        assert!(check(&request()).is_ok());
        let spoilt: [fn(&mut Prepare); 8] = [
            |wanted| wanted.hostname.clear(),
            |wanted| wanted.hostname = "a b".into(),
            |wanted| wanted.hostname = "x".repeat(65),
            |wanted| wanted.machine_id = "x".repeat(32),
            |wanted| wanted.directories[0].path = "tmp".into(),
            |wanted| wanted.directories[0].path = "/".into(),
            |wanted| wanted.directories[0].path = "/a/../..".into(),
            |wanted| wanted.directories[0].mode = 0o10_0755,
        ];
        for spoil in spoilt {
            let mut wanted = request();
            spoil(&mut wanted);
            assert_eq!(check(&wanted).unwrap_err().kind, FailureKind::Invalid, "{wanted:?}");
        }
    }
}
