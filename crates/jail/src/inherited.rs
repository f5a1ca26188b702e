//! A socket that a service manager listens on for this program: `LISTEN_PID` and `LISTEN_FDS`, as sd_listen_fds(3)
//! has it.
//!
//! It is in this crate because taking a descriptor by its number is `unsafe` in Rust.

use std::{
    env, io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The first descriptor that is handed over.
const FIRST: i32 = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The one descriptor that was handed over to this process; the second call gets none. Programs that are started from
/// here do not inherit it.
///
/// # Errors
/// There are others than one, or it is none.
pub fn inherited() -> io::Result<Option<OwnedFd>> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        Some(1) => {}
        Some(0) | None => return Ok(None),
        Some(more) => {
            return Err(io::Error::other(format!("the service manager hands over {more} sockets, not one")));
        }
    }
    // SAFETY: it is only asked whether it is open, and nothing else runs that could close it meanwhile.
    let fd = unsafe { BorrowedFd::borrow_raw(FIRST) };
    let flags = fcntl_getfd(fd)?;
    fcntl_setfd(fd, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and whoever started this process says that it is for us; TAKEN makes this the only owner.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(FIRST) }))
}
