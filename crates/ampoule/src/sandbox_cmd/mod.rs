//! `ampoule sandbox run`: one command in several sandboxes, each a fork of a warm VM.
//!
//! ```text
//!  options ─▶ machine ─▶ group: n members, each  forked ─▶ command ─▶ destroyed ─▶ worst exit code
//!                           │                      │ one fails: all are destroyed, an error
//!                           └── first signal: all are destroyed, 130; second: end at once
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: nothing of a VM is left when this returns, but after a second
//! signal, when VMs end with their owner; what a guest prints is shown as it comes, or kept up to a limit.

mod error;
mod group;
mod kept;
mod member;
mod rows;
mod worst;

use std::{
    io::{self, Write},
    time::Duration,
};

use sandbox::{Bind, Forward, LeaseSpec, PoolLimits, Start};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vm::{OwnerLoss, SlotId};

pub use error::SandboxCmdError;
pub use kept::{
    Code, branch,
    copy::CopyError,
    cp, create, inside, inspect, ls, network,
    place::{Place, PlaceError},
    rm,
};
pub(crate) use kept::{MARK, place::Copy};
pub use worst::Worst;

use self::{
    group::{Group, Stopped},
    member::{Member, Report, Task},
    rows::Shown,
};
use crate::{
    cli::sandbox_args::{RunArgs, SizeArgs},
    exec::{
        machine::{self, Machine, MachineError, Make, Use},
        warn,
    },
    limits,
    network::{self, Router},
    registry::Registry,
    signals::{Signals, Wish},
    sink::{Broken, Look, Writer, escaped},
    state_dir,
};

/// When the first sandbox is not there after this time, why is told.
const SLOW: Duration = Duration::from_secs(2);

