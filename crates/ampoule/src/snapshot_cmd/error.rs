//! Why `ampoule snapshot` did not do what it was asked for.

use std::io;

use crate::{
    class::{Class, Classed},
    exec::machine::MachineError,
    prefix::NoMatch,
    state_dir::NoStateDir,
};

/// Why `ampoule snapshot` did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotCmdError {
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// VMs of this backend are not forks.
    #[error("the backend `{0}` makes no snapshots: its VMs are booted")]
    NoForks(String),
    /// It cannot be made.
    #[error("the snapshot cannot be made")]
    Build(#[source] sandbox::Error),
    /// They cannot be read.
    #[error("the snapshots cannot be listed")]
    List(#[source] sandbox::Error),
    /// None is meant, or several.
    #[error(transparent)]
    NoMatch(#[from] NoMatch),
    /// The state directory cannot be opened.
    #[error("the state directory cannot be used")]
    Engine(#[source] sandbox::Error),
    /// One cannot be removed.
    #[error("a snapshot cannot be removed")]
    Remove(#[source] sandbox::Error),
    /// One is not to be removed.
    #[error("the snapshot {0} is pinned: `ampoule snapshot unpin {0}` lets it go")]
    Pinned(String),
    /// One cannot be pinned.
    #[error("a snapshot cannot be pinned or let go")]
    Pin(#[source] sandbox::Error),
    /// A signal came.
    #[error("cancelled")]
    Cancelled,
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
}

impl Classed for SnapshotCmdError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::NoForks(_) | Self::NoMatch(_) | Self::Pinned(_) => Class::User,
            Self::Build(error)
            | Self::List(error)
            | Self::Engine(error)
            | Self::Remove(error)
            | Self::Pin(error) => error.class(),
            Self::Cancelled => Class::Cancelled,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}
