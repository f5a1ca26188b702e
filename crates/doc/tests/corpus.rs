//! Replays the fuzz corpus, and random documents.

#[path = "../../../testing/replay.rs"]
mod replay;

use proptest::prelude::*;
use replay::replay;

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
