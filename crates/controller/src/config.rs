//! What a controller is started with: plain data.

use std::{net::SocketAddr, num::NonZeroU8, path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;
use vm::Mebibytes;

use crate::{Error, Result, Token};

/// What a controller is started with.
#[derive(Debug)]
pub struct Config {
    /// Who may ask.
    pub access: Access,
    /// Size of a sandbox; a request may change its memory.
    pub size: Size,
    /// How long a sandbox lives if its request does not say.
    pub ttl: Duration,
    /// How long a request may let it live.
    pub max_ttl: Duration,
    /// Most sandboxes at a time.
    pub max_sandboxes: usize,
    /// Most connections at a time; more of them wait.
    pub max_connections: usize,
    /// How long a connection may take for the head of its next request: whoever is silent for longer is cut off.
    pub head_timeout: Duration,
    /// Most VMs that boot at a time; more of them would only wait for each other.
    pub boots: usize,
    /// How sandboxes outlive the controller. `None`: they end with it.
    pub keeping: Option<Keeping>,
}

/// How sandboxes outlive the controller.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The directory of this controller alone, for what it knows of its sandboxes.
    pub dir: PathBuf,
    /// What the VMs of this controller, and of those before it in this directory, have as their mark.
    pub mark: String,
    /// Ends the service, and leaves its sandboxes to the next one.
    pub leave: CancellationToken,
}

impl Config {
    /// The usual one: sandboxes live for an hour, on request for a day; 1000 at a time.
    #[must_use]
    pub fn new(access: Access, size: Size) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            access,
            size,
            ttl: Duration::from_secs(3600),
            max_ttl: Duration::from_secs(24 * 3600),
            max_sandboxes: 1000,
            max_connections: 2000,
            head_timeout: Duration::from_secs(30),
            boots: processors,
            keeping: None,
        }
    }
}

/// Who may ask.
#[derive(Debug)]
pub enum Access {
    /// Whoever shows this token, from anywhere.
    Token(Token),
    /// Every process of this host, and nobody else.
    Loopback,
}

impl Access {
    /// Whether this address may be served.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn check(&self, address: SocketAddr) -> Result<()> {
        match self {
            Self::Loopback if !address.ip().is_loopback() => Err(Error::Open { address }),
            Self::Token(_) | Self::Loopback => Ok(()),
        }
    }
}

/// Size of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory, where a request does not say.
    pub memory: Mebibytes,
    /// Least memory that a request may ask for: a guest has to boot in it.
    pub min_memory: Mebibytes,
    /// Most memory that a request may ask for.
    pub max_memory: Mebibytes,
    /// Logical size of the scratch disk; it is sparse on the host.
    pub scratch_bytes: u64,
}
