//! What the host is told of a failure.

use std::{error::Error as _, io};

use rustix::io::Errno;
use wire::message::{Failure, FailureKind};

/// Longest message of a failure, in characters.
const MAX_MESSAGE: usize = 1000;

/// A failure of one kind.
pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    let mut message: String = message.into();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }
    Failure { kind, message }
}

fn kind_of(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::NotFound => FailureKind::NotFound,
        io::ErrorKind::PermissionDenied => FailureKind::Permission,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::NoSpace,
        _ => FailureKind::Io,
    }
}

/// What was tried, and the system's answer.
pub(crate) fn io_failure(what: &str, error: impl Into<io::Error>) -> Failure {
    let error = error.into();
    failure(kind_of(&error), format!("{what}: {}", text(&error)))
}

/// The system's words without the number that std adds.
pub(crate) fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// The words of a number.
pub(crate) fn errno_text(errno: Errno) -> String {
    text(&errno.into())
}

impl From<TreeError> for Failure {
    fn from(TreeError(error): TreeError) -> Self {
        let kind = match &error {
            tree::Error::Refused { .. } | tree::Error::Archive(_) | tree::Error::Limit { .. } => {
                FailureKind::Entry
            }
            tree::Error::Entry { source, .. } => match kind_of(source) {
                FailureKind::Io if error.is_wrong_path() => FailureKind::Entry,
                kind => kind,
            },
            _ => FailureKind::Io,
        };
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        failure(kind, message.split(" (os error").next().unwrap_or_default())
    }
}

/// A failure of the `tree` crate.
pub(crate) struct TreeError(pub(crate) tree::Error);
