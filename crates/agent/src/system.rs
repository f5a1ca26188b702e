//! System calls that no safe library offers, one function each.
//!
//! Purpose: the `unsafe` of the agent, but for that of [`spawn`](crate::spawn).

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;

/// Now, in nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Blocks the signals in this thread, and those that it starts later, and reports them on a descriptor.
/// Children inherit the mask, also over exec: [`reset_signals`] is for them.
pub(crate) fn signals(wanted: &[Signal]) -> io::Result<OwnedFd> {
    // SAFETY: a zeroed sigset_t is a valid value to be initialised.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a sigset_t of ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in wanted {
        // SAFETY: `set` was initialised above.
        unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
    }
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    let outcome = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if outcome != 0 {
        return Err(io::Error::from_raw_os_error(outcome));
    }
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd just gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The signals that this process ignored when it was first asked: whatever it executes would ignore them, too.
/// Handlers end with what had them.
pub(crate) fn ignored_signals() -> &'static [libc::c_int] {
    static IGNORED: OnceLock<Vec<libc::c_int>> = OnceLock::new();
    IGNORED.get_or_init(|| (1..=libc::SIGRTMAX()).filter(|signal| is_ignored(*signal)).collect())
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a zeroed sigaction is a valid value to be overwritten.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and `now` is a sigaction of ours.
    let outcome = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    outcome == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Gives every signal of `ignored` its default effect, and blocks none. Makes system calls only.
pub(crate) fn reset_signals(ignored: &[libc::c_int]) -> io::Result<()> {
    for signal in ignored {
        // SAFETY: the default effect refers to no memory of ours.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed sigset_t is a valid value to be initialised.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a sigset_t of ours.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: `none` is initialised, and the old mask is not asked for.
    let outcome = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(outcome)) }
}

/// The next signal that is reported, by number.
pub(crate) fn next_signal(signals: &OwnedFd) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(signals, &mut info) {
        Ok(count) if count == info.len() => {
            // ssi_signo is the first field.
            info.first_chunk::<4>().map(|number| i32::from_ne_bytes(*number))
        }
        _ => None,
    }
}

/// Lets writes to a broken pipe fail instead of ending this process. Children get the default back.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is no handler that could run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Kills every other process, if this is PID 1.
pub(crate) fn kill_everyone() {
    if rustix::process::getpid().is_init() {
        // SAFETY: kill takes any number; as PID 1, -1 means every process but this one.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Takes a descriptor that the process that started this one passed by number.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: F_SETFD takes any number; a wrong one is an error.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever passed it gave it to this process; it is taken once, at the start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives random bytes to the kernel, counted in full, and makes its generator start from them at once.
pub(crate) fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    /// Bytes that one call takes.
    const MOST: usize = 512;
    #[repr(C)]
    struct PoolInfo {
        bits: libc::c_int,
        len: libc::c_int,
        bytes: [u8; MOST],
    }
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let random = File::options().write(true).open("/dev/urandom")?;
    for part in bytes.chunks(MOST) {
        let len = libc::c_int::try_from(part.len()).unwrap_or(0);
        let mut info = PoolInfo { bits: len * 8, len, bytes: [0; MOST] };
        if let Some(place) = info.bytes.get_mut(..part.len()) {
            place.copy_from_slice(part);
        }
        // SAFETY: the kernel reads `len` bytes behind the two numbers, which are there.
        let outcome = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &raw const info) };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: it takes no argument.
    if unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Brings the loopback interface up; the kernel gives it its addresses.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the kernel fills in the flags of the named interface.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the call above has set the flags, the active field of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: name and flags are set.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
