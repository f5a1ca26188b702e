//! The working tree of a local run: what of the user's directory travels into a VM.
//!
//! Purpose: the files as they are on disk, uncommitted changes included and ignored files left out, with
//! a `.git` that works and holds no credential.
//! Owner: `exec` finds the repository once; each job takes a tar stream of its own.
//!
//! Invariants
//! - The repository is hostile: git runs with its hooks, monitors, transports and `core.worktree` switched
//!   off; no symbolic link is followed, on the way to a file or at its end; of a git directory only files
//!   of known names are read.
//! - `.git/config` is written anew from a list of harmless keys; URLs lose user information and queries.
//! - Nothing is written on the host.

mod config;
mod git;
mod gitdir;
mod list;
mod pack;
#[cfg(test)]
mod tests;
mod url;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

pub use git::Git;
pub use gitdir::GitDir;

/// Why the working tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error("the directory {} cannot be read", path.display())]
    Directory {
        /// It.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file or directory of it cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// It.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// `.git` is a file or a directory that git itself would not take, or that points where it must not.
    #[error("{} is not a usable git directory: {reason}", path.display())]
    GitDir {
        /// The `.git`.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// git failed.
    #[error("`git {command}` failed in {}: {message}", root.display())]
    Git {
        /// Its first argument.
        command: String,
        /// The repository.
        root: PathBuf,
        /// The last of what it wrote to standard error.
        message: String,
    },
    /// git could not be started.
    #[error("git cannot be started")]
    Start(#[source] io::Error),
    /// Repositories inside repositories, too deep.
    #[error("{} lies more than {limit} repositories deep", path.display())]
    TooDeep {
        /// Where it was given up.
        path: PathBuf,
        /// How deep is allowed.
        limit: usize,
    },
    /// The reader of the stream is gone, or the stream could not be written.
    #[error("the stream of the working tree broke off")]
    Write(#[source] io::Error),
}

/// A directory of the user, looked at once.
#[derive(Debug)]
pub struct WorkTree {
    root: PathBuf,
    git: Option<(Git, GitDir)>,
    /// What the user should know about how the tree is taken.
    notices: Vec<String>,
}

impl WorkTree {
    /// Finds the repository that `directory` lies in; without one, the directory itself is the tree.
    pub fn find(directory: &Path) -> Result<Self, Error> {
        let directory = fs::canonicalize(directory)
            .map_err(|source| Error::Directory { path: directory.to_owned(), source })?;
        if !directory.is_dir() {
            return Err(Error::Directory {
                path: directory,
                source: io::Error::from(io::ErrorKind::NotADirectory),
            });
        }
        let Some(root) = directory.ancestors().find(|d| fs::symlink_metadata(d.join(".git")).is_ok()) else {
            return Ok(Self { root: directory, git: None, notices: Vec::new() });
        };
        let root = root.to_owned();
        let git_dir = GitDir::open(&root)?;
        let git = Git::new(&root, &git_dir);
        match git.run(&["rev-parse", "--git-dir"]) {
            Ok(_) => Ok(Self { root, git: Some((git, git_dir)), notices: Vec::new() }),
            Err(Error::Start(source)) if source.kind() == io::ErrorKind::NotFound => Ok(Self {
                notices: vec![format!(
                    "git is not installed: {} is taken as it is, ignored files included and without its .git",
                    root.display()
                )],
                root,
                git: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// The top of the tree: what becomes the workspace.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether git knows the tree.
    #[must_use]
    pub fn has_git(&self) -> bool {
        self.git.is_some()
    }

    /// What the user should be told.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// `owner/repo` of the remote `origin`, else `local/<directory>`.
    #[must_use]
    pub fn repository(&self) -> String {
        self.origin().and_then(|url| url::repository(&url)).unwrap_or_else(|| self.local_name())
    }

    /// The web address of the server of `origin`, without credentials.
    #[must_use]
    pub fn server_url(&self) -> Option<String> {
        self.origin().and_then(|url| url::server(&url))
    }

    /// The commit that is checked out, if there is one.
    #[must_use]
    pub fn head_sha(&self) -> Option<String> {
        let (git, _) = self.git.as_ref()?;
        let sha = git.line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).ok()?;
        sha.bytes().all(|b| b.is_ascii_hexdigit()).then_some(sha).filter(|sha| !sha.is_empty())
    }

    /// The full name of the branch that is checked out (`refs/heads/…`), unless HEAD is detached.
    #[must_use]
    pub fn head_ref(&self) -> Option<String> {
        let (git, _) = self.git.as_ref()?;
        git.line(&["symbolic-ref", "--quiet", "HEAD"]).ok().filter(|name| name.starts_with("refs/"))
    }

    /// Writes the tree as a tar stream; entries are relative to the root, in the order of their names.
    pub fn write_tar(&self, out: &mut dyn io::Write) -> Result<Packed, Error> {
        let entries = list::entries(&self.root, self.git.as_ref().map(|(git, dir)| (git, dir)))?;
        pack::write(&entries, out)
    }

    fn origin(&self) -> Option<String> {
        let (git, _) = self.git.as_ref()?;
        git.line(&["config", "--no-includes", "--get", "remote.origin.url"])
            .ok()
            .filter(|url| !url.is_empty())
    }

    fn local_name(&self) -> String {
        let name = self.root.file_name().map(OsString::from).unwrap_or_default();
        format!("local/{}", url::path_segment(&name.to_string_lossy()))
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries of the stream.
    pub entries: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}
