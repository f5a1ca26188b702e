//! The `ampoule` program as a library: the command line, and the wiring of the crates below it.
//!
//! Purpose: one door, [`cli::main`], that the released binary and the test harnesses both go through.
//! Owner: nobody above; this crate alone knows all others, and is the only importer of `backends`.
//!
//! Invariants
//! - `vm-shim` and `net-helper` are dispatched before anything else: each has one thread and no state of ours.
//! - Standard output carries what was asked for (rows, JSON); everything else goes to standard error.
//! - Text of guests and of users' files reaches a terminal only through [`sanitise`], but for a command that
//!   the user runs on it ([`terminal`]).
//! - Every error becomes one of five classes ([`class`]), and the class alone decides the exit code.

pub mod agent_binary;
mod bare;
mod causes;
pub mod class;
pub mod cli;
pub mod controller_cmd;
pub mod doctor;
pub mod engine_cmd;
pub mod eval_cmd;
pub mod exec;
pub mod expand_cmd;
pub mod host;
pub mod image_cmd;
mod in_use;
mod input;
mod limits;
pub mod network;
pub mod prefix;
mod pretty;
mod progress;
pub mod prune;
mod qemu;
pub mod registry;
pub mod runner_cmd;
mod runtime;
pub mod sandbox_cmd;
pub mod schema_cmd;
pub mod setup;
pub mod signals;
pub mod sink;
pub mod snapshot_cmd;
pub mod state_dir;
mod table;
mod terminal;
pub mod validate_cmd;
pub mod worktree;

pub use job::sanitise;
