//! Jobs on the fake backend: the real agent, wire, shim and engine, without a VM.
//!
//! Purpose: what `job` promises, seen from outside: events in, results out, nothing left.
//! Owner: one engine for all tests of this binary; each test leases its own. The binary is shim and agent
//! itself, so it has its own `main`.

mod cancel;
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
    let trials: Vec<Trial> =
        [language::trials(), output::trials(), cancel::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&args, trials).exit_code()
}
