//! Why an engine process could not be, or could not be used.

use std::{io, path::PathBuf};

use crate::{
    class::{Class, Classed},
    exec::machine::MachineError,
    state_dir::NoStateDir,
};

/// Why an engine process could not be, or could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineCmdError {
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It cannot be served, or cannot be asked.
    #[error(transparent)]
    Engine(#[from] sandbox::Error),
    /// The service manager's socket cannot be used.
    #[error("the socket of the service manager cannot be used")]
    Inherited(#[source] io::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
    /// It could not be started in the background.
    #[error("an engine cannot be started")]
    Start(#[source] io::Error),
    /// It was started and ended.
    #[error("an engine was started and ended at once; {} says:\n{words}", log.display())]
    Ended {
        /// Its log.
        log: PathBuf,
        /// The last of it.
        words: String,
    },
    /// It was started and does not answer.
    #[error("an engine was started and does not answer; its log is {}", log.display())]
    Silent {
        /// Its log.
        log: PathBuf,
    },
    /// The one that runs is not what is wanted.
    #[error("the engine at {} runs VMs with {theirs}, and {ours} is asked for", path.display())]
    Unfit {
        /// Its socket.
        path: PathBuf,
        /// What it has.
        theirs: String,
        /// What is wanted.
        ours: String,
    },
}

impl Classed for EngineCmdError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Engine(error) => error.class(),
            Self::Unfit { .. } => Class::User,
            Self::Inherited(_)
            | Self::Runtime(_)
            | Self::Start(_)
            | Self::Ended { .. }
            | Self::Silent { .. } => Class::Infrastructure,
        }
    }
}
