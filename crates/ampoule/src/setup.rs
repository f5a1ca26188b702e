//! `ampoule setup`: installs what this host lacks, then makes the root image and its snapshot if there are none.
//!
//! ```text
//!  look ──nothing missing──────────────────────────────▶ image ──▶ snapshot ──▶ done
//!    └─missing─▶ print what will run ─▶ root, or yes ─▶ apt ─▶ look again ─▶ image
//! ```
//! Invariants: as a plain user nothing runs by sudo that was not printed before and answered with yes, on the
//! terminal or by `--yes`; a second run finds everything there and does nothing; without the snapshot, which the
//! first VM makes as well, the host is ready all the same.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::{Command, ExitStatus, Stdio},
};

use crate::{
    causes,
    class::{Class, Classed, End},
    cli::args::SetupArgs,
    doctor::qemu_version,
    exec::warn,
    host::{self, Need, Os, QEMU},
    image_cmd::{self, ImageCmdError},
    registry::Registry,
    sink::Look,
    snapshot_cmd,
};

/// Why the host is not ready.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Another architecture.
    #[error("only x86_64 works so far, and this machine is {0}")]
    Architecture(&'static str),
    /// Another system.
    #[error("this system ({name}) is neither Debian nor Ubuntu; install by hand: {missing}")]
    System {
        /// What it calls itself.
        name: String,
        /// What is missing.
        missing: String,
    },
    /// There is no terminal to ask at.
    #[error("these packages have to be installed by sudo, and there is no terminal to ask at: give `--yes`")]
    NobodyToAsk,
    /// The answer was no.
    #[error("nothing was installed")]
    Refused,
    /// There is neither root nor sudo.
    #[error("sudo is not installed; as root, run: {0}")]
    NoSudo(String),
    /// A command could not be started.
    #[error("`{command}` cannot be started")]
    Start {
        /// It.
        command: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// It.
        command: String,
        /// How.
        status: ExitStatus,
    },
    /// apt said that all is well, and it is not.
    #[error("still missing after the installation: {0}")]
    StillMissing(String),
    /// The system's QEMU is too old.
    #[error("this system's QEMU is {found}, and 7.2 or newer is needed (Debian 12, Ubuntu 24.04 or newer)")]
    OldQemu {
        /// Its version.
        found: String,
    },
    /// The terminal cannot be read or written.
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    /// The image could not be made.
    #[error(transparent)]
    Image(#[from] ImageCmdError),
}

impl Classed for SetupError {
    fn class(&self) -> Class {
        match self {
            Self::NobodyToAsk => Class::User,
            Self::Refused => Class::Cancelled,
            Self::Architecture(_)
            | Self::System { .. }
            | Self::NoSudo(_)
            | Self::Start { .. }
            | Self::Failed { .. }
            | Self::StillMissing(_)
            | Self::OldQemu { .. }
            | Self::Terminal(_) => Class::Infrastructure,
            Self::Image(error) => error.class(),
        }
    }
}

/// Makes this host ready.
pub fn run(args: &SetupArgs, registry: &Registry) -> Result<End, SetupError> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(SetupError::Architecture(std::env::consts::ARCH));
    }
    let missing = host::missing_for_setup();
    if args.check {
        for need in &missing {
            say(&format!("missing: {} (package {}), which {}", need.what, need.package, need.purpose))?;
        }
        return Ok(if missing.is_empty() { End::Success } else { End::User });
    }
    if missing.is_empty() {
        say("all packages are there")?;
    } else {
        install(&missing, args.yes)?;
    }
    check_qemu()?;
    if !args.no_image {
        image_cmd::ensure_standard(&args.state, args.mirror.as_deref())?;
        return Ok(snapshot(args, registry));
    }
    Ok(End::Success)
}

