//! What handles ask of the owner task of a VM.

use std::time::SystemTime;

use tokio::{io::AsyncRead, sync::oneshot};
use wire::{
    ExecId,
    message::{Account, Copied},
};

use crate::{Branch, CopyOut, Error, ExecRequest, Refusals, Result, Running, TerminalSize};

/// A tree on its way into the guest.
pub(crate) type Source = Box<dyn AsyncRead + Send + Unpin>;

/// Where the answer goes. Dropping the receiving end cancels the operation.
pub(crate) type Answer<T> = oneshot::Sender<Result<T>>;

/// What handles ask of the owner task of a VM.
pub(crate) enum Command {
    /// Starts a command.
    Exec { request: ExecRequest, answer: Answer<Running> },
    /// Sends a signal to the process group of a running command.
    Signal { exec: ExecId, signal: i32, answer: Answer<()> },
    /// Kills everything that a command started.
    Kill { exec: ExecId, answer: Answer<()> },
    /// Gives the terminal of a running command another size.
    Resize { exec: ExecId, size: TerminalSize, answer: Answer<()> },
    /// Unpacks a tar stream in the guest.
    CopyIn { dest: String, owner: Account, source: Source, answer: Answer<Copied> },
    /// Packs a tree of the guest into a tar stream.
    CopyOut { path: String, answer: Answer<CopyOut> },
    /// Makes a branch of the VM.
    Branch { answer: Answer<Branch> },
    /// Keeps the VM until another time when its owner is gone.
    Keep { until: SystemTime, answer: Answer<()> },
    /// Asks what its network refused.
    Refused { answer: Answer<Refusals> },
    /// Asks whether the agent is there.
    Ping { answer: Answer<()> },
}

impl Command {
    /// Answers with an error.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Exec { answer, .. } => drop(answer.send(Err(error))),
            Self::CopyIn { answer, .. } => drop(answer.send(Err(error))),
            Self::CopyOut { answer, .. } => drop(answer.send(Err(error))),
            Self::Branch { answer } => drop(answer.send(Err(error))),
            Self::Refused { answer } => drop(answer.send(Err(error))),
            Self::Signal { answer, .. }
            | Self::Kill { answer, .. }
            | Self::Resize { answer, .. }
            | Self::Keep { answer, .. }
            | Self::Ping { answer } => {
                drop(answer.send(Err(error)));
            }
        }
    }
}
