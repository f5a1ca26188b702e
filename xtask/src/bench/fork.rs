//! `cargo xtask bench fork`: what a fork takes and costs.
//!
//! Purpose: builds the program that measures, which is one of `testing/vm-tests` because it uses the engine itself,
//! and tells it where the agents are: the one that is installed, and one that does not reseed, which is built for this.

use anyhow::Result;

use crate::{
    host::AGENT_TARGET,
    run::{cargo, command, run, target_dir},
    up,
};

/// Runs the task with the words after its name.
pub(super) fn task(words: &[String]) -> Result<()> {
    let ampoule = up::build()?;
    run(&mut cargo(&["build", "--release", "--locked", "-p", "vm-tests", "--bin", "bench-fork"]))?;
    run(&mut ampoule.command(&["setup"]))?;
    let target = target_dir()?;
    // a directory of its own, so that nobody takes it for the agent
    let apart = target.join("unseeded");
    let mut unseeded =
        cargo(&["build", "--locked", "-p", "agent", "--features", "unseeded", "--profile", "agent"]);
    run(unseeded.args(["--target", AGENT_TARGET, "--target-dir"]).arg(&apart))?;
    let mut bench = command(target.join("release/bench-fork"), &["--json"]);
    bench.arg(target.join("bench-fork.json")).arg("--unseeded");
    bench.arg(apart.join(AGENT_TARGET).join("agent/ampoule-agent")).args(words);
    // the program is no neighbour of the agent that was installed
    run(bench.env("AMPOULE_AGENT", target.join("lib/ampoule/ampoule-agent")))
}
