//! A VM, or what stands for one, behind a shim: one running process tree with an agent's listening socket.
//!
//! ```text
//!   running ── the process ends, for whatever reason ──▶ exited (the watch says how)
//!      │
//!      └─ dropped: the task that holds the shim ends, and the shim acts on the slot's policy
//! ```
//!
//! Invariant: at most one [`Link`] is open; QEMU would leave a second one waiting without a word.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use jail::{Shim, short_path};
use rustix::{
    fs::{Mode, OFlags},
    net::Shutdown,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::watch,
    task::AbortHandle,
};
use vm::{Error, Exit, Link, Machine, Result};

use crate::{of_jail, qemu::CONSOLE};

/// Name of the agent's socket below a slot's directory.
pub const AGENT_SOCKET: &str = "agent.sock";
/// How much of the error output an [`Exit`] carries, in bytes.
const ERRORS_SHOWN: usize = 2000;

/// Time between the end of a link and the next one, in which the guest can see the end. A guest that was not
/// scheduled in it takes the two for one and says no Hello: whoever opened the link then opens it again.
const REOPENING: Duration = Duration::from_millis(20);

/// A slot's directory, open: its path may be longer than a socket's address can be.
#[derive(Debug)]
pub struct SlotDir {
    handle: OwnedFd,
    path: PathBuf,
}

impl SlotDir {
    /// Opens the directory of a slot that is to get a machine.
    ///
    /// # Errors
    /// It has one, or cannot be opened.
    pub fn claim(path: &Path) -> Result<Self> {
        let dir = Self::open(path)?;
        if jail::is_running(path).map_err(of_jail)? {
            return Err(of_jail(jail::Error::Occupied(path.to_owned())));
        }
        Ok(dir)
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or not a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io(format!("open {}", path.display()))(error.into()))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a listening socket in it, for a program to inherit.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn listen(&self, name: &str) -> Result<OwnedFd> {
        let path = short_path(self.handle.as_fd(), name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove the old {name}"))(error));
            }
            _ => {}
        }
        let socket = UnixListener::bind(&path).map_err(Error::io(format!("make {name} of the VM")))?;
        Ok(socket.into())
    }

    /// Connects to a socket in it.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(&self, name: &str) -> Result<UnixStream> {
        let path = short_path(self.handle.as_fd(), name);
        UnixStream::connect(path).await.map_err(Error::io(format!("connect to {name} of the VM")))
    }
}

/// How far from its end a console is searched for a panic, in bytes; the kernel's account of one is shorter.
const PANIC_SOUGHT: usize = 16 << 10;

/// A machine behind a shim, and the ownership of it.
#[derive(Debug)]
pub struct Shimmed {
    dir: SlotDir,
    /// To its shim.
    orders: jail::Result<jail::Orders>,
    /// A link that is open already and was not asked for yet.
    early: Option<UnixStream>,
    /// The last link that was opened.
    link: Option<Weak<UnixStream>>,
    exit: watch::Receiver<Option<Exit>>,
    watcher: AbortHandle,
}

impl Shimmed {
    /// Takes over a machine that is known to run; `errors` names the log of its error output. To be called
    /// in a runtime.
    #[must_use]
    pub fn new(shim: Shim, dir: SlotDir, errors: &'static str) -> Self {
        let (sender, exit) = watch::channel(None);
        let orders = shim.orders();
        let path = dir.path.clone();
        let watcher = tokio::spawn(async move {
            let ended = ending(shim, &path, errors).await;
            sender.send_replace(Some(ended));
        });
        Self { dir, orders, early: None, link: None, exit, watcher: watcher.abort_handle() }
    }
}

impl Shimmed {
    /// The same with a link that is open already: it is the first that is asked for.
    #[must_use]
    pub fn with_link(mut self, link: UnixStream) -> Self {
        self.early = Some(link);
        self
    }

    /// The directory of its slot.
    #[must_use]
    pub fn dir(&self) -> &SlotDir {
        &self.dir
    }
}

impl Drop for Shimmed {
    fn drop(&mut self) {
        // The shim's socket closes with the task.
        self.watcher.abort();
    }
}

/// Waits for the end and gives an account of it.
async fn ending(mut shim: Shim, dir: &Path, errors: &str) -> Exit {
    let record = shim.exited().await;
    let mut stderr = jail::log_tail(dir, errors, ERRORS_SHOWN);
    // Only that it did: the console's own words may hold what a job wrote there, and nobody masks them here.
    if jail::log_tail(dir, CONSOLE, PANIC_SOUGHT).contains("Kernel panic - not syncing") {
        stderr.push_str("the guest's kernel panicked\n");
    }
    match record {
        // QEMU takes a signal that asks it to end for an end in order, and says so on its error output only.
        Ok(record) if record.code == Some(0) && obeyed(&stderr).is_some() => {
            Exit { code: None, signal: obeyed(&stderr), stderr }
        }
        Ok(record) => {
            if record.signal == Some(libc::SIGSYS) {
                stderr.push_str("it made a system call that is forbidden to it\n");
            }
            Exit { code: record.code, signal: record.signal, stderr }
        }
        // It ended, and how is not known.
        Err(error) => Exit { code: None, signal: None, stderr: format!("{stderr}{error}\n") },
    }
}

/// The signal that QEMU obeyed, by its own words.
fn obeyed(stderr: &str) -> Option<i32> {
    let (_, rest) = stderr.split_once(": terminating on signal ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[async_trait]
impl Machine for Shimmed {
    async fn link(&mut self) -> Result<Link> {
        if let Some(before) = self.link.take() {
            if let Some(before) = before.upgrade() {
                // Whoever holds it reads the end; QEMU then takes the next one.
                let _ = rustix::net::shutdown(&*before, Shutdown::Both);
            }
            tokio::time::sleep(REOPENING).await;
        }
        if self.exit.borrow().is_some() {
            return Err(Error::Ended {
                during: "its agent was called",
                detail: "it is not running".to_owned(),
            });
        }
        let stream = match self.early.take() {
            Some(early) => early,
            None => self.dir.connect(AGENT_SOCKET).await?,
        };
        let stream = Arc::new(stream);
        self.link = Some(Arc::downgrade(&stream));
        Ok(Box::new(AgentStream(stream)))
    }

    async fn keep(&mut self, until: SystemTime) -> Result<()> {
        match &self.orders {
            Ok(orders) => orders.keep(until).map_err(of_jail),
            Err(error) => Err(Error::Jail(error.to_string())),
        }
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }
}

/// The stream of a [`Link`], which its machine can close.
#[derive(Debug)]
struct AgentStream(Arc<UnixStream>);

impl AsyncRead for AgentStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    buffer.advance(result?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.0, Shutdown::Write).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::obeyed;

    #[test]
    fn a_signal_that_qemu_obeys_is_told() {
        assert_eq!(obeyed("qemu-system-x86_64: terminating on signal 15 from pid 7 (kill)\n"), Some(15));
        assert_eq!(obeyed("a warning\nqemu-system-x86_64: terminating on signal 2"), Some(2));
        for other in ["", "terminating", "qemu: terminating on signal x", "the guest's kernel panicked\n"] {
            assert_eq!(obeyed(other), None, "{other:?}");
        }
    }
}
