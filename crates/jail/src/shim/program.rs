//! The last steps before the VMM: its descriptors, its system call filter, and the exec.
//!
//! Invariant: the shim's own descriptors have numbers from [`FIRST`] on, so that every number below is free
//! for the program; all of them close on exec.

use std::{
    ffi::{CString, NulError},
    fs::File,
    io, iter,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    ptr,
};

use rustix::{
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::Failure;
use crate::{filter::Filter, launch::Program};

/// The first number of the shim's own descriptors.
pub(crate) const FIRST: i32 = 256;

/// Closes what the owner's process leaked into this one.
pub(crate) fn close_inherited() -> Result<(), Failure> {
    // SAFETY: this runs first in `main`; no object of this process owns a descriptor above 2 yet.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(Failure::io("close descriptors")(io::Error::last_os_error())) }
}

/// The owner's socket, which came as standard input; /dev/null takes its place.
pub(crate) fn take_stdin() -> Result<UnixStream, Failure> {
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
pub(crate) fn out_of_the_way(fd: OwnedFd) -> Result<OwnedFd, Failure> {
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

/// Becomes the program, under its filter; returns only when that fails.
pub(crate) fn exec(program: &Program, filter: Option<&Filter>) -> Failure {
    let failed = |source: io::Error| Failure::Exec { program: program.path.clone(), source };
    // Whatever asks something of the kernel has to come before the filter.
    let words = || -> Result<_, NulError> {
        let path = CString::new(program.path.as_os_str().as_bytes())?;
        let args = program.args.iter().map(|word| CString::new(word.as_bytes()));
        let args = iter::once(Ok(path.clone())).chain(args).collect::<Result<Vec<_>, _>>()?;
        let env = program
            .env
            .iter()
            .map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok((path, args, env.collect::<Result<Vec<_>, _>>()?))
    };
    let (path, args, env) = match words() {
        Ok(words) => words,
        Err(error) => return failed(error.into()),
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: no handler is installed; Rust's start had this signal ignored, which a program would inherit.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut key = [0; 3];
    if let Some(filter) = filter {
        if let Err(source) = filter.install() {
            return Failure::io("install the system call filter")(source);
        }
        key = filter.key();
    }
    let (path, args, env) = (path.as_ptr(), args.as_ptr(), env.as_ptr());
    // SAFETY: a path and two lists of strings, each ended as the call wants it, which outlive it.
    unsafe { libc::syscall(libc::SYS_execve, path, args, env, key[0], key[1], key[2]) };
    failed(io::Error::last_os_error())
}

/// A list that ends with a null pointer.
fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain(iter::once(ptr::null())).collect()
}
