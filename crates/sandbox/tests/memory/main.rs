//! The engine against guests in memory: the whole of it but processes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod branches;
mod execs;
mod forwards;
mod guest;
mod hostile;
mod leases;
mod templates;
