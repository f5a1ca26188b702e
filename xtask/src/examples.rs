//! `cargo xtask examples`: every example in its VMs, with a look at what it said and how it ended.
//!
//! Purpose: the examples are what people copy, so they are run as people run them.
//! Owner: `cargo xtask test` runs it as a stage.
//!
//! Invariants: a directory of `examples/` that this table does not know is a failure.

use std::{fs, process::Stdio};

use anyhow::{Context, Result, bail};

use crate::{
    run::{Tally, root, shown},
    up::{self, Ampoule},
};

/// An example, the exit code it has to end with, and what its log must hold.
struct Expected {
    dir: &'static str,
    exit: i32,
    says: &'static [&'static str],
}

const EXAMPLES: &[Expected] = &[
    Expected { dir: "hello", exit: 0, says: &["Hello from a microVM"] },
    Expected { dir: "c-project", exit: 0, says: &["3 words", "all tests passed"] },
    Expected {
        dir: "python-matrix",
        exit: 0,
        says: &["Ran 4 tests", "seed 0: 5 pieces", "seed 42: 5 pieces"],
    },
    Expected { dir: "node-script", exit: 0, says: &["longest line: 6 words", "six words: ok"] },
    Expected { dir: "pipeline", exit: 0, says: &["ships version 1.4.0 of 2 files"] },
    Expected { dir: "failing", exit: 1, says: &["this step fails", "this step runs all the same"] },
];

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    let ampoule = up::build()?;
    let tally = all(&ampoule)?;
    println!("{} examples ok, {} not", tally.passed, tally.failed);
    if tally.failed > 0 { bail!("{} examples do not do what they should", tally.failed) } else { Ok(()) }
}

/// Runs them all; each counts as a test.
pub(crate) fn all(ampoule: &Ampoule) -> Result<Tally> {
    for entry in fs::read_dir(root().join("examples")).context("reading examples")? {
        let name = entry?.file_name();
        if !EXAMPLES.iter().any(|example| name == *example.dir) && name != *"README.md" {
            bail!("examples/{} has no line in xtask/src/examples.rs", name.display());
        }
    }
    let mut tally = Tally::default();
    for example in EXAMPLES {
        match one(ampoule, example) {
            Ok(()) => {
                println!("test examples/{} ... ok", example.dir);
                tally.passed += 1;
            }
            Err(error) => {
                println!("test examples/{} ... FAILED\n{error:#}", example.dir);
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

fn one(ampoule: &Ampoule, example: &Expected) -> Result<()> {
    let dir = format!("examples/{}", example.dir);
    let mut command = ampoule.command(&["exec", "-C", &dir]);
    println!("$ {}", shown(&command));
    let output = command.stdin(Stdio::null()).output().context("starting ampoule")?;
    let log = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = |text: &str| log.contains(text) || errors.contains(text);
    let lacking: Vec<&str> = example.says.iter().copied().filter(|text| !said(text)).collect();
    if output.status.code() == Some(example.exit) && lacking.is_empty() {
        return Ok(());
    }
    bail!(
        "ended with {}, expected exit code {}; not in its log: {lacking:?}\n{log}\n{errors}",
        output.status,
        example.exit,
    )
}
