//! Secrets and a text: masked, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::mask(data));
