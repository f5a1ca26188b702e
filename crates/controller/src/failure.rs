//! Why a request is not answered as it was meant: the status and the body `{"error": …}`.
//!
//! Purpose: every error of the engine becomes one of five classes here, in matches without a catch-all arm; the
//! class decides the status.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use sandbox::{EngineError, FailureKind, Gone, Whose};
use serde_json::json;

use crate::{ImagesError, InvalidTag, Tag, sandboxes::SandboxId};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    User,
    Infrastructure,
    Bug,
    Cancelled,
    Limit,
}

impl Class {
    fn status(self) -> StatusCode {
        match self {
            Self::User => StatusCode::BAD_REQUEST,
            Self::Infrastructure | Self::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            Self::Limit => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// Why a request is not answered as it was meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("a token is needed: Authorization: Bearer TOKEN")]
    Unauthorised,
    #[error("without a token only requests to localhost, or to a loopback address, are served")]
    ForeignHost,
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    #[error("there is no snapshot {0}")]
    NoSnapshot(Tag),
    #[error("there is no such sandbox")]
    NoSandbox,
    #[error("sandbox {id} is gone: {why}")]
    SandboxGone { id: SandboxId, why: String },
    #[error(
        "the engine process that had sandbox {0} is gone; the sandbox runs on, and can be reached again when there is \
         an engine: start one with `ampoule engine`"
    )]
    Adrift(SandboxId),
    #[error("n is {0}, and must be 1 to 1000")]
    Count(u64),
    #[error("{what} is {given}, and must be {least} to {most}")]
    Range { what: &'static str, given: u64, least: u64, most: u64 },
    #[error("args {0}")]
    Args(&'static str),
    #[error("cascade and force cannot be given together")]
    CascadeAndForce,
    #[error("snapshot {tag} is needed by {by}; `?force` deletes its name all the same{hint}")]
    Needed { tag: Tag, by: String, hint: &'static str },
    #[error("{there} of {most} sandboxes are there or under way, {wanted} more are too many")]
    Full { there: usize, wanted: usize, most: usize },
    #[error("the controller is shutting down")]
    Closing,
    #[error("{what} is not there yet: {why}")]
    Missing { what: &'static str, why: &'static str },
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("none of the {n} sandboxes was made, one of them failed")]
    Spawn { n: u64, source: sandbox::Error },
    #[error("none of the sandboxes was made: it cannot be written down")]
    Ledger(#[source] std::io::Error),
    #[error("the sandbox is deleted, and something of it is left on the host: {0}")]
    Destroy(String),
    #[error("the sandbox could not do it")]
    Sandbox(#[from] sandbox::Error),
    #[error("the command was cut off")]
    CutOff { stdout: String, stderr: String, source: sandbox::Error },
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorised => StatusCode::UNAUTHORIZED,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::NoSnapshot(_) | Self::NoSandbox | Self::SandboxGone { .. } => StatusCode::NOT_FOUND,
            Self::Tag(_) | Self::Count(_) | Self::Range { .. } | Self::Args(_) | Self::CascadeAndForce => {
                StatusCode::BAD_REQUEST
            }
            Self::Needed { .. } => StatusCode::CONFLICT,
            Self::Full { .. } | Self::Closing | Self::Adrift(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Spawn { source, .. } | Self::Sandbox(source) | Self::CutOff { source, .. }
                if is_engines_absence(source) =>
            {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Spawn { source: sandbox::Error::NoRoom { .. }, .. }
            | Self::Sandbox(sandbox::Error::NoRoom { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Images(error) => of_images(error),
            Self::Spawn { source, .. } => class(source).status(),
            Self::Destroy(_) | Self::Ledger(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Sandbox(error) | Self::CutOff { source: error, .. } => class(error).status(),
        }
    }

    /// The text with its causes.
    fn text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let more = cause.to_string();
            // some errors repeat their source in their own text
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = cause.source();
        }
        text
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = (self.status(), self.text());
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            tracing::warn!(%status, error = text, "a request failed");
        }
        let body = match self {
            Self::CutOff { stdout, stderr, .. } => json!({"error": text, "stdout": stdout, "stderr": stderr}),
            _ => json!({"error": text}),
        };
        (status, Json(body)).into_response()
    }
}

fn of_images(error: &ImagesError) -> StatusCode {
    match error {
        ImagesError::Fixed(_) => StatusCode::CONFLICT,
        ImagesError::Store(_) | ImagesError::Lost => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether an engine process is gone, or ends: there may be another one soon.
fn is_engines_absence(error: &sandbox::Error) -> bool {
    match error {
        sandbox::Error::Engine(error) => error.is_absence(),
        sandbox::Error::Gone(gone) => matches!(gone, Gone::EngineLost | Gone::Left),
        _ => false,
    }
}

/// The class of an error of the engine.
fn class(error: &sandbox::Error) -> Class {
    use sandbox::Error;
    match error {
        Error::Backend(error) | Error::Save(error) => of_vm(error),
        Error::Gone(gone) => of_gone(gone),
        Error::Template(error) => class(error),
        Error::Engine(error) => of_engine(error),
        Error::Guest { kind, .. } => of_guest(*kind),
        Error::Tree(error) => of_tree(error),
        Error::State { .. }
        | Error::DiskFull { .. }
        | Error::Tool { .. }
        | Error::NoIdentity { .. }
        | Error::Teardown { .. }
        | Error::NoHello { .. }
        | Error::NoRoom { .. }
        | Error::NoNetwork { .. }
        | Error::Network(_)
        | Error::Boot { .. }
        | Error::Prepare { .. }
        | Error::NotFrozen { .. }
        | Error::CopySource(_)
        | Error::Version { .. } => Class::Infrastructure,
        Error::Image { .. }
        | Error::Request(_)
        | Error::NotKept { .. }
        | Error::Owned { .. }
        | Error::Foreign { .. } => Class::User,
        Error::TooMuchOutput { .. } => Class::Limit,
        Error::Cancelled => Class::Cancelled,
        // the engine is closed only when the controller ends
        Error::Closed => Class::Cancelled,
        Error::Lost | Error::NotToKeep => Class::Bug,
    }
}

/// An engine in another process.
fn of_engine(error: &EngineError) -> Class {
    match error {
        EngineError::Absent { .. }
        | EngineError::Socket { .. }
        | EngineError::Ending
        | EngineError::Lost
        // nothing that a client asks for changes it
        | EngineError::Running { .. }
        | EngineError::Stranger { .. }
        | EngineError::Build { .. } => Class::Infrastructure,
        EngineError::Protocol(_) => Class::Bug,
        EngineError::Said { whose, .. } => match whose {
            Whose::User => Class::User,
            Whose::Host => Class::Infrastructure,
            Whose::Ours => Class::Bug,
        },
    }
}

fn of_vm(error: &vm::Error) -> Class {
    match error {
        vm::Error::Io { .. }
        | vm::Error::Missing { .. }
        | vm::Error::Jail(_)
        | vm::Error::Ended { .. }
        | vm::Error::Control(_)
        | vm::Error::TimedOut { .. }
        | vm::Error::NotFrozen(_)
        | vm::Error::Gone(_) => Class::Infrastructure,
        vm::Error::Unsupported(_) => Class::User,
    }
}

fn of_gone(gone: &Gone) -> Class {
    match gone {
        Gone::Exited(_)
        | Gone::Protocol(_)
        | Gone::Silent(_)
        | Gone::LinkLost(_)
        | Gone::Nameless(_)
        | Gone::EngineLost => Class::Infrastructure,
        Gone::Expired => Class::Limit,
        Gone::Destroyed | Gone::Left => Class::Cancelled,
    }
}

fn of_guest(kind: FailureKind) -> Class {
    match kind {
        FailureKind::NotFound
        | FailureKind::Permission
        | FailureKind::Cwd
        | FailureKind::User
        | FailureKind::Entry => Class::User,
        FailureKind::NoSpace => Class::Limit,
        FailureKind::Io => Class::Infrastructure,
        FailureKind::Invalid | FailureKind::State => Class::Bug,
    }
}

fn of_tree(error: &sandbox::TreeError) -> Class {
    match error {
        sandbox::TreeError::Refused { .. } => Class::User,
        sandbox::TreeError::Limit { .. } => Class::Limit,
        sandbox::TreeError::Read(_)
        | sandbox::TreeError::Archive(_)
        | sandbox::TreeError::Write(_)
        | sandbox::TreeError::Entry { .. } => Class::Infrastructure,
    }
}
