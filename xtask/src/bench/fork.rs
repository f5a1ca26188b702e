//! `cargo xtask bench fork`: what a fork takes and costs.
//!
//! Purpose: builds the program that measures, which is one of `testing/vm-tests` because it uses the engine itself,
//! and tells it where the agent is.

use anyhow::Result;

use crate::{
    run::{cargo, command, run, target_dir},
    up,
};

/// Runs the task with the words after its name.
pub(super) fn task(words: &[String]) -> Result<()> {
    let ampoule = up::build()?;
    run(&mut cargo(&["build", "--release", "--locked", "-p", "vm-tests", "--bin", "bench-fork"]))?;
    run(&mut ampoule.command(&["setup"]))?;
    let target = target_dir()?;
    let mut bench = command(target.join("release/bench-fork"), &["--json"]);
    bench.arg(target.join("bench-fork.json")).args(words);
    // the program is no neighbour of the agent that was installed
    run(bench.env("AMPOULE_AGENT", target.join("lib/ampoule/ampoule-agent")))
}
