//! Tests of the whole program: `cargo test -p vm-tests`, and `-- --ignored` for the long ones.

mod adrift;
mod bad_input;
mod branch;
mod cancel;
mod cards;
mod contract;
mod controller;
mod engine;
mod flood;
mod fork_action;
mod forward;
mod gitea;
mod helper;
mod kept;
mod language;
mod left;
mod long;
mod network;
mod packages;
mod page;
mod pool;
mod reach;
mod runner;
mod runner_engine;
mod runner_forge;
mod runner_tls;
mod sandbox;
mod shell;
mod snapshot;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use testkit::gitea::Tests;
use vm_tests::program::On;

fn main() -> ExitCode {
    // The contract suite starts shims and agents of its own: this binary is them, too.
    if let Some(code) = testkit::fake::dispatch()
        .or_else(contract::dispatch)
        .or_else(pool::dispatch)
        .or_else(reach::dispatch)
        .or_else(flood::dispatch)
        .or_else(helper::dispatch)
    {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // A VM has two processors, and is emulated: more of them at a time would only wait for each other.
    arguments.test_threads.get_or_insert(2);
    let mut trials = contract::trials();
    for on in [On::Fake, On::Qemu] {
        trials.extend(language::trials(on));
        trials.extend(cancel::trials(on));
        trials.extend(left::trials(on));
        trials.extend(shell::trials(on));
        trials.extend(controller::trials(on));
        trials.extend(sandbox::trials(on));
        trials.extend(kept::trials(on));
        trials.extend(engine::trials(on));
        trials.extend(long::trials(on));
    }
    trials.extend(snapshot::trials());
    trials.extend(bad_input::trials());
    trials.extend(pool::trials());
    trials.extend(branch::trials());
    trials.extend(forward::trials());
    trials.extend(gitea::trials());
    trials.extend(runner::trials());
    trials.extend(runner_engine::trials());
    trials.extend(runner_forge::trials());
    trials.extend(runner_tls::trials());
    trials.extend(fork_action::trials());
    trials.extend(adrift::trials());
    trials.extend(network::trials());
    trials.extend(reach::trials());
    trials.extend(cards::trials());
    trials.extend(flood::trials());
    trials.extend(helper::trials());
    trials.extend(packages::trials());
    trials.extend(page::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    let tests = if conclusion.has_failed() { Tests::Failed } else { Tests::Passed };
    testkit::gitea::stop(tests);
    conclusion.exit_code()
}

/// A test on one backend; it fails by panicking, as every assertion does.
fn on(on: On, name: &str, test: fn(On)) -> Trial {
    let kind = match on {
        On::Qemu => "qemu",
        On::Fake => "fake",
    };
    Trial::test(format!("{kind}::{name}"), move || {
        test(on);
        Ok(())
    })
}
