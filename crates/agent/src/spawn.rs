//! Starting a command.
//!
//! Purpose: fork and exec with own session, control group, user and working directory.
//! Owner: one call. Waiting is up to the loop: the `Child` of std is dropped, which does not wait.
//!
//! Invariant: between fork and exec only system calls are made; everything that allocates is done before.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    process::Pid,
    thread,
};
use wire::message::{Failure, FailureKind};

use crate::{
    ends::Kind,
    failure::{errno_text, failure, io_failure},
    users::Identity,
};

/// What to start.
pub(crate) struct Spawn<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [(String, String)],
    pub(crate) cwd: &'a Path,
    /// None: as this process.
    pub(crate) identity: Option<Identity>,
    /// What standard input is an end of: a terminal becomes the controlling one.
    pub(crate) kind: Kind,
    /// None: `/dev/null`.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    /// None: the same as `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
    /// The door of its control group.
    pub(crate) cgroup: Option<OwnedFd>,
}

/// What the child was doing when it failed. Added to the error number, which is all that std passes on from
/// the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Stage {
    Exec = 0,
    Group = 1 << 16,
    User = 2 << 16,
    Cwd = 3 << 16,
    Terminal = 4 << 16,
}

impl Stage {
    fn mark(self) -> impl FnOnce(Errno) -> io::Error {
        move |errno| io::Error::from_raw_os_error(self as i32 | errno.raw_os_error())
    }

    fn read(code: i32) -> (Self, Errno) {
        let stage = match code >> 16 {
            1 => Self::Group,
            2 => Self::User,
            3 => Self::Cwd,
            4 => Self::Terminal,
            _ => Self::Exec,
        };
        (stage, Errno::from_raw_os_error(code & 0xffff))
    }
}

/// Starts it. Its process id is also that of its process group and session.
pub(crate) fn spawn(request: Spawn<'_>) -> Result<Pid, Failure> {
    let invalid = |what: &str| failure(FailureKind::Invalid, what);
    let Some((program, arguments)) = request.argv.split_first() else {
        return Err(invalid("the command has no program"));
    };
    let zero = |text: &String| text.contains('\0');
    if program.is_empty() || request.argv.iter().any(zero) {
        return Err(invalid("the command has an empty program or a zero byte"));
    }
    if request.env.iter().any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || zero(value)) {
        return Err(invalid("a variable's name is empty or has `=`, or it has a zero byte"));
    }
    let cwd = CString::new(request.cwd.as_os_str().as_bytes())
        .map_err(|_| failure(FailureKind::Cwd, "the working directory has a zero byte"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(request.env.iter().map(|(name, value)| (name, value)));
    command.stdin(request.stdin.map_or_else(Stdio::null, Stdio::from));
    let stderr = match request.stderr {
        Some(stderr) => stderr,
        None => request.stdout.try_clone().map_err(|error| io_failure("a pipe", error))?,
    };
    command.stdout(request.stdout).stderr(stderr);
    let (cgroup, kind) = (request.cgroup, request.kind);
    let identity = request.identity.map(|Identity { uid, gid, groups }| {
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        (Uid::from_raw(uid), Gid::from_raw(gid), groups)
    });
    let prepare = move || {
        if let Some(cgroup) = &cgroup {
            rustix::io::write(cgroup.as_fd(), b"0").map_err(Stage::Group.mark())?;
        }
        rustix::process::setsid().map_err(Stage::Group.mark())?;
        if kind == Kind::Terminal {
            // std has put it in its place by now.
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(Stage::Terminal.mark())?;
        }
        crate::system::reset_signals()?;
        if let Some((uid, gid, groups)) = &identity {
            thread::set_thread_groups(groups).map_err(Stage::User.mark())?;
            thread::set_thread_res_gid(*gid, *gid, *gid).map_err(Stage::User.mark())?;
            thread::set_thread_res_uid(*uid, *uid, *uid).map_err(Stage::User.mark())?;
        }
        rustix::process::chdir(cwd.as_c_str()).map_err(Stage::Cwd.mark())
    };
    // SAFETY: `prepare` only makes system calls, on memory that was allocated before the fork.
    unsafe { command.pre_exec(prepare) };
    match command.spawn() {
        Ok(child) => i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failure(FailureKind::Io, "the kernel gave no process id")),
        Err(error) => Err(explain(&error, program, request.cwd)),
    }
}

fn explain(error: &io::Error, program: &str, cwd: &Path) -> Failure {
    let Some(code) = error.raw_os_error() else {
        return failure(FailureKind::Io, format!("{program:?} could not be started: {error}"));
    };
    let (stage, errno) = Stage::read(code);
    let why = errno_text(errno);
    match (stage, errno) {
        (Stage::Cwd, _) => {
            failure(FailureKind::Cwd, format!("the working directory {}: {why}", cwd.display()))
        }
        (Stage::User, _) => failure(FailureKind::User, format!("cannot become the user: {why}")),
        (Stage::Group, _) => failure(FailureKind::Io, format!("cannot join the control group: {why}")),
        (Stage::Terminal, _) => failure(FailureKind::Io, format!("cannot take the terminal: {why}")),
        (Stage::Exec, Errno::NOENT | Errno::NOTDIR) => failure(
            FailureKind::NotFound,
            format!("{program:?}: no such program, or the interpreter that its first line names is missing"),
        ),
        (Stage::Exec, Errno::ACCESS | Errno::PERM) => {
            failure(FailureKind::Permission, format!("{program:?}: {why}"))
        }
        (Stage::Exec, _) => failure(FailureKind::Io, format!("{program:?}: {why}")),
    }
}
