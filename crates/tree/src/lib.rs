//! Trees of files in and out of a directory, as tar streams.
//!
//! Purpose: [`pack`] writes what lies below a path, [`unpack`] makes it below another directory; both ends
//! of a link use them, so that both refuse the same.
//! Owner: one call owns its stream and its directory for as long as it runs. Blocking.
//!
//! Invariants of [`unpack`], whatever the archive says
//! - Nothing outside of the directory is made, changed or linked to: names are relative, without `..`, and
//!   no symbolic link is ever gone through (`openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//!   `RESOLVE_NO_MAGICLINKS`, one component at a time where something is made).
//! - Only directories, regular files, symbolic links and hard links to regular files of the tree are made;
//!   no mode has a set-user-ID, set-group-ID or sticky bit. Only files and links are replaced.
//! - Memory is bounded by the number of directories; long names and extended headers are capped.
//! - An archive that ends early is an error. What was made before an error stays: the caller removes it.

mod error;
#[doc(hidden)]
pub mod fuzz_targets;
mod pack;
mod path;
mod source;
mod unpack;

pub use error::{Error, Malformed, Refusal, Result};
pub use pack::{pack, pack_telling, read_sizeless};
pub use unpack::{Symlinks, Unpack, make_directories, unpack};

/// User and group that own what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}
