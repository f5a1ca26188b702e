//! Destinations: connections of this host, and services of this process.
//!
//! No connection ends because nothing is said over it: a build may wait for a cache, and a long poll for its answer, as
//! long as they like. A destination whose host has died is found out by TCP's own probes, after two minutes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use vm::Link;

use super::{
    pipe::{Cut, Hears, Says},
    spec::{Destination, Services},
};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// When a silent destination is first asked whether it is there, how often then, and how often in vain.
const IDLE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// A destination that is connected.
pub(crate) enum Far {
    Tcp(TcpStream),
    Link(Link),
}

/// Connects.
pub(crate) async fn dial(to: &Destination, services: &Services) -> io::Result<Far> {
    match to {
        Destination::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            sockopt::set_socket_keepalive(&stream, true)?;
            sockopt::set_tcp_keepidle(&stream, IDLE)?;
            sockopt::set_tcp_keepintvl(&stream, BETWEEN)?;
            sockopt::set_tcp_keepcnt(&stream, PROBES)?;
            Ok(Far::Tcp(stream))
        }
        Destination::Service(name) => match services.get(name) {
            Some(service) => service.connect().await.map(Far::Link),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such service")),
        },
    }
}

impl Far {
    pub(super) fn of(link: Link) -> Self {
        Self::Link(link)
    }

    pub(crate) fn split(self) -> (FarIn, FarOut) {
        match self {
            Self::Tcp(stream) => {
                let (from, to) = stream.into_split();
                let ended = Arc::new(AtomicBool::new(false));
                (FarIn::Tcp(from, Arc::clone(&ended)), FarOut::Tcp { to: Some(to), ended, shut: false })
            }
            Self::Link(link) => {
                let (from, to) = split(link);
                (FarIn::Link(from), FarOut::Link(to))
            }
        }
    }
}

pub(crate) enum FarIn {
    Tcp(OwnedReadHalf, Arc<AtomicBool>),
    Link(ReadHalf<Link>),
}

pub(crate) enum FarOut {
    Tcp {
        to: Option<OwnedWriteHalf>,
        /// Whether all that the destination sent was read.
        ended: Arc<AtomicBool>,
        shut: bool,
    },
    Link(WriteHalf<Link>),
}

#[async_trait]
impl Hears for FarIn {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        let mut bytes = Vec::with_capacity(PIECE);
        let count = match self {
            Self::Tcp(from, ended) => {
                let count = from.read_buf(&mut bytes).await;
                if let Ok(0) = count {
                    ended.store(true, Ordering::Relaxed);
                }
                count
            }
            Self::Link(from) => from.read_buf(&mut bytes).await,
        };
        match count {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(bytes)),
            Err(_) => Err(Cut),
        }
    }
}

#[async_trait]
impl Says for FarOut {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Cut> {
        match self {
            Self::Tcp { to: Some(to), .. } => to.write_all(&bytes).await.map_err(|_| Cut),
            Self::Tcp { to: None, .. } => Err(Cut),
            Self::Link(to) => {
                to.write_all(&bytes).await.map_err(|_| Cut)?;
                to.flush().await.map_err(|_| Cut)
            }
        }
    }

    async fn finish(&mut self) -> Result<(), Cut> {
        match self {
            Self::Tcp { to: Some(to), shut, .. } => {
                *shut = true;
                to.shutdown().await.map_err(|_| Cut)
            }
            Self::Tcp { to: None, .. } => Err(Cut),
            Self::Link(to) => to.shutdown().await.map_err(|_| Cut),
        }
    }
}

impl Drop for FarOut {
    /// One that was not ended in both directions is reset, or what was cut would look whole.
    fn drop(&mut self) {
        let Self::Tcp { to, ended, shut } = self else { return };
        let Some(to) = to.take() else { return };
        if !*shut || !ended.load(Ordering::Relaxed) {
            // one that is gone is reset as well
            let _ = sockopt::set_socket_linger(AsRef::<TcpStream>::as_ref(&to), Some(Duration::ZERO));
        }
        // or it would say that this direction has ended, before the reset
        to.forget();
    }
}
