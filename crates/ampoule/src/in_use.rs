//! Which blobs of a store something uses that is no image: VMs that are kept, and snapshots.
//!
//! Owner: whoever removes files of the store looks first. Invariant: where it cannot be told what is used, that is an
//! error, and nothing is removed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use image::Image;
use sandbox::files_in_use;
use store::{Digest, Store};

use crate::{
    sandbox_cmd,
    sanitise::{self, Colours},
};

/// How many sandboxes an error names.
const NAMED: usize = 10;

/// What is used, and by whom.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    vms: Vec<Vm>,
    snapshots: BTreeSet<Digest>,
}

/// A VM that is kept.
#[derive(Debug)]
struct Vm {
    name: String,
    root: Option<Digest>,
    others: [Option<Digest>; 2],
}

impl InUse {
    /// As it is now.
    pub(crate) fn look(state_dir: &Path, store: &Store) -> sandbox::Result<Self> {
        let found = files_in_use(state_dir)?;
        let blob = |path: &PathBuf| store.digest_at(path);
        let vms = found.vms.iter().map(|vm| Vm {
            name: name(&sandbox_cmd::name(vm.id), vm.mark.as_deref()),
            root: blob(&vm.root),
            others: [blob(&vm.kernel), blob(&vm.initramfs)],
        });
        Ok(Self { vms: vms.collect(), snapshots: found.snapshots.iter().filter_map(blob).collect() })
    }

    /// By VMs.
    pub(crate) fn by_vms(&self) -> BTreeSet<Digest> {
        self.vms.iter().flat_map(|vm| vm.others.into_iter().chain([vm.root])).flatten().collect()
    }

    /// By VMs and by snapshots.
    pub(crate) fn by_all(&self) -> BTreeSet<Digest> {
        self.by_vms().union(&self.snapshots).copied().collect()
    }

    /// The sandboxes that run on an image, in words; `None`: there are none.
    pub(crate) fn on(&self, image: &Image) -> Option<String> {
        let on_it = |vm: &&Vm| vm.root == Some(image.root_digest);
        let names: Vec<&str> = self.vms.iter().filter(on_it).map(|vm| vm.name.as_str()).collect();
        listed(&names)
    }
}

/// With whose it is, where that is not this user's by hand.
fn name(id: &str, mark: Option<&str>) -> String {
    match mark {
        Some(mark) if mark != sandbox_cmd::MARK => {
            format!("{id} of the {}", sanitise::line(mark, Colours::Drop))
        }
        Some(_) | None => id.to_owned(),
    }
}

fn listed(names: &[&str]) -> Option<String> {
    let shown = names.get(..NAMED).unwrap_or(names).join(", ");
    let more = names.len().saturating_sub(NAMED);
    match (names.len(), more) {
        (0, _) => None,
        (1, _) => Some(format!("the sandbox {shown}")),
        (count, 0) => Some(format!("{count} sandboxes: {shown}")),
        (count, more) => Some(format!("{count} sandboxes: {shown} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_by_their_names_and_whose_they_are() {
        assert_eq!(name("sb-1", Some(sandbox_cmd::MARK)), "sb-1");
        assert_eq!(name("sb-1", Some("controller 8889")), "sb-1 of the controller 8889");
        assert_eq!(listed(&[]), None);
        assert_eq!(listed(&["a"]).unwrap(), "the sandbox a");
        assert_eq!(listed(&["a", "b"]).unwrap(), "2 sandboxes: a, b");
        assert!(listed(&["a"; 12]).unwrap().ends_with(" and 2 more"));
    }
}