/// Forks, runs, destroys; the worst exit code.
pub fn run(args: &RunArgs, registry: &Registry) -> Result<Worst, SandboxCmdError> {
    // wrong names are said before anything is looked for
    registry.needs(&args.machine.backend).map_err(MachineError::from)?;
    if args.command.first().is_some_and(String::is_empty) {
        return Err(SandboxCmdError::NoProgram);
    }
    network::check_forwards(&args.forwards)?;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    limits::raise_files();
    let runtime = crate::runtime::new().map_err(SandboxCmdError::Runtime)?;
    let look = Look::of(&io::stderr());
    let end = runtime.block_on(async {
        // before anything is made that would have to be removed
        let signals = Signals::listen().map_err(SandboxCmdError::Runtime)?;
        let mut wish = signals.wish();
        let asked = args.network.network.as_ref();
        let make = Make { pool: PoolLimits::NONE, from: Use::of(args.engine), router: Router::of(asked) };
        let opened = machine::open_image(&args.machine, &args.size.image, registry, &state_dir, make, look);
        let mut machine = tokio::select! {
            machine = opened => machine?,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => return Err(SandboxCmdError::Cancelled),
        };
        args.network.settle(&mut machine, look)?;
        if !machine.missing.is_empty() {
            let missing = machine.missing.join(", ");
            warn(look, &format!("this host cannot give every part of the jail: {missing}"));
        }
        let ended = if args.json {
            collected(args, &machine, &signals, look).await
        } else {
            shown(args, &machine, &signals, look).await
        };
        if !matches!(ended, Err(SandboxCmdError::CancelledAtOnce)) {
            machine.engine.close().await;
        }
        ended
    });
    // a thread that is stuck in a stopped terminal is left behind
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

/// Rows as they come.
async fn shown(
    args: &RunArgs,
    machine: &Machine,
    signals: &Signals,
    look: Look,
) -> Result<Worst, SandboxCmdError> {
    let writer = Writer::start(Box::new(Shown::new(args.count))).map_err(SandboxCmdError::Runtime)?;
    let out = writer.out();
    let broken = writer.broken();
    let ended = supervised(args, machine, Report::Rows(out.clone()), signals, &broken, look).await;
    if ended.is_err() && !broken.is() {
        // nobody waits for a reader that is slow
        out.give_up();
    }
    drop(out);
    let written = writer.finish().await;
    match (ended, written) {
        (Ok(_), Err(error)) => Err(SandboxCmdError::Output(error)),
        // why it was cancelled
        (Err(SandboxCmdError::Cancelled), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(SandboxCmdError::Output(error))
        }
        (Err(error), _) => Err(error),
        (Ok(members), Ok(())) => Worst::of(members),
    }
}

/// One array in the end.
async fn collected(
    args: &RunArgs,
    machine: &Machine,
    signals: &Signals,
    look: Look,
) -> Result<Worst, SandboxCmdError> {
    let report = Report::Kept { most: member::most_kept(args.count) };
    let members = supervised(args, machine, report, signals, &Broken::default(), look).await?;
    print(&members).map_err(SandboxCmdError::Output)?;
    Worst::of(members)
}

/// The members' ends. A signal, and an output that cannot be written, end them all.
async fn supervised(
    args: &RunArgs,
    machine: &Machine,
    report: Report,
    signals: &Signals,
    broken: &Broken,
    look: Look,
) -> Result<Vec<Member>, SandboxCmdError> {
    let task = Task { command: args.command.clone(), count: args.count, timeout: args.timeout, report };
    let group = Group::new(&machine.engine, spec(&args.size, args.disk, &args.forwards, machine), task);
    let cancel = CancellationToken::new();
    let members = group.run(&cancel, look);
    let slow = async {
        if timeout(SLOW, group.first()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(members, slow);
    let mut hinted = false;
    let mut waiting = machine.engine.waiting();
    let mut seen = signals.wish();
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut members => return ended.map_err(|stopped| match stopped {
                Stopped::Cancelled => SandboxCmdError::Cancelled,
                Stopped::Fork { index, source } => SandboxCmdError::Fork { index, count: args.count, source },
            }),
            () = &mut slow, if !hinted => {
                hinted = true;
                say(look, "the first sandbox of a kind takes some seconds: its snapshot is made");
            }
            Ok(()) = waiting.changed() => {
                if let Some(reason) = waiting.borrow_and_update().clone() {
                    say(look, &format!("waiting for room on this host: {reason}"));
                }
            }
            how = broken.how(), if !told => {
                told = true;
                signals.raise(how);
            }
            Ok(()) = seen.changed() => match *seen.borrow_and_update() {
                Wish::Run => {}
                Wish::End(signal) => {
                    warn(look, &format!("{}: the sandboxes are destroyed", signal.reason()));
                    cancel.cancel();
                }
                Wish::EndNow(_) => return Err(SandboxCmdError::CancelledAtOnce),
            },
        }
    }
}

/// The name of a sandbox.
pub(crate) fn name(id: SlotId) -> String {
    format!("sb-{id}")
}

fn say(look: Look, text: &str) {
    // nobody is left to tell if standard error is gone
    let _ = writeln!(io::stderr().lock(), "{} {text}", look.bold("sandbox:"));
}

/// What is leased: VMs of this size, with names that lead to somewhere.
pub(crate) fn spec(size: &SizeArgs, disk: u64, forwards: &[Forward], machine: &Machine) -> LeaseSpec {
    let (network, forwards) = (machine.network.clone(), forwards.to_vec());
    LeaseSpec {
        kernel: machine.image.kernel.clone(),
        initramfs: machine.image.initramfs.clone(),
        root: machine.image.root.clone(),
        cpus: size.cpus,
        memory: size.memory,
        scratch_bytes: disk,
        bind: Bind { network, limits: machine.limits, forwards, ..controller::guest::bind() },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: sandbox::WhenFull::Wait,
    }
}

/// An object in each line, in the order of the indexes.
fn print(members: &[Member]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (at, member) in members.iter().enumerate() {
        let begin = if at == 0 { "[" } else { ",\n " };
        write!(out, "{begin}{}", escaped(serde_json::to_string(&member.json())?))?;
    }
    writeln!(out, "]")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        class::{Class, Classed},
        cli::kept_args::CreateArgs,
    };

    #[derive(Parser)]
    enum Command {
        Run(RunArgs),
        Create(CreateArgs),
    }

    #[test]
    fn one_name_to_two_places_is_said_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let parse = |text: &str| {
            let text = format!("sandbox {text} --forward a:80=b:80 --forward A:80=c:1");
            let mut words: Vec<_> = text.split(' ').map(std::ffi::OsString::from).collect();
            words.extend(["--state-dir".into(), state.clone().into_os_string()]);
            words.extend(text.contains("run").then(|| ["--".into(), "true".into()]).into_iter().flatten());
            Command::try_parse_from(words).unwrap()
        };
        let registry = Registry::standard();
        for text in ["run", "create"] {
            let error = match parse(text) {
                Command::Run(args) => run(&args, &registry).err(),
                Command::Create(args) => create(&args, &registry).err(),
            };
            let error = error.unwrap();
            assert!(matches!(error, SandboxCmdError::TwoPlaces(_)), "{text}: {error}");
            assert_eq!(error.class(), Class::User);
            assert!(error.to_string().contains("a:80 is given twice"), "{error}");
        }
        assert!(!state.exists());
    }
}
