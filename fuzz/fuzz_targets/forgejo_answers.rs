//! What a forge answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forgejo::fuzz_targets::answers(data));
