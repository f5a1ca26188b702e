//! The owner's side: starts a shim, holds the one connection to it, sees the end of the VMM.
//!
//! Owner: a backend, one [`Shim`] per VM. The [`Shim`] *is* the ownership: when it is dropped, or the process
//! that holds it ends, the shim sees an end of file and acts on [`OwnerLoss`].
//!
//! ```text
//!            launch                       VMM ended, or killed
//!  (nothing) ──────▶ owned ─────────────────────────────────────▶ ended (exit.json, lock free)
//!                     │  ▲                                          ▲
//!   drop, owner dies; │  │ attach                                   │
//!   policy Keep       ▼  │                time is up                │
//!                    waiting ───────────────────────────────────────┘
//! ```

use std::{
    ffi::OsString,
    fmt,
    io::{IoSlice, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    Ending, Error, ExitRecord, Result, end,
    filter::Filter,
    lock::Lock,
    record::{self, EXIT, IDENTITY, LOCK, OWNER_SOCKET},
    shim::{Config, Order, Report},
};

/// User and group that a VMM runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id as the host sees it.
    pub uid: u32,
    /// Group id as the host sees it.
    pub gid: u32,
}

/// What happens when the owner is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerLoss {
    /// The VMM is killed at once.
    Kill,
    /// The shim waits for an [`attach`] and kills the VMM at this time if none came.
    Keep {
        /// The end of its patience.
        until: SystemTime,
    },
}

/// How much of the jail must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every part, or no VMM.
    Strict,
    /// What the host cannot give is left out and named in [`Shim::missing`].
    Available,
}

/// A part of the jail that a host may be unable to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A user namespace: what a plain user needs for all other namespaces.
    UserNamespace,
    /// A process id namespace of its own, whose end takes every process along.
    PidNamespace,
    /// A private mount table.
    MountNamespace,
    /// A view of /proc that shows the VM's own processes only.
    Proc,
    /// A file system of its own that holds what the VMM needs and no more.
    Root,
    /// An empty network namespace.
    NetworkNamespace,
    /// An IPC namespace.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// A filter of the system calls that the program may make.
    Filter,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserNamespace => "user namespace",
            Self::PidNamespace => "process id namespace",
            Self::MountNamespace => "mount namespace",
            Self::Proc => "own /proc",
            Self::Root => "own file system",
            Self::NetworkNamespace => "empty network namespace",
            Self::IpcNamespace => "IPC namespace",
            Self::UtsNamespace => "host name namespace",
            Self::Filter => "system call filter",
        })
    }
}

/// The program that runs in the jail.
#[derive(Clone, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.env.iter().map(|(key, _)| key).collect();
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("args", &self.args)
            .field("env", &keys)
            .finish()
    }
}

/// A descriptor for the program.
#[derive(Debug)]
pub struct Inherit {
    /// What it gets.
    pub fd: OwnedFd,
    /// Its number there: 3 or more.
    pub target: i32,
}

/// A log of the program: it gets the writing end of a pipe, the shim writes the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// File name below the directory of the VM.
    pub name: String,
    /// The number of the pipe in the program: 1, 2, or 3 and more.
    pub target: i32,
    /// What is kept at most, in bytes: the last of it, at least half as much.
    pub cap: u64,
}

/// A VMM to start.
#[derive(Debug)]
pub struct Launch {
    /// The shim: a program that calls [`crate::shim::main`], and its leading arguments.
    pub shim: Vec<OsString>,
    /// Directory of the VM, there already, of the owner alone (0700); absolute. The VMM needs no access to it.
    pub dir: PathBuf,
    /// Identity of the VMM; needs root. `None`: that of the owner.
    pub ids: Option<Ids>,
    /// Further groups of the VMM, such as the one that may open /dev/kvm; used together with `ids` only.
    pub groups: Vec<u32>,
    /// How much of the jail must be there.
    pub level: Level,
    /// What happens without an owner.
    pub on_owner_loss: OwnerLoss,
    /// What runs in the jail.
    pub program: Program,
    /// The program's file system. `None`: the host's, seen from a private mount table.
    pub view: Option<View>,
    /// What the program may ask of the kernel. `None`: whatever it likes.
    pub filter: Option<Filter>,
    /// The number under which the program gets a tap: an interface of the jail's own network namespace that is down.
    /// It takes access to [`TAP_DEVICE`], and fails where there is no such namespace.
    pub tap: Option<i32>,
    /// Descriptors of the program, beside 0 (/dev/null), 1 and 2 (/dev/null unless there is a log).
    pub inherit: Vec<Inherit>,
    /// Logs of the program.
    pub logs: Vec<Log>,
}

/// The file system that a program sees: read-only, and of the host only what is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Files and directories of the host, absolute; those that are not there are left out.
    pub read_only: Vec<PathBuf>,
    /// Device nodes of the host, absolute; those that are not there are left out.
    pub devices: Vec<PathBuf>,
}

