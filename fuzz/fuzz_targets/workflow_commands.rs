//! Rows of a step: read, and printed again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::commands(data));
