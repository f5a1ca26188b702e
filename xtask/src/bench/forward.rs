//! `cargo xtask bench forward`: what a forward carries, and how fast.
//!
//! Purpose: builds the program that measures, which is one of `testing/vm-tests` because it uses the engine itself.

use anyhow::Result;

use crate::{
    run::{cargo, command, run, target_dir},
    up,
};

/// Runs the task with the words after its name.
pub(super) fn task(words: &[String]) -> Result<()> {
    let ampoule = up::build()?;
    run(&mut cargo(&["build", "--release", "--locked", "-p", "vm-tests", "--bin", "bench-forward"]))?;
    run(&mut ampoule.command(&["setup"]))?;
    let target = target_dir()?;
    let mut bench = command(target.join("release/bench-forward"), &["--json"]);
    bench.arg(target.join("bench-forward.json")).args(words);
    // the program is no neighbour of the agent that was installed
    run(bench.env("AMPOULE_AGENT", target.join("lib/ampoule/ampoule-agent")))
}