/// Where taps come from.
pub const TAP_DEVICE: &str = "/dev/net/tun";

/// A running shim, and the ownership of it.
#[derive(Debug)]
pub struct Shim {
    dir: PathBuf,
    channel: UnixStream,
    /// Bytes of a report that is not complete yet.
    unread: Vec<u8>,
    /// Not there after an [`attach`].
    monitor: Option<Child>,
    missing: Vec<Part>,
    ended: Option<ExitRecord>,
}

/// Orders to a shim.
#[derive(Debug)]
pub struct Orders {
    channel: BlockingStream,
}

impl Orders {
    /// From now on the VMM is kept until that time when its owner is gone, whatever was said before. Takes effect
    /// with its return: an end of file comes after it.
    ///
    /// # Errors
    /// The shim is gone.
    pub fn keep(&self, until: SystemTime) -> Result<()> {
        // a few bytes, which an empty socket takes at once
        let text = Order::keep(until);
        (&self.channel).write_all(text.as_bytes()).map_err(Error::io("tell the shim"))
    }
}

/// The most descriptors that one launch hands over: what one message of a socket can carry, and a margin.
pub(crate) const MOST_FDS: usize = 64;
/// A report is one line of at most this many bytes.
const REPORT_LIMIT: usize = 16 << 10;

/// Starts a program in a jail and returns when it runs.
///
/// Dropping the future before that ends whatever was started.
///
/// # Errors
/// The directory is taken, the jail cannot be built as `level` demands, or the program cannot be started.
pub async fn launch(launch: Launch) -> Result<Shim> {
    check(&launch)?;
    let lock = Lock::try_take(&launch.dir.join(LOCK))?.ok_or_else(|| Error::Occupied(launch.dir.clone()))?;
    for stale in [EXIT, IDENTITY] {
        match std::fs::remove_file(launch.dir.join(stale)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove the old {stale}"))(error));
            }
            _ => {}
        }
    }

    let (ours, theirs) = BlockingStream::pair().map_err(Error::io("make a socket pair"))?;
    let (program, leading) = launch.shim.split_first().ok_or(Error::Invalid("no shim is named"))?;
    let mut command = Command::new(program);
    // A group of its own from the start, so that a Ctrl-C in the owner's terminal never reaches it.
    command.args(leading).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).process_group(0);
    command.stderr(Stdio::null()).env_clear().current_dir("/");
    let monitor = command.spawn().map_err(Error::io(format!("start the shim {}", program.display())))?;
    // Nothing of ours but the shim may hold the other end.
    drop(command);

    hand_over(&ours, &launch, lock)?;
    ours.set_nonblocking(true).map_err(Error::io("set up the shim's socket"))?;
    let channel = UnixStream::from_std(ours).map_err(Error::io("set up the shim's socket"))?;
    let mut shim = Shim {
        dir: launch.dir,
        channel,
        unread: Vec::new(),
        monitor: Some(monitor),
        missing: Vec::new(),
        ended: None,
    };
    shim.started().await?;
    Ok(shim)
}

/// Becomes the owner of the VMM in `dir`, whose owner is gone and which was launched with [`OwnerLoss::Keep`].
///
/// # Errors
/// [`Error::Gone`] where nothing in `dir` waits for an owner.
pub async fn attach(dir: &Path) -> Result<Shim> {
    let gone = || Error::Gone(dir.to_owned());
    let handle = rustix::fs::open(
        dir,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|_| gone())?;
    let channel = UnixStream::connect(short_path(handle.as_fd(), OWNER_SOCKET)).await.map_err(|_| gone())?;
    let mut shim = Shim {
        dir: dir.to_owned(),
        channel,
        unread: Vec::new(),
        monitor: None,
        missing: Vec::new(),
        ended: None,
    };
    match shim.started().await {
        Ok(()) => Ok(shim),
        Err(_) => Err(gone()),
    }
}

