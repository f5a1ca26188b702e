//! `ampoule prune`: removes what crashed runs left, and blobs that no image uses.
//!
//! Invariants: nothing that a living process uses is touched: slots are locked by their owners, blobs are
//! held by runs; what is removed can be made again.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use sandbox::{Engine, EngineConfig, Patience, PoolLimits};
use store::{GcPolicy, Store};
use vm::{Backend, BootSpec, Boundary, Capabilities, Machine, Slot};

use crate::{
    class::{Class, Classed, End},
    cli::args::PruneArgs,
    image_cmd,
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
            Self::Engine(error) | Self::Slot { source: error, .. } => error.class(),
            Self::Image(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Template { .. } | Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}

/// Removes what can go, and says what went.
pub fn run(args: &PruneArgs) -> Result<End, PruneError> {
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    if !state_dir.exists() {
        return say(&format!("{} does not exist: there is nothing to remove", state_dir.display()));
    }
    let slots = slots(&state_dir)?;
    say(&format!("VMs of dead processes: {slots} removed"))?;
    let store = Store::open(image_cmd::store_dir(&state_dir))?;
    image::sweep(&store);
    if args.all {
        for image in image::ls(&store)? {
            image::rm(&image.name, &store)?;
            say(&format!("image {}: removed", image_cmd::describe(&image)))?;
        }
    }
    let collected = store.gc(&GcPolicy::default())?;
    say(&format!(
        "store: {} files removed, {} MiB; {} MiB remain",
        collected.blobs,
        collected.bytes >> 20,
        collected.remaining >> 20
    ))?;
    let templates = templates(&state_dir.join("scratch"))?;
    say(&format!("scratch disk templates: {templates} removed"))
}

/// Opening an engine removes the slots of dead owners.
fn slots(state_dir: &Path) -> Result<usize, PruneError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PruneError::Runtime)?;
    runtime.block_on(async {
        let config = EngineConfig {
            state_dir: state_dir.to_owned(),
            backend: Arc::new(NoBackend(Capabilities {
                version: String::new(),
                accelerator: String::new(),
                boundary: Boundary::None,
                lacking: Vec::new(),
                no_card: None,
                adopt: false,
            })),
            patience: Patience::default(),
            pool: PoolLimits::NONE,
            reserve: sandbox::Reserve::default(),
        };
        let (engine, swept) = Engine::open(config).await.map_err(PruneError::Engine)?;
        engine.close().await;
        match swept.failed.into_iter().next() {
            Some((slot, source)) => Err(PruneError::Slot { slot: slot.to_string(), source }),
            None => Ok(swept.removed.len()),
        }
    })
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

/// Runs nothing: an engine is opened only for what it removes.
struct NoBackend(Capabilities);

#[async_trait]
impl Backend for NoBackend {
    fn name(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0
    }

    async fn boot(&self, _: &BootSpec, _: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Unsupported("nothing is run by `prune`".to_owned()))
    }

    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Gone(slot.id))
    }
}
