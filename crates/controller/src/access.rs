//! Who may ask: the token, and without one the name by which a request reached us.
//!
//! Owner: the router, as a layer of every route but the health check.
//!
//! Invariants
//! - A token is compared in a time that says nothing about it: two digests of equal length are compared, each
//!   byte of them.
//! - Without a token a request must name loopback as its host. A browser on this host that a page elsewhere
//!   sent here, by a name that leads to 127.0.0.1, names that page's host instead.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::{Access, Config, failure::Failure};

/// Least bytes of a token.
pub const MIN_TOKEN: usize = 16;
/// Most bytes of a token's file.
const MAX_FILE: u64 = 4096;

/// A bearer token.
pub struct Token(SecretString);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is too short to be a secret, or too long to be a token.
    #[error(
        "the token in {} must have at least {MIN_TOKEN} characters, and its file at most {MAX_FILE} bytes",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// It cannot stand in a header.
    #[error("the token in {} has characters that are not printable ASCII, or spaces", path.display())]
    Characters {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads a token from a file; white space around it does not count.
    ///
    /// # Errors
    /// When the file cannot be read, or what is in it is no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(failed)?;
        let token = text.trim();
        if token.len() < MIN_TOKEN || text.len() as u64 > MAX_FILE {
            return Err(TokenError::Length { path: path.to_owned() });
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters { path: path.to_owned() });
        }
        Ok(Self(SecretString::from(token)))
    }

    fn is(&self, shown: &str) -> bool {
        let (ours, theirs) = (Sha256::digest(self.0.expose_secret()), Sha256::digest(shown));
        ours.iter().zip(&theirs).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

/// The layer.
pub(crate) async fn check(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    match admitted(&config.access, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn admitted(access: &Access, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match access {
        Access::Token(token) => {
            let shown = text(header::AUTHORIZATION).and_then(bearer);
            if shown.is_some_and(|shown| token.is(shown)) { Ok(()) } else { Err(Failure::Unauthorised) }
        }
        Access::Loopback => {
            // HTTP/1.0 has no Host, and no browser speaks it
            if text(header::HOST).is_none_or(names_loopback) { Ok(()) } else { Err(Failure::ForeignHost) }
        }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Result<Token, TokenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        Token::read(&path)
    }

    #[test]
    fn a_token_is_long_enough_and_fits_a_header() {
        assert!(token("0123456789abcdef").unwrap().is("0123456789abcdef"));
        assert!(token("  0123456789abcdef\n").unwrap().is("0123456789abcdef"));
        assert!(!token("0123456789abcdef").unwrap().is("0123456789abcdee"));
        assert!(!token("0123456789abcdef").unwrap().is(""));
        assert!(matches!(token("   0123456789abcde  \n"), Err(TokenError::Length { .. })));
        assert!(matches!(token(&"x".repeat(5000)), Err(TokenError::Length { .. })));
        assert!(matches!(token("0123456789 abcdef"), Err(TokenError::Characters { .. })));
        assert!(matches!(Token::read(Path::new("/nowhere/token")), Err(TokenError::Read { .. })));
        assert!(!format!("{:?}", token("0123456789abcdef").unwrap()).contains("0123456789abcdef"));
    }

    #[test]
    fn only_names_of_this_host_are_served_without_a_token() {
        for good in ["localhost", "LOCALHOST:8889", "127.0.0.1:8889", "127.1.2.3", "[::1]:8889", "[::1]"] {
            assert!(names_loopback(good), "{good}");
        }
        for bad in
            ["example.org:8889", "localhost.example.org", "10.0.0.1", "[::2]:1", "", "127.0.0.1.nip.io"]
        {
            assert!(!names_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
