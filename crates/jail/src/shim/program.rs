//! The last steps before the VMM: its descriptors, and the exec.
//!
//! Invariant: the shim's own descriptors have numbers from [`FIRST`] on, so that every number below is free
//! for the program; all of them close on exec.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
};

use rustix::{
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::Failure;
use crate::launch::Program;

/// The first number of the shim's own descriptors.
pub(super) const FIRST: i32 = 256;

/// Closes what the owner's process leaked into this one.
pub(super) fn close_inherited() -> Result<(), Failure> {
    // SAFETY: this runs first in `main`; no object of this process owns a descriptor above 2 yet.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(Failure::io("close descriptors")(io::Error::last_os_error())) }
}

/// The owner's socket, which came as standard input; /dev/null takes its place.
pub(super) fn take_stdin() -> Result<UnixStream, Failure> {
    let channel =
        fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST).map_err(Failure::io("copy the owner's socket"))?;
    if rustix::net::sockopt::socket_type(&channel).is_err() {
        return Err(Failure::NoOwner);
    }
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(Failure::io("open /dev/null"))?;
    dup2_stdin(&null).map_err(Failure::io("replace standard input"))?;
    Ok(UnixStream::from(channel))
}

/// The same descriptor with a number that no program asks for.
pub(super) fn out_of_the_way(fd: OwnedFd) -> Result<OwnedFd, Failure> {
    fcntl_dupfd_cloexec(&fd, FIRST).map_err(Failure::io("move a descriptor"))
}

/// A second descriptor of a socket, with such a number.
pub(super) fn another(socket: &UnixStream) -> Result<UnixStream, Failure> {
    fcntl_dupfd_cloexec(socket, FIRST).map(UnixStream::from).map_err(Failure::io("copy a descriptor"))
}

/// Gives the program the descriptor under the number that it expects.
pub(super) fn place(fd: BorrowedFd<'_>, target: i32) -> Result<(), Failure> {
    let what = || Failure::io(format!("give descriptor {target} to the program"));
    match target {
        1 => return dup2_stdout(fd).map_err(what()),
        2 => return dup2_stderr(fd).map_err(what()),
        _ => {}
    }
    // The lowest free number from `target` on: `target` itself, or something is in the way.
    let placed = fcntl_dupfd_cloexec(fd, target).map_err(what())?;
    if placed.as_raw_fd() != target {
        return Err(what()(Errno::BUSY));
    }
    let flags = fcntl_getfd(&placed).map_err(what())?;
    fcntl_setfd(&placed, flags - FdFlags::CLOEXEC).map_err(what())?;
    // From here on it is the program's.
    std::mem::forget(placed);
    Ok(())
}

/// Becomes the program; returns only when that fails.
pub(super) fn exec(program: &Program) -> Failure {
    let mut command = Command::new(&program.path);
    command.args(&program.args).env_clear().envs(program.env.iter().map(|(key, value)| (key, value)));
    let source = command.exec();
    Failure::Exec { program: program.path.clone(), source }
}
