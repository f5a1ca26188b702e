//! The shim and its jail: every VMM of this host is started, watched and ended through here.
//!
//! Purpose: one process, the shim, stands between an owner (the process that leased a VM) and a VMM. It
//! builds the jail, starts the VMM in it, ends it when the owner is gone, and writes down how it ended.
//! Owner: the engine names a directory and an identity for each VM; a backend calls [`launch()`]; the reaper
//! calls [`end()`]. Nothing else starts or ends a VMM.
//!
//! ```text
//!   owner ── spawn, one socket ──▶ monitor ── fork ──▶ init (PID 1 of the VM's pid namespace)
//!     ▲                              │ waits,            │ fork, drop privileges, exec
//!     └───── reports, end of file ───┼───────────────────┤
//!                                    ▼                   ▼
//!                            dir/exit.json              VMM
//! ```
//!
//! Invariants
//! - `dir/shim.lock` is locked for as long as the shim lives, and the shim's end is the VMM's; "is it gone"
//!   is asked of the lock and of processes known by id *and* start time, never of an id alone.
//! - Both processes of the shim are single-threaded: [`shim::main`] is called before anything starts a thread.
//! - The VMM holds the descriptors that [`Launch`] lists and no others, no capability, and cannot gain any.
//! - With a [`Filter`] it makes the system calls that its backend listed, and no others.
//! - An owner that disappears, however it does, is an end of file on one socket: with [`OwnerLoss::Kill`] the
//!   VMM is killed then.
//!
//! This crate and `agent` are the only ones with `unsafe`: forks of a single-threaded process, a few system
//! calls that no safe wrapper has, a reading of the time stamp counter, and a descriptor by its number.

mod clock;
mod end;
mod error;
mod filter;
mod inherited;
mod launch;
pub mod lock;
pub mod network;
mod record;
pub mod shim;

pub use clock::tsc_khz;
pub use end::{end, is_running, program_pid};
pub use error::{Error, Result};
pub use filter::{Call, Check, Filter, Rules};
pub use inherited::inherited;
pub use launch::{
    Ids, Inherit, Launch, Level, Log, Orders, OwnerLoss, Part, Program, Shim, TAP_DEVICE, View, attach,
    launch, short_path,
};
pub use record::{Ending, ExitRecord, exit_record, log_tail};
