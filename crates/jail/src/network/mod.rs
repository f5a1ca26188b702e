//! The system calls of a process that makes network namespaces: `ampoule net-helper`.
//!
//! Purpose: what such a process needs beyond safe Rust: to become PID 1 of a process id namespace, to do something in
//! another network namespace, to start a program there.
//! Owner: `net`'s helper, the only caller. It has one thread for its whole life.
//!
//! ```text
//!  waiter: the host's namespaces         init: PID 1, the helper            children
//!  user namespace (plain user)
//!  fork ───────────────────────────────▶ follows the waiter's end
//!  wait for init                         fork ──────────────────────────▶ [`within`]: a namespace, a few calls
//!    │                                   fork, exec ────────────────────▶ [`spawn`]: nft, ip, tc, pasta
//!    ◀──────────── exit ─────────────────┘                                [`anchor`]: holds a namespace for pasta
//! ```
//!
//! Invariants
//! - The end of init, however it comes, is the end of every child: the kernel empties the process id namespace. And
//!   nothing but init and its children holds a namespace (but for whoever has a tap's descriptor).
//! - init stays in the network namespace that it was started in; only children enter others.

mod children;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, WaitOptions, getgid, getuid, set_parent_process_death_signal, waitpid},
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, remove_capability_from_bounding_set, set_capabilities,
        unshare_unsafe,
    },
};

pub use children::{Spawn, anchor, ended, spawn, tool, within};

use crate::shim::{
    Failure,
    privileges::are_roots,
    program::{close_inherited, out_of_the_way, take_stdin},
    signals,
    spaces::fork,
    tap,
};

/// Where programs are looked for.
pub const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the helper starts with.
#[derive(Debug)]
pub struct Helper {
    /// Its owner: an end of file says that it is gone.
    pub owner: UnixStream,
    /// Readable when a child has ended; [`ended`] empties it.
    pub children: OwnedFd,
    /// Whether it is root on the host, and not only in a user namespace of its own.
    pub root: bool,
}

/// Runs the helper: to be called first thing in `main`, before any thread. `args` are what followed the leading
/// arguments: none. The owner's socket is standard input. Where the namespaces cannot be had `failed` is told why, to
/// say so to the owner.
#[must_use]
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    run: fn(Helper) -> ExitCode,
    failed: fn(UnixStream, String),
) -> ExitCode {
    let result = if args.into_iter().next().is_some() { Err(Failure::NoOwner) } else { start() };
    let (owner, outcome) = match result {
        Ok(started) => started,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "net-helper: {failure}");
            return ExitCode::FAILURE;
        }
    };
    match outcome.and_then(become_init) {
        Ok(Role::Waiter(code)) => code,
        Ok(Role::Init { children, root }) => run(Helper { owner, children, root }),
        Err(failure) => {
            failed(owner, failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Which of the two processes this is.
enum Role {
    Waiter(ExitCode),
    Init { children: OwnedFd, root: bool },
}

/// The owner, and whether this is root.
fn start() -> Result<(UnixStream, Result<bool, Failure>), Failure> {
    let threads = fs::read_dir("/proc/self/task").map_err(Failure::io("read /proc/self/task"))?;
    if threads.count() != 1 {
        return Err(Failure::Threads);
    }
    let _ = rustix::thread::set_name(c"net-helper");
    close_inherited()?;
    let owner = take_stdin()?;
    let root = are_roots();
    let entered = if root { Ok(true) } else { become_root().map(|()| false) };
    Ok((owner, entered))
}

/// A user namespace in which this user is root.
fn become_root() -> Result<(), Failure> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let make = || -> io::Result<()> {
        // SAFETY: this flag does not split the descriptor table, which is what makes the call unsafe.
        unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))
    };
    make().map_err(Failure::io("make a user namespace"))
}

fn become_init(root: bool) -> Result<Role, Failure> {
    signals::block()?;
    // SAFETY: this flag does not split the descriptor table, which is what makes the call unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }.map_err(Failure::io("make a process id namespace"))?;
    let (alive, held) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Failure::io("make a pipe"))?;
    let Some(child) = fork()? else {
        drop(held);
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::io("follow the parent"))?;
        // It may have died before that: then its end of the pipe is closed.
        let mut polled = [PollFd::new(&alive, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut polled, Some(&now)).map_err(Failure::io("follow the parent"))? > 0 {
            return Err(Failure::Killed);
        }
        if root {
            keep_only_what_is_needed()?;
        }
        return Ok(Role::Init { children: out_of_the_way(signals::children()?)?, root });
    };
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                drop(held);
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                return Ok(Role::Waiter(ExitCode::from(code)));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::io("wait for the helper")(error)),
        }
    }
}

/// Of root's capabilities: namespaces and networks.
fn keep_only_what_is_needed() -> Result<(), Failure> {
    let kept = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // an error: the first number that this kernel does not know
        if !kept.contains(one) && remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })
        .map_err(Failure::io("drop capabilities"))
}

/// Leaves this process's network namespace for a new one: for the work of [`within`].
///
/// # Errors
/// The kernel refuses.
pub fn leave() -> io::Result<OwnedFd> {
    // SAFETY: this flag does not split the descriptor table, which is what makes the call unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    fs::File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Makes a tap in this process's network namespace: with headers of virtio, and there until its namespace is not.
///
/// # Errors
/// There is no such device, this user may not open it, or the kernel refuses.
pub fn make_tap(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    tap::open(name)
}
