//! A file of problem matchers, and rows for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::matchers(data));
