//! A command of a VM on the user's own terminal.
//!
//! Purpose: "run this in that sandbox, here": keys go to the guest and its output comes back as it is, while
//! the terminal is raw; its size is passed on.
//! Owner: whoever runs the command; one at a time. It knows no workflow.
//!
//! ```text
//!   keys ──▶ Terminal ──▶ Running::stdin ──▶ the guest's terminal
//!   screen ◀── Terminal ◀── Running::output ◀──┘
//! ```
//!
//! Invariants
//! - However it ends, by the command, a signal, the VM's death, a panic or a dropped future, the terminal is
//!   as it was before: [`raw`].
//! - What is typed after the end is not read, so that it is the next reader's.
//! - This is the one way on which a guest's bytes reach a terminal as they are: the user asked for it.

pub(crate) mod raw;

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
};

use rustix::{fs::OFlags, termios::tcgetwinsize};
use sandbox::{ExecRequest, Exited, OutputMode, Running, Sandbox, Stdin, TerminalSize};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
};

use raw::Raw;

/// Read from the terminal at a time.
const KEYS: usize = 4096;
/// Longest `TERM` that is passed on.
const MAX_NAME: usize = 64;

/// How a command on the terminal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// By itself.
    Exited(Exited),
    /// It was killed: it was asked to end from outside, or the terminal is gone.
    Stopped,
}

/// Why a command on the terminal could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    /// The terminal does not do what it has to.
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
    /// The command could not be started, or its VM went.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

/// Whether standard input and standard output are a terminal.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The user's terminal.
pub(crate) struct Terminal {
    /// Opened anew: what is not to block here must not change for those who share standard input with us.
    file: File,
    /// The same, to wait for: no pipes, but what can be waited for in the same way.
    keys: pipe::Receiver,
    screen: pipe::Sender,
}

impl Terminal {
    /// The terminal that is standard input.
    ///
    /// # Errors
    /// Where it is none, or cannot be opened.
    pub(crate) fn open() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let open = |path| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        // after `su` the terminal may be another user's, and only the name that means one's own can be opened
        let file = open("/proc/self/fd/0").or_else(|error| open("/dev/tty").map_err(|_| error))?;
        let keys = pipe::Receiver::from_file_unchecked(file.try_clone()?)?;
        let screen = pipe::Sender::from_file_unchecked(file.try_clone()?)?;
        Ok(Self { file, keys, screen })
    }

    /// Its size now.
    pub(crate) fn size(&self) -> TerminalSize {
        let size = tcgetwinsize(self.file.as_fd()).ok();
        size.and_then(|size| TerminalSize::new(size.ws_row, size.ws_col)).unwrap_or(TerminalSize::USUAL)
    }

    /// Runs a command of a sandbox here until it ends, or `stop` does. Its input, its output and `TERM` are
    /// set by this. Cancel-safe in that a dropped future leaves the terminal as it was, and kills the command.
    pub(crate) async fn run(
        &self,
        sandbox: &Sandbox,
        mut request: ExecRequest,
        stop: impl Future<Output = ()>,
    ) -> Result<Left, TerminalError> {
        // before the size is looked at, so that no change of it is missed
        let changes = Changes::listen()?;
        request.stdin = Stdin::Pipe;
        request.output = OutputMode::Terminal(self.size());
        request.env.retain(|(name, _)| name != "TERM");
        request.env.push(("TERM".to_owned(), name(env::var("TERM").ok())));
        tokio::pin!(stop);
        let mut running = tokio::select! {
            biased;
            () = &mut stop => return Ok(Left::Stopped),
            running = sandbox.exec(request) => running?,
        };
        let raw = Raw::enter(&self.file)?;
        self.pump(&mut running, changes, &raw, stop).await
    }

    async fn pump(
        &self,
        running: &mut Running,
        mut changes: Changes,
        raw: &Raw,
        stop: impl Future<Output = ()>,
    ) -> Result<Left, TerminalError> {
        let control = running.control();
        let mut stdin = running.stdin.take();
        let keys = async {
            let mut buffer = [0; KEYS];
            loop {
                match self.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        let taken = match &mut stdin {
                            Some(input) => input.write_all(buffer.get(..count).unwrap_or_default()).await,
                            None => Ok(()),
                        };
                        if taken.is_err() {
                            // it reads no more; its end comes with its output
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
        };
        let sizes = async {
            loop {
                if changes.next().await == Change::Continued {
                    // whoever stopped us has set the terminal as it likes it
                    raw.again();
                }
                // one that has ended needs no size
                let _ = control.resize(self.size()).await;
            }
        };
        let output = async {
            while let Some(chunk) = running.output.next().await.map_err(sandbox::Error::Gone)? {
                self.write_all(&chunk.bytes).await?;
            }
            Ok::<_, TerminalError>(Left::Exited(running.exit().await?))
        };
        tokio::select! {
            left = output => left,
            () = stop => Ok(Left::Stopped),
            () = keys => Ok(Left::Stopped),
            () = sizes => Ok(Left::Stopped),
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.keys.readable().await?;
            match self.keys.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.screen.writable().await?;
            match self.screen.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Signals that concern a terminal in use.
struct Changes {
    size: Signal,
    continued: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Size,
    Continued,
}

impl Changes {
    fn listen() -> io::Result<Self> {
        let continued = SignalKind::from_raw(rustix::process::Signal::CONT.as_raw());
        Ok(Self { size: signal(SignalKind::window_change())?, continued: signal(continued)? })
    }

    async fn next(&mut self) -> Change {
        tokio::select! {
            Some(()) = self.size.recv() => Change::Size,
            Some(()) = self.continued.recv() => Change::Continued,
            else => std::future::pending().await,
        }
    }
}

/// What the guest is told that this terminal is.
fn name(of_ours: Option<String>) -> String {
    let plain = |name: &String| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte))
    };
    of_ours.filter(plain).unwrap_or_else(|| "xterm".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_terminal_is_plain() {
        assert_eq!(name(Some("screen.xterm-256color".to_owned())), "screen.xterm-256color");
        for odd in ["", "a b", "a/../b", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(name(Some(odd.to_owned())), "xterm", "{odd:?}");
        }
        assert_eq!(name(None), "xterm");
    }
}
