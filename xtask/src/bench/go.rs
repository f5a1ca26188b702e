//! Programs of others, each built once from a Go module that pins it, as something to compare with.
//!
//! Purpose: a module of `testing` pins the version and all that it is made of by checksum; this builds it with the
//! host's Go and keeps it in the target directory. Owner: [`Pinned::ensure`]; only benches call it, no test does.
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

const PINS: [&str; 2] = ["go.mod", "go.sum"];

/// A program, by the module that has it.
pub(super) struct Pinned {
    /// Its name, and that of its directories in `testing` and the target directory.
    pub(super) name: &'static str,
    /// The module.
    pub(super) module: &'static str,
    /// The package that is the program.
    pub(super) package: &'static str,
}

/// A built program.
pub(super) struct Built {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

impl Pinned {
    /// The built one; builds it first where that was not done yet, which takes a minute or two.
    pub(super) fn ensure(&self) -> Result<Built> {
        let (module, kept) = (root().join("testing").join(self.name), target_dir()?.join(self.name));
        let program = kept.join(self.name);
        let mut same = program.is_file();
        let mut pinned = Vec::new();
        for name in PINS {
            let text =
                fs::read_to_string(module.join(name)).with_context(|| format!("{}'s {name}", self.name))?;
            same &= fs::read_to_string(kept.join(name)).is_ok_and(|old| old == text);
            pinned.push(text);
        }
        let version =
            self.version(&pinned[0]).with_context(|| format!("go.mod names no version of {}", self.name))?;
        let version = version.to_owned();
        if !same {
            fs::create_dir_all(&kept).with_context(|| format!("making {}", kept.display()))?;
            // behind the last of these the whole is kept: a build that was cut is done again
            let last = kept.join(PINS[1]);
            if last.exists() {
                fs::remove_file(&last).with_context(|| format!("removing {}", last.display()))?;
            }
            self.build(&module, &program)?;
            for (name, text) in PINS.iter().zip(&pinned) {
                fs::write(kept.join(name), text)
                    .with_context(|| format!("keeping {}'s {name}", self.name))?;
            }
        }
        Ok(Built { program, version })
    }

    fn build(&self, module: &Path, program: &Path) -> Result<()> {
        host::go()?;
        let go = host::find_go().context("no `go` on the path")?;
        let mut compile = Command::new(go);
        compile.args(["build", "-mod=readonly", "-ldflags=-s -w", "-o"]).arg(program).arg(self.package);
        compile.current_dir(module).env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0").env("GOWORK", "off");
        run(compile.env_remove("GOFLAGS"))
    }

    /// The version that go.mod pins.
    fn version<'a>(&self, pins: &'a str) -> Option<&'a str> {
        let of = |line: &'a str| {
            let line = line.trim();
            line.strip_prefix("require ").unwrap_or(line).strip_prefix(self.module)?.strip_prefix(" v")
        };
        pins.lines().find_map(of)?.split_whitespace().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_versions_are_read() {
        for (tool, begin) in [(&super::super::act::ACT, "0.2."), (&super::super::validate::ACTIONLINT, "1.")]
        {
            let pins = fs::read_to_string(root().join("testing").join(tool.name).join("go.mod")).unwrap();
            assert!(tool.version(&pins).unwrap().starts_with(begin), "{}", tool.name);
            assert_eq!(tool.version(&format!("module m\n\ntool {}\n", tool.package)), None);
        }
    }
}
