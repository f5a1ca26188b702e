//! Root images from signed packages.
//!
//! Purpose: a recipe (a small TOML file) becomes a read-only root, a kernel and the modules that the
//! agent needs to mount that root, all blobs of the store; and an agent becomes an initramfs.
//! Owner: whoever calls [`build`]; of all processes on one store, one builds a recipe and the rest wait.
//!
//! Invariants
//! - Versions resolve in [`build`] and are written down in the image ([`Image::packages`]); nothing else
//!   resolves anything, so a run uses what was built.
//! - An image's id is the digest of its inputs: the recipe and every resolved version.
//! - A build that fails, is cancelled, or whose process is killed leaves no process and no mount: both
//!   live in namespaces of their own, which end with it. Its files are in the store's `tmp/`.
//! - Packages are checked by apt against Debian's keys, node by the recipe's checksum. What is in an
//!   image is trusted as far as those are; what is in a recipe is checked ([`Recipe::parse`]).
//!
//! ```text
//!  recipe ─▶ lock ─▶ node ─▶ mmdebstrap ═tar═▶ mksquashfs ─▶ blobs ─▶ pin "image-NAME" ─▶ Image
//!              │ another builds      │ fails, is cancelled
//!              ▼                     ▼
//!         wait for it             (nothing)
//! ```

mod build;
mod catalog;
mod cpio;
mod enclosure;
mod error;
mod host;
mod initramfs;
mod log;
mod node;
mod progress;
mod recipe;

pub use build::{build, sweep};
pub use catalog::{AgeWarning, Image, MAX_AGE, Package, find, inspect, ls, rm};
pub use error::{Error, Result};
pub use host::{Requirement, missing, requirements};
pub use initramfs::initramfs;
pub use progress::{Phase, Progress, Silent};
pub use recipe::{NodeRelease, Recipe};

/// The user id of the user that steps run as.
pub const USER_ID: u32 = 1001;
