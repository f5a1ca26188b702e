//! The repository's files, as the caller of [`crate::run`] can give them.
//!
//! Purpose: one trait for what a checkout is satisfied from: a working tree of this machine, a commit that
//! the runner fetched.
//! Owner: the caller implements it; `job` asks for an archive each time it needs one.

use std::fmt;

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;

/// A tar archive of files, relative to the root of the repository. An error of reading it fails the job.
pub type Archive = Box<dyn AsyncRead + Send + Unpin>;

/// Files of the job's own repository.
pub trait WorkingTree: Send + Sync {
    /// What it is, for a row of the log: `the working tree of /home/me/project`. No secrets.
    fn describe(&self) -> String;

    /// A new archive of what is wanted. It is read once, to its end or not; one job may want several.
    fn archive<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Archive, TreeError>>;

    /// What the last archive left out, once it was read to its end, for rows of the log: each a phrase such
    /// as "`run/socket` is a socket". No secrets.
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What of the repository is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `ref` of a checkout step: a branch, tag or commit. `None`: what the job runs for.
    pub reference: Option<String>,
}

/// Why there is no archive. Infrastructure, unless the text says that what was wanted is not there.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// This tree has no such branch, tag or commit, or cannot go to it: the step fails.
    #[error("{0}")]
    NotThere(String),
    /// The files could not be read.
    #[error("the working tree cannot be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The name of a repository, `owner/name`; each part fits into a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    text: String,
}

/// A text that names no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a repository, `owner/name`: {0:?}")]
pub struct BadRepository(String);

impl Repository {
    /// Parses `owner/name`.
    ///
    /// # Errors
    /// Another number of parts, or a part that no directory can have as its name.
    pub fn parse(text: &str) -> Result<Self, BadRepository> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= 255
                && part != "."
                && part != ".."
                && !part.contains(char::is_control)
        };
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [owner, name] if good(owner) && good(name) => Ok(Self { text: text.to_owned() }),
            _ => Err(BadRepository(text.to_owned())),
        }
    }

    /// `owner/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the slash.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.text.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_fits_into_a_path() {
        assert_eq!(Repository::parse("me/a project").unwrap().owner(), "me");
        for bad in ["", "x", "/x", "x/", "../x", "x/..", "a/b/c", "a/b\n", "./x"] {
            assert!(Repository::parse(bad).is_err(), "{bad:?}");
        }
    }
}
