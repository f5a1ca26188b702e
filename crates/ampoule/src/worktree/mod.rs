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

use crate::exec::find::DIRECTORIES;

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
    known: Known,
    /// What the user should know about how the tree is taken.
    notices: Vec<String>,
}

/// What git knows of a tree.
#[derive(Debug)]
enum Known {
    /// It is a repository.
    Whole(Git, GitDir),
    /// It is a directory of a repository: git says which files are ignored, and `.git` stays where it is.
    Part(Git),
    /// Nothing.
    Not,
}

impl WorkTree {
    /// Finds the repository that `directory` lies in; without one, the directory itself is the tree. So it
    /// is too when it has workflows of its own: an example, or a project kept within a repository.
    pub fn find(directory: &Path) -> Result<Self, Error> {
        let directory = fs::canonicalize(directory)
            .map_err(|source| Error::Directory { path: directory.to_owned(), source })?;
        if !directory.is_dir() {
            return Err(Error::Directory {
                path: directory,
                source: io::Error::from(io::ErrorKind::NotADirectory),
            });
        }
        let own = DIRECTORIES.into_iter().any(|name| exists(&directory.join(name)));
        let Some(root) = directory.ancestors().find(|dir| exists(&dir.join(".git"))).map(Path::to_owned)
        else {
            return Ok(Self { root: directory, known: Known::Not, notices: Vec::new() });
        };
        let git_dir = GitDir::open(&root)?;
        let git = Git::new(&root, &git_dir);
        match git.run(&["rev-parse", "--git-dir"]) {
            Ok(_) if own && directory != root => {
                let git = git.at(&directory);
                // of a directory that is ignored as a whole nothing would be left
                let ignored = git.run(&["check-ignore", "--quiet", "."]).is_ok();
                let known = if ignored { Known::Not } else { Known::Part(git) };
                Ok(Self { root: directory, known, notices: Vec::new() })
            }
            Ok(_) => Ok(Self { root, known: Known::Whole(git, git_dir), notices: Vec::new() }),
            Err(Error::Start(source)) if source.kind() == io::ErrorKind::NotFound => {
                let root = if own { directory } else { root };
                let notices = vec![format!(
                    "git is not installed: {} is taken as it is, ignored files included and without its .git",
                    root.display()
                )];
                Ok(Self { root, known: Known::Not, notices })
            }
            Err(error) => Err(error),
        }
    }

    /// The top of the tree: what becomes the workspace.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the tree is a repository.
    #[must_use]
    pub fn has_git(&self) -> bool {
        self.git().is_some()
    }

    fn git(&self) -> Option<&Git> {
        match &self.known {
            Known::Whole(git, _) => Some(git),
            Known::Part(_) | Known::Not => None,
        }
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
        let git = self.git()?;
        let sha = git.line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).ok()?;
        sha.bytes().all(|b| b.is_ascii_hexdigit()).then_some(sha).filter(|sha| !sha.is_empty())
    }

    /// The full name of the branch that is checked out (`refs/heads/…`), unless HEAD is detached.
    #[must_use]
    pub fn head_ref(&self) -> Option<String> {
        let git = self.git()?;
        git.line(&["symbolic-ref", "--quiet", "HEAD"]).ok().filter(|name| name.starts_with("refs/"))
    }

    /// Writes the tree as a tar stream; entries are relative to the root, in the order of their names.
    pub fn write_tar(&self, out: &mut dyn io::Write) -> Result<Packed, Error> {
        let entries = match &self.known {
            Known::Whole(git, dir) => list::repository(&self.root, git, dir)?,
            Known::Part(git) => list::part(&self.root, git)?,
            Known::Not => list::directory(&self.root)?,
        };
        pack::write(&entries, out)
    }

    fn origin(&self) -> Option<String> {
        let git = self.git()?;
        git.line(&["config", "--no-includes", "--get", "remote.origin.url"])
            .ok()
            .filter(|url| !url.is_empty())
    }

    fn local_name(&self) -> String {
        let name = self.root.file_name().map(OsString::from).unwrap_or_default();
        format!("local/{}", url::path_segment(&name.to_string_lossy()))
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries of the stream.
    pub entries: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// What no archive can hold, each as a phrase: "`run/socket` is a socket".
    pub left_out: Vec<String>,
}
