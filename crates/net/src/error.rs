//! Why there is no network.

use std::io;

/// Result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no network, or why it is not as it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The helper cannot be started.
    #[error("cannot start the network's helper: {0}")]
    Start(String),
    /// The helper cannot have its namespaces; in its own words.
    #[error("no network can be made here: {0}")]
    Namespaces(String),
    /// A program is not installed.
    #[error("{program} is not installed (package {package})")]
    Missing {
        /// It.
        program: &'static str,
        /// The package of Debian and Ubuntu that has it.
        package: &'static str,
    },
    /// The helper could not do something.
    #[error("cannot {what}: {answer}")]
    Refused {
        /// What.
        what: &'static str,
        /// Its answer, or that of the program that it ran.
        answer: String,
    },
    /// A program said something that is not as we know it.
    #[error("what {0} says is not as expected")]
    Unreadable(&'static str),
    /// There are as many VMs with a network as there are addresses for.
    #[error("all addresses of links to VMs are taken")]
    Full,
    /// The helper ended: what it made leads nowhere any more, and is not made again.
    #[error("the network is gone: its helper ended")]
    Gone,
}

impl Error {
    pub(crate) fn start(error: &io::Error) -> Self {
        Self::Start(error.to_string())
    }
}
