//! One expression: printed, parsed again, evaluated.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| workflow::fuzz_targets::expression(data));
