//! Replays the fuzz corpus, and random answers.

#[path = "../../../testing/replay.rs"]
mod replay;

use forgejo::messages::runner;
use proptest::prelude::*;
use prost::Message;
use replay::replay;

#[test]
fn answers_corpus() {
    replay("answers", forgejo::fuzz_targets::answers);
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
