//! `ampoule snapshot`: makes ahead, lists and removes what VMs are forked of.
//!
//! Owner: `cli` calls [`run`] once. Invariants: looking changes nothing; a beginning of a key that could be two
//! is refused before anything is removed.

mod build;
mod error;
mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
};

use sandbox::{
    Engine, Pin, SnapshotGc, SnapshotInfo, SnapshotsRemoved, Standing, list_snapshots, pin_snapshot,
};
use tokio::runtime::Runtime;

pub(crate) use build::ensure_standard;
pub use error::SnapshotCmdError;

use self::show::{Named, short};
use crate::{
    bare,
    class::End,
    cli::{
        args::StateArgs,
        snapshot_args::{GcArgs, PinArgs, SnapshotCommand},
        units,
    },
    prefix,
    registry::Registry,
    state_dir,
};

/// Digits of a key that people are shown.
const DIGITS: usize = 12;

/// Does what the command says.
pub fn run(command: &SnapshotCommand, registry: &Registry) -> Result<End, SnapshotCmdError> {
    match command {
        SnapshotCommand::Build(args) => {
            let key = build::run(args, registry)?;
            print(&format!("{key}\n"))?;
        }
        SnapshotCommand::Ls { json, state } => {
            let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
            let all = list(&state_dir, registry)?;
            let named = Named::all(&all, &state_dir);
            print(&if *json { show::array(&named) } else { show::table(&named) })?;
        }
        SnapshotCommand::Inspect { key, json, state } => {
            let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
            let all = list(&state_dir, registry)?;
            let one = Named::of(find(key, &all)?, &state_dir);
            print(&if *json { show::object(&one) } else { show::details(&one) })?;
        }
        SnapshotCommand::Rm { keys, state } => rm(keys, state)?,
        SnapshotCommand::Pin(args) => pin(args, Pin::Set)?,
        SnapshotCommand::Unpin(args) => pin(args, Pin::Cleared)?,
        SnapshotCommand::Gc(args) => gc(args, registry)?,
    }
    Ok(End::Success)
}

fn list(state_dir: &Path, registry: &Registry) -> Result<Vec<SnapshotInfo>, SnapshotCmdError> {
    let runtime = crate::runtime::new().map_err(SnapshotCmdError::Runtime)?;
    runtime.block_on(judged(state_dir, registry)).map_err(SnapshotCmdError::List)
}

/// The snapshots of a state directory, with the word of this host's backends on those that still fit it.
pub(crate) async fn judged(state_dir: &Path, registry: &Registry) -> sandbox::Result<Vec<SnapshotInfo>> {
    let all = list_snapshots(state_dir, &[])?;
    // it takes a moment to ask QEMU what it is
    if all.iter().all(|info| info.standing != Standing::Usable) {
        return Ok(all);
    }
    list_snapshots(state_dir, &registry.all().await)
}

/// Removes those of another VMM or host, which an engine that runs no VMs cannot tell.
pub(crate) async fn remove_unfit(
    engine: &Engine,
    state_dir: &Path,
    registry: &Registry,
) -> sandbox::Result<SnapshotsRemoved> {
    let mut removed = SnapshotsRemoved::default();
    for info in judged(state_dir, registry).await? {
        if info.standing == Standing::Unfit {
            engine.remove_snapshot(info.key.clone()).await?;
            removed.bytes += info.bytes;
            removed.removed.push(info.key);
        }
    }
    Ok(removed)
}

/// The one that is meant.
fn find<'a>(given: &str, all: &'a [SnapshotInfo]) -> Result<&'a SnapshotInfo, SnapshotCmdError> {
    let given = given.to_ascii_lowercase();
    Ok(prefix::find("snapshot", &given, all, DIGITS, |info| &info.key)?)
}

/// Those that are meant, each once.
fn find_all<'a>(
    given: &[String],
    all: &'a [SnapshotInfo],
) -> Result<Vec<&'a SnapshotInfo>, SnapshotCmdError> {
    let mut seen = BTreeSet::new();
    let found: Result<Vec<_>, _> = given.iter().map(|key| find(key, all)).collect();
    Ok(found?.into_iter().filter(|info| seen.insert(&info.key)).collect())
}

