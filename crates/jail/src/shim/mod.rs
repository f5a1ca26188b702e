//! The shim itself: what `ampoule vm-shim` runs.
//!
//! Purpose: build the jail, start the VMM in it, end it with its owner, write down how it ended.
//! Owner: itself. It holds the slot's lock and obeys one socket; the rest of the host does not know it.
//!
//! ```text
//!  monitor: outside the jail                    init: PID 1 inside           VMM
//!  ───────────────────────────                  ─────────────────────        ──────────────────
//!  receive configuration, lock, descriptors
//!  user and pid namespace
//!  fork ───────────────────────────────────────▶ session, waits for a byte
//!  write shim.json, send the byte ─────────────▶ network, ipc, host name
//!  wait for init                                 fork ──────────────────────▶ mounts, identity,
//!    │                                           drop capabilities            descriptors
//!    │                                           report to the owner          filter, exec
//!    │                                           logs, owner, children ◀───── ends
//!    ◀────────────── record, exit ───────────────┘
//!  kill what is left, write exit.json, release the lock
//! ```
//!
//! Invariants
//! - Single-threaded, all of it: a fork copies the whole process, and what follows may allocate.
//! - The end of init is the end of every process in the jail (the kernel sees to it); the end of the monitor
//!   is the end of init (parent death signal, safe in a process with one thread).
//! - Neither can be traced or read by the VMM, even where all have the same user id: they are not dumpable.

mod init;
mod logs;
mod monitor;
pub(crate) mod privileges;
pub(crate) mod program;
pub(crate) mod signals;
pub(crate) mod spaces;
pub(crate) mod tap;
mod view;

use std::{
    ffi::OsString,
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Deserialize, Serialize};

use crate::{
    filter::Filter,
    launch::{Ids, Level, Log, MOST_FDS, OwnerLoss, Part, Program, View},
    record::ExitRecord,
};

/// What the owner sends first, after its length and with the descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) dir: PathBuf,
    pub(crate) ids: Option<Ids>,
    pub(crate) groups: Vec<u32>,
    pub(crate) level: Level,
    pub(crate) on_owner_loss: OwnerLoss,
    pub(crate) program: Program,
    pub(crate) view: Option<View>,
    pub(crate) filter: Option<Filter>,
    pub(crate) tap: Option<i32>,
    /// Numbers of the descriptors that came along, after the lock.
    pub(crate) targets: Vec<i32>,
    pub(crate) logs: Vec<Log>,
}

impl Config {
    /// The most bytes of a configuration.
    pub(crate) const LIMIT: u32 = 1 << 20;
}

/// What the shim says to an owner, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub(crate) enum Report {
    /// The VMM runs: to each new owner.
    Started {
        /// What this host could not give.
        missing: Vec<Part>,
    },
    /// It does not, and the shim ends.
    Failed {
        /// Why.
        what: String,
    },
    /// It ended, and so does the shim.
    Ended {
        /// How.
        record: ExitRecord,
    },
}

impl Report {
    /// Sends it; an owner that is gone or does not read is none of the shim's worries.
    fn send(&self, mut channel: &UnixStream) {
        let Ok(mut line) = serde_json::to_vec(self) else { return };
        line.push(b'\n');
        let _ = channel.write_all(&line);
    }
}

/// What an owner may say to the shim: single bytes; others mean nothing.
pub(crate) struct Order;

impl Order {
    /// Kill the VMM.
    pub(crate) const END: u8 = b'e';
    /// From now on [`OwnerLoss::Keep`], until the time that follows: milliseconds since 1970 in decimal digits,
    /// and an end of line.
    pub(crate) const KEEP: u8 = b'k';

    /// The order to keep.
    pub(crate) fn keep(until: SystemTime) -> String {
        let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        format!("{}{millis}\n", char::from(Self::KEEP))
    }
}

/// Orders as they come, in whatever pieces.
#[derive(Debug, Default)]
struct Orders {
    /// The time of an order to keep that is not complete.
    open: Option<u64>,
}

/// What an owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    Keep(SystemTime),
}

