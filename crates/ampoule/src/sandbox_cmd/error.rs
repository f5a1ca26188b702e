//! Why `ampoule sandbox` did not do what it was asked for.

use std::io;

use super::kept::copy::CopyError;
use crate::{
    class::{Class, Classed},
    engine_cmd::EngineCmdError,
    exec::machine::MachineError,
    network::TwoPlaces,
    prefix::NoMatch,
    state_dir::NoStateDir,
};

/// Why `ampoule sandbox` did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SandboxCmdError {
    /// The program's name is empty.
    #[error("the program's name is empty")]
    NoProgram,
    /// One name and port in two forwards.
    #[error(transparent)]
    TwoPlaces(#[from] TwoPlaces),
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
    /// The engine that runs cannot be used, or the state directory.
    #[error("the engine cannot be used")]
    Engine(#[source] sandbox::Error),
    /// No engine runs, and none can be started.
    #[error(transparent)]
    Start(#[from] Box<EngineCmdError>),
    /// None is meant, or several.
    #[error(transparent)]
    NoMatch(#[from] NoMatch),
    /// They cannot be looked for.
    #[error("the sandboxes cannot be listed")]
    List(#[source] sandbox::Error),
    /// One cannot be reached.
    #[error("{id} cannot be reached")]
    Attach {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: sandbox::Error,
    },
    /// One cannot be ended.
    #[error("{id} cannot be ended")]
    End {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: sandbox::Error,
    },
    /// A command in one could not be run to its end.
    #[error("the command did not run to its end")]
    Inside(#[source] sandbox::Error),
    /// There is no terminal for it, or not one that works.
    #[error("`--tty` needs a terminal on standard input and output")]
    Terminal(#[source] io::Error),
    /// A branch of one could not be made.
    #[error("the sandbox could not be branched")]
    Branch(#[source] sandbox::Error),
    /// What was refused cannot be told.
    #[error("what the sandbox was refused cannot be told")]
    Refused(#[source] sandbox::Error),
    /// Nothing, or both ends of a copy are in a sandbox.
    #[error("one of SOURCE and TARGET is ID:PATH, and the other is a path of this host or `-`")]
    CopyEnds,
    /// A copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A time that no clock shows.
    #[error("the time to live is too long")]
    TooLong,
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
            Self::NoProgram
            | Self::TwoPlaces(_)
            | Self::NoMatch(_)
            | Self::CopyEnds
            | Self::TooLong
            | Self::Terminal(_) => Class::User,
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Fork { source, .. }
            | Self::Lost { source, .. }
            | Self::List(source)
            | Self::Engine(source)
            | Self::Attach { source, .. }
            | Self::End { source, .. }
            | Self::Branch(source)
            | Self::Refused(source) => source.class(),
            // whoever ended it was not this command
            Self::Inside(sandbox::Error::Gone(_)) => Class::Infrastructure,
            Self::Inside(source) => source.class(),
            Self::Copy(error) => error.class(),
            Self::Start(error) => error.class(),
            Self::Cancelled | Self::CancelledAtOnce => Class::Cancelled,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}
