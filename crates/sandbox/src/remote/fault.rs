//! Errors on their way: what a client can tell apart stays what it is, the rest becomes its words and whose fault.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use vm::SlotId;
use wire::message::FailureKind;

use super::error::{Cause, EngineError, Whose};
use crate::{Error, Gone};

/// Causes of an error that travel.
const MOST_CAUSES: usize = 16;

/// An error on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    DiskFull { path: PathBuf },
    NoIdentity { first: u32, tried: u32, dir: PathBuf },
    Backend(OfBackend),
    Save(OfBackend),
    NotFrozen { limit: Duration },
    Teardown { dir: PathBuf, detail: String },
    NoHello { limit: Duration, tries: u32, console: String },
    Template(Box<Self>),
    NoRoom { lack: String },
    NoNetwork { why: String },
    Boot { why: Gone, console: String },
    Prepare { message: String, console: String },
    Gone(Gone),
    Guest { kind: FailureKind, message: String },
    TooMuchOutput { limit: usize },
    Version { theirs: u32, ours: u32 },
    NotKept { id: SlotId },
    Owned { id: SlotId },
    Foreign { id: SlotId, backend: String },
    NotToKeep,
    Cancelled,
    Ending,
    Lost,
    Said { whose: Whose, text: String, causes: Vec<String> },
}

/// A backend's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OfBackend {
    Unsupported(String),
    NotFrozen(String),
    Gone(SlotId),
    Other { text: String, causes: Vec<String> },
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(error) = next.filter(|_| texts.len() < MOST_CAUSES) {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

impl From<vm::Error> for OfBackend {
    fn from(error: vm::Error) -> Self {
        match error {
            vm::Error::Unsupported(text) => Self::Unsupported(text),
            vm::Error::NotFrozen(text) => Self::NotFrozen(text),
            vm::Error::Gone(id) => Self::Gone(id),
            vm::Error::Io { .. }
            | vm::Error::Missing { .. }
            | vm::Error::Jail(_)
            | vm::Error::Ended { .. }
            | vm::Error::Control(_)
            | vm::Error::TimedOut { .. } => Self::Other { text: error.to_string(), causes: causes(&error) },
        }
    }
}

impl From<OfBackend> for vm::Error {
    fn from(error: OfBackend) -> Self {
        match error {
            OfBackend::Unsupported(text) => Self::Unsupported(text),
            OfBackend::NotFrozen(text) => Self::NotFrozen(text),
            OfBackend::Gone(id) => Self::Gone(id),
            OfBackend::Other { text, causes } => Self::Io {
                what: text,
                source: match Cause::chain(causes) {
                    Some(cause) => io::Error::other(cause),
                    None => io::Error::other("in the engine process"),
                },
            },
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let whose = match error {
            Error::DiskFull { path } => return Self::DiskFull { path },
            Error::NoIdentity { first, tried, dir } => return Self::NoIdentity { first, tried, dir },
            Error::Backend(error) => return Self::Backend(error.into()),
            Error::Save(error) => return Self::Save(error.into()),
            Error::NotFrozen { limit } => return Self::NotFrozen { limit },
            Error::Teardown { dir, detail } => return Self::Teardown { dir, detail },
            Error::NoHello { limit, tries, console } => return Self::NoHello { limit, tries, console },
            Error::NoRoom { lack } => return Self::NoRoom { lack },
            Error::NoNetwork { why } => return Self::NoNetwork { why },
            Error::Boot { why, console } => return Self::Boot { why, console },
            Error::Prepare { message, console } => return Self::Prepare { message, console },
            Error::Gone(gone) => return Self::Gone(gone),
            Error::Guest { kind, message } => return Self::Guest { kind, message },
            Error::TooMuchOutput { limit } => return Self::TooMuchOutput { limit },
            Error::Version { theirs, ours } => return Self::Version { theirs, ours },
            Error::NotKept { id } => return Self::NotKept { id },
            Error::Owned { id } => return Self::Owned { id },
            Error::Foreign { id, backend } => return Self::Foreign { id, backend },
            Error::NotToKeep => return Self::NotToKeep,
            Error::Cancelled => return Self::Cancelled,
            Error::Closed => return Self::Ending,
            Error::Lost => return Self::Lost,
            Error::Template(error) => match Arc::try_unwrap(error) {
                Ok(error) => return Self::Template(Box::new(error.into())),
                // others wait for the same template
                Err(error) => return Self::Template(Box::new(Self::shared(&error))),
            },
            Error::Image { .. } | Error::Request(_) | Error::Tree(tree::Error::Refused { .. }) => Whose::User,
            Error::State { .. }
            | Error::Tool { .. }
            | Error::CopySource(_)
            | Error::Network(_)
            | Error::Tree(_)
            | Error::Engine(_) => Whose::Host,
        };
        Self::Said { whose, text: error.to_string(), causes: causes(&error) }
    }
}

impl Fault {
    /// One that others have too.
    fn shared(error: &Error) -> Self {
        match error {
            Error::Backend(vm::Error::Unsupported(text)) => {
                Self::Backend(OfBackend::Unsupported(text.clone()))
            }
            Error::DiskFull { path } => Self::DiskFull { path: path.clone() },
            Error::NoRoom { lack } => Self::NoRoom { lack: lack.clone() },
            Error::Cancelled => Self::Cancelled,
            Error::Closed => Self::Ending,
            Error::Lost => Self::Lost,
            Error::Template(error) => Self::Template(Box::new(Self::shared(error))),
            error => {
                let whose = if matches!(error, Error::Image { .. }) { Whose::User } else { Whose::Host };
                Self::Said { whose, text: error.to_string(), causes: causes(error) }
            }
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::DiskFull { path } => Self::DiskFull { path },
            Fault::NoIdentity { first, tried, dir } => Self::NoIdentity { first, tried, dir },
            Fault::Backend(error) => Self::Backend(error.into()),
            Fault::Save(error) => Self::Save(error.into()),
            Fault::NotFrozen { limit } => Self::NotFrozen { limit },
            Fault::Teardown { dir, detail } => Self::Teardown { dir, detail },
            Fault::NoHello { limit, tries, console } => Self::NoHello { limit, tries, console },
            Fault::Template(fault) => Self::Template(Arc::new((*fault).into())),
            Fault::NoRoom { lack } => Self::NoRoom { lack },
            Fault::NoNetwork { why } => Self::NoNetwork { why },
            Fault::Boot { why, console } => Self::Boot { why, console },
            Fault::Prepare { message, console } => Self::Prepare { message, console },
            Fault::Gone(gone) => Self::Gone(gone),
            Fault::Guest { kind, message } => Self::Guest { kind, message },
            Fault::TooMuchOutput { limit } => Self::TooMuchOutput { limit },
            Fault::Version { theirs, ours } => Self::Version { theirs, ours },
            Fault::NotKept { id } => Self::NotKept { id },
            Fault::Owned { id } => Self::Owned { id },
            Fault::Foreign { id, backend } => Self::Foreign { id, backend },
            Fault::NotToKeep => Self::NotToKeep,
            Fault::Cancelled => Self::Cancelled,
            Fault::Ending => Self::Engine(EngineError::Ending),
            Fault::Lost => Self::Lost,
            Fault::Said { whose, text, causes } => {
                Self::Engine(EngineError::Said { whose, text, cause: Cause::chain(causes) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
