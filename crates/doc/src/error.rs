//! What a document may not be.
//!
//! Purpose: the limits of foreign documents and the one error of the parsers. Owner: the parsers.

use crate::{Diagnostic, Node};

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

impl Limits {
    /// Refuses a document of so many bytes. A caller may have read no more than one byte beyond the limit,
    /// so the message names the limit and not the size.
    pub(crate) fn check_bytes(&self, name: &str, bytes: usize) -> Result<(), Box<Diagnostic>> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let limit = match self.bytes {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{} MiB ({bytes} bytes)", bytes >> 20),
            bytes => format!("{bytes} bytes"),
        };
        let fault = Diagnostic::error(format!("`{name}` is larger than {limit}")).help("split the file");
        Err(Box::new(fault))
    }
}

/// A document that could not be read: what a person should be told, never empty.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .diagnostics.first().map(ToString::to_string).unwrap_or_default())]
pub struct Error {
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The document as it is where nothing else is wrong than keys that are there twice: with the first of each. A
    /// linter can go on with it, nobody else should.
    pub first_of_each: Option<Box<Node>>,
}

impl From<Box<Diagnostic>> for Error {
    fn from(diagnostic: Box<Diagnostic>) -> Error {
        Error::from(*diagnostic)
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error { diagnostics: vec![diagnostic], first_of_each: None }
    }
}
