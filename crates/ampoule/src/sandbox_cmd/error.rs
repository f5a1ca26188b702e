//! Why `ampoule sandbox run` did not run to its end.

use std::io;

use crate::{
    class::{Class, Classed},
    exec::machine::MachineError,
    state_dir::NoStateDir,
};

/// Why `ampoule sandbox run` did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SandboxCmdError {
    /// The program's name is empty.
    #[error("the program's name is empty")]
    NoProgram,
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// One could not be made.
    #[error("sandbox [{index}] of {count} could not be made, and all of them were destroyed")]
    Fork {
        /// Which.
        index: u16,
        /// Of how many.
        count: u16,
        /// Why.
        #[source]
        source: sandbox::Error,
    },
    /// One went while its command ran; the others ran to their ends.
    #[error("sandbox [{index}] went before its command ended")]
    Lost {
        /// Which; the first of them.
        index: u16,
        /// Why.
        #[source]
        source: sandbox::Error,
    },
    /// A signal came, and everything was destroyed.
    #[error("cancelled")]
    Cancelled,
    /// A second signal came: VMs end with this process.
    #[error("cancelled at once")]
    CancelledAtOnce,
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
}

impl Classed for SandboxCmdError {
    fn class(&self) -> Class {
        match self {
            Self::NoProgram => Class::User,
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Fork { source, .. } | Self::Lost { source, .. } => source.class(),
            Self::Cancelled | Self::CancelledAtOnce => Class::Cancelled,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}
