//! Fuzz bodies as plain functions: `cargo test` replays their corpus, the fuzz crate calls them.

use crate::Policy;

/// A policy's text: read or refused; what is read is printed and read again as the same.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Policy>() {
        Ok(policy) => assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy)),
        Err(error) => assert!(error.at <= text.len(), "{error}: beyond the end of {text:?}"),
    }
}

/// What a guest asks.
pub fn question(data: &[u8]) {
    crate::resolver::fuzz::question(data);
}

/// What a name server answers.
pub fn answer(data: &[u8]) {
    crate::resolver::fuzz::answer(data);
}

/// The host's list of name servers.
pub fn resolv_conf(data: &[u8]) {
    crate::resolver::fuzz::resolv_conf(data);
}
