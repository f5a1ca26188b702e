//! `cargo xtask bench runner`: what a job of a real forge takes.
//!
//! Purpose: builds what is measured and what measures it, which is a program of `testing/vm-tests` because it
//! needs the tests' Gitea; nothing of that is part of this crate.

use anyhow::Result;

use crate::{
    host,
    run::{cargo, command, run, target_dir},
    up,
};

/// Runs the task with the words after its name.
pub(super) fn task(words: &[String]) -> Result<()> {
    host::go()?;
    let ampoule = up::build()?;
    // with it the same program with the fake backend
    run(&mut cargo(&["build", "--release", "--locked", "-p", "vm-tests", "--bins"]))?;
    run(&mut ampoule.command(&["setup"]))?;
    let target = target_dir()?;
    let mut bench = command(target.join("release/bench-runner"), &["--json"]);
    run(bench.arg(target.join("bench-runner.json")).args(words))
}
