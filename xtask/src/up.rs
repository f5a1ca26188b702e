//! `cargo xtask up`: from a clone to a workflow in a microVM.
//!
//! Purpose: the README's first command. It builds the binary and the agent, lets `ampoule setup` look at the
//! host and make the image, and runs an example.
//!
//! Invariants: each part looks first whether its work is done, so a second run only runs the example.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};

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

/// A built `ampoule` and the agent that it gives to its VMs.
pub(crate) struct Ampoule {
    program: PathBuf,
    agent: Agent,
}

/// How a built `ampoule` finds its agent.
enum Agent {
    /// In `lib/ampoule` above its own directory, where it looks by itself.
    Installed,
    /// By a variable: `target/debug` may also hold the agent that the unit tests build for this host, which
    /// is not static.
    Named(PathBuf),
}

impl Ampoule {
    /// A call of it from the repository's root.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(root());
        self.name_agent(&mut command);
        command
    }

    /// Tells a command that runs `ampoule`'s own code where the agent is.
    pub(crate) fn name_agent(&self, command: &mut Command) {
        if let Agent::Named(path) = &self.agent {
            command.env("AMPOULE_AGENT", path);
        }
    }

    fn shown(&self) -> String {
        self.program.strip_prefix(root()).unwrap_or(&self.program).display().to_string()
    }
}

/// Builds the release binary and the agent, and puts the agent where the binary looks for it.
pub(crate) fn build() -> Result<Ampoule> {
    host::check_machine()?;
    host::agent_target()?;
    // side by side: each leaves a core idle while it links
    let (agent, release) = thread::scope(|scope| {
        let agent = scope.spawn(build_agent);
        let release = run(&mut cargo(&["build", "--release", "--locked", "-p", "ampoule"]));
        (agent.join(), release)
    });
    release?;
    let built = agent.map_err(|_| anyhow!("the thread that builds the agent panicked"))??;
    let target = target_dir()?;
    install(&built, &target.join("lib/ampoule"))?;
    Ok(Ampoule { program: target.join("release/ampoule"), agent: Agent::Installed })
}

/// Builds the binary in the tests' profile, and the agent.
pub(crate) fn build_dev() -> Result<Ampoule> {
    host::check_machine()?;
    let agent = Agent::Named(build_agent()?);
    run(&mut cargo(&["build", "--locked", "-p", "ampoule"]))?;
    Ok(Ampoule { program: target_dir()?.join("debug/ampoule"), agent })
}

fn build_agent() -> Result<PathBuf> {
    host::agent_target()?;
    run(&mut cargo(&["build", "--locked", "-p", "agent", "--profile", "agent", "--target", AGENT_TARGET]))?;
    Ok(target_dir()?.join(AGENT_TARGET).join("agent/ampoule-agent"))
}

/// Copies a program into a directory in one step, so that a run at the same time never sees half of it.
fn install(program: &Path, dir: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let (place, fresh) = (dir.join(name), dir.join(format!(".new-{}", std::process::id())));
    let copied = fs::create_dir_all(dir)
        .and_then(|()| fs::copy(program, &fresh))
        .and_then(|_| fs::rename(&fresh, &place));
    copied.with_context(|| format!("copying {} to {}", program.display(), place.display()))
}
