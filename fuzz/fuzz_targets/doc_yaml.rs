//! YAML documents: workflows and actions, as anybody may write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| doc::fuzz_targets::yaml(data));
