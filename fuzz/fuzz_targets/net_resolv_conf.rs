//! The host's list of name servers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_targets::resolv_conf(data));
