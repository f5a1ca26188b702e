//! Why the runner cannot begin, or cannot go on.

use forgejo::Code;

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
    /// Nobody waits for a server that is away.
    #[error("the server {instance} cannot be reached; `--wait` waits for it")]
    Away {
        /// Its address.
        instance: String,
    },
    /// The server answers, and registers no such runner: for a bad token it says so in words alone, as a 500.
    #[error(
        "the server {instance} does not register this runner: is the token one of its registration tokens?"
    )]
    Unregistered {
        /// Its address.
        instance: String,
        /// What it said.
        #[source]
        source: forgejo::Error,
    },
    /// The certificates that the VMs of jobs are to trust.
    #[error("{} holds no certificates that a VM could be given", path.display())]
    Authorities {
        /// The configuration's `ca_file`.
        path: std::path::PathBuf,
        /// Why it cannot be read, where that is it.
        #[source]
        source: Option<std::io::Error>,
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

/// Whether the server does not know this runner. Forgejo has a code for it; Gitea wraps gRPC's, in words.
pub(crate) fn is_unknown_runner(error: &forgejo::Error) -> bool {
    match error {
        forgejo::Error::Refused { code: Code::Unauthenticated, .. } => true,
        forgejo::Error::Refused { code: Code::Unknown, message, .. } => {
            message.starts_with("rpc error: code = Unauthenticated ")
        }
        _ => false,
    }
}

/// Whether the server has no such task for this runner: it was deleted with its run or repository. Both forges
/// have an internal error for that, and say in words alone which.
pub(crate) fn is_unknown_task(error: &forgejo::Error) -> bool {
    match error {
        forgejo::Error::Refused { code: Code::Internal | Code::Unknown, message, .. } => {
            ["resource does not exist", "invalid runner for task"].iter().any(|end| message.ends_with(end))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forges_say_that_a_runner_is_unknown() {
        let said =
            |code, message: &str| forgejo::Error::Refused { status: 500, code, message: message.into() };
        let gitea = "rpc error: code = Unauthenticated desc = unregistered runner";
        assert!(is_unknown_runner(&said(Code::Unknown, gitea)));
        assert!(is_unknown_runner(&said(Code::Unauthenticated, "")));
        for (code, message) in [(Code::Unknown, "unregistered runner"), (Code::Internal, gitea)] {
            assert!(!is_unknown_runner(&said(code, message)), "{message}");
        }
    }

    #[test]
    fn both_forges_say_that_a_task_is_unknown() {
        let said =
            |code, message: &str| forgejo::Error::Refused { status: 500, code, message: message.into() };
        for message in [
            "get task: task with id 29: resource does not exist",
            "update task: resource does not exist",
            "update task: invalid runner for task",
            "invalid runner for task",
        ] {
            assert!(is_unknown_task(&said(Code::Internal, message)), "{message}");
            let wrapped = format!("rpc error: code = Internal desc = {message}");
            assert!(is_unknown_task(&said(Code::Unknown, &wrapped)), "{message}");
            assert!(!is_unknown_task(&said(Code::Unavailable, message)), "{message}");
        }
        let storage = "write logs: dbfs open \"actions_log/o/r/1d/29.log\": file does not exist";
        assert!(!is_unknown_task(&said(Code::Internal, storage)));
    }
}
