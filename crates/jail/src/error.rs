//! Why a VMM could not be started, watched or ended.

use std::{io, path::PathBuf, time::Duration};

/// Result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a VMM could not be started, watched or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("{what}")]
    Io {
        /// What was tried, with the path where there is one.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A shim or VMM lives in this directory already.
    #[error("a shim is running in {}", .0.display())]
    Occupied(PathBuf),
    /// No shim that waits for an owner lives in this directory.
    #[error("no shim waits for an owner in {}", .0.display())]
    Gone(PathBuf),
    /// The shim could not build the jail or start the VMM; in its own words.
    #[error("{0}")]
    Setup(String),
    /// The shim ended or spoke nonsense before it said that the VMM runs.
    #[error("the shim {0}")]
    Protocol(&'static str),
    /// The shim was killed and did not go away.
    #[error("the shim of {} is still there after {waited:?}", .dir.display())]
    StillThere {
        /// Directory of the VM.
        dir: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The caller asked for something that cannot be done.
    #[error("cannot launch: {0}")]
    Invalid(&'static str),
}

impl Error {
    /// An [`Error::Io`] from what was tried.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }
}
