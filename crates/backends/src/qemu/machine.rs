//! One running VM.
//!
//! ```text
//!   running ── QEMU ends, for whatever reason ──▶ exited (the watch says how)
//!      │
//!      └─ dropped: the task that holds the shim ends, and the shim acts on the slot's policy
//! ```
//!
//! Invariant: at most one [`Link`] is open; QEMU would leave a second one waiting without a word.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use jail::Shim;
use rustix::net::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::watch,
    task::AbortHandle,
};
use vm::{Error, Exit, Link, Machine, Result};

use super::boot::{AGENT_SOCKET, connect};

/// File below the slot's directory with the last of what the guest wrote to its console.
pub const CONSOLE: &str = "console.log";
/// File below the slot's directory with the last of QEMU's own error output.
pub const ERRORS: &str = "qemu.log";
/// How much of the error output an [`Exit`] carries, in bytes.
const ERRORS_SHOWN: usize = 2000;

/// A VM, and the ownership of it.
#[derive(Debug)]
pub(super) struct Running {
    /// The slot's directory, open: its path may be longer than a socket's address can be.
    dir: OwnedFd,
    link: Weak<UnixStream>,
    exit: watch::Receiver<Option<Exit>>,
    watcher: AbortHandle,
}

impl Running {
    /// Takes over a VM whose QEMU is known to run.
    pub(super) fn new(shim: Shim, dir: OwnedFd, path: &Path) -> Self {
        let (sender, exit) = watch::channel(None);
        let path = path.to_owned();
        let watcher = tokio::spawn(async move {
            let ended = ending(shim, &path).await;
            sender.send_replace(Some(ended));
        });
        Self { dir, link: Weak::new(), exit, watcher: watcher.abort_handle() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The shim's socket closes with the task.
        self.watcher.abort();
    }
}

/// Waits for the end and gives an account of it.
async fn ending(mut shim: Shim, dir: &Path) -> Exit {
    let record = shim.exited().await;
    let stderr = jail::log_tail(dir, ERRORS, ERRORS_SHOWN);
    match record {
        Ok(record) => Exit { code: record.code, signal: record.signal, stderr },
        // It ended, and how is not known.
        Err(error) => Exit { code: None, signal: None, stderr: format!("{stderr}{error}\n") },
    }
}

#[async_trait]
impl Machine for Running {
    async fn link(&mut self) -> Result<Link> {
        if let Some(before) = self.link.upgrade() {
            // Whoever holds it reads the end; QEMU then takes the next one.
            let _ = rustix::net::shutdown(&*before, Shutdown::Both);
        }
        if self.exit.borrow().is_some() {
            return Err(Error::Ended {
                during: "its agent was called",
                detail: "it is not running".to_owned(),
            });
        }
        let stream = Arc::new(connect(&self.dir, AGENT_SOCKET).await?);
        self.link = Arc::downgrade(&stream);
        Ok(Box::new(AgentStream(stream)))
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