impl Orders {
    /// The next byte; what it completes.
    fn next(&mut self, byte: u8) -> Option<Wish> {
        match (self.open, byte) {
            (None, Order::END) => Some(Wish::End),
            (None, Order::KEEP) => {
                self.open = Some(0);
                None
            }
            (None, _) => None,
            (Some(millis), b'0'..=b'9') => {
                self.open = Some(millis.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
                None
            }
            (Some(millis), _) => {
                self.open = None;
                // a time that the clock cannot show is none that would come
                let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
                (byte == b'\n').then_some(until).flatten().map(Wish::Keep)
            }
        }
    }
}

/// Why the shim cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot start {}: {source}", .program.display())]
    Exec {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `Strict` was asked for.
    #[error("this host cannot give every part of the jail; missing: {}", list(.0))]
    Missing(Vec<Part>),
    /// An identity was asked for that only root can give.
    #[error("a user of its own for each VM needs root")]
    NotRoot,
    /// The owner sent nonsense, or the program was started by hand.
    #[error("this command is started by ampoule itself; it is of no use to anyone else")]
    NoOwner,
    /// A thread was started before the shim was called.
    #[error("the shim was started in a process with several threads")]
    Threads,
    /// The half of the shim inside the jail, or the program before it ran, was killed.
    #[error("the shim was killed while it built the jail")]
    Killed,
}

impl Failure {
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }
}

fn list(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(", ")
}

/// Runs the shim: to be called first thing in `main`, before any thread, by the program that
/// [`crate::Launch::shim`] names. `args` are what followed the leading arguments: none.
///
/// The configuration and the owner come through standard input.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = if args.into_iter().next().is_some() { Err(Failure::NoOwner) } else { start() };
    match result {
        Ok(code) => code,
        Err(failure) => {
            // The owner gave /dev/null; this is for a person who calls it by hand.
            let _ = writeln!(io::stderr(), "vm-shim: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode, Failure> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(Failure::io("read /proc/self/task"))?;
    if threads.count() != 1 {
        return Err(Failure::Threads);
    }
    // It is started as /proc/self/exe, which says little in a list of processes; where that fails it stays so.
    let _ = rustix::thread::set_name(c"vm-shim");
    program::close_inherited()?;
    let channel = program::take_stdin()?;
    let (config, fds) = receive(&channel)?;
    let failed = program::another(&channel)?;
    let result = monitor::run(channel, config, fds);
    if let Err(failure) = &result {
        Report::Failed { what: failure.to_string() }.send(&failed);
    }
    result
}

/// The lock, then the program's descriptors in the order of [`Config::targets`].
fn receive(mut channel: &UnixStream) -> Result<(Config, Vec<OwnedFd>), Failure> {
    let mut header = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(channel, &mut [IoSliceMut::new(&mut header)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(|_| Failure::NoOwner)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let length = u32::from_le_bytes(header);
    if received.bytes != header.len() || length > Config::LIMIT {
        return Err(Failure::NoOwner);
    }
    let mut text = vec![0; length as usize];
    channel.read_exact(&mut text).map_err(|_| Failure::NoOwner)?;
    let config: Config = serde_json::from_slice(&text).map_err(|_| Failure::NoOwner)?;
    if fds.len() != config.targets.len() + 1 {
        return Err(Failure::NoOwner);
    }
    let fds = fds.into_iter().map(program::out_of_the_way).collect::<Result<_, _>>()?;
    Ok((config, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(orders: &mut Orders, text: &str) -> Vec<Wish> {
        text.bytes().filter_map(|byte| orders.next(byte)).collect()
    }

    #[test]
    fn orders_come_in_pieces_and_nonsense_is_none() {
        let until = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_218_400_123);
        let text = Order::keep(until);
        for cut in 0..text.len() {
            let (first, rest) = text.split_at(cut);
            let mut orders = Orders::default();
            assert_eq!(wishes(&mut orders, first), []);
            assert_eq!(wishes(&mut orders, &format!("{rest}e")), [Wish::Keep(until), Wish::End]);
        }
        let mut orders = Orders::default();
        assert_eq!(wishes(&mut orders, "xyz7\nk12e\nk5k"), []);
        assert_eq!(wishes(&mut orders, "e"), [Wish::End], "what is cut short holds up nothing");
    }
}
