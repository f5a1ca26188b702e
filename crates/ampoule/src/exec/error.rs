//! Why `exec` could not begin, or could not go on.

use std::io;

use crate::{
    class::{Class, Classed},
    network::TwoPlaces,
    registry::RegistryError,
    state_dir::NoStateDir,
    worktree,
};

use super::{
    find::FindError, github::PayloadError, machine::MachineError, prepare::PrepareError, values::ValueError,
};

/// Why `exec` could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is nobody to type into a shell.
    #[error(
        "--shell-on-failure needs a terminal, and standard input and standard output are not both one: leave \
         the option out here"
    )]
    NoTerminal,
    /// One name and port in two forwards.
    #[error(transparent)]
    TwoPlaces(#[from] TwoPlaces),
    /// There is no such backend, or it cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The working tree cannot be read.
    #[error(transparent)]
    Tree(#[from] worktree::Error),
    /// There is no workflow.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The event's payload cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Secrets, variables or environment cannot be used.
    #[error(transparent)]
    Values(#[from] ValueError),
    /// A workflow cannot run.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Some workflows of a directory are not good; they were told.
    #[error(
        "nothing was run, because {bad} of the {all} workflows cannot be: see above, or choose another with \
         `-W FILE`"
    )]
    BadWorkflows {
        /// How many.
        bad: usize,
        /// Of how many.
        all: usize,
    },
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The repository's name fits in no path.
    #[error(transparent)]
    Repository(#[from] job::BadRepository),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
}

impl Classed for ExecError {
    fn class(&self) -> Class {
        match self {
            Self::Registry(error) => error.class(),
            Self::Tree(error) => error.class(),
            Self::Find(error) => error.class(),
            Self::Payload(error) => error.class(),
            Self::Values(error) => error.class(),
            Self::Prepare(error) => error.class(),
            Self::NoTerminal | Self::TwoPlaces(_) | Self::BadWorkflows { .. } => Class::User,
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Repository(_) => Class::Bug,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}

impl Classed for FindError {
    fn class(&self) -> Class {
        match self {
            Self::NoWorkflows { .. }
            | Self::Missing { .. }
            | Self::Empty { .. }
            | Self::Read { .. }
            | Self::TooMany { .. } => Class::User,
        }
    }
}

impl Classed for PayloadError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::TooLarge { .. } | Self::Syntax { .. } | Self::NoObject { .. } => {
                Class::User
            }
        }
    }
}

impl Classed for ValueError {
    fn class(&self) -> Class {
        match self {
            Self::File(_) | Self::Name { .. } | Self::NoEnv { .. } | Self::NoSecret { .. } => Class::User,
            // Ctrl-C or the end of input at the question
            Self::Ask { source, .. }
                if matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof) =>
            {
                Class::Cancelled
            }
            Self::Ask { .. } => Class::User,
        }
    }
}

impl Classed for PrepareError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. }
            | Self::Diagnostics(_)
            | Self::NoEvent(_)
            | Self::EventNowhere { .. }
            | Self::UnknownJob(_)
            | Self::JobNowhere { .. }
            | Self::Input { .. } => Class::User,
        }
    }
}
