//! `act`, built once from its Go module, as something to compare a local run with.
//!
//! Purpose: `testing/act` pins the version and all that it is made of by checksum; this builds it with the host's
//! Go, keeps it in the target directory, and knows how to run it without Docker and without a network.
//! Owner: [`Act::ensure`]; only `bench exec` calls it, no test does.
//!
//! Invariant: what is kept lies beside the go.mod and go.sum that it was built from; others mean another build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    host,
    run::{root, run, target_dir},
};

const MODULE: &str = "github.com/nektos/act";
const PINS: [&str; 2] = ["go.mod", "go.sum"];

/// A built act.
pub(super) struct Act {
    program: PathBuf,
    pub(super) version: String,
}

impl Act {
    /// The built one; builds it first where that was not done yet, which takes a minute or two.
    pub(super) fn ensure() -> Result<Self> {
        let (module, kept) = (root().join("testing/act"), target_dir()?.join("act"));
        let program = kept.join("act");
        let mut same = program.is_file();
        let mut pinned = Vec::new();
        for name in PINS {
            let text = fs::read_to_string(module.join(name)).with_context(|| format!("act's {name}"))?;
            same &= fs::read_to_string(kept.join(name)).is_ok_and(|old| old == text);
            pinned.push(text);
        }
        let version = version(&pinned[0]).context("go.mod names no version of act")?.to_owned();
        if !same {
            fs::create_dir_all(&kept).with_context(|| format!("making {}", kept.display()))?;
            // behind the last of these the whole is kept: a build that was cut is done again
            let last = kept.join(PINS[1]);
            if last.exists() {
                fs::remove_file(&last).with_context(|| format!("removing {}", last.display()))?;
            }
            build(&module, &program)?;
            for (name, text) in PINS.iter().zip(&pinned) {
                fs::write(kept.join(name), text).with_context(|| format!("keeping act's {name}"))?;
            }
        }
        Ok(Self { program, version })
    }

    /// A run of one workflow on the host itself: no container, nothing that is loaded, and nothing of the user's
    /// own settings, for which `home` stands in.
    pub(super) fn command(&self, project: &Path, workflow: &str, home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["push", "--json", "-P", "ubuntu-latest=-self-hosted", "--action-offline-mode"]);
        command.args(["--pull=false", "--no-cache-server", "-W", workflow]);
        command.current_dir(project).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home).env("XDG_CONFIG_HOME", home).env("XDG_CACHE_HOME", home);
        command
    }
}

fn build(module: &Path, program: &Path) -> Result<()> {
    host::go()?;
    let go = host::find_go().context("no `go` on the path")?;
    let mut compile = Command::new(go);
    compile.args(["build", "-mod=readonly", "-ldflags=-s -w", "-o"]).arg(program).arg(MODULE);
    compile.current_dir(module).env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0").env("GOWORK", "off");
    run(compile.env_remove("GOFLAGS"))
}

/// The version that go.mod pins.
fn version(pins: &str) -> Option<&str> {
    let line = pins.lines().find_map(|line| line.trim().strip_prefix(MODULE)?.strip_prefix(" v"))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_read() {
        let pins = fs::read_to_string(root().join("testing/act/go.mod")).unwrap();
        assert!(version(&pins).unwrap().starts_with("0.2."));
        assert_eq!(version("module m\n\ntool github.com/nektos/act\n"), None);
    }
}
