//! `ampoule` with the fake backend registered as well: what the tests run.

use std::process::ExitCode;

use ampoule::registry::{Made, Needs, Registry};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let registry = Registry::standard().with("fake", Needs::Nothing, |_| {
        Box::pin(async { Ok(Made { backend: testkit::fake::backend(), note: None }) })
    });
    ampoule::cli::main(registry)
}
