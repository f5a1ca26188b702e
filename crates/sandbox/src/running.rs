//! A command that runs in a guest.
//!
//! Owner: the caller of [`crate::Sandbox::exec`]. Dropping a [`Running`] before its end kills the command and
//! everything that it started; a job that wants to leave it running keeps the value.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncWrite, DuplexStream},
    sync::oneshot,
};
use tokio_util::sync::DropGuard;
use wire::{ExecId, StreamId};

use crate::{
    Chunk, Collected, Error, Exited, Gone, Result, Sandbox, Stream, TerminalSize,
    command::Command,
    delivery::{Consumer, Part},
};

/// A command that runs in a guest.
pub struct Running {
    /// Where it reads from, with [`crate::Stdin::Pipe`]. Dropping it, or shutting it down, is the end of its
    /// input.
    pub stdin: Option<Input>,
    /// What it prints. Must be read (or dropped): a command whose output nobody takes waits after 256 KiB.
    pub output: Output,
    control: Control,
    exited: oneshot::Receiver<Result<Exited>>,
    /// What `exited` said, once it did.
    end: Option<Exited>,
    _kill_on_drop: DropGuard,
}

/// Signals for a command, and the size of its terminal, from anywhere.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) sandbox: Sandbox,
    pub(crate) exec: ExecId,
}

impl Control {
    /// Sends a signal (Linux number, 1 to 64) to its process group. Also fine when it has ended.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub async fn signal(&self, signal: i32) -> Result<()> {
        let exec = self.exec;
        self.sandbox.ask(|answer| Command::Signal { exec, signal, answer }).await
    }

    /// Kills every process that it started, also those that left its group or session. Also fine when it
    /// has ended.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub async fn kill(&self) -> Result<()> {
        let exec = self.exec;
        self.sandbox.ask(|answer| Command::Kill { exec, answer }).await
    }

    /// Gives its terminal another size, which its programs are told. Also fine when it has ended.
    ///
    /// # Errors
    /// [`Error::Guest`] where it has no terminal, [`Error::Gone`].
    pub async fn resize(&self, size: TerminalSize) -> Result<()> {
        let exec = self.exec;
        self.sandbox.ask(|answer| Command::Resize { exec, size, answer }).await
    }
}

impl Running {
    pub(crate) fn new(
        stdin: Option<Input>,
        output: Output,
        control: Control,
        exited: oneshot::Receiver<Result<Exited>>,
        kill_on_drop: DropGuard,
    ) -> Self {
        Self { stdin, output, control, exited, end: None, _kill_on_drop: kill_on_drop }
    }

    /// Its name within the VM: for [`crate::Inherited::KillOnly`].
    #[must_use]
    pub fn id(&self) -> ExecId {
        self.control.exec
    }

    /// Signals for it, for use beside [`Running::exit`].
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// As [`Control::signal`].
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub async fn signal(&self, signal: i32) -> Result<()> {
        self.control.signal(signal).await
    }

    /// As [`Control::kill`].
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub async fn kill(&self) -> Result<()> {
        self.control.kill().await
    }

    /// Waits for the end of its main process. Take the output until its end first: what was printed is
    /// complete only then, and a command that cannot print does not end. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Gone`] where the VM went before.
    pub async fn exit(&mut self) -> Result<Exited> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        if self.exited.is_terminated() {
            return Err(self.control.sandbox.why());
        }
        let end = (&mut self.exited).await.unwrap_or_else(|_| Err(self.control.sandbox.why()))?;
        self.end = Some(end);
        Ok(end)
    }

    /// Takes all output, at most `limit` bytes of both together, and the end.
    ///
    /// # Errors
    /// [`Error::TooMuchOutput`]: the command is killed. [`Error::Gone`].
    pub async fn collect(mut self, limit: usize) -> Result<Collected> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(chunk) = self.output.next().await? {
            if stdout.len() + stderr.len() + chunk.bytes.len() > limit {
                return Err(Error::TooMuchOutput { limit });
            }
            match chunk.stream {
                Stream::Stdout => stdout.extend_from_slice(&chunk.bytes),
                Stream::Stderr => stderr.extend_from_slice(&chunk.bytes),
            }
        }
        Ok(Collected { exited: self.exit().await?, stdout, stderr })
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({} in {:?})", self.control.exec, self.control.sandbox)
    }
}

/// What a command prints, in order.
pub struct Output {
    pub(crate) consumer: Consumer,
    pub(crate) stderr: Option<StreamId>,
}

impl Output {
    /// The next chunk; `None` after the end. The guest may send more only as chunks are taken. Cancel-safe.
    ///
    /// # Errors
    /// The VM went before the end; what had arrived came first.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Gone> {
        match poll_fn(|context| self.consumer.poll_take(context)).await {
            None => Ok(None),
            Some(Err(gone)) => Err(gone),
            Some(Ok(part)) => Ok(Some(self.chunk(part))),
        }
    }

    /// The next chunk, if it is there already.
    pub(crate) fn at_hand(&mut self) -> Option<Chunk> {
        match self.consumer.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(part))) => Some(self.chunk(part)),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => None,
        }
    }

    fn chunk(&self, part: Part) -> Chunk {
        let stream = if Some(part.stream) == self.stderr { Stream::Stderr } else { Stream::Stdout };
        Chunk { stream, time: part.time, bytes: part.bytes }
    }
}

/// Where a command reads from. Writing waits while the guest does not read.
pub struct Input(pub(crate) DuplexStream);

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
