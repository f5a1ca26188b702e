//! Tests of the whole program, on real VMs and on the fake backend.
//!
//! Purpose: what a user does with `ampoule`, done to it as a process: its log, exit codes and signals, and
//! what is left of it on the host afterwards.
//! Owner: `tests/vm.rs` lists the tests; the modules here run the program and look at the host.
//!
//! Invariants
//! - The program under test is `ampoule-harness`: `ampoule` itself with the fake backend registered as well.
//! - Each run has a state directory of its own, so tests may run side by side; images are shared, read-only.
//! - Long tests are marked as ignored and run with `-- --ignored`; none is skipped in silence.

pub mod controller;
pub mod forkd;
pub mod host;
pub mod program;
pub mod random;
pub mod runner;
pub mod talker;
pub mod terminal;
pub mod workflow;

/// Says something about a test that passes too: a seed, a figure.
pub fn say(text: &str) {
    use std::io::Write as _;
    // nobody may be reading
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
