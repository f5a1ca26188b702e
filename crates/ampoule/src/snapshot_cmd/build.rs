//! Making a snapshot ahead, so that the first VM of its size need not wait for it.
//!
//! Invariant: a signal ends it and leaves nothing of the VM that is saved; the engine is closed in each case.

use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

use sandbox::{PoolLimits, Standing, list_snapshots};

use super::{SnapshotCmdError, short};
use crate::{
    cli::{
        args::{MachineArgs, StateArgs},
        sandbox_args::SizeArgs,
        snapshot_args::BuildArgs,
        units,
    },
    exec::{
        machine::{self, Machine, MachineError, Make, Use},
        warn,
    },
    network::Router,
    registry::Registry,
    sandbox_cmd,
    signals::{Signals, Wish},
    sink::Look,
    state_dir,
};

/// Who speaks on standard error.
const BUILD: &str = "snapshot:";
const SETUP: &str = "setup:";

/// Makes what is asked for; its key.
pub(super) fn run(args: &BuildArgs, registry: &Registry) -> Result<String, SnapshotCmdError> {
    // wrong names are said before anything is looked for
    registry.needs(&args.machine.backend).map_err(MachineError::from)?;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let made = make(&args.size, args.disk, &args.machine, registry, &state_dir, BUILD)?;
    made.ok_or_else(|| SnapshotCmdError::NoForks(args.machine.backend.clone()))
}

/// Makes that of the VMs of jobs, on the backend that they run on, where it can fork.
pub(crate) fn ensure_standard(state: &StateArgs, registry: &Registry) -> Result<(), SnapshotCmdError> {
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    make(&SizeArgs::default(), machine::SCRATCH, &MachineArgs::default(), registry, &state_dir, SETUP)
        .map(drop)
}

fn make(
    size: &SizeArgs,
    disk: u64,
    args: &MachineArgs,
    registry: &Registry,
    state_dir: &Path,
    speaker: &str,
) -> Result<Option<String>, SnapshotCmdError> {
    let look = Look::of(&io::stderr());
    let runtime = crate::runtime::new().map_err(SnapshotCmdError::Runtime)?;
    runtime.block_on(async {
        // before anything is made that would have to be removed
        let signals = Signals::listen().map_err(SnapshotCmdError::Runtime)?;
        let mut wish = signals.wish();
        let make = Make { pool: PoolLimits::NONE, from: Use::Own, router: Router::Needless };
        let opened = machine::open_image(args, &size.image, registry, state_dir, make, look);
        let machine = tokio::select! {
            machine = opened => machine?,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => return Err(SnapshotCmdError::Cancelled),
        };
        let made = tokio::select! {
            made = template(&machine, (size, disk), state_dir, speaker, look) => made,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => Err(SnapshotCmdError::Cancelled),
        };
        // ends what is under way, and waits until nothing of it is left
        machine.engine.close().await;
        made
    })
}

/// The key, and words on what was done.
async fn template(
    machine: &Machine,
    (size, disk): (&SizeArgs, u64),
    state_dir: &Path,
    speaker: &str,
    look: Look,
) -> Result<Option<String>, SnapshotCmdError> {
    let before = list_snapshots(state_dir, &[]).map_err(SnapshotCmdError::List)?;
    let began = Instant::now();
    let spec = sandbox_cmd::spec(size, disk, &[], machine);
    let made = machine.engine.template(&spec);
    tokio::pin!(made);
    let mut waiting = machine.engine.waiting();
    let key = loop {
        tokio::select! {
            made = &mut made => break made.map_err(SnapshotCmdError::Build)?,
            Ok(()) = waiting.changed() => {
                if let Some(reason) = waiting.borrow_and_update().clone() {
                    warn(look, &format!("waiting for room on this host: {reason}"));
                }
            }
        }
    };
    let Some(key) = key else { return Ok(None) };
    let there = before.iter().any(|info| info.key == key && info.standing == Standing::Usable);
    let of = format!(
        "{}, {} processors, {}, a disk of {}",
        machine.image.description,
        size.cpus,
        size.memory,
        units::shown(disk)
    );
    let text = if there {
        format!("the snapshot {} is there: {of}", short(&key))
    } else {
        format!("made the snapshot {} in {:.1} s: {of}", short(&key), began.elapsed().as_secs_f64())
    };
    // nobody is left to tell if standard error is gone
    let _ = writeln!(io::stderr().lock(), "{} {text}", look.bold(speaker));
    Ok(Some(key))
}
