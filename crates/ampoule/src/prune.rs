//! `ampoule prune`: removes what crashed runs left, blobs that nothing uses, and snapshots of no use.
//!
//! Invariants: nothing that a living process uses is touched, VMs that wait for an owner included: slots are locked by
//! their owners, blobs are held by runs and named by the records of VMs that are kept; a snapshot that is usable stays
//! so, unless its image goes; what is removed can be made again.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use sandbox::{SnapshotGc, Swept};
use store::{GcPolicy, Store};

use crate::{
    bare,
    class::{Class, Classed, End},
    cli::args::PruneArgs,
    image_cmd,
    in_use::InUse,
    registry::Registry,
    snapshot_cmd,
    state_dir::{self, NoStateDir},
};

/// Why not everything could be removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// Slots of dead processes.
    #[error("what dead processes left cannot be looked for")]
    Engine(#[source] sandbox::Error),
    /// One slot of a dead process.
    #[error("what a dead process left in slot {slot} cannot be removed")]
    Slot {
        /// The slot.
        slot: String,
        /// Why.
        #[source]
        source: sandbox::Error,
    },
    /// Snapshots.
    #[error("the snapshots of no use cannot be removed")]
    Snapshots(#[source] sandbox::Error),
    /// What uses files of images.
    #[error("it cannot be told what uses the files of the store")]
    InUse(#[source] sandbox::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A template of scratch disks.
    #[error("{} cannot be removed", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The system gives no threads.
    #[error("the system gives no threads")]
    Runtime(#[source] io::Error),
}

impl Classed for PruneError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir(error) => error.class(),
            Self::Engine(error)
            | Self::Slot { source: error, .. }
            | Self::Snapshots(error)
            | Self::InUse(error) => error.class(),
            Self::Image(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Template { .. } | Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}

/// Removes what can go, and says what went.
pub fn run(args: &PruneArgs, registry: &Registry) -> Result<End, PruneError> {
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    if !state_dir.exists() {
        return say(&format!("{} does not exist: there is nothing to remove", state_dir.display()));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PruneError::Runtime)?;
    let (engine, swept) = runtime.block_on(bare::engine(&state_dir)).map_err(PruneError::Engine)?;
    let pruned = slots(swept).and_then(|()| {
        // before the files: what one was made of is of use only as long as it fits this host
        let unfit = runtime.block_on(snapshot_cmd::remove_unfit(&engine, &state_dir, registry));
        let unfit = unfit.map_err(PruneError::Snapshots)?;
        files(args, &state_dir)?;
        // after the images: a snapshot of one that is gone is of no use
        let rest = runtime.block_on(engine.collect_snapshots(SnapshotGc::default()));
        let rest = rest.map_err(PruneError::Snapshots)?;
        let (removed, bytes) = (unfit.removed.len() + rest.removed.len(), unfit.bytes + rest.bytes);
        say(&format!("snapshots of no use: {removed} removed, {} MiB", bytes >> 20))?;
        let templates = templates(&state_dir.join("scratch"))?;
        say(&format!("scratch disk templates: {templates} removed"))
    });
    runtime.block_on(engine.close());
    pruned
}

/// What opening the engine removed.
fn slots(swept: Swept) -> Result<(), PruneError> {
    if let Some((slot, source)) = swept.failed.into_iter().next() {
        return Err(PruneError::Slot { slot: slot.to_string(), source });
    }
    say(&format!("VMs of dead processes: {} removed", swept.removed.len())).map(drop)
}

/// Images, and blobs that nothing uses.
fn files(args: &PruneArgs, state_dir: &Path) -> Result<(), PruneError> {
    let store = Store::open(image_cmd::store_dir(state_dir))?;
    image::sweep(&store);
    let collecting = store.collecting()?;
    let in_use = InUse::look(state_dir, &store).map_err(PruneError::InUse)?;
    let mut used = in_use.by_all();
    if args.all && !collecting.is_alone() {
        say("images: none removed, a process that runs uses them")?;
    } else if args.all {
        // and the snapshots of those that go
        used = in_use.by_vms();
        for image in image::ls(&store)? {
            let what = image_cmd::describe(&image);
            match in_use.on(&image) {
                Some(by) => say(&format!("image {what}: stays, in use by {by}"))?,
                None => {
                    image::rm(&image.name, &store, &used)?;
                    say(&format!("image {what}: removed"))?
                }
            };
        }
    }
    let collected = collecting.run(&GcPolicy::default(), &used)?;
    say(&format!(
        "store: {} files removed, {} MiB; {} MiB remain",
        collected.blobs,
        collected.bytes >> 20,
        collected.remaining >> 20
    ))
    .map(drop)
}

/// A template that is in use stays usable: it is copied from an open file.
fn templates(dir: &Path) -> Result<usize, PruneError> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(0) };
    let mut removed = 0;
    for path in entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "img"))
    {
        match fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PruneError::Template { path, source }),
        }
    }
    Ok(removed)
}

fn say(text: &str) -> Result<End, PruneError> {
    writeln!(io::stdout().lock(), "{text}").map_err(PruneError::Output)?;
    Ok(End::Success)
}
