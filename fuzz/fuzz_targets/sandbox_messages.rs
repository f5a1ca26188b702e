//! Messages of an engine's socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sandbox::fuzz_targets::messages(data));
