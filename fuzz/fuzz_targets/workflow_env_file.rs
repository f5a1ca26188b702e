//! A file by which a step speaks: read, and printed again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::env_file(data));
