//! The `ampoule` program: everything is in the library, so that the test harnesses can be it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    ampoule::cli::main(ampoule::registry::Registry::standard())
}
