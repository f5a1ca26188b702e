//! Signals of the shim: all that would end it are blocked; SIGCHLD is read from a descriptor.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

use super::Failure;

/// Signals of terminals and service managers, which are for the owner, and SIGCHLD.
const BLOCKED: [i32; 7] =
    [libc::SIGCHLD, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid for a write of a signal set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset initialised it and cannot fail with a valid pointer.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialised and exclusively borrowed.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

fn mask(how: i32, signals: &[i32]) -> Result<(), Failure> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; the old mask is not asked for.
    let result = unsafe { libc::sigprocmask(how, &raw const set, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(Failure::io("set the signal mask")(io::Error::last_os_error())) }
}

/// Blocks what the shim does not want to die of.
pub(crate) fn block() -> Result<(), Failure> {
    mask(libc::SIG_BLOCK, &BLOCKED)
}

/// Gives a program the mask that it expects.
pub(crate) fn unblock_all() -> Result<(), Failure> {
    mask(libc::SIG_SETMASK, &[])
}

/// A descriptor that is readable when a child has ended.
pub(crate) fn children() -> Result<OwnedFd, Failure> {
    let set = set_of(&[libc::SIGCHLD]);
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(Failure::io("make a signal descriptor")(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
