//! The namespaces that a build runs in, and the two programs that are joined by a pipe there.
//!
//! Root gets mount and PID namespaces; a plain user gets a user namespace around them, in which he is
//! root and his subordinate ids are everybody else, so that files of other users can be made. What is
//! mounted is seen by the build alone. PID 1 there is `scripts/enclosure.sh`: it ends when its standard
//! input does, and with it all processes and mounts.
//!
//! ```text
//!  owner ──stdin──▶ enclosure.sh (PID 1) ─▶ mmdebstrap ──tar──▶ mksquashfs ─▶ root.squashfs
//!    ▲                                          │ stderr
//!    └──────────────── log ◀────────────────────┘
//! ```

use std::{
    ffi::OsString,
    fs, io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    error::Doing as _,
    host::{is_root, mend_namespaces, search_path},
    log::Log,
    node::tail,
};

pub(crate) const ENCLOSURE: &str = include_str!("scripts/enclosure.sh");

/// Where the files of a build are while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// In memory, up to so many bytes.
    Memory(u64),
    /// In the build's directory.
    Disk,
}

impl Room {
    fn argument(self) -> String {
        match self {
            Room::Memory(bytes) => bytes.to_string(),
            Room::Disk => "disk".to_owned(),
        }
    }
}

/// What to run, where.
pub(crate) struct Job<'a> {
    /// The build's directory, with `in/`, `out/` and `tree/`.
    pub(crate) work: &'a Path,
    pub(crate) room: Room,
    pub(crate) mmdebstrap: Vec<OsString>,
    /// Where the programs are.
    pub(crate) path: String,
    pub(crate) env: Vec<(&'static str, String)>,
    /// The file that is made.
    pub(crate) root: &'a Path,
}

/// `unshare` with what this user needs.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--map-root-user", "--map-auto"]);
    }
    command
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .env("PATH", search_path())
        .kill_on_drop(true);
    command
}

/// Finds out whether namespaces can be had, before anything is fetched.
pub(crate) async fn probe() -> Result<()> {
    let output = unshare()
        .args(["--", "mount", "-t", "tmpfs", "probe", "/mnt"])
        .stdin(Stdio::null())
        .output()
        .await
        .doing("start unshare")?;
    if output.status.success() {
        return Ok(());
    }
    let said = tail(&output.stderr).lines().collect::<Vec<_>>().join("; ");
    Err(Error::Namespaces { said, mend: mend_namespaces() })
}

/// Removes a build's directory, also where its files belong to a plain user's subordinate ids.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if is_root() || fs::remove_dir_all(path).is_ok() {
        return match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--map-auto", "--", "rm", "-rf", "--one-file-system", "--"])
        .arg(path)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
}

