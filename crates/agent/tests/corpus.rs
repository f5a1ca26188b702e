//! Replays the corpus of the fuzz target.

use std::{fs, path::Path};

#[test]
fn question() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/question");
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("a directory of inputs") {
        agent::fuzz_targets::question(&fs::read(entry.expect("an entry").path()).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "no input in {}", dir.display());
}
