//! The root images of this host, as a controller's snapshots.
//!
//! Owner: each controller has them. Invariant: they are found anew for each request, so that one that was built meanwhile
//! is there.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use controller::{Boots, Images, ImagesError, Snapshot, Tag};
use image::Image;
use jiff::Timestamp;
use sandbox::Root;
use store::Store;

use crate::{agent_binary, exec::machine::MachineError, image_cmd, in_use::InUse, registry::Needs};

/// Those that a backend with such needs boots.
pub(super) fn of(needs: Needs, state_dir: &Path) -> Result<Images, MachineError> {
    match needs {
        Needs::Nothing => Ok(hosted()),
        Needs::Image => {
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            Ok(stored(store, agent_binary::find()?, state_dir.to_owned()))
        }
    }
}

/// The images of the store.
fn stored(store: Store, agent: PathBuf, state_dir: PathBuf) -> Images {
    let store = Arc::new(store);
    let (listed, removed) = (Arc::clone(&store), Arc::clone(&store));
    Images::new(
        move || Ok(image::ls(&listed).map_err(failed)?.iter().filter_map(snapshot).collect()),
        move |tag| {
            let Some(image) = image::find(tag.as_str(), &store).map_err(failed)? else { return Ok(None) };
            let initramfs = image::initramfs(&image, &agent, &store).map_err(failed)?;
            Ok(Some(Boots { kernel: image.kernel, initramfs, root: Root::Image(image.root) }))
        },
        move |tag| {
            // what goes is the name: sandboxes that run on it need its files for as long as they are there
            let in_use = InUse::look(&state_dir, &removed).map_err(failed)?;
            match image::rm(tag.as_str(), &removed, &in_use.by_vms()) {
                Ok(()) => Ok(true),
                Err(image::Error::Unknown { .. }) => Ok(false),
                Err(error) => Err(failed(error)),
            }
        },
    )
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ImagesError {
    ImagesError::Store(Box::new(error))
}

fn snapshot(image: &Image) -> Option<Snapshot> {
    let tag: Tag = image.name.parse().ok()?;
    let needed_by = (tag.as_str() == image_cmd::STANDARD).then_some("the jobs of this host");
    Some(Snapshot {
        tag,
        dir: image.root.clone(),
        created: image.created,
        root_bytes: image.root_bytes,
        needed_by,
    })
}

/// For backends that boot nothing: one snapshot with the name of the standard image.
fn hosted() -> Images {
    let of_host = |tag: &Tag| tag.as_str() == image_cmd::STANDARD;
    Images::new(
        || {
            let one = |tag| Snapshot {
                tag,
                dir: PathBuf::from("/"),
                created: Timestamp::UNIX_EPOCH,
                root_bytes: 0,
                needed_by: None,
            };
            Ok(image_cmd::STANDARD.parse().ok().map(one).into_iter().collect())
        },
        move |tag| {
            let nothing = || Boots { kernel: "/".into(), initramfs: "/".into(), root: Root::Hosted };
            Ok(of_host(tag).then(nothing))
        },
        move |tag| {
            if of_host(tag) { Err(ImagesError::Fixed("the backend boots no image")) } else { Ok(false) }
        },
    )
}
