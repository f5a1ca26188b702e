//! Prepare and Bind: from a bare kernel to a machine for jobs, and from one machine to another.
//!
//! Purpose: clock, entropy, names, directories; the disks are `mounts`'.
//! Owner: one call each. Prepare happens once per boot; Bind gives a guest that was prepared, or a fork of one, an
//! identity of its own.
//!
//! Invariant: time and randomness come first, so that everything after has the right ones, and the image's
//! hooks last.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, chown},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    mount::mount_bind,
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use wire::message::{Bind, Directory, Failure, FailureKind, Hooks, Prepare, Prepared, Root, RootFs};

use crate::{
    agent::Ground,
    failure::{failure, io_failure},
    hooks,
    hosted::Hosted,
    mounts::{self, Base},
    processors::Processors,
    system, users,
};

/// Where names are files, once the root is in place.
const ETC: &str = "/etc";

/// What is known of a machine.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    /// What is the same in every fork, when it is done.
    base: Option<Base>,
    /// Which processors run.
    pub(crate) processors: Processors,
    /// The scratch disk, when it is mounted: it has no name then.
    scratch: Option<OwnedFd>,
    /// Directories that lie on it, in order.
    bound: Vec<Directory>,
    /// How many were asked for.
    made: usize,
}

/// What needs no scratch disk and is the same in every fork: done once, before a guest is saved.
pub(crate) fn base<'a>(disks: &'a mut Disks, root: &str, fs: RootFs) -> Result<&'a mut Base, Failure> {
    match &mut disks.base {
        Some(base) => Ok(base),
        empty => {
            let base = mounts::base(root, fs)?;
            system::loopback_up().map_err(|error| io_failure("the loopback interface", error))?;
            Ok(empty.insert(base))
        }
    }
}

