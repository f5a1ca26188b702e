//! What a name server answers the resolver.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_targets::answer(data));
