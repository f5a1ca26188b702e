//! What the tasks need of the toolchain: the musl target of the agent, rustfmt and clippy, Go.
//!
//! Purpose: the part of set-up that comes before anything can be built. What the product itself needs of a
//! host is the matter of `ampoule setup`, and only there.
//!
//! Invariants: nothing is installed that is there already; everything goes into the user's own rustup.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run};

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
    packages(&["g++"], "fuzzing needs a C++ compiler")
}

/// Makes node 18 or newer available: the fork action is written for it.
pub(crate) fn node() -> Result<()> {
    if output("node", &["--version"]).is_ok_and(|version| node_is_good(&version)) {
        return Ok(());
    }
    packages(&["nodejs"], "the tests of the fork action need node 18 or newer")?;
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
    packages(&["python3-pip"], "the tests of the controller's clients need pip")
}

/// Makes Go and a C compiler available, for the Gitea that the tests talk to.
pub(crate) fn go() -> Result<()> {
    if output("gcc", &["--version"]).is_err() {
        packages(&["gcc", "libc6-dev"], "Gitea's database is written in C")?;
    }
    if find_go().is_none() {
        packages(&["golang-go"], "the tests build a Gitea, which needs Go")?;
    }
    let go = find_go().context("no `go` on the path, not even after its package was installed")?;
    let wanted = fs::read_to_string(root().join(GITEA).join("go.mod")).context("the module of Gitea")?;
    let wanted = wanted.lines().find_map(|line| line.strip_prefix("go ")).context("go.mod names no Go")?;
    let version = |of: &mut Command| -> Result<String> {
        let output = of.args(["env", "GOVERSION"]).output().context("starting go")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let have = version(Command::new(&go).env("GOTOOLCHAIN", "local"))?;
    match enough(&have, wanted) {
        Go::Enough => Ok(()),
        Go::Loads => {
            println!("$ go version  # {have} loads go{wanted} by itself");
            let loaded =
                version(Command::new(&go).env("GOTOOLCHAIN", "auto").current_dir(root().join(GITEA)));
            loaded.map(drop).with_context(|| format!("{have} is there, go{wanted} is needed: see go.dev/dl"))
        }
        Go::TooOld => bail!("{} is {have}; the tests' Gitea needs go{wanted}: see go.dev/dl", go.display()),
    }
}

/// The module that pins the tests' Gitea.
const GITEA: &str = "testing/gitea";

/// Go where `testkit` looks for it, too.
pub(crate) fn find_go() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/local/go/bin")]);
    dirs.map(|dir| dir.join("go")).find(|go| go.is_file())
}

#[derive(Debug, PartialEq, Eq)]
enum Go {
    Enough,
    /// Old, but it knows how to get a newer one.
    Loads,
    TooOld,
}

fn enough(have: &str, wanted: &str) -> Go {
    let numbers = |text: &str| -> Vec<u32> {
        let text = text.trim_start_matches("go");
        // a release candidate is older than its release, which no test will mind
        text.split(['.', 'r', ' ', '-']).map_while(|number| number.parse().ok()).collect()
    };
    let have = numbers(have);
    if have >= numbers(wanted) {
        Go::Enough
    } else if have >= vec![1, 21] {
        Go::Loads
    } else {
        Go::TooOld
    }
}

/// Installs packages: directly as root, otherwise by sudo, which asks where it has to.
fn packages(names: &[&str], why: &str) -> Result<()> {
    let root = output("id", &["-u"])?.trim() == "0";
    if !root && output("sudo", &["--version"]).is_err() {
        bail!("{why}, and there is no sudo: as root, apt-get install {}", names.join(" "));
    }
    println!("{why}");
    let apt = |args: &[&str]| {
        let mut apt = command(if root { "env" } else { "sudo" }, if root { &[] } else { &["env"] });
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args);
        apt
    };
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "--yes", "--no-install-recommends"]).args(names))
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

    #[test]
    fn an_old_go_loads_a_new_one_and_a_very_old_one_cannot() {
        assert_eq!(enough("go1.26.3", "1.26.3"), Go::Enough);
        assert_eq!(enough("go1.27", "1.26.3"), Go::Enough);
        assert_eq!(enough("go1.24.4", "1.26.3"), Go::Loads);
        assert_eq!(enough("go1.19.8", "1.26.3"), Go::TooOld);
        assert_eq!(enough("devel", "1.26.3"), Go::TooOld);
    }
}
