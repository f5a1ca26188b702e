//! Why a command of the runner failed.

use std::{io, path::PathBuf};

use crate::{
    class::{Class, Classed},
    exec::{dotenv::DotenvError, machine::MachineError},
    registry::RegistryError,
    state_dir::NoStateDir,
};

/// Why a command of the runner failed.
#[derive(Debug, thiserror::Error)]
pub enum RunnerCmdError {
    /// The runner itself.
    #[error(transparent)]
    Runner(#[from] runner::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] runner::ConfigError),
    /// The configuration names a backend that there is not.
    #[error("{}: `[vm] backend`", file.display())]
    Backend {
        /// The file.
        file: PathBuf,
        /// What there is.
        #[source]
        source: RegistryError,
    },
    /// The registration.
    #[error(transparent)]
    Registration(#[from] runner::RegistrationError),
    /// A label is none.
    #[error(transparent)]
    Label(#[from] runner::BadLabel),
    /// The file of environment variables.
    #[error(transparent)]
    Env(#[from] DotenvError),
    /// The token of the jobs' controller.
    #[error(transparent)]
    Token(#[from] controller::TokenError),
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Something was not given, and nobody can be asked.
    #[error("`{option}` is missing, and there is no terminal to ask at")]
    Missing {
        /// The option.
        option: &'static str,
    },
    /// The terminal did not give an answer.
    #[error("the terminal gives no answer")]
    Ask(#[source] io::Error),
    /// There is a registration already.
    #[error("{} is a registration already: remove it, or name another file in the configuration", path.display())]
    There {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for RunnerCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Runner(error) => error.class(),
            Self::Config(_)
            | Self::Backend { .. }
            | Self::Registration(_)
            | Self::Label(_)
            | Self::Env(_)
            | Self::Missing { .. }
            | Self::There { .. } => Class::User,
            Self::Token(error) => error.class(),
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Ask(error) if error.kind() == io::ErrorKind::Interrupted => Class::Cancelled,
            Self::Ask(_) => Class::User,
            Self::Runtime(_) | Self::Output(_) => Class::Infrastructure,
        }
    }
}

impl Classed for runner::Error {
    fn class(&self) -> Class {
        match self {
            Self::Config(_)
            | Self::Registration(_)
            | Self::NoLabels
            | Self::Authorities { .. }
            | Self::Unknown { .. }
            | Self::Unregistered { .. } => Class::User,
            // what a wait would not mend is an address or a token
            Self::Server { source, .. } if !source.is_transient() => Class::User,
            Self::Server { .. } | Self::Away { .. } | Self::Report(_) => Class::Infrastructure,
        }
    }
}
