//! Files into a sandbox and out of it, as `cp` would copy them.
//!
//! Invariants
//! - What comes out of a sandbox is hostile: it is unpacked by `tree` alone, below a directory that the user named,
//!   and no name of it decides where. A single file is made beside its place and moved there when it is whole.
//! - The device, pipe or socket that a target may be is never replaced.

use std::{
    fs::{self, File, Metadata},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sandbox::{Account, FetchLimits, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};
use tokio_util::io::SyncIoBridge;

use super::place::Side;
use crate::class::{Class, Classed};

/// Most entries that are taken out of a sandbox.
const MOST_ENTRIES: u64 = 4_000_000;
/// Most names of what was left out that are told.
const MOST_NAMED: usize = 10;
/// What lies between the archive's writer and the link.
const AHEAD: usize = 256 << 10;

/// Why a copy is not there, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The sandbox could not do it, or it refused or was refused.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file or directory of this host.
    #[error("{} cannot be {what}", path.display())]
    Here {
        /// What was tried.
        what: &'static str,
        /// It.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What lies below a directory of this host.
    #[error("{} cannot be packed", path.display())]
    Pack {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: tree::Error,
    },
    /// A target of another kind.
    #[error("{} is {what}", path.display())]
    Kind {
        /// It.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// What a sandbox sent in place of a file.
    #[error("`{0}` of the sandbox is neither a file nor a directory")]
    NoFile(String),
    /// An archive on a terminal.
    #[error("standard output is a terminal, and an archive is nothing to show: lead it into a file")]
    Terminal,
    /// Standard output.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for CopyError {
    fn class(&self) -> Class {
        match self {
            Self::Sandbox(error) => error.class(),
            Self::Here { source, .. } if is_full(source) => Class::Infrastructure,
            Self::Here { .. } | Self::Kind { .. } | Self::NoFile(_) | Self::Terminal => Class::User,
            Self::Pack { source, .. } => source.class(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

type Result<T, E = CopyError> = std::result::Result<T, E>;

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn here(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Here { what, path, source }
}

/// Pipes, sockets and devices of this host that are in no archive.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// The first of them.
    named: Vec<PathBuf>,
    more: u64,
}

impl LeftOut {
    fn add(&mut self, path: PathBuf) {
        if self.named.len() < MOST_NAMED {
            self.named.push(path);
        } else {
            self.more += 1;
        }
    }

    /// What is to be said of them, if there are any.
    pub(super) fn told(&self) -> Option<String> {
        let named: Vec<_> = self.named.iter().map(|path| path.display().to_string()).collect();
        let more = if self.more > 0 { format!(" and {} more", self.more) } else { String::new() };
        let told = format!("pipes, sockets and devices are left out: {}{more}", named.join(", "));
        (!named.is_empty()).then_some(told)
    }
}

/// Copies into a sandbox; everything there belongs to root.
pub(super) async fn into(sandbox: &Sandbox, from: Side<'_>, path: &str) -> Result<LeftOut> {
    let local = match from {
        Side::Path(local) => local,
        Side::Stream => {
            sandbox.copy_in(path, Account::ROOT, tokio::io::stdin()).await?;
            return Ok(LeftOut::default());
        }
    };
    let found = fs::metadata(local).map_err(here("read", local))?;
    let name = local.file_name().map(|name| name.to_string_lossy().into_owned());
    if found.is_dir() {
        let dest = match name {
            Some(name) if !contents_only(local) && is_directory(sandbox, path).await? => below(path, &name),
            Some(_) | None => path.to_owned(),
        };
        let (root, shown) = (local.to_owned(), local.to_owned());
        return send(sandbox, &dest, move |out| {
            let mut left_out = LeftOut::default();
            match tree::pack_telling(&root, out, |path| left_out.add(shown.join(path))) {
                // whoever took it tells why
                Ok(_) | Err(tree::Error::Write(_)) => Ok(left_out),
                Err(source) => Err(CopyError::Pack { path: shown, source }),
            }
        })
        .await;
    }
    if !found.is_file() {
        return Err(CopyError::Kind { path: local.to_owned(), what: "neither a file nor a directory" });
    }
    let (dest, name) = match (split(path), name) {
        (_, Some(name)) if path.ends_with('/') || is_directory(sandbox, path).await? => (path, name),
        (Some((parent, name)), _) => (parent, name.to_owned()),
        (None, name) => (path, name.unwrap_or_default()),
    };
    let file = File::open(local).map_err(here("read", local))?;
    let shown = local.to_owned();
    send(sandbox, dest, move |out| {
        let ahead = if found.len() == 0 {
            tree::read_sizeless(&file).map_err(here("read", &shown))?
        } else {
            Vec::new()
        };
        // as `send` has it: whoever took it tells why it took no more
        let mut source = Source { file, failed: None };
        let written = archive(&ahead, &mut source, &found, &name, out);
        match (source.failed, written) {
            (Some(error), _) => Err(here("read", &shown)(error)),
            (None, _) => Ok(LeftOut::default()),
        }
    })
    .await
}

/// A file that tells its own errors from those of the writer.
struct Source {
    file: File,
    failed: Option<io::Error>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }
}

/// An archive of one file, which has the size that it had when it was looked at, or, where it said none, that of what
/// was read ahead.
fn archive(ahead: &[u8], file: &mut Source, found: &Metadata, name: &str, out: impl Write) -> io::Result<()> {
    let size = found.len().max(ahead.len() as u64);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(found.mode() & 0o777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or_default());
    header.set_size(size);
    let mut builder = tar::Builder::new(out);
    builder.append_data(&mut header, name, Read::chain(ahead, file).chain(io::repeat(0)).take(size))?;
    builder.into_inner()?.flush()
}

/// Sends what `pack` writes into a directory of a sandbox.
async fn send(
    sandbox: &Sandbox,
    dest: &str,
    pack: impl FnOnce(SyncIoBridge<tokio::io::DuplexStream>) -> Result<LeftOut> + Send + 'static,
) -> Result<LeftOut> {
    let (writer, reader) = tokio::io::duplex(AHEAD);
    let bridge = SyncIoBridge::new(writer);
    let packing = spawn_blocking(move || pack(bridge));
    let copied = sandbox.copy_in(dest, Account::ROOT, reader).await;
    // its error is the reason of the other's
    let left_out = packing.await.unwrap_or(Err(sandbox::Error::Lost.into()))?;
    copied?;
    Ok(left_out)
}

/// Copies out of a sandbox.
pub(super) async fn out(sandbox: &Sandbox, path: &str, to: Side<'_>, limit: u64) -> Result<()> {
    let to = match to {
        Side::Path(to) => to,
        Side::Stream => return stream(sandbox, path).await,
    };
    let there = fs::metadata(to).ok();
    let to_directory = there.as_ref().is_some_and(Metadata::is_dir);
    let name = Path::new(path).file_name();
    if is_directory(sandbox, path).await? {
        if there.is_some() && !to_directory {
            return Err(CopyError::Kind { path: to.to_owned(), what: "no directory" });
        }
        let dest = match name {
            Some(name) if to_directory && !contents_only(Path::new(path)) => to.join(name),
            Some(_) | None => to.to_owned(),
        };
        let limits = FetchLimits { entries: MOST_ENTRIES, bytes: limit };
        sandbox.fetch(path, &dest, limits).await?;
        return Ok(());
    }
    let target = match name {
        Some(name) if to_directory || to.as_os_str().as_encoded_bytes().ends_with(b"/") => to.join(name),
        Some(_) | None => to.to_owned(),
    };
    file(sandbox, path, &target, limit).await
}

/// Copies one file to its place.
async fn file(sandbox: &Sandbox, path: &str, target: &Path, limit: u64) -> Result<()> {
    let target = match fs::canonicalize(target) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => target.to_owned(),
        Err(error) => return Err(here("written", target)(error)),
    };
    match fs::symlink_metadata(&target) {
        Ok(found) if found.is_file() => {}
        Ok(found) => {
            let what = if found.is_dir() { "a directory" } else { "neither a file nor a directory" };
            return Err(CopyError::Kind { path: target, what });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(here("written", &target)(error)),
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // it need not be said of a name that nobody gave
    fs::metadata(parent).map_err(here("written", &target))?;
    let beside = tempfile::Builder::new()
        .prefix(".ampoule-cp-")
        .tempdir_in(parent)
        .map_err(|error| here("written", &target)(error.kind().into()))?;
    match sandbox.fetch(path, beside.path(), FetchLimits { entries: 1, bytes: limit }).await {
        Err(sandbox::Error::DiskFull { .. }) => return Err(sandbox::Error::DiskFull { path: target }.into()),
        fetched => fetched?,
    };
    let mut made = fs::read_dir(beside.path()).map_err(here("read", beside.path()))?;
    let made = made.next().transpose().map_err(here("read", beside.path()))?;
    // whatever it is called: its place has the name that the user gave
    let made = made.filter(|made| made.file_type().is_ok_and(|kind| kind.is_file()));
    let made = made.ok_or_else(|| CopyError::NoFile(path.to_owned()))?;
    fs::rename(made.path(), &target).map_err(here("written", &target))
}

/// Packs into standard output.
async fn stream(sandbox: &Sandbox, path: &str) -> Result<()> {
    if io::stdout().is_terminal() {
        return Err(CopyError::Terminal);
    }
    let mut archive = sandbox.copy_out(path).await?;
    let mut out = tokio::io::stdout();
    let mut buffer = vec![0; AHEAD];
    loop {
        let count = archive.read(&mut buffer).await.map_err(from_guest)?;
        if count == 0 {
            return out.flush().await.map_err(CopyError::Output);
        }
        out.write_all(buffer.get(..count).unwrap_or_default()).await.map_err(CopyError::Output)?;
    }
}

/// What the reader of an archive says of the guest.
fn from_guest(error: io::Error) -> CopyError {
    match error.downcast::<sandbox::Error>() {
        Ok(error) => error.into(),
        Err(error) => sandbox::Error::Tree(tree::Error::Read(error)).into(),
    }
}

/// Whether this is a directory of the guest. Nothing but a directory can be packed by this name.
async fn is_directory(sandbox: &Sandbox, path: &str) -> Result<bool> {
    let prefix = &sandbox.info().root_prefix;
    let mut archive = sandbox.copy_out(format!("{prefix}{}/.", path.trim_end_matches('/'))).await?;
    match archive.read(&mut [0]).await.map_err(from_guest) {
        Ok(_) => Ok(true),
        Err(CopyError::Sandbox(sandbox::Error::Guest { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether only what is in the directory is meant.
fn contents_only(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

fn below(path: &str, name: &str) -> String {
    format!("{}/{name}", path.trim_end_matches('/'))
}

/// The directory and the name of a path in a sandbox; none where it ends with no name.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    match name {
        "" | "." | ".." => None,
        name if parent.is_empty() => Some(("/", name)),
        name => Some((parent, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a"), Some(("/", "a")));
        for none in ["/", "/a/", "/a/.", "/a/.."] {
            assert_eq!(split(none), None, "{none}");
        }
        assert_eq!((below("/", "x"), below("/a/", "x")), ("/x".to_owned(), "/a/x".to_owned()));
        assert!(contents_only(Path::new("a/.")) && contents_only(Path::new(".")));
        assert!(!contents_only(Path::new("a/..")) && !contents_only(Path::new("a.")));
    }

    #[test]
    fn what_was_left_out_is_told_up_to_a_number() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.told(), None);
        left_out.add("d/p".into());
        left_out.add("d/q".into());
        assert_eq!(left_out.told().unwrap(), "pipes, sockets and devices are left out: d/p, d/q");
        (0..MOST_NAMED).for_each(|_| left_out.add("x".into()));
        assert!(left_out.told().unwrap().ends_with(", x and 2 more"));
    }

    #[test]
    fn a_file_that_shrinks_keeps_the_size_that_was_promised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        let found = fs::metadata(&path).unwrap();
        fs::write(&path, "012").unwrap();
        let mut out = Vec::new();
        let mut source = Source { file: File::open(&path).unwrap(), failed: None };
        archive(b"", &mut source, &found, "name", &mut out).unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        assert_eq!(
            (entry.path().unwrap().to_str(), text.as_slice()),
            (Some("name"), &b"012\0\0\0\0\0\0\0"[..])
        );
    }
}
