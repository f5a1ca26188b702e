//! Namespaces. Each is tried by itself, so that a host which gives all but one is told which.

use std::{fs, io};

use rustix::{
    process::{WaitOptions, getgid, getuid, waitpid},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::Failure;
use crate::launch::Part;

/// What was asked for and could not be had.
#[derive(Debug, Default)]
pub(super) struct Missing(Vec<Part>);

impl Missing {
    pub(super) fn add(&mut self, part: Part) {
        if !self.0.contains(&part) {
            self.0.push(part);
        }
    }

    pub(super) fn extend(&mut self, parts: impl IntoIterator<Item = Part>) {
        parts.into_iter().for_each(|part| self.add(part));
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// Enters a new namespace of one kind, or notes that there is none.
pub(super) fn enter(part: Part, missing: &mut Missing) {
    let flag = match part {
        Part::UserNamespace => UnshareFlags::NEWUSER,
        Part::PidNamespace => UnshareFlags::NEWPID,
        Part::MountNamespace | Part::Root | Part::Proc => UnshareFlags::NEWNS,
        Part::NetworkNamespace => UnshareFlags::NEWNET,
        Part::IpcNamespace => UnshareFlags::NEWIPC,
        Part::UtsNamespace => UnshareFlags::NEWUTS,
        // Nothing that can be entered.
        Part::Filter => return missing.add(part),
    };
    // SAFETY: none of these flags splits the descriptor table, which is what makes the call unsafe.
    if unsafe { unshare_unsafe(flag) }.is_err() {
        missing.add(part);
    }
}

/// A user namespace in which this user is itself and may make the other namespaces.
///
/// It is tried in a child first: a half-made one (Ubuntu's AppArmor lets a plain user make the namespace but
/// not use it) would leave this process without an identity.
pub(super) fn enter_user(missing: &mut Missing) -> Result<(), Failure> {
    if !works_in_a_child()? {
        missing.add(Part::UserNamespace);
        return Ok(());
    }
    make_user().map_err(Failure::io("make a user namespace"))
}

fn make_user() -> io::Result<()> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    // SAFETY: this flag does not split the descriptor table, which is what makes the call unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))
}

fn works_in_a_child() -> Result<bool, Failure> {
    let Some(child) = fork()? else {
        let mut missing = Missing::default();
        let made = make_user();
        enter(Part::PidNamespace, &mut missing);
        enter(Part::MountNamespace, &mut missing);
        leave(made.is_ok() && missing.parts().is_empty());
    };
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status.exit_status() == Some(0)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::io("wait for a child")(error)),
        }
    }
}

/// Forks; `None` in the child.
pub(crate) fn fork() -> Result<Option<rustix::process::Pid>, Failure> {
    // SAFETY: this process has one thread (checked at its start), so that the child's memory is consistent.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(rustix::process::Pid::from_raw(pid)),
        _ => Err(Failure::io("fork")(io::Error::last_os_error())),
    }
}

/// Ends a child that only tried something.
fn leave(worked: bool) -> ! {
    // SAFETY: the child has nothing to flush or to release.
    unsafe { libc::_exit(i32::from(!worked)) }
}
