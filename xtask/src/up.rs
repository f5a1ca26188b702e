//! `cargo xtask up`: from a clone to a workflow in a microVM.
//!
//! Purpose: the README's first command. It builds the binary and the agent, lets `ampoule setup` look at the
//! host and make the image, and runs an example.
//!
//! Invariants: each part looks first whether its work is done, so a second run only runs the example.

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    host::{self, AGENT_TARGET},
    run::{cargo, root, run, target_dir},
};

/// The example that ends the first command.
const EXAMPLE: &str = "examples/hello";

/// May the host be changed without a question?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consent {
    Asked,
    Given,
}

/// Runs the task with the words after its name.
pub(crate) fn task(words: &[String]) -> Result<()> {
    let mut consent = Consent::Asked;
    for word in words {
        match word.as_str() {
            "--yes" | "-y" => consent = Consent::Given,
            other => bail!("`up` takes --yes only, got {other:?}"),
        }
    }
    let begun = Instant::now();
    println!("==> 1 of 3: the release binary and the guest's agent");
    let ampoule = build()?;
    println!("==> 2 of 3: what this host lacks, and the image (after {} s)", begun.elapsed().as_secs());
    let mut setup = ampoule.command(&["setup"]);
    if consent == Consent::Given {
        setup.arg("--yes");
    }
    run(&mut setup)?;
    println!("==> 3 of 3: a workflow in a microVM (after {} s)", begun.elapsed().as_secs());
    run(&mut ampoule.command(&["exec", "-C", EXAMPLE]))?;
    println!(
        "==> done after {} s; next: {} exec -C examples/c-project",
        begun.elapsed().as_secs(),
        ampoule.shown()
    );
    Ok(())
}

/// A built `ampoule`, with its agent beside it.
pub(crate) struct Ampoule {
    pub(crate) program: PathBuf,
    pub(crate) agent: PathBuf,
}

impl Ampoule {
    /// A call of it from the repository's root.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(root());
        command
    }

    fn shown(&self) -> String {
        self.program.strip_prefix(root()).unwrap_or(&self.program).display().to_string()
    }
}

/// Builds the release binary and the agent.
pub(crate) fn build() -> Result<Ampoule> {
    host::check_machine()?;
    let agent = build_agent()?;
    run(&mut cargo(&["build", "--release", "--locked", "-p", "ampoule"]))?;
    Ok(Ampoule { program: target_dir()?.join("release/ampoule"), agent })
}

/// Builds the binary in the tests' profile, and the agent.
pub(crate) fn build_dev() -> Result<Ampoule> {
    host::check_machine()?;
    let agent = build_agent()?;
    run(&mut cargo(&["build", "--locked", "-p", "ampoule"]))?;
    Ok(Ampoule { program: target_dir()?.join("debug/ampoule"), agent })
}

fn build_agent() -> Result<PathBuf> {
    host::agent_target()?;
    run(&mut cargo(&["build", "--locked", "-p", "agent", "--profile", "agent", "--target", AGENT_TARGET]))?;
    Ok(target_dir()?.join(AGENT_TARGET).join("agent/ampoule-agent"))
}
