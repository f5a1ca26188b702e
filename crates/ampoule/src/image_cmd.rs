//! `ampoule image`: make, list, remove and inspect root images; and what other commands ask about them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use image::{Image, Recipe};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    class::{Class, Classed, End},
    cli::args::{ImageCommand, StateArgs},
    in_use::InUse,
    progress::Build,
    sanitise::{self, Colours},
    signals::{Signals, Wish},
    sink::Look,
    state_dir::{self, NoStateDir},
    table,
};

/// Name of the image that every label runs on.
pub const STANDARD: &str = "standard";

/// Why an image command failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageCmdError {
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// The image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It cannot be told what uses it.
    #[error("it cannot be told whether a sandbox runs on the image")]
    Look(#[source] sandbox::Error),
    /// Something runs on it.
    #[error("the image `{name}` is in use by {by}; end what uses it first")]
    InUse {
        /// The image.
        name: String,
        /// By what, in words.
        by: String,
    },
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
}

impl Classed for ImageCmdError {
    fn class(&self) -> Class {
        match self {
            Self::StateDir(error) => error.class(),
            Self::Image(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Look(error) => error.class(),
            Self::InUse { .. } => Class::User,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) | Self::Runtime(_) => Class::Infrastructure,
        }
    }
}

/// Where the images of a state directory are.
#[must_use]
pub fn store_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("store")
}

/// The image that every label runs on, if it was made.
pub(crate) fn standard(store: &Store) -> Result<Option<Image>, image::Error> {
    image::find(STANDARD, store)
}

/// The names of images by the files of their roots. A name is a help: without a store there are none.
pub(crate) fn names(state_dir: &Path) -> HashMap<PathBuf, String> {
    let dir = store_dir(state_dir);
    // a directory that is not there is not made for a look
    if !dir.is_dir() {
        return HashMap::new();
    }
    let all = Store::open(dir).map_err(image::Error::from).and_then(|store| image::ls(&store));
    let all = all.unwrap_or_else(|error| {
        tracing::warn!(%error, "the images cannot be listed");
        Vec::new()
    });
    all.into_iter().filter_map(|image| Some((fs::canonicalize(image.root).ok()?, image.name))).collect()
}

/// An image in a few words: `standard (0123456789ab, built 2026-11-20)`.
pub(crate) fn describe(image: &Image) -> String {
    format!("{} ({}, built {})", image.name, short(image), image.created.strftime("%Y-%m-%d"))
}

fn short(image: &Image) -> String {
    image.id.hex().chars().take(12).collect()
}

/// Does what the command says.
pub fn run(command: &ImageCommand) -> Result<End, ImageCmdError> {
    match command {
        ImageCommand::Build { recipe, mirror, state } => {
            let mut recipe = match recipe {
                Some(path) => Recipe::load(path)?,
                None => Recipe::standard()?,
            };
            if mirror.is_some() {
                recipe.mirror.clone_from(mirror);
            }
            let image = build(state, &recipe)?;
            print(&format!("{}\n", describe(&image)))?;
        }
        ImageCommand::Ls { state } => {
            let all = there(state)?.map(|store| image::ls(&store)).transpose()?;
            print(&listing(&all.unwrap_or_default()))?;
        }
        ImageCommand::Rm { names, state } => {
            let store = there(state)?.ok_or_else(|| none(names.first()))?;
            for name in names {
                remove(name, state, &store)?;
                print(&format!("removed {}\n", sanitise::line(name, Colours::Drop)))?;
            }
        }
        ImageCommand::Inspect { name, state } => {
            let store = there(state)?.ok_or_else(|| none(Some(name)))?;
            print(&inspection(&image::inspect(name, &store)?))?;
        }
    }
    Ok(End::Success)
}

/// Removes an image, unless a sandbox runs on it: whoever reaches that later forks branches of it from these files.
fn remove(name: &str, state: &StateArgs, store: &Store) -> Result<(), ImageCmdError> {
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    let in_use = InUse::look(&state_dir, store).map_err(ImageCmdError::Look)?;
    // of one that cannot be read the files that are used stay
    if let Ok(Some(image)) = image::find(name, store)
        && let Some(by) = in_use.on(&image)
    {
        return Err(ImageCmdError::InUse { name: image.name, by });
    }
    Ok(image::rm(name, store, &in_use.by_vms())?)
}