/// Makes the guest ready.
pub(crate) fn prepare(ground: &Ground, disks: &mut Disks, wanted: &Prepare) -> Result<Prepared, Failure> {
    check(Checked::of(wanted))?;
    let root_prefix = match (ground, &wanted.root) {
        (Ground::Machine, Root::Disks { root, fs, scratch }) => {
            set_clock(wanted.clock_ns)?;
            add_entropy(&wanted.entropy)?;
            let base = base(disks, root, *fs)?;
            disks.scratch = Some(mounts::scratch(base, scratch)?);
            let etc = mounts::etc()?;
            if let Some(etc) = &etc {
                names(etc, &wanted.hostname, &wanted.machine_id)?;
            }
            mounts::overlay()?;
            mounts::switch_root()?;
            if etc.is_none() {
                names(Path::new(ETC), &wanted.hostname, &wanted.machine_id)?;
            }
            directories(disks, &wanted.directories)?;
            disks.processors.bring_up();
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

/// Makes a prepared guest another one.
pub(crate) fn bind(ground: &Ground, disks: &mut Disks, wanted: &Bind) -> Result<(), Failure> {
    check(Checked::of_bind(wanted))?;
    match ground {
        Ground::Machine => {
            set_clock(wanted.clock_ns)?;
            add_entropy(&wanted.entropy)?;
            names(Path::new(ETC), &wanted.hostname, &wanted.machine_id)?;
            directories(disks, &wanted.directories)?;
        }
        Ground::Hosted(hosted) => directories_below(hosted, &wanted.directories)?,
    }
    Ok(())
}

/// Runs the image's hooks, if it is time: last.
pub(crate) fn hooks(ground: &Ground, when: Hooks) -> Result<(), Failure> {
    match when {
        Hooks::Now => run_hooks(ground),
        Hooks::Later => {
            hooks::look();
            Ok(())
        }
    }
}

fn run_hooks(ground: &Ground) -> Result<(), Failure> {
    match ground {
        Ground::Machine => hooks::run(Path::new(hooks::DIR)),
        Ground::Hosted(hosted) => hooks::run(&hosted.path(Path::new(hooks::DIR))),
    }
}

/// The parts of a request that can be wrong.
struct Checked<'a> {
    hostname: &'a str,
    machine_id: &'a str,
    directories: &'a [Directory],
}

impl<'a> Checked<'a> {
    fn of(wanted: &'a Prepare) -> Self {
        let Prepare { hostname, machine_id, directories, .. } = wanted;
        Self { hostname, machine_id, directories }
    }

    fn of_bind(wanted: &'a Bind) -> Self {
        let Bind { hostname, machine_id, directories, .. } = wanted;
        Self { hostname, machine_id, directories }
    }
}

fn check(wanted: Checked<'_>) -> Result<(), Failure> {
    let invalid = |text: String| Err(failure(FailureKind::Invalid, text));
    let name = wanted.hostname;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    {
        return invalid(format!("{name:?} is no host name"));
    }
    let id = wanted.machine_id;
    if id.len() != 32 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return invalid(format!("{id:?} is no machine id"));
    }
    for directory in wanted.directories {
        let path = Path::new(&directory.path);
        let plain = path.components().all(|part| part != Component::ParentDir);
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

fn add_entropy(entropy: &wire::message::Entropy) -> Result<(), Failure> {
    if cfg!(feature = "unseeded") {
        return Ok(());
    }
    system::add_entropy(&entropy.0).map_err(|error| io_failure("the random generator", error))
}

fn set_clock(now_ns: u64) -> Result<(), Failure> {
    let now = Timespec {
        tv_sec: i64::try_from(now_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(now_ns % 1_000_000_000).unwrap_or(0),
    };
    clock_settime(ClockId::Realtime, now).map_err(|errno| io_failure("the clock", errno))
}

/// Host name and machine id, also as files in `etc`.
fn names(etc: &Path, name: &str, machine_id: &str) -> Result<(), Failure> {
    rustix::system::sethostname(name.as_bytes()).map_err(|errno| io_failure("the host name", errno))?;
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n");
    mounts::mkdir(etc)?;
    for (file, text) in
        [("hostname", format!("{name}\n")), ("hosts", hosts), ("machine-id", format!("{machine_id}\n"))]
    {
        let path = etc.join(file);
        write_over(&path, text.as_bytes()).map_err(|error| io_failure(&path.to_string_lossy(), error))?;
    }
    Ok(())
}

/// Writes a file. An image may have a symbolic link there. A file stays, another one would cost the overlay a
/// whiteout, and is cut only where it is longer: to cut it first is what takes a file system the longest.
pub(crate) fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let before = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|found| found.len());
    if before.is_none() {
        let _ = fs::remove_file(path);
    }
    let mut file = fs::File::options().write(true).create(true).truncate(false).open(path)?;
    io::Write::write_all(&mut file, text)?;
    if before.is_some_and(|before| before > text.len() as u64) {
        file.set_len(text.len() as u64)?;
    }
    Ok(())
}

/// Directories of the scratch disk, by way of its descriptor: it has no name any more.
fn directories(disks: &mut Disks, wanted: &[Directory]) -> Result<(), Failure> {
    let Some(scratch) = &disks.scratch else {
        return Err(failure(FailureKind::State, "there is no scratch disk"));
    };
    let scratch = PathBuf::from(format!("/proc/self/fd/{}", scratch.as_raw_fd()));
    for directory in wanted {
        // the guest's root alone can take it away
        if disks.bound.contains(directory) {
            continue;
        }
        let path = Path::new(&directory.path);
        let fail = |error: io::Error| io_failure(&directory.path, error);
        mounts::mkdir(path)?;
        if !disks.bound.iter().any(|above| path.starts_with(&above.path)) {
            let source = scratch.join("dirs").join(disks.made.to_string());
            mounts::mkdir(&source)?;
            mount_bind(&source, path).map_err(|errno| fail(errno.into()))?;
            disks.bound.push(directory.clone());
        }
        disks.made += 1;
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
            hooks: Hooks::Now,
            network: None,
        }
    }

    #[test]
    fn a_file_is_written_over_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for text in ["a", "longer", "b"] {
            write_over(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let link = dir.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_over(&link, b"own").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "own");
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        assert!(check(Checked::of(&request())).is_ok());
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
            assert_eq!(check(Checked::of(&wanted)).unwrap_err().kind, FailureKind::Invalid, "{wanted:?}");
        }
    }
}