fn pin(args: &PinArgs, pin: Pin) -> Result<(), SnapshotCmdError> {
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let all = list_snapshots(&state_dir, &[]).map_err(SnapshotCmdError::List)?;
    for info in find_all(&args.keys, &all)? {
        pin_snapshot(&state_dir, &info.key, pin).map_err(SnapshotCmdError::Pin)?;
        let done = match pin {
            Pin::Set => "pinned",
            Pin::Cleared => "unpinned",
        };
        print(&format!("{done} {}\n", short(&info.key)))?;
    }
    Ok(())
}

fn rm(keys: &[String], state: &StateArgs) -> Result<(), SnapshotCmdError> {
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    let all = list_snapshots(&state_dir, &[]).map_err(SnapshotCmdError::List)?;
    let meant = find_all(keys, &all)?;
    if let Some(pinned) = meant.iter().find(|info| info.pinned) {
        return Err(SnapshotCmdError::Pinned(short(&pinned.key)));
    }
    with_engine(&state_dir, |runtime, engine| {
        for info in meant {
            let removed = runtime.block_on(engine.remove_snapshot(info.key.clone()));
            removed.map_err(SnapshotCmdError::Remove)?;
            print(&format!("removed {}, {}\n", short(&info.key), units::shown(info.bytes)))?;
        }
        Ok(())
    })
}

fn gc(args: &GcArgs, registry: &Registry) -> Result<(), SnapshotCmdError> {
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    if !state_dir.exists() {
        // a directory that is not there is not made to find nothing in it
        return print(&total(0, 0, &[]));
    }
    let before: BTreeMap<String, SnapshotInfo> =
        list(&state_dir, registry)?.into_iter().map(|info| (info.key.clone(), info)).collect();
    let policy = SnapshotGc { unused: args.unused_for, quota: args.quota };
    let collected = with_engine(&state_dir, |runtime, engine| {
        let collected = async {
            let mut removed = remove_unfit(engine, &state_dir, registry).await?;
            let more = engine.collect_snapshots(policy).await?;
            removed.bytes += more.bytes;
            removed.removed.extend(more.removed);
            Ok(removed)
        };
        runtime.block_on(collected).map_err(SnapshotCmdError::Remove)
    })?;
    let mut text = String::new();
    for key in &collected.removed {
        text.push_str(&format!("removed {}, {}\n", short(key), why(before.get(key))));
    }
    let left = list_snapshots(&state_dir, &[]).map_err(SnapshotCmdError::List)?;
    print(&(text + &total(collected.removed.len(), collected.bytes, &left)))
}

fn total(removed: usize, freed: u64, left: &[SnapshotInfo]) -> String {
    let bytes = left.iter().map(|info| info.bytes).sum();
    let (freed, bytes) = (units::shown(freed), units::shown(bytes));
    format!("snapshots: {removed} removed, {freed}; {} remain, {bytes}\n", left.len())
}

/// Why it went; `before` is what it was, if it could be read.
fn why(before: Option<&SnapshotInfo>) -> &'static str {
    match before.map(|info| info.standing) {
        None => "damaged",
        Some(Standing::Expired) => "too old",
        Some(Standing::Orphaned) => "of an image, kernel or agent that is gone",
        Some(Standing::Unfit) => "of another version or host",
        Some(Standing::Usable) => "unused, or over the quota",
    }
}

/// What needs an engine, but no VM.
fn with_engine<T>(
    state_dir: &Path,
    work: impl FnOnce(&Runtime, &Engine) -> Result<T, SnapshotCmdError>,
) -> Result<T, SnapshotCmdError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SnapshotCmdError::Runtime)?;
    let (engine, _) = runtime.block_on(bare::engine(state_dir)).map_err(SnapshotCmdError::Engine)?;
    let done = work(&runtime, &engine);
    runtime.block_on(engine.close());
    done
}

fn print(text: &str) -> Result<(), SnapshotCmdError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SnapshotCmdError::Output)
}
