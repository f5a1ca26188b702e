//! Replays the corpus of the fuzz targets.

#[path = "../../../testing/replay.rs"]
mod replay;

use replay::replay;

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
