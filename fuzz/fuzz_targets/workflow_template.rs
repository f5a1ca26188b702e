//! Text with expressions in scalars of every style.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::template(data));
