//! The agent: PID 1 of the guest, or a process that stands in for one.
//!
//! Purpose: runs what the host asks for over one link: commands, their input and output, trees of files,
//! the set-up and the end of the machine. It decides nothing by itself.
//! Owner: one process, one thread, one event loop ([`Agent`](agent::Agent)); threads exist only to pack and
//! unpack trees and to write disks back.
//!
//! Invariants
//! - The loop never waits but in epoll: what can take long is a thread, what can block is not read or
//!   written before epoll says so. Output is read only while its stream has credit.
//! - One place reaps: `waitpid(-1)` after SIGCHLD. Nothing else waits for a child (but for hooks,
//!   which begin and end within one request), so no exit is lost to
//!   another reader and no process id is used after its process was reaped.
//! - No async runtime: with epoll at hand a pipe is paused by not polling it, and no library reaps behind
//!   our back.

mod agent;
mod cgroup;
mod copy;
mod ends;
mod exec;
mod executions;
mod failure;
mod forwards;
mod hooks;
pub mod hosted;
pub mod init;
mod life;
mod link;
mod lo;
mod mounts;
mod names;
mod poller;
mod prepare;
mod processors;
mod requests;
mod spawn;
mod system;
mod users;
mod warm;
mod ways;

#[doc(hidden)]
pub mod fuzz_targets {
    //! The agent's foreign input is frames and messages, which `wire` reads, archives, and questions of processes.
    pub use crate::names::fuzz::question;
    pub use tree::fuzz_targets::untar;
}

/// Version of this program, as Hello says it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
