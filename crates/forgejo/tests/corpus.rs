//! Replays the fuzz corpus, and random answers.

use std::path::Path;

use forgejo::messages::runner;
use proptest::prelude::*;
use prost::Message;

#[test]
fn answers_corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/answers");
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("corpus") {
        forgejo::fuzz_targets::answers(&std::fs::read(entry.expect("entry").path()).expect("file"));
        count += 1;
    }
    assert!(count > 0, "no corpus in {}", dir.display());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        forgejo::fuzz_targets::answers(&bytes);
    }

    #[test]
    fn tasks_with_a_byte_that_is_wrong(place in any::<prop::sample::Index>(), byte in any::<u8>(), id in any::<i64>()) {
        let task = runner::Task {
            id,
            workflow_payload: Some(b"jobs: {}".to_vec()),
            secrets: [("A".to_owned(), "b".to_owned())].into(),
            needs: [("one".to_owned(), runner::TaskNeed::default())].into(),
            ..runner::Task::default()
        };
        let answer = runner::FetchTaskResponse { task: Some(task), tasks_version: id, additional_tasks: vec![] };
        let mut bytes = answer.encode_to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        forgejo::fuzz_targets::answers(&bytes);
    }
}
