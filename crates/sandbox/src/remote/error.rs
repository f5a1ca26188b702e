//! Why an engine in another process could not do what was asked, beside what it says itself.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Why an engine in another process could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Infrastructure: nobody listens there.
    #[error("no engine listens at {}", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// Infrastructure: the socket cannot be used.
    #[error("{what} {}", path.display())]
    Socket {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// User: an engine runs there already.
    #[error("an engine runs at {} already", path.display())]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// User: whoever listens or asks there is another user.
    #[error("{} is of user {theirs}, and this is user {ours}", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// The other side's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// User: the engine is of another build of this program.
    #[error(
        "the engine at {} is of another build of ampoule ({theirs}; this is {ours}): end it, and it starts anew",
        path.display()
    )]
    Build {
        /// The socket.
        path: PathBuf,
        /// Its build.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// Infrastructure: the engine ends, and takes nothing new.
    #[error("the engine is ending")]
    Ending,
    /// Infrastructure: the engine was there and is not any more.
    #[error("the engine process is gone")]
    Lost,
    /// Bug: it said what is not the protocol.
    #[error("the engine said what is not the protocol: {0}")]
    Protocol(String),
    /// By whose fault it is: its words, where it has no others.
    #[error("{text}")]
    Said {
        /// Whose fault it is.
        whose: Whose,
        /// What went wrong.
        text: String,
        /// Why.
        #[source]
        cause: Option<Cause>,
    },
}

impl EngineError {
    /// Whether nobody is there who could be asked: another engine can be started in its place.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Ending | Self::Lost)
    }
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The user's.
    User,
    /// The host's.
    Host,
    /// Ours.
    Ours,
}

/// What an error came from, and that in turn.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    text: String,
    #[source]
    cause: Option<Box<Self>>,
}

impl Cause {
    /// The nearest first.
    pub(crate) fn chain(texts: Vec<String>) -> Option<Self> {
        texts.into_iter().rev().fold(None, |cause, text| Some(Self { text, cause: cause.map(Box::new) }))
    }
}
