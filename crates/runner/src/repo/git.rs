//! The git program, for fetching into a bare cache and reading from it.
//!
//! Invariants: no configuration, hook, filter or credential helper of the host or of the repository is used;
//! only http and https are spoken; time and output are capped; errors never hold the token.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;

use super::{Place, empty_home, scratch::lock_file};

/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(600);
/// How long everything else may take.
const LOCAL: Duration = Duration::from_secs(120);

/// Why a commit cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// Git cannot be run.
    #[error("git cannot be run; is it installed?")]
    Start(#[source] io::Error),
    /// The repository has no such thing, or the job may not see it.
    #[error("{repository} has no `{what}`, or the job's token may not see it: {said}")]
    NotThere {
        /// The repository's URL.
        repository: String,
        /// What was wanted.
        what: String,
        /// What git said.
        said: String,
    },
    /// Git failed.
    #[error("git {doing} failed: {said}")]
    Failed {
        /// What it was to do.
        doing: &'static str,
        /// What it said.
        said: String,
    },
    /// It took too long.
    #[error("git {doing} took longer than {} s", limit.as_secs())]
    TooLong {
        /// What it was to do.
        doing: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The cache cannot be used.
    #[error("the cache of repositories {} cannot be used", path.display())]
    Cache {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Which servers are believed.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    ca_file: Option<PathBuf>,
    certificates: forgejo::Certificates,
}

impl Trust {
    pub(super) fn of(connection: &crate::config::Connection) -> Self {
        Self { ca_file: connection.ca_file.clone(), certificates: connection.certificates }
    }
}

/// One repository's cache.
#[derive(Clone, Debug)]
pub(super) struct Git {
    bare: PathBuf,
    url: String,
    trust: Trust,
}

/// A commit that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit(pub(super) String);

/// Whether a text is a commit's full name.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text can be the name of a reference, and nothing that git would read as more (its own rules,
/// git-check-ref-format(1)).
pub(super) fn is_reference(text: &str) -> bool {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    !text.is_empty()
        && text.len() <= 1024
        && text != "@"
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains(forbidden)
        && !["..", "//", "@{"].iter().any(|part| text.contains(part))
        && !text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"))
}

impl Git {
    pub(super) fn new(bare: PathBuf, url: String, trust: Trust) -> Self {
        Self { bare, url, trust }
    }

    /// Brings a commit into the cache, unless it is there.
    pub(super) async fn fetch(
        &self,
        place: &Place,
        token: Option<&SecretString>,
    ) -> Result<Commit, GitError> {
        let _alone = self.alone().await?;
        self.prepare().await?;
        if is_commit(&place.what) && self.has(&place.what).await? {
            return Ok(Commit(place.what.clone()));
        }
        let mut said = match self.fetch_one(&place.what, token).await? {
            Ok(commit) => return Ok(commit),
            Err(said) => said,
        };
        if let Some(within) = &place.within {
            match self.fetch_one(within, token).await? {
                // what came is only good if the commit is in it
                Ok(_) if self.has(&place.what).await? => return Ok(Commit(place.what.clone())),
                Ok(_) => {}
                Err(other) => said = other,
            }
        }
        Err(GitError::NotThere { repository: self.url.clone(), what: place.what.clone(), said })
    }

    /// Fetches one thing; what git said if the server did not give it.
    async fn fetch_one(
        &self,
        what: &str,
        token: Option<&SecretString>,
    ) -> Result<Result<Commit, String>, GitError> {
        let mut git = self.command(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1"]);
        // a name of our own keeps it from being collected and gives the commit's name
        let kept = "refs/ampoule/last";
        git.arg(&self.url).arg(format!("+{what}:{kept}"));
        if let Some(token) = token {
            let basic = BASE64_STANDARD.encode(format!("ampoule:{}", token.expose_secret()));
            git.env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", self.url))
                .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"));
        }
        let output = self.run(git, "fetch", FETCH).await?;
        if !output.status.success() {
            return Ok(Err(self.said(&output)));
        }
        let commit = self.ask(["rev-parse", "--verify", "--quiet", &format!("{kept}^{{commit}}")]).await?;
        Ok(Ok(Commit(commit)))
    }

    /// Waits until nobody else fetches into this cache, of this process or another.
    async fn alone(&self) -> Result<File, GitError> {
        let failed = |source| GitError::Cache { path: self.bare.clone(), source };
        let path = self.bare.with_extension("lock");
        let locked = tokio::task::spawn_blocking(move || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let file = lock_file(&path)?;
            file.lock().map(|()| file)
        });
        locked.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
    }

    async fn prepare(&self) -> Result<(), GitError> {
        let failed = |source| GitError::Cache { path: self.bare.clone(), source };
        if tokio::fs::try_exists(self.bare.join("HEAD")).await.map_err(failed)? {
            return Ok(());
        }
        tokio::fs::create_dir_all(&self.bare).await.map_err(failed)?;
        tokio::fs::create_dir_all(empty_home(&self.bare)).await.map_err(failed)?;
        let output = self.run(self.command(["init", "--quiet", "--bare", "."]), "init", LOCAL).await?;
        if !output.status.success() {
            return Err(GitError::Failed { doing: "init", said: self.said(&output) });
        }
        // attributes of the tree must not leave files out of an archive or write into them
        tokio::fs::create_dir_all(self.bare.join("info")).await.map_err(failed)?;
        let attributes = "* -export-ignore -export-subst -filter -text -ident -working-tree-encoding\n";
        tokio::fs::write(self.bare.join("info/attributes"), attributes).await.map_err(failed)
    }

    async fn has(&self, commit: &str) -> Result<bool, GitError> {
        let git = self.command(["cat-file", "-e", &format!("{commit}^{{tree}}")]);
        Ok(self.run(git, "cat-file", LOCAL).await?.status.success())
    }

    /// What a command prints, without the line feed.
    async fn ask<const N: usize>(&self, args: [&str; N]) -> Result<String, GitError> {
        let output = self.run(self.command(args), "rev-parse", LOCAL).await?;
        if !output.status.success() {
            return Err(GitError::Failed { doing: "rev-parse", said: self.said(&output) });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A call of git in the cache, with nothing of the user's or the host's around it.
    pub(super) fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut git = bare_command(&self.bare);
        git.current_dir(&self.bare).env("GIT_DIR", &self.bare).args(args);
        git.env("GIT_ALLOW_PROTOCOL", "http:https");
        if let Some(file) = &self.trust.ca_file {
            git.env("GIT_SSL_CAINFO", file);
        }
        if self.trust.certificates == forgejo::Certificates::AcceptAny {
            git.env("GIT_SSL_NO_VERIFY", "true");
        }
        git
    }

    /// The cache's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.bare
    }

    pub(super) async fn run(
        &self,
        mut git: Command,
        doing: &'static str,
        limit: Duration,
    ) -> Result<Output, GitError> {
        git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        match tokio::time::timeout(limit, git.output()).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(GitError::Start(error)),
            Err(_) => Err(GitError::TooLong { doing, limit }),
        }
    }

    fn said(&self, output: &Output) -> String {
        said(&output.stderr)
    }
}

/// The last words of git, in one line.
pub(super) fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let words: Vec<&str> = text.split_whitespace().collect();
    let all = words.join(" ");
    let start = all.len().saturating_sub(500);
    all.get(all.ceil_char_boundary(start)..).unwrap_or_default().to_owned()
}

/// Git with an environment of its own.
pub(super) fn bare_command(home: &Path) -> Command {
    let mut git = Command::new("git");
    git.env_clear();
    for name in [
        "PATH",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        if let Some(value) = std::env::var_os(name) {
            git.env(name, value);
        }
    }
    git.env("HOME", empty_home(home))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null"))
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("LC_ALL", "C.UTF-8");
    for setting in ["core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0", "safe.directory=*"] {
        git.args(["-c", setting]);
    }
    git
}
