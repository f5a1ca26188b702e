//! Fuzz bodies as plain functions.

use std::os::fd::BorrowedFd;

use crate::{Symlinks, Unpack, unpack};

/// An arbitrary archive, unpacked below a directory that the caller has made for it.
pub fn untar(tree: BorrowedFd<'_>, data: &[u8]) {
    let options = Unpack { owner: None, symlinks: Symlinks::Any, max_entries: 1000, max_bytes: 1 << 20 };
    // An error is as good as success: what counts is what lies outside of the tree afterwards.
    drop(unpack(data, tree, &options));
}