/// A path to `name` below an open directory that fits into a socket's address however long the directory's
/// own path is (108 bytes are all that an address holds).
#[must_use]
pub fn short_path(dir: BorrowedFd<'_>, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

impl Shim {
    /// Parts of the jail that this host could not give; empty for [`Level::Strict`].
    #[must_use]
    pub fn missing(&self) -> &[Part] {
        &self.missing
    }

    /// Waits for the end of the VMM and of every process of the shim. May be called again, also after its
    /// future was dropped.
    ///
    /// # Errors
    /// The end was seen, its record is not readable.
    pub async fn exited(&mut self) -> Result<ExitRecord> {
        while let Some(report) = self.report().await? {
            if let Report::Ended { record } = report {
                self.ended = Some(record);
            }
        }
        if let Some(monitor) = &mut self.monitor {
            monitor.wait().await.map_err(Error::io("wait for the shim"))?;
        }
        // The socket closes a moment before the last process is gone.
        while end::is_running(&self.dir)? {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.ended.is_none() {
            let killed = ExitRecord { ending: Ending::ShimKilled, code: None, signal: Some(libc::SIGKILL) };
            self.ended = Some(record::exit_record(&self.dir)?.unwrap_or(killed));
        }
        self.ended.clone().ok_or(Error::Protocol("left no record of how it ended"))
    }

    /// What can be said to it while somebody else waits for its end. The ownership lasts until the last of these and
    /// the [`Shim`] itself are dropped.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn orders(&self) -> Result<Orders> {
        let channel = self.channel.as_fd().try_clone_to_owned().map_err(Error::io("copy a descriptor"))?;
        Ok(Orders { channel: channel.into() })
    }

    /// Asks the shim to kill the VMM, whatever its policy is, and waits until all is gone.
    ///
    /// # Errors
    /// As [`Shim::exited`].
    pub async fn end(&mut self) -> Result<ExitRecord> {
        // An error means that it is gone, which is seen next.
        let _ = self.channel.write_all(&[Order::END]).await;
        self.exited().await
    }

    async fn started(&mut self) -> Result<()> {
        let silent = "ended before it started anything; is the program that was named as the shim one?";
        match self.report().await?.ok_or(Error::Protocol(silent))? {
            Report::Started { missing } => {
                self.missing = missing;
                Ok(())
            }
            Report::Failed { what } => {
                if let Some(monitor) = &mut self.monitor {
                    monitor.wait().await.map_err(Error::io("wait for the shim"))?;
                }
                Err(Error::Setup(what))
            }
            Report::Ended { .. } => Err(Error::Protocol("ended before it said that the program runs")),
        }
    }

    /// The next thing that the shim says; `None` at its end. What was read of a line survives a drop.
    async fn report(&mut self) -> Result<Option<Report>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let report = serde_json::from_slice(&line);
                return report.map(Some).map_err(|_| Error::Protocol("said something that is no report"));
            }
            if self.unread.len() > REPORT_LIMIT {
                return Err(Error::Protocol("said more than a report can hold"));
            }
            // A reset is the end of a shim that had not read everything.
            if !matches!(self.channel.read_buf(&mut self.unread).await, Ok(length) if length > 0) {
                return Ok(None);
            }
        }
    }
}

fn check(launch: &Launch) -> Result<()> {
    if !launch.dir.is_absolute() || !launch.program.path.is_absolute() {
        return Err(Error::Invalid("a path is not absolute"));
    }
    let mut targets: Vec<i32> = launch.inherit.iter().map(|inherit| inherit.target).collect();
    targets.extend(launch.tap);
    if targets.iter().any(|target| *target < 3) || launch.logs.iter().any(|log| log.target < 1) {
        return Err(Error::Invalid("a descriptor of the program has a number that is reserved"));
    }
    targets.extend(launch.logs.iter().map(|log| log.target));
    targets.sort_unstable();
    if targets.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Invalid("two descriptors of the program have the same number"));
    }
    if targets.len() + 1 > MOST_FDS || targets.last().is_some_and(|last| *last >= 256) {
        return Err(Error::Invalid("the program has too many descriptors"));
    }
    if launch
        .logs
        .iter()
        .any(|log| log.name.contains('/') || log.name.starts_with('.') || log.name.is_empty())
    {
        return Err(Error::Invalid("a log's name is no plain file name"));
    }
    Ok(())
}

/// Sends the configuration, the lock and the descriptors: the shim holds the lock from here on.
fn hand_over(mut channel: &BlockingStream, launch: &Launch, lock: Lock) -> Result<()> {
    let config = Config {
        dir: launch.dir.clone(),
        ids: launch.ids,
        groups: launch.groups.clone(),
        level: launch.level,
        on_owner_loss: launch.on_owner_loss,
        program: launch.program.clone(),
        view: launch.view.clone(),
        filter: launch.filter.clone(),
        tap: launch.tap,
        targets: launch.inherit.iter().map(|inherit| inherit.target).collect(),
        logs: launch.logs.clone(),
    };
    let text = serde_json::to_vec(&config).map_err(Error::io("write the shim's configuration"))?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= Config::LIMIT);
    let length = length.ok_or(Error::Invalid("the program's arguments are too long"))?;

    let mut fds: Vec<BorrowedFd<'_>> = vec![lock.as_fd()];
    fds.extend(launch.inherit.iter().map(|inherit| inherit.fd.as_fd()));
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Error::Invalid("the program has too many descriptors"));
    }
    let header = length.to_le_bytes();
    let what = "hand the configuration to the shim";
    sendmsg(channel, &[IoSlice::new(&header)], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(Error::io(what))?;
    channel.write_all(&text).map_err(Error::io(what))
}
