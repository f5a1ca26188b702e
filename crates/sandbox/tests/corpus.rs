//! Replays the corpus of the fuzz targets.

#[path = "../../../testing/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn frames() {
    replay("frames", sandbox::fuzz_targets::frames);
}

#[test]
fn messages() {
    replay("messages", sandbox::fuzz_targets::messages);
}