/// Makes what VMs of jobs are forked of, so that the first of them need not wait for it.
fn snapshot(args: &SetupArgs, registry: &Registry) -> End {
    let Err(error) = snapshot_cmd::ensure_standard(&args.state, registry) else { return End::Success };
    if error.class() == Class::Cancelled {
        return End::Cancelled;
    }
    let look = Look::of(&io::stderr());
    warn(look, &format!("no snapshot was made, and the first VM tries it again: {}", causes::line(&error)));
    End::Success
}

fn install(missing: &[Need], yes: bool) -> Result<(), SetupError> {
    let os = Os::read();
    if !os.has_apt() {
        return Err(SetupError::System { name: os.name, missing: names(missing) });
    }
    let commands = commands(missing);
    let root = host::is_root();
    let shown: Vec<String> = commands
        .iter()
        .map(|words| if root { words.join(" ") } else { format!("sudo {}", words.join(" ")) })
        .collect();
    say(&format!("missing: {}", names(missing)))?;
    say(if root { "running:" } else { "this will run:" })?;
    for command in &shown {
        say(&format!("  {command}"))?;
    }
    if !root {
        if host::program("sudo").is_none() {
            return Err(SetupError::NoSudo(shown.join(" && ").replace("sudo ", "")));
        }
        if !yes {
            confirm()?;
        }
    }
    for (words, shown) in commands.iter().zip(&shown) {
        execute(words, shown, root)?;
    }
    match host::missing_for_setup() {
        left if left.is_empty() => Ok(()),
        left => Err(SetupError::StillMissing(names(&left))),
    }
}

/// What is run, without sudo.
fn commands(missing: &[Need]) -> [Vec<String>; 2] {
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut install = words(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"]);
    install.extend(words(&["--no-install-recommends"]));
    install.extend(words(&packages));
    [words(&["apt-get", "update"]), install]
}

fn names(needs: &[Need]) -> String {
    needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ")
}

fn confirm() -> Result<(), SetupError> {
    if !io::stdin().is_terminal() {
        return Err(SetupError::NobodyToAsk);
    }
    let mut err = io::stderr().lock();
    write!(err, "Go on? [y/N] ").and_then(|()| err.flush()).map_err(SetupError::Terminal)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(SetupError::Terminal)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(SetupError::Refused),
    }
}

/// Runs one command; apt's own words go where ours go.
fn execute(words: &[String], shown: &str, root: bool) -> Result<(), SetupError> {
    let mut all: Vec<&str> = words.iter().map(String::as_str).collect();
    if !root {
        all.insert(0, "sudo");
    }
    let Some((program, rest)) = all.split_first() else { return Ok(()) };
    let failed = |source| SetupError::Start { command: shown.to_owned(), source };
    let status = Command::new(program)
        .args(rest)
        .stdin(if root { Stdio::null() } else { Stdio::inherit() })
        // standard output is for what was asked for
        .stdout(io::stderr())
        .status()
        .map_err(failed)?;
    if status.success() { Ok(()) } else { Err(SetupError::Failed { command: shown.to_owned(), status }) }
}

fn check_qemu() -> Result<(), SetupError> {
    let output = Command::new(host::program(QEMU).unwrap_or_else(|| QEMU.into()))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| SetupError::Start { command: format!("{QEMU} --version"), source })?;
    match qemu_version(&String::from_utf8_lossy(&output.stdout)) {
        Some(version) if version < (7, 2) => {
            Err(SetupError::OldQemu { found: format!("{}.{}", version.0, version.1) })
        }
        _ => Ok(()),
    }
}

fn say(text: &str) -> Result<(), SetupError> {
    let look = Look::of(&io::stderr());
    writeln!(io::stderr().lock(), "{} {text}", look.bold("setup:")).map_err(SetupError::Terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once() {
        let need = |what, package| Need { what, package, purpose: "" };
        let [update, install] = commands(&[need("b", "pkg-b"), need("a", "pkg-a"), need("a2", "pkg-a")]);
        assert_eq!(update, ["apt-get", "update"]);
        assert_eq!(
            install.join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends pkg-a pkg-b"
        );
    }
}
