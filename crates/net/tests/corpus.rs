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
fn policies() {
    replay("policy", net::fuzz_targets::policy);
}

#[test]
fn questions() {
    replay("question", net::fuzz_targets::question);
}

#[test]
fn answers() {
    replay("answer", net::fuzz_targets::answer);
}

#[test]
fn lists_of_servers() {
    replay("resolv_conf", net::fuzz_targets::resolv_conf);
}
