//! Jobs on the fake backend: the real agent, wire, shim and engine, without a VM.
//!
//! Purpose: what `job` promises, seen from outside: events in, results out, nothing left.
//! Owner: one engine for all tests of this binary; each test leases its own. The binary is shim and agent
//! itself, so it has its own `main`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancel;
mod failure;
mod harness;
mod language;
mod output;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let args = Arguments::from_args();
    let trials: Vec<Trial> = [language::trials(), output::trials(), cancel::trials(), failure::trials()]
        .into_iter()
        .flatten()
        .collect();
    let conclusion = libtest_mimic::run(&args, trials);
    let left = harness::close();
    assert!(left.is_empty(), "left by the tests: {left:?}");
    conclusion.exit_code()
}