/// Runs it to its end. On cancellation all of it is gone before this returns; when this future is
/// dropped, soon after.
pub(crate) async fn run(job: Job<'_>, log: &mut Log<'_>, cancel: &CancellationToken) -> Result<()> {
    let (tree, tar) = io::pipe().doing("make a pipe")?;
    let mut build = unshare()
        .args(["--", "/bin/sh"])
        .arg(job.work.join("enclosure.sh"))
        .arg(job.work)
        .arg(job.room.argument())
        .args(&job.mmdebstrap)
        .envs(job.env.iter().map(|(name, value)| (*name, value)))
        .env("PATH", &job.path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(tar)
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .doing("start the image build")?;
    let lines = build.stderr.take();
    let mut pack = pack(&job, tree)?;

    let finished = tokio::select! {
        finished = finish(&mut build, lines, &mut pack, log) => Some(finished),
        () = cancel.cancelled() => None,
    };
    match finished {
        Some(Ok((built, packed, said))) => outcome(job.room, built, packed, &said, log, job.work),
        Some(Err(source)) => {
            end(&mut build, &mut pack).await;
            Err(Error::Io { doing: "follow the image build", source })
        }
        None => {
            end(&mut build, &mut pack).await;
            Err(Error::Cancelled)
        }
    }
}

fn pack(job: &Job<'_>, tree: io::PipeReader) -> Result<Child> {
    Command::new("mksquashfs")
        .arg("-")
        .arg(job.root)
        .args(["-tar", "-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-quiet", "-no-progress"])
        // The archive has no entry for the root itself; without these it would be open to everybody.
        .args(["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0"])
        .envs(job.env.iter().map(|(name, value)| (*name, value)))
        .env("PATH", &job.path)
        .stdin(tree)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .doing("start mksquashfs")
}

type Finished = (ExitStatus, ExitStatus, Vec<u8>);

async fn finish(
    build: &mut Child,
    lines: Option<tokio::process::ChildStderr>,
    pack: &mut Child,
    log: &mut Log<'_>,
) -> io::Result<Finished> {
    let mut errors = pack.stderr.take();
    let follow = async {
        let Some(lines) = lines else { return Ok(()) };
        let mut lines = BufReader::new(lines);
        let mut line = Vec::new();
        // A line without end is cut; what it has beyond is another line.
        while (&mut lines).take(64 * 1024).read_until(b'\n', &mut line).await? > 0 {
            log.line(&line);
            line.clear();
        }
        Ok(())
    };
    let complaints = async {
        let mut said = Vec::new();
        if let Some(errors) = &mut errors {
            errors.take(1 << 20).read_to_end(&mut said).await?;
            tokio::io::copy(errors, &mut tokio::io::sink()).await?;
        }
        Ok::<_, io::Error>(said)
    };
    let ((), said) = tokio::try_join!(follow, complaints)?;
    // The build's standard input stays open until here: closing it would end the build. `wait` closes it.
    let packed = pack.wait().await?;
    let built = build.wait().await?;
    Ok((built, packed, said))
}

fn outcome(
    room: Room,
    built: ExitStatus,
    packed: ExitStatus,
    said: &[u8],
    log: &Log<'_>,
    work: &Path,
) -> Result<()> {
    let last = log.last();
    let pack_said = tail(said);
    let full = |text: &str| {
        ["No space left on device", "Disk quota exceeded", "You don't have enough free space"]
            .iter()
            .any(|words| text.contains(words))
    };
    if full(&pack_said) || (!built.success() && full(&last)) {
        tracing::debug!(?room, "no space left for the build");
        return Err(Error::Full { at: work.to_owned() });
    }
    if !built.success() {
        return Err(Error::Packages { hint: hint(&last), log: last });
    }
    if !packed.success() {
        return Err(Error::Pack { log: pack_said });
    }
    Ok(())
}

/// What is probably the matter, from apt's words.
fn hint(log: &str) -> Option<&'static str> {
    let has = |text: &str| log.contains(text);
    if has("NO_PUBKEY") || has("is not signed") || has("Missing key") {
        Some("this host's Debian keys are too old: upgrade the package debian-archive-keyring")
    } else if has("Unable to locate package") || has("has no installation candidate") {
        Some("the recipe names a package that this release does not have")
    } else if has("Could not resolve") || has("Temporary failure resolving") || has("Could not connect") {
        Some("the package mirror cannot be reached")
    } else {
        None
    }
}

/// Ends both programs: the build by the end of its input, after a while by force.
async fn end(build: &mut Child, pack: &mut Child) {
    drop(build.stdin.take());
    if tokio::time::timeout(Duration::from_secs(5), build.wait()).await.is_err() {
        // `--kill-child`: PID 1 of the namespace dies with unshare, and everything with PID 1.
        if let Err(error) = build.kill().await {
            tracing::warn!(%error, "could not end the image build");
        }
    }
    if let Err(error) = pack.kill().await {
        tracing::debug!(%error, "mksquashfs had ended");
    }
}

#[cfg(test)]
mod tests;
