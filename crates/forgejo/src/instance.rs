//! Where a forge is.
//!
//! Purpose: a URL that was checked once, from which the address of each call is made.
//! Owner: whoever read it from a file or a command line.
//!
//! Invariants: it is http or https, has a host, and has no credentials, query or fragment. A path prefix stays,
//! with or without a slash at its end.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::{Error, Result};

/// The URL of a forge's instance.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Instance(Url);

impl Instance {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason| Err(Error::Instance { reason });
        let Ok(mut url) = Url::parse(text.trim()) else {
            return refuse("not a URL; it begins with https://");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("neither https:// nor http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a URL with credentials in it");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("a URL with a query or a fragment");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The address of one call.
    pub(crate) fn call(&self, service: &str, method: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/api/actions/{service}/{method}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Its host: a name, an IPv4 address, or an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port that it is reached at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is this machine, which no proxy can reach.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Instance {
    /// Without a slash at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({self})")
    }
}

impl FromStr for Instance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_stands_below_the_instance() {
        for (instance, shown, call) in [
            ("https://c.example", "https://c.example", "https://c.example/api/actions/s.v1.S/M"),
            ("https://c.example/", "https://c.example", "https://c.example/api/actions/s.v1.S/M"),
            (
                "http://c.example:3000/git",
                "http://c.example:3000/git",
                "http://c.example:3000/git/api/actions/s.v1.S/M",
            ),
            ("http://c.example/a/b//", "http://c.example/a/b", "http://c.example/a/b/api/actions/s.v1.S/M"),
            (
                " https://c.example/%20 ",
                "https://c.example/%20",
                "https://c.example/%20/api/actions/s.v1.S/M",
            ),
        ] {
            let instance = Instance::parse(instance).unwrap();
            assert_eq!(instance.to_string(), shown);
            assert_eq!(instance.call("s.v1.S", "M").as_str(), call);
        }
    }

    #[test]
    fn what_is_no_instance() {
        for text in [
            "",
            "c.example",
            "/git",
            "ssh://c.example",
            "https://",
            "https://me@c.example",
            "https://me:pass@c.example",
            "https://c.example/?a",
            "https://c.example/#a",
        ] {
            let error = Instance::parse(text).unwrap_err();
            assert!(matches!(error, Error::Instance { .. }), "{text}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("pass"), "{text}");
        }
    }

    #[test]
    fn what_is_this_machine() {
        for (text, is) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1", true),
            ("http://127.9.0.1", true),
            ("http://[::1]:3000", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(Instance::parse(text).unwrap().is_loopback(), is, "{text}");
        }
    }
}
