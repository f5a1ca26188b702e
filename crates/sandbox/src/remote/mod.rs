//! An engine in another process, over a Unix socket.
//!
//! Purpose: several processes share the pool, the templates and the admission of one engine, and a VM can outlive the
//! command that made it. What is carried is what handles ask of a VM's owner task ([`crate::command::Command`]): the
//! owner task, with the link to the agent, stays in the engine, so that any number of clients can use one VM, and one
//! that dies in the middle of a frame hurts nobody.
//! Owner: [`server`] in the engine process, [`client`] in all others.
//!
//! ```text
//!   Engine ─▶ client::Remote ── one connection per lease, for its life ──▶ server ─▶ Engine (local)
//!   Sandbox ─▶ handle's task ─▶ carry ── one per operation ──────────────▶ server ─▶ Sandbox
//! ```
//!
//! Invariants
//! - The end of a connection is the end of what it is for: a client's death ends its VMs, commands, copies, branches.
//! - Back-pressure is the socket's own: neither side keeps more of a stream than a window.
//! - Only the engine's user, and root, are served; only the user's own engine, or root's, is asked.

mod carry;
mod client;
mod error;
mod fault;
mod forward;
mod frame;
pub(crate) mod fuzz;
mod handle;
mod link;
mod message;
mod operation;
mod server;
mod sighting;
mod socket;

pub(crate) use client::{FarBranch, Remote};
pub(crate) use handle::Leave;
pub(crate) use message::Ask;

pub use error::{Cause, EngineError, Whose};
pub use server::{Served, serve};
pub use sighting::{EngineStatus, Sighting, look_at_engine};
pub use socket::Listening;
