//! What a document may not be.
//!
//! Purpose: the limits of foreign documents and the one error of the parsers. Owner: the parsers.

use crate::Diagnostic;

/// Caps on a document; each is checked before the memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Maps and lists within each other.
    pub depth: usize,
    /// Nodes after every alias was copied.
    pub nodes: usize,
    /// Bytes of scalar text after every alias was copied.
    pub expanded: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 1 << 20, depth: 64, nodes: 100_000, expanded: 8 << 20 }
    }
}

/// A document that could not be read: what a person should be told, never empty.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .diagnostics.first().map(ToString::to_string).unwrap_or_default())]
pub struct Error {
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error { diagnostics: vec![diagnostic] }
    }
}
