//! A logged-in session: what only Gitea's web pages can do.
//!
//! Purpose: a run is cancelled, and its steps' rows are read, by routes that want a browser's session and not a
//! token. This one logs in by the form, as a person does.

use std::{collections::BTreeMap, fmt};

use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{
    Account, Cursor, Error, Gitea, JobId, Page, Repo, Result, RunId,
    api::{self, Answer},
};

/// An account's session.
pub struct Session {
    http: reqwest::Client,
    url: String,
    user: String,
    cookies: SecretString,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Gitea {
    /// Logs an account in.
    ///
    /// # Errors
    /// When name or password are wrong.
    pub async fn log_in(&self, account: &Account) -> Result<Session> {
        let http = api::http(self.authority());
        let form = [("user_name", account.name.as_str()), ("password", account.password.expose_secret())];
        let request = http.post(format!("{}/user/login", self.url()));
        let request =
            request.header("content-type", "application/x-www-form-urlencoded").body(encoded(&form));
        let answer = api::answer("POST /user/login".to_owned(), request).await?;
        // a wrong password is the form again, with 200; a right one leads away from it
        let led_away = answer.location.as_ref().is_some_and(|place| !place.contains("/user/login"));
        if answer.status != 303 || !led_away {
            let body = format!("status {}: {}", answer.status, answer.shown());
            return Err(Error::Login { user: account.name.clone(), body });
        }
        let cookies = kept(&answer.cookies).into();
        Ok(Session { http, url: self.url().to_owned(), user: account.name.clone(), cookies })
    }
}

impl Session {
    /// Cancels a run, as the button on its page does.
    ///
    /// # Errors
    /// When there is no such run, or the account may not.
    pub async fn cancel(&self, repo: &Repo, run: RunId) -> Result<()> {
        let path = format!("{repo}/actions/runs/{run}/cancel");
        let request = self.http.request(Method::POST, format!("{}/{path}", self.url));
        self.send(format!("POST {path}"), request).await.map(drop)
    }

    /// What the page of a run shows: states, and the rows of one job's steps.
    ///
    /// # Errors
    /// When there is no such run or job, or a cursor names a step that the job has not.
    pub async fn page(&self, repo: &Repo, run: RunId, job: Option<JobId>, rows: &[Cursor]) -> Result<Page> {
        let path = match job {
            Some(job) => format!("{repo}/actions/runs/{run}/jobs/{job}"),
            None => format!("{repo}/actions/runs/{run}"),
        };
        let cursor = |at: &Cursor| json!({ "step": at.step, "cursor": at.row, "expanded": true });
        let body = json!({ "logCursors": rows.iter().map(cursor).collect::<Vec<_>>() });
        let request = self.http.request(Method::POST, format!("{}/{path}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        self.send(format!("POST {path}"), request).await?.parse()
    }

    async fn send(&self, call: String, request: RequestBuilder) -> Result<Answer> {
        api::answer(call, request.header("cookie", self.cookies.expose_secret())).await?.accepted()
    }
}

/// What a browser sends back: of each name the last value, since a session is renewed by the log-in.
fn kept(set: &[String]) -> String {
    let pairs = set.iter().filter_map(|cookie| cookie.split(';').next()?.split_once('='));
    let last: BTreeMap<&str, &str> = pairs.collect();
    let cookie = |(name, value): (&str, &str)| format!("{name}={value}");
    last.into_iter().filter(|(_, value)| !value.is_empty()).map(cookie).collect::<Vec<_>>().join("; ")
}

/// A form's body.
fn encoded(fields: &[(&str, &str)]) -> String {
    let word = |text: &str| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    fields.iter().map(|(name, value)| format!("{}={}", word(name), word(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cookie_of_a_name_counts() {
        let set = ["s=old; Path=/", "lang=en; HttpOnly", "s=new=; Path=/", "gone=; Max-Age=0"];
        assert_eq!(kept(&set.map(str::to_owned)), "lang=en; s=new=");
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(encoded(&[("a_b", "x y&z"), ("c", "ä")]), "a_b=x%20y%26z&c=%C3%A4");
    }
}
