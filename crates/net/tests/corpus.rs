//! Replays the corpus of the fuzz targets.

#[path = "../../../testing/replay.rs"]
mod replay;

use replay::replay;

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
