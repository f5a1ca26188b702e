//! Bytes from the link, at both of its ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agent::fuzz_targets::question(data));
