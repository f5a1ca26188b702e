//! The socket of an engine: where it is, who may listen there, and who may connect.
//!
//! Purpose: one engine per socket. Owner: the engine process holds a [`Listening`] for its life.
//!
//! Invariants
//! - Beside the socket lies a lock, held by whoever listens: a socket without a holder is a dead engine's, and is
//!   replaced. Who only connects takes no lock.
//! - A path may be longer than an address of a socket can be: it is reached through its directory's descriptor.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use jail::{lock::Lock, short_path};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
    time::Timespec,
};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::error::EngineError;
use crate::{Result, identity::lock_failed};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long somebody who connects waits while that many do.
const BUSY: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(5);
/// Between two looks whether the other side is there.
const LOOK: Duration = Duration::from_millis(200);

/// A socket on which an engine can be served.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// None: it has no path.
    _lock: Option<Lock>,
    /// Device and inode of the socket; none where somebody else made it, and keeps it.
    made: Option<(u64, u64)>,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Socket { what, path, source }
}

/// The descriptor of a socket's directory, and the socket's short name, which is good as long as that.
fn reach(path: &Path) -> Result<(OwnedFd, PathBuf), EngineError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EngineError::Absent { path: path.to_owned() },
            _ => failed("open the directory of", path)(error),
        })?;
    let short = short_path(dir.as_fd(), name);
    Ok((dir, short))
}

/// What whoever listens at `path` holds; its name is no other socket's.
pub(super) fn lock_of(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    beside.into()
}

/// The right to listen at `path`.
fn alone(path: &Path) -> Result<Lock> {
    let beside = lock_of(path);
    let lock = Lock::try_take(&beside).map_err(|error| lock_failed(error, &beside))?;
    lock.ok_or_else(|| EngineError::Running { path: path.to_owned() }.into())
}

impl Listening {
    /// Listens at `path`, for this user alone. Blocks for a moment.
    ///
    /// # Errors
    /// [`EngineError::Running`] where an engine listens there; the socket cannot be made.
    pub fn at(path: &Path) -> Result<Self> {
        let lock = alone(path)?;
        let (_dir, short) = reach(path)?;
        // a service manager's, for an engine that it starts when somebody comes
        if std::os::unix::net::UnixStream::connect(&short).is_ok() {
            return Err(EngineError::Running { path: path.to_owned() }.into());
        }
        if fs::symlink_metadata(&short).is_ok_and(|found| !found.file_type().is_socket()) {
            let other = io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there");
            return Err(failed("listen at", path)(other).into());
        }
        match fs::remove_file(&short) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the socket of a dead engine,", path)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
        let listen = || -> io::Result<UnixListener> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // nobody can connect before it listens, and then its mode is set
            rustix::net::bind(&socket, &SocketAddrUnix::new(&short)?)?;
            fs::set_permissions(&short, fs::Permissions::from_mode(0o600))?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket.into())
        };
        let listener = listen().map_err(failed("listen at", path))?;
        let made = fs::symlink_metadata(&short).map_err(failed("look at", path))?;
        let made = Some((made.dev(), made.ino()));
        Ok(Self { listener, path: path.to_owned(), _lock: Some(lock), made })
    }

    /// Serves on a socket that listens already: a service manager's.
    ///
    /// # Errors
    /// It is no listening Unix stream socket.
    pub fn inherited(socket: OwnedFd) -> Result<Self> {
        let path = PathBuf::from("(inherited)");
        let check = || -> io::Result<()> {
            let is = rustix::net::sockopt::socket_domain(&socket)? == AddressFamily::UNIX
                && rustix::net::sockopt::socket_type(&socket)? == SocketType::STREAM
                && rustix::net::sockopt::socket_acceptconn(&socket)?;
            if is { Ok(()) } else { Err(io::Error::other("it is no Unix stream socket that listens")) }
        };
        check().map_err(failed("use the socket", &path))?;
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true).map_err(failed("use the socket", &path))?;
        let named = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        let lock = named.as_deref().map(alone).transpose()?;
        Ok(Self { listener, path: named.unwrap_or(path), _lock: lock, made: None })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(made) = self.made else { return };
        let Ok((_dir, short)) = reach(&self.path) else { return };
        // another one's is not ours to remove; the lock still keeps others from making one
        if fs::symlink_metadata(&short).is_ok_and(|now| (now.dev(), now.ino()) == made) {
            let _ = fs::remove_file(&short);
        }
    }
}

/// Connects to the engine at `path`, if it is one that may be trusted.
pub(super) async fn connect(path: &Path) -> Result<UnixStream> {
    let (_dir, short) = reach(path)?;
    let until = Instant::now() + BUSY;
    let stream = loop {
        match UnixStream::connect(&short).await {
            Ok(stream) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                sleep(AGAIN).await;
            }
            Err(error) => {
                use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
                // reset: whoever listened went before it took the connection
                let absent = matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset);
                let path = path.to_owned();
                return Err(if absent {
                    EngineError::Absent { path }.into()
                } else {
                    failed("connect to", &path)(error).into()
                });
            }
        }
    };
    let theirs = stream.peer_cred().map_err(failed("ask whose is", path))?.uid();
    let ours = rustix::process::geteuid().as_raw();
    if is_trusted_by(ours, theirs) {
        Ok(stream)
    } else {
        Err(EngineError::Stranger { path: path.to_owned(), theirs, ours }.into())
    }
}

/// Whether whoever connected may be served.
pub(super) fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    Ok(is_trusted_by(rustix::process::geteuid().as_raw(), stream.peer_cred()?.uid()))
}

/// Whether user `ours` serves user `theirs`, and tells it a job's secrets.
fn is_trusted_by(ours: u32, theirs: u32) -> bool {
    theirs == ours || theirs == 0
}

/// Waits until the other side has hung up, also while it is not read.
pub(super) async fn hung_up(stream: impl AsFd) {
    loop {
        let mut fds = [PollFd::new(&stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        {
            return;
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::is_trusted_by;

    #[test]
    fn a_user_trusts_itself_and_root_and_root_trusts_nobody_else() {
        for (ours, theirs, trusted) in
            [(1000, 1000, true), (1000, 0, true), (1000, 1001, false), (0, 0, true), (0, 1000, false)]
        {
            assert_eq!(is_trusted_by(ours, theirs), trusted, "{ours} {theirs}");
        }
        assert!(!is_trusted_by(1000, u32::MAX));
    }
}
