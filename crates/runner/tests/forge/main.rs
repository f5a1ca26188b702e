//! The runner against a forge with Forgejo's rules, on the fake backend: the real agent, wire, shim and engine,
//! real sockets, no VM.
//!
//! Purpose: what the runner promises to a server: nothing lost, nothing doubled, the right result, whatever
//! calls and answers get lost. Owner: one engine for all tests of this binary, which is shim and agent itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod faults;
mod harness;
mod tasks;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let args = Arguments::from_args();
    let trials: Vec<Trial> =
        [tasks::trials(), ends::trials(), faults::trials()].into_iter().flatten().collect();
    let conclusion = libtest_mimic::run(&args, trials);
    let left = harness::close();
    assert!(left.is_empty(), "left by the tests: {left:?}");
    conclusion.exit_code()
}
