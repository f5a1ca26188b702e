//! Whole workflows: parsed, planned, expanded.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::workflow(data));
