//! Taps, and the program's end of a network card: a tap in the jail's own network namespace.
//!
//! That one is down and stays so: the namespace leads nowhere. Whoever gives the card a network makes its tap elsewhere
//! and hands the descriptor over.

use std::{
    ffi::CStr,
    fs::OpenOptions,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use super::{Failure, program, spaces::Missing};
use crate::launch::{Part, TAP_DEVICE};

/// What it is called in the namespace.
const NAME: &CStr = c"tap0";

/// Makes it. Fails where the namespace is the host's.
pub(super) fn make(missing: &Missing) -> Result<OwnedFd, Failure> {
    if missing.has(Part::NetworkNamespace) {
        return Err(Failure::Missing(vec![Part::NetworkNamespace]));
    }
    let tap = open(NAME).map_err(Failure::io("make the VM's network card"))?;
    program::out_of_the_way(tap)
}

/// Makes one in this process's network namespace. It stays there when its descriptor is closed.
pub(crate) fn open(name: &CStr) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open(TAP_DEVICE)?;
    // SAFETY: a structure of numbers, for which zeros are fine.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: the request is of the type that this call reads and writes, and outlives it.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(made)?;
    // It goes with its namespace: without this, with the last descriptor, and whoever closes that waits for it.
    // SAFETY: this call takes a number.
    let kept = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) };
    check(kept)?;
    Ok(file.into())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
