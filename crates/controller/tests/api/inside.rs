//! A controller that is reached by streams of its own process, as VMs reach it.

use std::sync::Arc;

use controller::{Access, Door, Error, Token, Visitors};
use libtest_mimic::Trial;
use sandbox::Service as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{self, TOKEN},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_stream_of_the_process_is_served_like_a_connection", streams()),
        trial("vms_are_not_served_without_a_token", tokenless()),
    ]
}

/// A request over a stream of its own; the answer.
async fn ask(visitors: &Visitors, method: &str, path: &str, head: &str, body: &str) -> String {
    let mut link = visitors.connect().await.unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: controller.ampoule.internal:8889\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{head}\r\n{body}"
    );
    link.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    link.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn streams() {
    let state = tempfile::tempdir().unwrap();
    let token = state.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let engine = Arc::new(harness::engine(state.path(), testkit::fake::backend()).await);
    let config = harness::config(Access::Token(Token::read(&token).unwrap()));
    let (visitors, door) = Door::inside();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(controller::serve(
        config,
        Arc::clone(&engine),
        harness::images(),
        door,
        shutdown.clone(),
    ));

    let answer = ask(&visitors, "GET", "/v1/sandboxes", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "nobody is served without the token: {answer}");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let spawn = r#"{"snapshot_tag":"standard","n":1}"#;
    let answer = ask(&visitors, "POST", "/v1/sandboxes", &bearer, spawn).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let id = answer.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let exec = r#"{"args":["echo","well"]}"#;
    let answer = ask(&visitors, "POST", &format!("/v1/sandboxes/{id}/exec"), &bearer, exec).await;
    assert!(answer.contains(r#""stdout":"well\n""#), "{answer}");

    // whoever shares the engine ends it first
    engine.close().await;
    shutdown.cancel();
    served.await.unwrap().unwrap();
    assert!(visitors.connect().await.is_err(), "the controller has ended");
}

async fn tokenless() {
    let state = tempfile::tempdir().unwrap();
    let engine = harness::engine(state.path(), testkit::fake::backend()).await;
    let (_visitors, door) = Door::inside();
    let config = harness::config(Access::Loopback);
    let served = controller::serve(config, engine, harness::images(), door, CancellationToken::new()).await;
    assert!(matches!(served, Err(Error::Inside)), "{served:?}");
}
