//! Fuzz bodies as plain functions: `cargo test` replays their corpus, the fuzz crate calls them.

use crate::remote::fuzz;

/// What comes over an engine's socket, cut into frames: however it arrives, the frames are the same.
pub fn frames(data: &[u8]) {
    fuzz::frames(data);
}

/// The messages of either side.
pub fn messages(data: &[u8]) {
    fuzz::messages(data);
}
