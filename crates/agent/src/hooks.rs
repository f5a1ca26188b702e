//! The image's own hooks for a new guest: programs in `/etc/ampoule/after-fork.d`.
//!
//! Purpose: what only the image knows must not be the same in two forks (a daemon's random state, a host key)
//! is made anew before any command of the user. Owner: one call at the end of Prepare or Bind.
//! Invariants: they run one after the other in the order of their names, as root, in a bounded time; one that
//! fails is an error that names it, for what it should have made anew is then not.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process_group, waitpid},
};
use wire::message::{Failure, FailureKind};

use crate::{
    ends::Kind,
    failure::{failure, io_failure},
    spawn::{Spawn, spawn},
};

/// Where they are.
pub(crate) const DIR: &str = "/etc/ampoule/after-fork.d";
/// How long all may take together.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(1);
/// How much of what one says an error shows, in bytes.
const SHOWN: usize = 500;

/// Looks whether there are any, so that the kernel knows when they are to run.
pub(crate) fn look() {
    // a matter of speed only
    let _ = fs::read_dir(DIR).map(Iterator::count);
}

pub(crate) fn run(dir: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_failure(DIR, error)),
    };
    let mut programs: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        // as run-parts has it: what an editor or a package manager left beside is no hook
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_hook))
        .filter(|path| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .collect();
    programs.sort();
    let end = Instant::now() + LIMIT;
    programs.iter().try_for_each(|program| run_one(program, end))
}

fn is_hook(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn run_one(program: &Path, end: Instant) -> Result<(), Failure> {
    let name = program.display();
    let output = tempfile()?;
    let env = [
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    let pid = spawn(Spawn {
        argv: &[program.to_string_lossy().into_owned()],
        env: &env,
        cwd: Path::new("/"),
        identity: None,
        kind: Kind::Pipe,
        stdin: None,
        stdout: output.try_clone().map_err(|error| io_failure("a file", error))?,
        stderr: None,
        cgroup: None,
    })?;
    let status = loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => break status,
            Ok(None) | Err(Errno::INTR) if Instant::now() < end => thread::sleep(LOOK),
            Ok(None) | Err(Errno::INTR) => {
                kill(pid);
                return Err(failure(FailureKind::Io, format!("the hook {name} took longer than {LIMIT:?}")));
            }
            Err(errno) => return Err(io_failure("a hook", errno)),
        }
    };
    if status.exit_status() == Some(0) {
        return Ok(());
    }
    let how = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    };
    Err(failure(FailureKind::Io, format!("the hook {name} failed: {how}: {}", said(&output))))
}

fn kill(pid: Pid) {
    // it may have ended just now
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

/// A file without a name for what a hook says: nobody has to read while it runs.
fn tempfile() -> Result<OwnedFd, Failure> {
    rustix::fs::memfd_create("hook", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| io_failure("a file in memory", errno))
}

fn said(output: &OwnedFd) -> String {
    let mut buffer = [0; SHOWN];
    let length = rustix::io::pread(output, &mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn hooks_run_in_order_and_a_failing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        run(&dir.path().join("absent")).unwrap();
        hook(dir.path(), "20-b", &format!("echo b >> {}", log.display()));
        hook(dir.path(), "10-a", &format!("echo a >> {}", log.display()));
        hook(dir.path(), "30-c.dpkg-old", "exit 1");
        fs::write(dir.path().join("readme"), "no program").unwrap();
        run(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "a\nb\n");
        hook(dir.path(), "15-x", "echo went wrong >&2; exit 3");
        let error = run(dir.path()).unwrap_err();
        assert!(error.message.contains("15-x failed: exit code 3: went wrong"), "{error:?}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "a\nb\na\n");
    }
}
