//! The API over real sockets, on the fake backend: the real agent as a process, started by the real shim.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod ends;
mod forms;
mod harness;
mod inside;
mod keeps;
mod runs;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let trials = [forms::trials(), inside::trials(), runs::trials(), ends::trials(), keeps::trials()];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        Ok(())
    })
}
