//! Replays the corpus of the fuzz targets.

use std::{fs, path::Path};

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("a directory of inputs") {
        target(&fs::read(entry.expect("an entry").path()).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "no input in {}", dir.display());
}

#[test]
fn workflow() {
    replay("workflow", workflow::fuzz_targets::workflow);
}

#[test]
fn action() {
    replay("action", workflow::fuzz_targets::action);
}

#[test]
fn expression() {
    replay("expression", workflow::fuzz_targets::expression);
}

#[test]
fn template() {
    replay("template", workflow::fuzz_targets::template);
}

#[test]
fn commands() {
    replay("commands", workflow::fuzz_targets::commands);
}

#[test]
fn env_file() {
    replay("env_file", workflow::fuzz_targets::env_file);
}

#[test]
fn matchers() {
    replay("matchers", workflow::fuzz_targets::matchers);
}

#[test]
fn mask() {
    replay("mask", workflow::fuzz_targets::mask);
}
