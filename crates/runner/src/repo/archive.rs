//! A commit of the cache as the tar stream that fills a workspace: its files, and a `.git` that knows this commit.
//!
//! Purpose: `git status`, `git log -1` and `git push` work in the VM. Owner: one thread and one git per stream;
//! both end when the reader is gone. Invariant: the `.git` holds no token, no hook and nothing of other commits.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::Stdio,
};

use job::Archive;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::SyncIoBridge;

use super::{
    Place, empty_home,
    git::{Commit, Git, GitError, bare_command, said},
};

/// Bytes of a stream under way.
const PIPE: usize = 256 << 10;

pub(super) async fn of(git: &Git, commit: Commit, place: &Place, url: &str) -> Result<Archive, GitError> {
    let failed = |source| GitError::Cache { path: git.dir().to_owned(), source };
    let scratch = tempfile::Builder::new().prefix("tree-").tempdir_in(git.dir()).map_err(failed)?;
    metadata(git, &commit, place, url, scratch.path()).await?;
    let mut files = git.command(["archive", "--format=tar"]);
    files
        .arg(&commit.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // a pipe of the standard library: it is read by a thread
    let mut files = files.into_std();
    let mut files = files.spawn().map_err(GitError::Start)?;
    let (reader, writer) = tokio::io::duplex(PIPE);
    let packing = tokio::task::spawn_blocking(move || {
        let written = pack(scratch.path(), &mut files, SyncIoBridge::new(writer));
        if written.is_err() {
            let _ = files.kill();
        }
        let ended = files.wait();
        drop(scratch);
        written.and_then(|()| match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(io::Error::other(format!("git archive ended with {status}"))),
            Err(error) => Err(error),
        })
    });
    Ok(Box::new(Checked { reader, packing: Some(packing) }))
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
            format!("+{}:refs/ampoule/fetched", commit.0),
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
        let output = git.run(command, "of a copy", std::time::Duration::from_secs(300)).await?;
        if !output.status.success() {
            return Err(GitError::Failed { doing: "of a copy", said: said(&output.stderr) });
        }
    }
    let failed = |source| GitError::Cache { path: dir.to_owned(), source };
    let dot = dir.join(".git");
    fs::write(dot.join("HEAD"), head).map_err(failed)?;
    if place.branch.is_none() {
        // HEAD keeps it
        fs::write(dot.join("shallow"), format!("{}\n", commit.0)).map_err(failed)?;
    }
    for part in ["hooks", "description", "branches", "FETCH_HEAD", "logs"] {
        let path = dot.join(part);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    debug_assert!(empty_home(&cache).is_absolute());
    Ok(())
}

/// Writes `.git` and then the files, as one archive.
fn pack(dir: &Path, files: &mut std::process::Child, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, out));
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
    let mut rest = Vec::new();
    if let Some(mut stderr) = files.stderr.take() {
        stderr.by_ref().take(4096).read_to_end(&mut rest)?;
    }
    if !rest.is_empty() {
        tracing::debug!(said = %said(&rest), "git archive");
    }
    tar.into_inner()?.flush()
}

/// The stream; its end is an error if packing was one, so that half a tree is never taken for a whole one.
struct Checked {
    reader: tokio::io::DuplexStream,
    packing: Option<tokio::task::JoinHandle<io::Result<()>>>,
}

impl AsyncRead for Checked {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        use std::{pin::Pin, task::Poll};
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.reader).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(packing) = &mut self.packing else { return Poll::Ready(Ok(())) };
        let result = std::task::ready!(Pin::new(packing).poll(cx));
        self.packing = None;
        Poll::Ready(result.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}
