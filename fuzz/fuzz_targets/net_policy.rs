//! Policies of network cards, as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_targets::policy(data));
