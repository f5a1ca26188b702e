//! `ampoule` with the fake backend registered as well: what the tests run.

use std::process::ExitCode;

use ampoule::registry::{Needs, Registry};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    ampoule::cli::main(Registry::standard().with("fake", Needs::Nothing, |_| Ok(testkit::fake::backend())))
}