/// Makes the standard image if it is not there.
pub(crate) fn ensure_standard(state: &StateArgs, mirror: Option<&str>) -> Result<(), ImageCmdError> {
    let store = open(state)?;
    let look = Look::of(&io::stderr());
    let mut recipe = Recipe::standard()?;
    if let Some(mirror) = mirror {
        recipe.mirror = Some(mirror.to_owned());
    }
    // one that another version made is as good as none
    let there = match standard(&store) {
        Ok(image) => image.filter(|image| image.is_of(&recipe)),
        Err(image::Error::Manifest { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let said = match there {
        Some(image) => match image.age_warning() {
            Some(warning) => format!("{} {warning}", look.warning()),
            None => format!("{} the image is there: {}", look.bold("setup:"), describe(&image)),
        },
        None => format!("{} made the image {}", look.bold("setup:"), describe(&build(state, &recipe)?)),
    };
    writeln!(io::stderr().lock(), "{said}").map_err(ImageCmdError::Output)
}

fn open(state: &StateArgs) -> Result<Store, ImageCmdError> {
    let dir = state_dir::resolve(state.state_dir.as_deref())?;
    Ok(Store::open(store_dir(&dir))?)
}

/// The store that is there: one is not made to find nothing in it.
fn there(state: &StateArgs) -> Result<Option<Store>, ImageCmdError> {
    let dir = state_dir::resolve(state.state_dir.as_deref())?;
    if store_dir(&dir).is_dir() { open(state).map(Some) } else { Ok(None) }
}

/// There is no image of this name, since there is none at all.
fn none(name: Option<&String>) -> image::Error {
    let name = name.map(|name| name.chars().take(100).collect()).unwrap_or_default();
    image::Error::Unknown { name, known: Vec::new() }
}

/// Builds with progress; Ctrl-C ends it and leaves nothing.
fn build(state: &StateArgs, recipe: &Recipe) -> Result<Image, ImageCmdError> {
    let store = open(state)?;
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    let is_used = |root: &store::Digest| match InUse::look(&state_dir, &store) {
        Ok(in_use) => in_use.by_vms().contains(root),
        Err(error) => {
            tracing::warn!(%error, "it cannot be told what uses the older image");
            true
        }
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ImageCmdError::Runtime)?;
    runtime.block_on(async {
        let signals = Signals::listen().map_err(ImageCmdError::Runtime)?;
        let mut wish = signals.wish();
        let cancel = CancellationToken::new();
        let progress = Build::new(&recipe.name);
        let building = image::build(recipe, &store, &is_used, &progress, &cancel);
        tokio::pin!(building);
        let built = tokio::select! {
            built = &mut building => built,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => {
                cancel.cancel();
                building.await
            }
        };
        progress.finish();
        Ok(built?)
    })
}

fn listing(images: &[Image]) -> String {
    if images.is_empty() {
        return "there are no images; make one with `ampoule image build`\n".to_owned();
    }
    let rows: Vec<[String; 5]> = images
        .iter()
        .map(|image| {
            [
                sanitise::line(&image.name, Colours::Drop),
                short(image),
                image.created.strftime("%Y-%m-%d %H:%M").to_string(),
                format!("{} MiB", image.root_bytes >> 20),
                sanitise::line(&image.suite, Colours::Drop),
            ]
        })
        .collect();
    table::text(["NAME", "ID", "CREATED (UTC)", "SIZE", "SUITE"], &rows)
}

fn inspection(image: &Image) -> String {
    let packages: serde_json::Map<String, serde_json::Value> =
        image.packages.iter().map(|package| (package.name.clone(), package.version.clone().into())).collect();
    let value = serde_json::json!({
        "name": image.name,
        "id": image.id.to_string(),
        "created": image.created.to_string(),
        "suite": image.suite,
        "user": image.user,
        "kernel_release": image.kernel_release,
        "kernel": image.kernel,
        "modules": image.modules,
        "root": image.root,
        "root_digest": image.root_digest.to_string(),
        "root_bytes": image.root_bytes,
        "recipe": image.recipe.to_string(),
        "node": image.node,
        "packages": packages,
    });
    format!("{value:#}\n")
}

fn print(text: &str) -> Result<(), ImageCmdError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ImageCmdError::Output)
}
