//! What a guest asks of the resolver.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_targets::question(data));
