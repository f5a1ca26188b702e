//! Replays the corpus of the fuzz target.

#[path = "../../../testing/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn question() {
    replay("question", agent::fuzz_targets::question);
}
