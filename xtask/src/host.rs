//! What the tasks need of the toolchain: the musl target of the agent, rustfmt and clippy.
//!
//! Purpose: the part of set-up that comes before anything can be built. What the product itself needs of a
//! host is the matter of `ampoule setup`, and only there.
//!
//! Invariants: nothing is installed that is there already; everything goes into the user's own rustup.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::run::{command, run};

/// The target of the agent, which is one static file.
pub(crate) const AGENT_TARGET: &str = "x86_64-unknown-linux-musl";

/// Fails on a machine that Ampoule does not know, before anything is built.
pub(crate) fn check_machine() -> Result<()> {
    known_machine(std::env::consts::OS, std::env::consts::ARCH)
}

fn known_machine(os: &str, arch: &str) -> Result<()> {
    if os != "linux" {
        bail!("Ampoule runs on Linux, this is {os}");
    }
    if arch != "x86_64" {
        bail!("Ampoule runs on x86_64 so far, this machine is {arch}");
    }
    Ok(())
}

/// Makes the agent's target available.
pub(crate) fn agent_target() -> Result<()> {
    let libdir = output("rustc", &["--print", "target-libdir", "--target", AGENT_TARGET])?;
    if Path::new(libdir.trim()).is_dir() {
        return Ok(());
    }
    rustup(&["target", "add", AGENT_TARGET])
        .with_context(|| format!("the agent needs Rust's standard library for {AGENT_TARGET}"))
}

/// Makes `cargo fmt` and `cargo clippy` available.
pub(crate) fn checkers() -> Result<()> {
    let mut lacking = Vec::new();
    for (component, program) in [("rustfmt", "rustfmt"), ("clippy", "cargo-clippy")] {
        if output(program, &["--version"]).is_err() {
            lacking.push(component);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let mut args = vec!["component", "add"];
    args.extend(&lacking);
    rustup(&args)
}

/// Makes a C++ compiler available, for libFuzzer's run-time.
pub(crate) fn cxx() -> Result<()> {
    if output("c++", &["--version"]).is_ok() {
        return Ok(());
    }
    install("fuzzing needs a C++ compiler", "g++")
}

/// Makes node 18 or newer available: the fork action is written for it.
pub(crate) fn node() -> Result<()> {
    if output("node", &["--version"]).is_ok_and(|version| node_is_good(&version)) {
        return Ok(());
    }
    install("the tests of the fork action need node 18 or newer", "nodejs")?;
    let version = output("node", &["--version"])?;
    if node_is_good(&version) {
        return Ok(());
    }
    bail!("the system's node is {}, and the fork action needs 18 or newer", version.trim());
}

fn node_is_good(version: &str) -> bool {
    let major = version.trim().trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 18)
}

/// Makes python3 with pip available: clients of the controller are tested as they are published.
pub(crate) fn pip() -> Result<()> {
    if output("python3", &["-m", "pip", "--version"]).is_ok() {
        return Ok(());
    }
    install("the tests of the controller's clients need pip", "python3-pip")
}

/// Installs a package of the host as root; else says how.
fn install(why: &str, package: &str) -> Result<()> {
    if output("id", &["-u"])?.trim() != "0" {
        bail!("{why}: sudo apt-get install {package}");
    }
    run(&mut command("apt-get", &["update"]))?;
    run(command("apt-get", &["install", "--yes", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn rustup(args: &[&str]) -> Result<()> {
    if output("rustup", &["--version"]).is_err() {
        bail!("this Rust was not installed by rustup; install what `rustup {}` would", args.join(" "));
    }
    run(&mut command("rustup", args))
}

/// A command's standard output; an error if it cannot run or fails.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} {} ended with {}", args.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_x86_64_linux_is_known() {
        assert!(known_machine("linux", "x86_64").is_ok());
        let error = known_machine("linux", "aarch64").expect_err("must be refused").to_string();
        assert!(error.contains("aarch64"), "{error}");
        assert!(known_machine("macos", "x86_64").is_err());
    }

    #[test]
    fn nodes_version_is_read() {
        assert!(node_is_good("v18.0.0\n") && node_is_good("v24.1.2"));
        for bad in ["v16.20.2", "", "node"] {
            assert!(!node_is_good(bad), "{bad}");
        }
    }
}
