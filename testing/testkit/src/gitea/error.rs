//! What can go wrong between a test and its Gitea.
//!
//! Purpose: a failure that names its call and shows what the other side said, since nobody can look again at a
//! server that is gone.

use std::{io, process::ExitStatus};

/// The result of everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server could not be built, started, or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call of the operating system.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no Go to build it with.
    #[error("no `go` on the path or in /usr/local/go/bin; Gitea is built with {0} or newer, see go.dev/dl")]
    NoGo(String),
    /// This program lies in no target directory of cargo's.
    #[error("{0} is not below a target directory of cargo, where Gitea would be kept")]
    NoTarget(String),
    /// A command failed.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// Its words.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// The server ended, or never answered.
    #[error("Gitea {what}; its log ends with:\n{log}")]
    NotReady {
        /// What happened instead.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
    /// No answer, or half of one.
    #[error("{call}: no whole answer")]
    Transport {
        /// Method and path.
        call: String,
        /// Why.
        source: reqwest::Error,
    },
    /// An answer that is longer than a test can want.
    #[error("{call}: the answer is longer than {cap} bytes")]
    TooLong {
        /// Method and path.
        call: String,
        /// The limit.
        cap: usize,
    },
    /// The server refused.
    #[error("{call}: status {status}: {body}")]
    Refused {
        /// Method and path.
        call: String,
        /// The status.
        status: u16,
        /// Its words.
        body: String,
    },
    /// An answer in another form than this client knows.
    #[error("{call}: not the expected form: {body}")]
    Form {
        /// Method and path.
        call: String,
        /// What came.
        body: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The log-in form came back.
    #[error("{user} was not logged in: {body}")]
    Login {
        /// Who.
        user: String,
        /// The page's text.
        body: String,
    },
}

impl Error {
    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// For `map_err`: what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
