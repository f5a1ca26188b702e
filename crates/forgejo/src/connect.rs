//! Unary Connect over HTTP/1.1.
//!
//! Purpose: one POST per call, protobuf both ways, gzip on the way back; refusals as typed errors.
//! Owner: [`Client`](crate::Client) and [`Runner`](crate::Runner), which share its connections.
//!
//! Invariants
//! - Redirects are not followed: the credential would travel with them.
//! - An answer is read up to its limit, counted after decompression, and no further.
//! - Of a refusal at most [`REFUSAL`] bytes are read; its text is cleaned of control characters.

use std::{fs, path::Path};

use prost::Message;
use reqwest::{
    Certificate, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    Certificates, Code, Credential, Error, Instance, Options, Result,
    error::MESSAGE,
    measure::{self, Measured},
};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/proto");
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const RUNNER_UUID: HeaderName = HeaderName::from_static("x-runner-uuid");
const RUNNER_TOKEN: HeaderName = HeaderName::from_static("x-runner-token");
const REQUEST_KEY: HeaderName = HeaderName::from_static("x-runner-request-key");

/// How much of a refusal is read.
const REFUSAL: usize = 64 << 10;

/// How many bytes an answer can have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(usize);

impl Limit {
    /// Names and numbers.
    pub(crate) const SMALL: Self = Self(1 << 20);
    /// Tasks: a payload, an event and the outputs of other jobs each.
    pub(crate) const TASKS: Self = Self(32 << 20);
}

/// The headers of one call beside those that all have.
pub(crate) struct Headers(HeaderMap);

impl Headers {
    pub(crate) fn none() -> Self {
        Self(HeaderMap::new())
    }

    pub(crate) fn of(credential: &Credential, request_key: Option<Uuid>) -> Result<Self> {
        let secret = |text: &str, part| {
            let mut value = HeaderValue::from_str(text).map_err(|_invalid| Error::Credential { part })?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = HeaderMap::new();
        headers.insert(RUNNER_UUID, secret(&credential.uuid, "uuid")?);
        headers.insert(RUNNER_TOKEN, secret(credential.token.expose_secret(), "token")?);
        if let Some(key) = request_key {
            headers.insert(REQUEST_KEY, secret(&key.to_string(), "request key")?);
        }
        Ok(Self(headers))
    }
}

/// Calls to one instance.
#[derive(Clone)]
pub(crate) struct Connect {
    http: reqwest::Client,
    instance: Instance,
}

impl Connect {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(&options.user_agent)
            .timeout(options.timeout)
            .redirect(redirect::Policy::none())
            .referer(false)
            .tls_danger_accept_invalid_certs(options.certificates == Certificates::AcceptAny);
        if options.instance.is_loopback() {
            builder = builder.no_proxy();
        }
        if !options.instance.is_https() {
            // nothing to trust and nothing to load: a host without CA certificates can have such an instance
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = &options.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        let http = builder.build().map_err(Error::Setup)?;
        Ok(Self { http, instance: options.instance.clone() })
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(crate) async fn call<A: Measured>(
        &self,
        service: &'static str,
        method: &'static str,
        headers: &Headers,
        request: &impl Message,
        limit: Limit,
    ) -> Result<A> {
        let response = self
            .http
            .post(self.instance.call(service, method))
            .headers(headers.0.clone())
            .header(CONTENT_TYPE, PROTOBUF)
            .header(CONNECT_VERSION, "1")
            .body(request.encode_to_vec())
            .send()
            .await
            .map_err(broken)?;
        let status = response.status();
        if status != StatusCode::OK {
            // what can be read of it; a broken refusal is a refusal still
            let body = read(response, REFUSAL).await.unwrap_or_default();
            return Err(refusal(status.as_u16(), &body));
        }
        check_type(response.headers())?;
        let body = read(response, limit.0).await?;
        measure::decode(&body)
    }
}

/// The certificates of a CA file; a file without one is a mistake that would show much later.
fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let pem = fs::read(path).map_err(|source| Error::CaFile { path: path.to_owned(), source })?;
    let format = |source| Error::CaFormat { path: path.to_owned(), source };
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| format(Some(error)))?;
    if certificates.is_empty() { Err(format(None)) } else { Ok(certificates) }
}

/// Whether the answer says that it is one.
fn check_type(headers: &HeaderMap) -> Result<()> {
    let found = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let found = found.unwrap_or_default();
    let kind = found.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/proto") {
        return Ok(());
    }
    Err(Error::ContentType { found: clean(&found) })
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if chunk.len() > limit - body.len() {
            return Err(Error::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broken(error: reqwest::Error) -> Error {
    if error.is_connect() {
        Error::Connect(error)
    } else if error.is_timeout() {
        Error::Timeout(error)
    } else {
        Error::Broken(error)
    }
}

/// What Connect puts into the body of a refusal.
#[derive(Deserialize, Default)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A refusal; what is no JSON of Connect's comes from something before the forge, and only its status counts.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Error {
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    let code = Code::parse(&said.code).unwrap_or_else(|| Code::of_status(status));
    Error::Refused { status, code, message: clean(&said.message) }
}

/// Foreign text that may stand in a line of a log.
fn clean(text: &str) -> String {
    let mut kept = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if kept.len() + letter.len_utf8() > MESSAGE {
            break;
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_connect_says_or_what_its_status_says() {
        for (status, body, code, message) in [
            (
                401,
                r#"{"code":"unauthenticated","message":"unregistered runner"}"#,
                Code::Unauthenticated,
                "unregistered runner",
            ),
            (409, r#"{"code":"already_exists"}"#, Code::AlreadyExists, ""),
            (500, r#"{"code":"newer_word","message":"m"}"#, Code::Unknown, "m"),
            (502, "<html>", Code::Unavailable, ""),
            (404, "", Code::Unimplemented, ""),
            (500, r#"{"code":"internal","message":"a\u001b[2Jb\nc"}"#, Code::Internal, "a [2Jb c"),
        ] {
            match refusal(status, body.as_bytes()) {
                Error::Refused { status: s, code: c, message: m } => {
                    assert_eq!((s, c, m.as_str()), (status, code, message), "{body}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let text = clean(&"ä".repeat(MESSAGE));
        assert_eq!(text.len(), MESSAGE);
        assert_eq!(clean(&format!("a{}", "ä".repeat(MESSAGE))).len(), MESSAGE - 1);
    }
}
