//! What can go wrong in a call.
//!
//! Purpose: one error type, which tells a forge that said no from one that was not reached and from one whose
//! answer cannot be used.
//! Owner: the caller, who asks [`Error::code`] what the forge meant and [`Error::is_transient`] whether to try again.
//!
//! Invariants: no error holds a credential or more than [`MESSAGE`] bytes of what the forge said.

use std::path::PathBuf;

/// The longest message of a forge that is kept.
pub(crate) const MESSAGE: usize = 1024;

/// What a call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not the URL of an instance.
    #[error("{reason}")]
    Instance {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file of the own CA could not be read.
    #[error("cannot read the CA file {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of the own CA has no certificate in it that can be used.
    #[error("no usable certificate in the CA file {}", path.display())]
    CaFormat {
        /// The file.
        path: PathBuf,
        /// Why not, where it is more than that there is none.
        source: Option<reqwest::Error>,
    },
    /// The HTTP client could not be set up: its name, or the system's certificates.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// A credential that cannot stand in a header.
    #[error("the runner's {part} has characters that no credential has")]
    Credential {
        /// `uuid` or `token`.
        part: &'static str,
    },
    /// The forge was not reached; nothing of the call was sent.
    #[error("no connection to the forge")]
    Connect(#[source] reqwest::Error),
    /// The answer did not come in time; the forge may have done what it was told.
    #[error("the forge did not answer in time")]
    Timeout(#[source] reqwest::Error),
    /// The connection broke; the forge may have done what it was told.
    #[error("the connection to the forge broke")]
    Broken(#[source] reqwest::Error),
    /// The forge said no.
    #[error("the forge says {code} (HTTP {status}){}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it means; made from the status where the answer does not say.
        code: Code,
        /// In the forge's words, without control characters; it can be empty.
        message: String,
    },
    /// What answers is no forge that speaks this protocol.
    #[error("the answer is {found:?}, not application/proto")]
    ContentType {
        /// What it is instead.
        found: String,
    },
    /// The answer is larger than an answer can be.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// How large it can be.
        limit: usize,
    },
    /// The answer has more parts than an answer can have.
    #[error("the answer has more than {limit} fields")]
    TooMany {
        /// How many it can have.
        limit: usize,
    },
    /// The answer is not the message that it has to be.
    #[error("the answer cannot be decoded")]
    Decode(#[source] prost::DecodeError),
    /// The answer decodes, and a part of it cannot be right.
    #[error("the answer has no valid {part}")]
    Malformed {
        /// The part.
        part: &'static str,
    },
}

impl Error {
    /// What the forge meant, where it answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the request was too large for the forge, or for a proxy before it.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused { status: 413, .. })
    }

    /// Whether the same call can go well a little later.
    ///
    /// A task that is not this runner's is a 500 as well; so callers try a bounded number of times.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Timeout(_) | Self::Broken(_) => true,
            Self::Refused { status, code, .. } => match code {
                Code::Unimplemented | Code::DataLoss => false,
                _ => matches!(status, 408 | 429 | 500..),
            },
            Self::Instance { .. }
            | Self::CaFile { .. }
            | Self::CaFormat { .. }
            | Self::Setup(_)
            | Self::Credential { .. }
            | Self::ContentType { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Decode(_)
            | Self::Malformed { .. } => false,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $word:literal)*) => {
        /// What a refusal means, in Connect's words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// The word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub(crate) fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }

            /// All of them.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// The caller went away.
    Canceled "canceled"
    /// No reason that has a word.
    Unknown "unknown"
    /// The request makes no sense.
    InvalidArgument "invalid_argument"
    /// It took too long.
    DeadlineExceeded "deadline_exceeded"
    /// What was asked for is not there.
    NotFound "not_found"
    /// It is there already: for a log, its archive.
    AlreadyExists "already_exists"
    /// Known, and not allowed.
    PermissionDenied "permission_denied"
    /// Too much or too many.
    ResourceExhausted "resource_exhausted"
    /// Not in this state.
    FailedPrecondition "failed_precondition"
    /// Another call was in the way.
    Aborted "aborted"
    /// Past the end.
    OutOfRange "out_of_range"
    /// The forge does not know this call.
    Unimplemented "unimplemented"
    /// A fault of the forge.
    Internal "internal"
    /// The forge is not there now.
    Unavailable "unavailable"
    /// The forge lost something.
    DataLoss "data_loss"
    /// The forge does not know this runner.
    Unauthenticated "unauthenticated"
}

impl Code {
    /// What a status means whose answer does not say, by Connect's table.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Code) -> Error {
        Error::Refused { status, code, message: String::new() }
    }

    #[test]
    fn words_and_codes_are_pairs() {
        assert_eq!(Code::ALL.len(), 16);
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("Internal"), None);
    }

    #[test]
    fn what_is_tried_again() {
        for (status, code, again) in [
            (401, Code::Unauthenticated, false),
            (404, Code::Unimplemented, false),
            (408, Code::DeadlineExceeded, true),
            (409, Code::AlreadyExists, false),
            (413, Code::Unknown, false),
            (429, Code::ResourceExhausted, true),
            (302, Code::Unknown, false),
            (500, Code::Internal, true),
            (500, Code::DataLoss, false),
            (501, Code::Unimplemented, false),
            (503, Code::Unavailable, true),
            (599, Code::Unknown, true),
        ] {
            assert_eq!(refused(status, code).is_transient(), again, "{status} {code}");
        }
        assert!(!Error::TooLarge { limit: 1 }.is_transient());
        assert!(refused(413, Code::Unknown).is_too_large());
        assert!(!refused(400, Code::ResourceExhausted).is_too_large());
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let mut error = refused(503, Code::Unavailable);
        assert_eq!(error.to_string(), "the forge says unavailable (HTTP 503)");
        if let Error::Refused { message, .. } = &mut error {
            "in maintenance".clone_into(message);
        }
        assert_eq!(error.to_string(), "the forge says unavailable (HTTP 503): in maintenance");
    }
}
