//! Why the runner cannot begin, or cannot go on.

use crate::{ConfigError, RegistrationError};

/// Why the runner cannot begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The server's address, or the way to it.
    #[error("the server {instance} cannot be used")]
    Server {
        /// Its address.
        instance: String,
        /// Why.
        #[source]
        source: forgejo::Error,
    },
    /// The server does not know this runner.
    #[error(
        "the server {instance} does not know this runner (any more): register it again with `ampoule register`"
    )]
    Unknown {
        /// Its address.
        instance: String,
    },
    /// There are no labels.
    #[error(
        "the runner has no labels, so no job would ever be given to it: add `labels` to [runner], or register again"
    )]
    NoLabels,
    /// A job's end could not be reported.
    #[error(transparent)]
    Report(#[from] crate::ReportError),
}
