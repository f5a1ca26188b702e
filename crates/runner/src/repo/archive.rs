//! A commit of the cache as the tar stream that fills a workspace: its files, and a `.git` that knows this commit.
//!
//! Purpose: `git status`, `git log -1` and `git push` work in the VM. Owner: one thread and one git per stream;
//! both end when the reader is gone. Invariant: the `.git` holds no token, no hook and nothing of other commits.

use std::{
    fs, io,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use job::{Archive, packed};

use super::{
    Place,
    git::{Commit, Git, GitError, bare_command, said},
    scratch::Scratch,
};

/// How long each step of making the `.git` may take.
const LIMIT: Duration = Duration::from_secs(300);
/// The reference that a copy is fetched by; it is gone when the copy is made.
const FETCHED: &str = "refs/ampoule/fetched";

pub(super) async fn of(
    git: &Git,
    work: &Path,
    commit: Commit,
    place: &Place,
    url: &str,
) -> Result<Archive, GitError> {
    let failed = |source| GitError::Cache { path: work.to_owned(), source };
    let below = work.to_owned();
    let scratch = tokio::task::spawn_blocking(move || Scratch::new(&below));
    let scratch = scratch.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    metadata(git, &commit, place, url, &scratch.path()).await?;
    let mut files = git.command(["archive", "--format=tar"]).into_std();
    // what it says of an error is less than how it ends, and nobody would read it meanwhile
    files.arg(&commit.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut files = files.spawn().map_err(GitError::Start)?;
    Ok(packed(move |out| {
        let written = pack(&scratch.path(), &mut files, out);
        if written.is_err() {
            // it may have ended by itself
            let _ = files.kill();
        }
        let ended = files.wait()?;
        written?;
        if ended.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("git archive ended with {ended}")))
        }
    }))
}

/// Makes a repository of one commit without its files.
async fn metadata(git: &Git, commit: &Commit, place: &Place, url: &str, dir: &Path) -> Result<(), GitError> {
    let head = match &place.branch {
        Some(branch) => format!("ref: refs/heads/{branch}\n"),
        None => format!("{}\n", commit.0),
    };
    let cache = git.dir().to_owned();
    let mut steps: Vec<Vec<String>> = vec![
        vec!["init".into(), "--quiet".into(), ".".into()],
        vec![
            "fetch".into(),
            "--quiet".into(),
            "--no-tags".into(),
            "--depth=1".into(),
            "--no-write-fetch-head".into(),
            format!("file://{}", cache.display()),
            format!("+{}:{FETCHED}", commit.0),
        ],
        vec!["read-tree".into(), commit.0.clone()],
        vec!["remote".into(), "add".into(), "origin".into(), url.to_owned()],
    ];
    if let Some(branch) = &place.branch {
        for name in [format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}")] {
            steps.push(vec!["update-ref".into(), name, commit.0.clone()]);
        }
    }
    for step in steps {
        let mut command = bare_command(&cache);
        command.current_dir(dir).env("GIT_ALLOW_PROTOCOL", "file").args(&step);
        // the cache lets a commit be asked for by its name
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "uploadpack.allowAnySHA1InWant").env("GIT_CONFIG_VALUE_0", "true");
        let output = git.run(command, "of a copy", LIMIT).await?;
        if !output.status.success() {
            return Err(GitError::Failed { doing: "of a copy", said: said(&output.stderr) });
        }
    }
    let failed = |source| GitError::Cache { path: dir.to_owned(), source };
    let dot = dir.join(".git");
    fs::write(dot.join("HEAD"), head).map_err(failed)?;
    // HEAD and its branch keep the commit; a reference of ours is nothing to the job
    fs::remove_dir_all(dot.join("refs/ampoule")).map_err(failed)?;
    for part in ["hooks", "description", "branches", "FETCH_HEAD", "logs"] {
        let path = dot.join(part);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes `.git` and then the files, as one archive.
fn pack(dir: &Path, files: &mut Child, out: &mut dyn io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    tar.follow_symlinks(false);
    tar.append_dir_all(".git", dir.join(".git"))?;
    let stdout = files.stdout.take().ok_or_else(|| io::Error::other("git has no output"))?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(64 << 10, stdout));
    for entry in archive.entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if matches!(kind, tar::EntryType::XGlobalHeader) {
            continue;
        }
        let path = entry.path()?.into_owned();
        // what a commit calls `.git` is no repository of ours
        if path.components().next().is_some_and(|first| first.as_os_str().eq_ignore_ascii_case(".git")) {
            continue;
        }
        let mut header = entry.header().clone();
        match entry.link_name()?.map(std::borrow::Cow::into_owned) {
            Some(target) if kind.is_symlink() => tar.append_link(&mut header, &path, &target)?,
            _ => tar.append_data(&mut header, &path, entry)?,
        }
    }
    tar.finish()
}
