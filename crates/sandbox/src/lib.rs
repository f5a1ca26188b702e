//! Leases of VMs, their journal, and the agent's client.
//!
//! Purpose: one [`Engine`] per process and state directory makes VMs, each with a slot, a user id and a fresh
//! scratch disk of its own, speaks with the agent in them, and leaves nothing behind.
//! Owner: whoever opened the engine; a VM belongs to its [`Lease`], everyone else has a [`Sandbox`].
//! Nothing here knows a workflow, a command line or a server.
//!
//! ```text
//!  Engine::lease ──▶ owner task (one per VM) ── boot ──▶ vm::Machine
//!                      ▲        │ operations in a JoinSet
//!   Sandbox ──commands─┘        ▼
//!   Running ◀──delivery── connection task: Link + wire::Mux
//! ```
//!
//! Invariants
//! - A slot is journalled before the backend hears of it, and leaves the journal after nothing of it is left.
//! - Everything that comes from a guest is capped and checked; a guest that breaks the protocol is destroyed.
//! - No task but the connection's touches the link, none but the owner's touches the machine.

mod admission;
mod adopt;
mod boot;
mod branch;
mod clock;
mod command;
mod connection;
mod copy;
mod delivery;
mod engine;
mod error;
mod exec;
pub mod fuzz_targets;
mod handle;
mod holding;
mod identity;
mod in_use;
mod journal;
mod kept;
mod lease;
mod local;
mod network;
mod operations;
mod owner;
mod pool;
mod refusals;
mod remote;
mod rootfs;
mod running;
mod scratch;
mod snapshots;
mod spec;
mod text;
mod wake;
mod ways;

pub use admission::Room;
pub use branch::{Branch, BranchTimes, ForkSpec};
pub use copy::{CopyOut, FetchLimits};
pub use engine::Engine;
pub use error::{Error, Gone, Result};
pub use exec::{Chunk, Collected, ExecRequest, Exited, OutputMode, Stdin, Stream, TerminalSize};
pub use handle::{GuestInfo, Origin, Sandbox};
pub use in_use::{FilesInUse, FilesOfVm, files_in_use, is_state_dir};
pub use kept::{Holder, Kept};
pub use lease::Lease;
pub use net::{Limits as NetLimits, NameRefused, Policy, Refused, Why};
pub use network::{Networking, OverLimit, Refusals, RefusedDestination};
pub use refusals::{PORT as REFUSED_PORT, rule_of_name};
pub use remote::{
    Cause, EngineError, EngineStatus, Listening, Served, Sighting, Whose, look_at_engine, serve,
};
pub use running::{Control, Input, Output, Running};
pub use snapshots::{
    Pin, SnapshotGc, SnapshotInfo, SnapshotsRemoved, Standing, list_snapshots, pin_snapshot,
};
pub use spec::{Bind, EngineConfig, LeaseSpec, Patience, PoolLimits, Reserve, Root, Start, Swept, WhenFull};
pub use tree::{Error as TreeError, Refusal};
pub use ways::{Destination, Forward, ForwardError, Service, Services};
pub use wire::{
    ExecId,
    message::{Account, Copied, Directory, FailureKind, Inherited},
};
