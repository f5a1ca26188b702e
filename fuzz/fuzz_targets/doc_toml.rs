//! TOML documents: image recipes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| doc::fuzz_targets::toml(data));
