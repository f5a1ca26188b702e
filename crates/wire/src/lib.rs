//! The host-guest protocol, sans-I/O: bytes in, events out.
//!
//! Purpose: what one byte stream between the host and the agent of a VM carries: frames, streams with
//! credit and acknowledgements, and the messages of the control stream. No I/O, no clock, no task.
//! Owner: each end of a link owns one `Mux`; whoever owns the link feeds and drains it.

pub mod message;

pub use message::{ExecId, StreamId};

/// Version of the protocol that this crate speaks; [`message::Hello`] and [`message::Start`] name theirs.
pub const VERSION: u32 = 1;
