//! Why a backend could not do what the engine asked.

use std::{io, path::PathBuf, time::Duration};

/// Result of every method of a backend.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a backend could not do what the engine asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or process operation of the host failed.
    #[error("{what}")]
    Io {
        /// What was tried, with the path where there is one.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The program that runs the VM is not installed or too old.
    #[error("{program} is not usable: {reason}")]
    Missing {
        /// The program as it was looked for.
        program: PathBuf,
        /// What is wrong and what mends it.
        reason: String,
    },
    /// The shim or its jail could not be set up as asked.
    #[error("the jail of the VM could not be set up: {0}")]
    Jail(String),
    /// The machine ended before it could answer; the tail of its own error output.
    #[error("the VM ended while {during}: {detail}")]
    Ended {
        /// What was under way.
        during: &'static str,
        /// Exit status and the last lines of the VMM's error output.
        detail: String,
    },
    /// The VMM's control channel said something that is not its protocol.
    #[error("the VMM's control channel: {0}")]
    Control(String),
    /// It did not answer in time.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The specification asks for what this backend or host cannot give.
    #[error("not possible with this backend: {0}")]
    Unsupported(String),
    /// What runs in the VM could not be stopped, so that it was not saved.
    #[error("what runs in the VM could not be stopped: {0}")]
    NotFrozen(String),
    /// Nothing is left to adopt in this slot.
    #[error("no running VM in slot {0}")]
    Gone(crate::SlotId),
}

impl Error {
    /// An [`Error::Io`] from what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
