//! The byte stream to the host: a virtio port, or connections to a listening socket.
//!
//! Purpose: tells when the host has come, is gone, or has come anew; reads and writes without blocking.
//! Owner: the loop, which attaches its mux whenever it is told `Opened`.
//!
//! ```text
//!              the host connects
//!   Waiting ────────────────────────▶ Open ──┐ socket only: another connection, the newest wins
//!      ▲      the host is gone, or reset │ ◀─┘
//!      └─────────────────────────────────┘
//! ```
//!
//! A port is closed and opened again when the host is gone, so that the kernel drops what is left of it.

use std::{
    fs, io,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::poller::{Interest, Poller, Token};

/// Name of the port, as the host gives it.
const PORT: &str = "ampoule.agent";

/// What [`Link::ready`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing but bytes, perhaps.
    None,
    /// A host has come; what was open before is gone.
    Opened,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// That many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The host is gone.
    Gone,
}

/// The byte stream to the host.
#[derive(Debug)]
pub(crate) enum Link {
    /// A port of virtio-serial.
    Port { path: PathBuf, port: OwnedFd, open: bool },
    /// Connections to a socket.
    Socket { listener: UnixListener, stream: Option<UnixStream> },
}

impl Link {
    /// The port of the agent; `None` while the kernel does not know it.
    pub(crate) fn find_port(poller: &Poller) -> io::Result<Option<Self>> {
        let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
        for port in ports {
            let port = port?;
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                let path = Path::new("/dev").join(port.file_name());
                let port = match open_port(&path) {
                    // It has a name before it can be opened.
                    Err(Errno::NXIO | Errno::NOENT | Errno::BUSY) => return Ok(None),
                    other => other?,
                };
                poller.add(&port, Token::LINK, Interest::Edges)?;
                return Ok(Some(Self::Port { path, port, open: false }));
            }
        }
        Ok(None)
    }

    /// Connections to a listening socket.
    pub(crate) fn listen(listener: UnixListener, poller: &Poller) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poller.add(&listener, Token::LISTENER, Interest::Read)?;
        Ok(Self::Socket { listener, stream: None })
    }

    /// Whether a host is there.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Port { open, .. } => *open,
            Self::Socket { stream, .. } => stream.is_some(),
        }
    }

    /// To be called when the poller names it, and now and then while it is not open.
    pub(crate) fn ready(&mut self, poller: &Poller) -> io::Result<Change> {
        match self {
            Self::Port { port, open, .. } => {
                if *open || !host_is_there(port)? {
                    return Ok(Change::None);
                }
                *open = true;
                Ok(Change::Opened)
            }
            Self::Socket { listener, stream } => {
                let mut change = Change::None;
                loop {
                    match listener.accept() {
                        Ok((newest, _)) => {
                            newest.set_nonblocking(true)?;
                            poller.add(&newest, Token::LINK, Interest::Edges)?;
                            *stream = Some(newest);
                            change = Change::Opened;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(change),
                        Err(error)
                            if matches!(
                                error.kind(),
                                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                            ) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Gives up the connection, whether the host is gone or has gone mad.
    pub(crate) fn close(&mut self, poller: &Poller) -> io::Result<()> {
        match self {
            Self::Port { path, port, open } => {
                *open = false;
                // Closed first: a port can be open once only.
                *port = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                *port = open_port(path)?;
                poller.add(&*port, Token::LINK, Interest::Edges)
            }
            Self::Socket { stream, .. } => {
                *stream = None;
                Ok(())
            }
        }
    }

    /// Reads without blocking.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        loop {
            let outcome = match self {
                Self::Port { port, .. } => {
                    rustix::io::read(port.as_fd(), &mut *buffer).map_err(io::Error::from)
                }
                Self::Socket { stream: Some(stream), .. } => stream.read(buffer),
                Self::Socket { stream: None, .. } => return Ok(Taken::Gone),
            };
            return match outcome {
                Ok(0) => Ok(Taken::Gone),
                Ok(count) => Ok(Taken::Bytes(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => Ok(Taken::Nothing),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(Taken::Gone),
                    _ => Err(error),
                },
            };
        }
    }

    /// Writes without blocking.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Taken> {
        loop {
            let outcome = match self {
                Self::Port { port, .. } => rustix::io::write(port.as_fd(), bytes).map_err(io::Error::from),
                Self::Socket { stream: Some(stream), .. } => stream.write(bytes),
                Self::Socket { stream: None, .. } => return Ok(Taken::Gone),
            };
            return match outcome {
                Ok(count) => Ok(Taken::Bytes(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => Ok(Taken::Nothing),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(Taken::Gone),
                    _ => Err(error),
                },
            };
        }
    }
}

fn open_port(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// A port without a host is hung up.
fn host_is_there(port: &OwnedFd) -> io::Result<bool> {
    let mut ports = [PollFd::new(port, PollFlags::IN)];
    match poll(&mut ports, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => Ok(!ports.iter().any(|port| port.revents().contains(PollFlags::HUP))),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
