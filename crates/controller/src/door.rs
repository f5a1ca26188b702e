//! How clients come in: by an address of this host, or by a stream that is made in this process.
//!
//! Purpose: a VM that has no way to an address of this host reaches the controller over its own link, as a service of
//! whoever leased it. Owner: whoever starts the controller makes both ends; the controller has the [`Door`].
//! Invariant: a connection that nobody accepts any more is refused, and none waits for a controller that has ended.

use std::{fmt, io};

use async_trait::async_trait;
use sandbox::Service;
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use vm::Link;

/// Connections that wait to be accepted; whoever makes more waits.
const WAITING: usize = 64;
/// Bytes of one direction that nobody has read yet.
const UNREAD: usize = 64 << 10;

/// By what clients come in.
pub struct Door {
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Address(TcpListener),
    Inside(mpsc::Receiver<Link>),
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Address(listener) => f.debug_tuple("Address").field(listener).finish(),
            Kind::Inside(_) => f.write_str("Inside"),
        }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self { kind: Kind::Address(listener) }
    }
}

impl Door {
    /// One that is reached by streams of this process alone.
    #[must_use]
    pub fn inside() -> (Visitors, Self) {
        let (visitors, links) = mpsc::channel(WAITING);
        (Visitors(visitors), Self { kind: Kind::Inside(links) })
    }

    /// The next connection; for ever where there can be none.
    pub(crate) async fn next(&mut self) -> io::Result<Link> {
        match &mut self.kind {
            Kind::Address(listener) => {
                let (stream, _): (TcpStream, _) = listener.accept().await?;
                // a matter of speed only
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Kind::Inside(links) => match links.recv().await {
                Some(link) => Ok(link),
                None => std::future::pending().await,
            },
        }
    }
}

/// Makes connections to a controller of this process: a service of the VMs that may reach it.
#[derive(Clone, Debug)]
pub struct Visitors(mpsc::Sender<Link>);

#[async_trait]
impl Service for Visitors {
    async fn connect(&self) -> io::Result<Link> {
        let (ours, theirs) = duplex(UNREAD);
        let sent = self.0.send(Box::new(theirs)).await;
        sent.map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, "the controller has ended"))?;
        Ok(Box::new(ours))
    }
}
