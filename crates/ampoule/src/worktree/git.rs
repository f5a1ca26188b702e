//! git as a program, run over a repository that may be hostile.
//!
//! Invariant: nothing that the repository's config names is executed, no transport is opened, nothing asks
//! the user, and the environment of a surrounding git (a hook that called us) is not seen.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Error, GitDir};

/// Settings that win over the repository's config.
const SAFE: [&str; 10] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.pager=cat",
    "core.untrackedCache=false",
    "credential.helper=",
    "protocol.allow=never",
    "gc.auto=0",
    "log.showSignature=false",
];

/// Most of standard error that an error carries.
const MESSAGE_MAX: usize = 2000;

/// git, bound to one working tree and its git directory.
#[derive(Clone, Debug)]
pub struct Git {
    root: PathBuf,
    /// Where commands run: they list what is below it, relative to it.
    at: PathBuf,
    git_dir: PathBuf,
}

impl Git {
    /// git for the tree at `root`; the directories are named on every call, so that neither discovery nor
    /// `core.worktree` can choose others.
    #[must_use]
    pub fn new(root: &Path, git_dir: &GitDir) -> Self {
        Self { root: root.to_owned(), at: root.to_owned(), git_dir: git_dir.dir().to_owned() }
    }

    /// The same, run in a directory of the tree.
    #[must_use]
    pub fn at(self, directory: &Path) -> Self {
        Self { at: directory.to_owned(), ..self }
    }

    /// Standard output of a command that has to succeed.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Vec<u8>, Error> {
        let output = self
            .command()
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .map_err(Error::Start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let skip = text.char_indices().rev().nth(MESSAGE_MAX).map_or(0, |(at, _)| at);
        let message = text.get(skip..).unwrap_or_default().trim();
        Err(Error::Git {
            command: args.first().map(|a| a.as_ref().to_string_lossy().into_owned()).unwrap_or_default(),
            root: self.root.clone(),
            message: if message.is_empty() { output.status.to_string() } else { message.to_owned() },
        })
    }

    /// The first line of what a command prints.
    pub fn line(&self, args: &[&str]) -> Result<String, Error> {
        let out = self.run(args)?;
        Ok(String::from_utf8_lossy(&out).lines().next().unwrap_or_default().to_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        for (name, _) in env::vars_os() {
            if is_foreign(&name) {
                command.env_remove(name);
            }
        }
        command
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.at);
        for setting in SAFE {
            command.arg("-c").arg(setting);
        }
        let mut git_dir = OsString::from("--git-dir=");
        git_dir.push(&self.git_dir);
        let mut tree = OsString::from("--work-tree=");
        tree.push(&self.root);
        command.arg("--no-pager").arg(git_dir).arg(tree);
        command
    }
}

/// Whether a variable would move git to another repository or add settings of a caller.
fn is_foreign(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("GIT_")
        && !matches!(&*name, "GIT_CONFIG_GLOBAL" | "GIT_CONFIG_SYSTEM" | "GIT_CONFIG_NOSYSTEM")
}
