//! `ampoule doctor`: each thing that it looked at, ok or not, and the command that mends it.
//!
//! Invariants: it changes nothing on the host, and starts no engine; a check that cannot be made is told as such and never as ok.

mod boundary;
mod engine;
mod kernel;
mod network;
mod software;
mod state;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anstyle::AnsiColor;

use crate::{
    class::{Class, Classed, End},
    cli::args::{DoctorArgs, MachineArgs},
    registry::Registry,
    sanitise::{self, Colours},
    sink::Look,
    state_dir::{self, NoStateDir},
};

pub(crate) use software::version as qemu_version;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// Good to know: it is slower, or a later feature will need it.
    Note,
    /// Nothing runs without it.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// The commands that mend it, or what to do.
    pub mend: Vec<String>,
}

impl Finding {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, state: State::Ok, seen: seen.into(), mend: Vec::new() }
    }

    fn note(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, state: State::Note, seen: seen.into(), mend: Vec::new() }
    }

    fn bad(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, state: State::Bad, seen: seen.into(), mend: Vec::new() }
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for DoctorError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir(error) => error.class(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

/// What the checks look at.
struct Patient<'a> {
    state_dir: PathBuf,
    machine: &'a MachineArgs,
    registry: &'a Registry,
}

/// Looks at everything and prints it.
pub fn run(args: &DoctorArgs, registry: &Registry) -> Result<End, DoctorError> {
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let patient = Patient { state_dir, machine: &args.machine, registry };
    let mut findings = vec![kernel::architecture(), software::system()];
    let tun = kernel::tun();
    let has_tun = tun.state == State::Ok;
    findings.extend([kernel::kvm(), kernel::user_namespaces(), tun, kernel::cgroups()]);
    findings.push(network::look());
    findings.extend([software::qemu(), software::tools(), software::agent(), software::subordinate_ids()]);
    findings.extend(state::look(&patient));
    findings.push(engine::look(&patient.state_dir));
    findings.extend(boundary::look(&patient));
    if !has_tun {
        findings.retain(|finding| !says_the_same_of_tun(finding));
    }
    let mut out = io::stdout().lock();
    print(&findings, Look::of(&io::stdout()), &mut out).map_err(DoctorError::Output)?;
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad { End::Infrastructure } else { End::Success })
}

/// Whether it is what follows from it that `/dev/net/tun` cannot be opened, which is told with what mends it.
fn says_the_same_of_tun(finding: &Finding) -> bool {
    let of_cards = finding.name == network::NAME || finding.name == boundary::CARD;
    of_cards && finding.state != State::Ok && finding.seen.contains("tun")
}

fn print(findings: &[Finding], look: Look, out: &mut dyn Write) -> io::Result<()> {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    for finding in findings {
        let (word, colour) = match finding.state {
            State::Ok => ("ok  ", AnsiColor::Green),
            State::Note => ("note", AnsiColor::Yellow),
            State::Bad => ("BAD ", AnsiColor::Red),
        };
        let seen = sanitise::line(&finding.seen.replace('\n', "; "), Colours::Drop);
        writeln!(out, "{} {:<width$}  {seen}", look.paint(colour.on_default().bold(), word), finding.name)?;
        for mend in &finding.mend {
            writeln!(out, "     {:<width$}  {} {mend}", "", look.dim("→"))?;
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let verdict = match (count(State::Bad), count(State::Note)) {
        (0, 0) => "everything is as it should be".to_owned(),
        (0, notes) => format!("VMs can run; {notes} to know"),
        (bad, notes) => format!("{bad} to mend, {notes} to know"),
    };
    writeln!(out, "\n{}", look.bold(verdict))?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_no_tun_is_not_told_again() {
        for (name, seen, same) in [
            (
                network::NAME,
                "cannot start pasta: Failed to open tun socket in namespace: VMs have no card",
                true,
            ),
            (boundary::CARD, "VMs have none: /dev/net/tun cannot be opened", true),
            (network::NAME, "pasta is not installed: VMs have no network card", false),
            ("/dev/net/tun", "cannot be opened", false),
        ] {
            assert_eq!(says_the_same_of_tun(&Finding::note(name, seen)), same, "{name}: {seen}");
        }
    }

    #[test]
    fn what_mends_it_stands_below() {
        let findings = [
            Finding::ok("architecture", "x86_64"),
            Finding::note("KVM", "/dev/kvm does not exist: VMs are emulated").mend("sudo modprobe kvm"),
            Finding::bad("QEMU", "not installed")
                .mend("sudo apt-get install qemu-system-x86")
                .mend("or: ampoule setup"),
        ];
        let mut out = Vec::new();
        print(&findings, Look::new(Colours::Drop), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
