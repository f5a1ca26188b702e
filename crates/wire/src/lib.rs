//! The host-guest protocol, sans-I/O: bytes in, events out.
//!
//! Purpose: what one byte stream between the host and the agent of a VM carries: frames, streams with
//! credit and acknowledgements, and the messages of the control stream. No I/O, no clock, no task.
//! Owner: each end of a link owns one [`Mux`]; whoever owns the link feeds and drains it.
//!
//! Invariants
//! - What the peer sends never panics and never makes this end hold more than the credit of the open
//!   streams, one frame and one message; it makes [`Mux::receive`] return an error.
//! - A version's bytes never change: every kind of frame and every message has a golden test.

mod error;
mod frame;
#[doc(hidden)]
pub mod fuzz_targets;
pub mod message;
mod mux;

pub use error::{OpenError, Oversized, ProtocolError, StartError};
pub use frame::{HEADER, MAX_PAYLOAD};
pub use message::{ExecId, StreamId};
pub use mux::{CREDIT, Code, Direction, Event, Guest, Host, MAX_STREAMS, Mux, Role};

/// Version of the protocol that this crate speaks; [`message::Hello`] and [`message::Start`] name theirs.
pub const VERSION: u32 = 1;
