//! Replays the fuzz corpus, and random documents.

use std::path::Path;

use proptest::prelude::*;

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("corpus") {
        target(&std::fs::read(entry.expect("entry").path()).expect("file"));
        count += 1;
    }
    assert!(count > 0, "no corpus in {}", dir.display());
}

#[test]
fn yaml_corpus() {
    replay("yaml", doc::fuzz_targets::yaml);
}

#[test]
fn toml_corpus() {
    replay("toml", doc::fuzz_targets::toml);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_yaml(text in "([a-z:\\-\\[\\]{}&*!|>'\"#%@`,? \n\t\\\\]|<<: |&a |\\*a|ä|\r\n){0,60}") {
        doc::fuzz_targets::yaml(text.as_bytes());
    }

    #[test]
    fn random_toml(text in "([a-z=\\[\\]{}'\"#., \n\\\\0-9_-]|ä|\"\"\"){0,60}") {
        doc::fuzz_targets::toml(text.as_bytes());
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        doc::fuzz_targets::yaml(&bytes);
        doc::fuzz_targets::toml(&bytes);
    }
}
