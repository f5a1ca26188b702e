//! The job's repository: its commit is fetched by the host and given to the VM.
//!
//! Purpose: `actions/checkout` of the own repository works in a VM that has no network card and never sees how
//! the host fetched. Owner: one [`Repositories`] per runner; each job has a [`CommitTree`] of it.
//!
//! ```text
//!  instance ──git fetch, the task's token──▶ bare cache ──▶ archive: .git of one commit, its files ──▶ VM
//! ```
//! Invariants
//! - The token is in the environment of one git and in no argument, file or error text.
//! - Nothing of the repository is ever checked out, run or configured on the host: files go from git's objects
//!   into the stream.
//! - Two jobs of one repository fetch one after the other, also those of two runners with one state directory.

mod archive;
mod git;
mod scratch;

use std::path::{Path, PathBuf};

use job::{Archive, TreeError, Wanted, WorkingTree};
use sha2::{Digest, Sha256};

use self::git::Git;
use crate::task::Origin;

pub(crate) use self::git::GitError;

/// All repositories that jobs came from.
#[derive(Clone, Debug)]
pub(crate) struct Repositories {
    dir: PathBuf,
    trust: git::Trust,
}

impl Repositories {
    /// Kept below `dir`.
    pub(crate) fn new(dir: PathBuf, connection: &crate::config::Connection) -> Self {
        Self { dir, trust: git::Trust::of(connection) }
    }

    /// That of a job. `instance` is where this runner reaches the server.
    pub(crate) fn of(&self, origin: &Origin, instance: &str) -> CommitTree {
        let url = format!("{}/{}.git", instance.trim_end_matches('/'), origin.repository);
        let name: String =
            Sha256::digest(url.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let bare = self.dir.join(format!("{name}.git"));
        let git = Git::new(bare, url, self.trust.clone());
        CommitTree { origin: origin.clone(), git, work: self.dir.join("work") }
    }
}

/// The commits of one job's repository.
pub(crate) struct CommitTree {
    origin: Origin,
    git: Git,
    /// Where archives are made.
    work: PathBuf,
}

impl WorkingTree for CommitTree {
    fn describe(&self) -> String {
        let short: String = self.origin.sha.chars().take(10).collect();
        format!("{} at {short}", self.origin.repository)
    }

    fn archive<'a>(
        &'a self,
        wanted: &'a Wanted,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Archive, TreeError>> + Send + 'a>> {
        Box::pin(async move {
            let failed = |error: GitError| match error {
                GitError::NotThere { .. } => TreeError::NotThere(error.to_string()),
                other => TreeError::Read(Box::new(other)),
            };
            let place = Place::of(&self.origin, wanted.reference.as_deref())?;
            let fetched = self.git.fetch(&place, self.origin.token.as_ref()).await.map_err(failed)?;
            let public = format!("{}/{}.git", self.origin.server, self.origin.repository);
            archive::of(&self.git, &self.work, fetched, &place, &public).await.map_err(failed)
        })
    }
}

/// What is fetched: a name or a commit that the server is asked for, and where HEAD stands then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A full reference, or a commit.
    what: String,
    /// A reference that has the commit, for servers that give no bare commits.
    within: Option<String>,
    /// The branch that HEAD is on; detached without.
    branch: Option<String>,
}

impl Place {
    /// The place of a checkout. Without a `ref` it is the commit that the job runs for.
    fn of(origin: &Origin, reference: Option<&str>) -> Result<Self, TreeError> {
        let own = |within: &str| Self {
            what: origin.sha.clone(),
            within: git::is_reference(within).then(|| within.to_owned()),
            branch: within.strip_prefix("refs/heads/").map(str::to_owned),
        };
        let Some(reference) = reference.filter(|reference| !reference.is_empty()) else {
            if !git::is_commit(&origin.sha) {
                return Err(TreeError::NotThere(format!("the task names no commit: {:?}", origin.sha)));
            }
            return Ok(own(&origin.reference));
        };
        if git::is_commit(reference) {
            return Ok(Self { what: reference.to_ascii_lowercase(), within: None, branch: None });
        }
        if !git::is_reference(reference) {
            return Err(TreeError::NotThere(format!("`ref: {reference}` names no branch, tag or commit")));
        }
        // the branch that the job runs for stands where the job does, whatever came after
        let short =
            origin.reference.strip_prefix("refs/heads/").or(origin.reference.strip_prefix("refs/tags/"));
        if reference == origin.reference || Some(reference) == short {
            return Ok(own(&origin.reference));
        }
        let branch =
            reference.strip_prefix("refs/heads/").or((!reference.starts_with("refs/")).then_some(reference));
        Ok(Self { what: reference.to_owned(), within: None, branch: branch.map(str::to_owned) })
    }
}

/// A home for git that holds nothing of the user's.
fn empty_home(bare: &Path) -> PathBuf {
    bare.join("no-home")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(reference: &str) -> Origin {
        Origin {
            server: "http://h".to_owned(),
            repository: "o/r".to_owned(),
            sha: "a".repeat(40),
            reference: reference.to_owned(),
            token: None,
        }
    }

    #[test]
    fn a_checkout_without_ref_is_the_commit_of_the_job() {
        let place = Place::of(&origin("refs/heads/side/way"), None).unwrap();
        assert_eq!(place.what, "a".repeat(40));
        assert_eq!(place.branch.as_deref(), Some("side/way"));
        assert_eq!(Place::of(&origin("refs/heads/side/way"), Some("side/way")).unwrap(), place);
        let pull = Place::of(&origin("refs/pull/3/head"), None).unwrap();
        assert_eq!((pull.within.as_deref(), pull.branch), (Some("refs/pull/3/head"), None));
        let other = Place::of(&origin("refs/heads/main"), Some("v1")).unwrap();
        assert_eq!((other.what.as_str(), other.branch.as_deref()), ("v1", Some("v1")));
    }

    #[test]
    fn what_could_be_an_option_or_a_pattern_is_no_reference() {
        for bad in
            ["--upload-pack=x", "-x", "a b", "a..b", "a:b", "*", "a\nb", "/a", "a/", "a.lock", "@{0}", "a~1"]
        {
            assert!(Place::of(&origin("refs/heads/main"), Some(bad)).is_err(), "{bad:?}");
        }
        let mut nothing = origin("refs/heads/main");
        nothing.sha = "HEAD".to_owned();
        assert!(Place::of(&nothing, None).is_err());
    }
}
