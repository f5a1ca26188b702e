//! Why the controller could not serve.

use std::{io, net::SocketAddr};

/// Result of [`crate::serve`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the controller could not serve. What goes wrong in a request is told to its client instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// User: everybody who reaches this address could run commands.
    #[error("{address} can be reached from outside: without a token only a loopback address is served")]
    Open {
        /// What the listener is bound to.
        address: SocketAddr,
    },
    /// User: whatever runs in a VM that has a way here could run commands.
    #[error("without a token VMs are not served")]
    Inside,
    /// Infrastructure: what is known of sandboxes cannot be read or written.
    #[error("what is known of sandboxes cannot be read or written")]
    Ledger(#[source] io::Error),
    /// By the error: it cannot be found out which sandboxes there are.
    #[error("it cannot be found out which sandboxes there are")]
    Kept(#[source] Box<sandbox::Error>),
    /// Infrastructure: the listener cannot be used.
    #[error("the address cannot be served")]
    Listen(#[source] io::Error),
}
