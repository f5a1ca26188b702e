//! The one teardown of a VMM from outside: by its directory, by whoever finds it.
//!
//! Owner: the engine, for its own VMs and for what a dead engine left. Needs no connection to the shim and
//! no cooperation of it.
//! Invariant: a process is signalled only through a descriptor of it that was opened before its identity
//! (id and start time) was compared with what the shim wrote down, so that no other process is ever hit.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    Error, Result,
    lock::is_held,
    record::{self, IDENTITY, Identity, LOCK, Process},
};

/// How long between two looks whether the lock is free: the kernel tells nobody when a lock ends.
const PAUSE: Duration = Duration::from_millis(2);

/// How long the monitor has to see that its child was killed and to write that down.
const GRACE: Duration = Duration::from_millis(500);

/// The process id, as this process sees it, of the program that runs in `dir`.
///
/// # Errors
/// [`Error::Gone`] where none does.
pub fn program_pid(dir: &Path) -> Result<i32> {
    let gone = || Error::Gone(dir.to_owned());
    let identity: Identity = record::read(dir, IDENTITY)?.ok_or_else(gone)?;
    let init = identity.processes.last().filter(|process| process.lives()).ok_or_else(gone)?;
    let path = format!("/proc/{0}/task/{0}/children", init.pid);
    let children = std::fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
    // it has started one process, the program
    children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).ok_or_else(gone)
}

/// Whether a shim or its VMM lives in `dir`.
///
/// # Errors
/// The lock file is there and cannot be opened.
pub fn is_running(dir: &Path) -> Result<bool> {
    if is_held(&dir.join(LOCK))? {
        return Ok(true);
    }
    // A dying PID 1 lets go of the lock a moment before the kernel has ended the rest of its namespace; only
    // after that does it count as dead itself.
    let identity = record::read::<Identity>(dir, IDENTITY)?;
    Ok(identity.is_some_and(|identity| identity.processes.iter().any(Process::lives)))
}

/// Kills the shim and the VMM of `dir`, whoever started them, and returns when every process of them is
/// gone. A directory without any is fine. Blocks its thread, at most for `limit`; usual is 5-20 ms.
///
/// # Errors
/// [`Error::StillThere`] where something still lives after `limit`; the call may be repeated.
pub fn end(dir: &Path, limit: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        if !is_running(dir)? {
            return Ok(());
        }
        // Each round reads it anew: a shim that is only just starting writes it a moment later.
        if let Some(identity) = record::read::<Identity>(dir, IDENTITY)? {
            // The end of the innermost takes the VMM along, and the monitor then writes the record and goes.
            let spared = if began.elapsed() < GRACE { 1 } else { 0 };
            for process in identity.processes.iter().skip(spared) {
                kill(process)?;
            }
        }
        if began.elapsed() >= limit {
            return Err(Error::StillThere { dir: dir.to_owned(), waited: began.elapsed() });
        }
        thread::sleep(PAUSE);
    }
}

fn kill(process: &Process) -> Result<()> {
    let what = || format!("kill process {}", process.pid);
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(Error::io(what())(error)),
    };
    match Process::look(process.pid) {
        Ok(now) if now.start == process.start => {}
        // Gone, or its id is another's by now.
        _ => return Ok(()),
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Error::io(what())(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Lock;

    #[test]
    fn an_empty_directory_is_ended_already() {
        let dir = tempfile::tempdir().unwrap();
        end(dir.path(), Duration::ZERO).unwrap();
        end(&dir.path().join("not there"), Duration::ZERO).unwrap();
    }

    #[test]
    fn what_does_not_end_is_an_error_and_a_stranger_with_its_id_is_spared() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = Lock::try_take(&dir.path().join(LOCK)).unwrap().unwrap();
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(stranger.id()).unwrap();
        let identity = Identity { processes: vec![Process { pid, start: 1 }] };
        record::write(dir.path(), IDENTITY, &identity).unwrap();
        assert!(matches!(end(dir.path(), Duration::ZERO), Err(Error::StillThere { .. })));
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
