//! `act` as something to compare a local run with.
//!
//! Purpose: knows how to run it without Docker and without a network; `testing/act` pins it.
//! Owner: [`Act::ensure`]; only `bench exec` calls it, no test does.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::go::{Built, Pinned};

pub(super) const ACT: Pinned =
    Pinned { name: "act", module: "github.com/nektos/act", package: "github.com/nektos/act" };

/// A built act.
pub(super) struct Act {
    built: Built,
    pub(super) version: String,
}

impl Act {
    /// The built one; builds it first where that was not done yet.
    pub(super) fn ensure() -> Result<Self> {
        let built = ACT.ensure()?;
        Ok(Self { version: built.version.clone(), built })
    }

    /// A run of one workflow on the host itself: no container, nothing that is loaded, and nothing of the user's
    /// own settings, for which `home` stands in.
    pub(super) fn command(&self, project: &Path, workflow: &str, home: &Path) -> Command {
        let mut command = Command::new(&self.built.program);
        command.args(["push", "--json", "-P", "ubuntu-latest=-self-hosted", "--action-offline-mode"]);
        command.args(["--pull=false", "--no-cache-server", "-W", workflow]);
        command.current_dir(project).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home).env("XDG_CONFIG_HOME", home).env("XDG_CACHE_HOME", home);
        command
    }
}
