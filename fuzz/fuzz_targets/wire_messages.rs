//! The messages of the control stream, the agent's and the host's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::fuzz_targets::messages(data));
