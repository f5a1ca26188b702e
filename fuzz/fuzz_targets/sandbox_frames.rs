//! Bytes from an engine's socket, at both of its ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox::fuzz_targets::frames(data));
