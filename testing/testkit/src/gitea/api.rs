//! The client of a test: one account's calls of one server.
//!
//! Purpose: a call, its answer within a limit, and an error that shows what the server said.
//! Owner: a test; `repos` and `actions` add the calls themselves.
//!
//! Invariants
//! - No redirect is followed: where a call leads is part of its answer.
//! - The token is in no error and no debug output.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Method, RequestBuilder, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Account, Error, Result, server};

/// No call of these takes longer, on a machine that emulates VMs beside it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// More than the longest log that a test makes.
const CAP: usize = 64 << 20;
/// How much of an answer an error shows.
const SHOWN: usize = 4 << 10;

/// A client with an account's token.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    user: String,
    token: SecretString,
    log: PathBuf,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Api {
    pub(super) fn new(url: &str, account: &Account, log: &Path, authority: Option<&str>) -> Self {
        Self {
            http: http(authority),
            url: url.to_owned(),
            user: account.name.clone(),
            token: account.token.clone(),
            log: log.to_owned(),
        }
    }

    /// Whose client it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The server's address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The end of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        server::tail(&self.log)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, None).await?.parse()
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.call(Method::POST, path, Some(body)).await?.parse()
    }

    /// A call of a path below `/api/v1/`; an answer that is a refusal is an error.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = self.http.request(method.clone(), format!("{}/api/v1/{path}", self.url));
        request = request.header("authorization", format!("token {}", self.token.expose_secret()));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        answer(format!("{method} {path}"), request).await?.accepted()
    }

    /// A call with name and password instead of the token.
    pub(super) async fn call_as(&self, account: (&str, &str), path: &str, body: &Value) -> Result<Answer> {
        let request =
            self.http.post(format!("{}/api/v1/{path}", self.url)).basic_auth(account.0, Some(account.1));
        let request = request.header("content-type", "application/json").body(body.to_string());
        answer(format!("POST {path}"), request).await?.accepted()
    }
}

/// A client without cookies or redirects, which trusts a server of this authority, and else none.
pub(super) fn http(authority: Option<&str>) -> reqwest::Client {
    let trusted = authority.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a certificate"));
    let builder = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT);
    builder.tls_certs_only(trusted).build().expect("a client with no TLS settings but these")
}

/// A whole answer.
pub(super) struct Answer {
    call: String,
    pub(super) status: u16,
    pub(super) cookies: Vec<String>,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Sends a request and reads its answer to the end.
pub(super) async fn answer(call: String, request: RequestBuilder) -> Result<Answer> {
    let transport = |source| Error::Transport { call: call.clone(), source };
    let mut response = request.send().await.map_err(transport)?;
    let text = |value: &reqwest::header::HeaderValue| value.to_str().ok().map(str::to_owned);
    let headers = response.headers();
    let cookies = headers.get_all("set-cookie").iter().filter_map(text).collect();
    let location = headers.get("location").and_then(text);
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > CAP {
            return Err(Error::TooLong { call, cap: CAP });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { call, status, cookies, location, body })
}

impl Answer {
    /// This one, unless it is a refusal.
    pub(super) fn accepted(self) -> Result<Self> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::Refused { status, body: self.shown(), call: self.call }),
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Form {
            body: self.shown(),
            call: self.call,
            source,
        })
    }

    /// The beginning of its body.
    pub(super) fn shown(&self) -> String {
        let end = self.body.len().min(SHOWN);
        String::from_utf8_lossy(self.body.get(..end).unwrap_or_default()).into_owned()
    }
}
