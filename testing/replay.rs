//! Replays the kept corpus of a fuzz target.
//!
//! Purpose: what fuzzing once found is looked at by every `cargo test`. Owner: `tests/corpus.rs` of each crate
//! with fuzz targets, which takes this file in by its path: a crate for it would have to be built by all of them.
//! Invariant: an input that fails is named.

use std::{fs, path::Path};

/// Gives each input of `tests/corpus/NAME` of the crate to the target, in order.
pub(crate) fn replay(name: &str, mut target: impl FnMut(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let entries = fs::read_dir(&dir).expect("a directory of inputs");
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no input in {}", dir.display());
    for path in &inputs {
        let input = fs::read(path).expect("an input");
        let named = Named(path);
        target(&input);
        drop(named);
    }
}

/// Says at which input a target panicked.
struct Named<'a>(&'a Path);

#[expect(clippy::print_stderr, reason = "a test's words, seen where it fails")]
impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input is {}", self.0.display());
        }
    }
}
