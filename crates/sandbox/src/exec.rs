//! What is asked of a sandbox and what comes back: plain data.

use std::{fmt, num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use wire::message::{self, Account};

/// A command to run in the guest.
#[derive(Clone)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment, in order. May hold secrets.
    pub env: Vec<(String, String)>,
    /// Absolute path in the guest.
    pub cwd: String,
    /// Whom it runs as.
    pub user: Account,
    /// What it reads.
    pub stdin: Stdin,
    /// How its two outputs come back.
    pub output: OutputMode,
    /// After this time its whole process group is killed.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for ExecRequest {
    /// Shows the names of the environment only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ExecRequest")
            .field("argv", &self.argv)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("stdin", &self.stdin)
            .field("output", &self.output)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// What a command reads.
#[derive(Clone)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// These bytes and then the end.
    Bytes(Vec<u8>),
    /// What the caller writes into [`crate::Running::stdin`].
    Pipe,
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Pipe => f.write_str("Pipe"),
        }
    }
}

/// How a command's two outputs come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    /// One pipe for both: their order is exactly that of the writes; every [`Chunk`] says `Stdout`.
    Merged,
    /// A pipe each: a [`Chunk`] says which, and the order between the two is that in which the agent read.
    Separate,
    /// A new terminal of this size, which is its controlling one, and its standard input too: what it reads is
    /// what is typed there, with [`Stdin::Pipe`] for as long as the caller likes. The end of that types
    /// nothing; what means the end of input to a terminal is a character. Every [`Chunk`] says `Stdout`.
    /// `TERM` is the caller's to set.
    Terminal(TerminalSize),
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub rows: NonZeroU16,
    /// Columns.
    pub columns: NonZeroU16,
}

impl TerminalSize {
    /// What a terminal has that says nothing of its size.
    pub const USUAL: Self =
        Self { rows: NonZeroU16::new(24).unwrap(), columns: NonZeroU16::new(80).unwrap() };

    /// None where one of them is 0.
    #[must_use]
    pub const fn new(rows: u16, columns: u16) -> Option<Self> {
        match (NonZeroU16::new(rows), NonZeroU16::new(columns)) {
            (Some(rows), Some(columns)) => Some(Self { rows, columns }),
            _ => None,
        }
    }
}

impl From<TerminalSize> for message::TerminalSize {
    fn from(size: TerminalSize) -> Self {
        Self { rows: size.rows.get(), columns: size.columns.get() }
    }
}

/// Which of a command's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Some output of a command, cut anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it was written to.
    pub stream: Stream,
    /// When the agent read it, clamped to its arrival here and to the chunk before: never goes back.
    pub time: Timestamp,
    /// Never empty; at most 64 KiB.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Chunk {
    /// Without the bytes: they are not masked yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({:?}, {}, {} bytes)", self.stream, self.time, self.bytes.len())
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time-out ended it.
    pub timed_out: bool,
    /// When, by the agent's clock, clamped as the time of a [`Chunk`] is.
    pub time: Timestamp,
}

impl Exited {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none() && !self.timed_out
    }
}

/// Output of a command that was small enough to be held as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// How it ended.
    pub exited: Exited,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}
