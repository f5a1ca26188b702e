//! The forms of requests and answers: codes, bodies, who may ask.

use std::time::Duration;

use controller::{Access, Error};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{self, Service, TOKEN, Transcript},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the_forms_of_sandboxes_are_forkds", sandboxes()),
        trial("the_forms_of_snapshots_are_forkds", snapshots()),
        trial("what_is_not_there_yet_says_so", missing()),
        trial("nobody_is_served_without_the_token", unauthorised()),
        trial("without_a_token_only_loopback_is_served", loopback()),
        trial("bad_bodies_get_the_frameworks_codes", bodies()),
        trial("numbers_have_bounds", bounds()),
        trial("those_who_send_nothing_keep_nobody_out", silent()),
        trial("one_connection_takes_several_requests", kept()),
    ]
}

async fn sandboxes() {
    let service = Service::start().await;
    let mut all = Transcript::default();
    all.send(&service, "GET", "/version", None).await;
    all.send(&service, "GET", "/v1/sandboxes", None).await;
    let body = r#"{"snapshot_tag":"standard","n":2,"per_child_netns":true,"memory_limit_mib":256,"prewarm":true,"unknown":[]}"#;
    let made = all.send(&service, "POST", "/v1/sandboxes", Some(body)).await.json();
    let id = made[0]["id"].as_str().unwrap();
    let one = format!("/v1/sandboxes/{id}");
    all.send(&service, "POST", "/v1/sandboxes", Some(r#"{"snapshot_tag":"standard"}"#)).await;
    all.send(&service, "GET", "/v1/sandboxes", None).await;
    all.send(&service, "GET", &one, None).await;
    all.send(&service, "POST", &format!("{one}/ping"), None).await;
    all.send(&service, "POST", &format!("{one}/exec"), Some(r#"{"args":["echo","hello"]}"#)).await;
    all.send(&service, "GET", "/metrics", None).await;
    all.send(&service, "DELETE", &one, None).await;
    all.send(&service, "DELETE", &one, None).await;
    all.send(&service, "GET", &one, None).await;
    all.send(&service, "POST", &format!("{one}/exec"), Some(r#"{"args":["true"]}"#)).await;
    for path in ["/v1/sandboxes/nobody", "/v1/sandboxes/sb-01234567890123456789012345678901"] {
        all.send(&service, "GET", path, None).await;
        all.send(&service, "DELETE", path, None).await;
    }
    all.send(&service, "POST", "/v1/sandboxes", Some(r#"{"snapshot_tag":"nothing"}"#)).await;
    all.send(&service, "POST", "/v1/sandboxes", Some(r#"{"snapshot_tag":"../etc"}"#)).await;
    insta::assert_snapshot!("sandboxes", all.finish());
    service.end().await;
}

async fn snapshots() {
    let service = Service::start().await;
    let mut all = Transcript::default();
    all.send(&service, "GET", "/v1/snapshots", None).await;
    all.send(&service, "GET", "/v1/snapshots/standard/info", None).await;
    all.send(&service, "GET", "/v1/snapshots/nothing/info", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/nothing", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/.hidden", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/shared", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/shared?cascade", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/shared?cascade=true&force=true", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/shared?force=true", None).await;
    service.spawn(2).await;
    all.send(&service, "DELETE", "/v1/snapshots/standard", None).await;
    all.send(&service, "DELETE", "/v1/snapshots/standard?cascade=true", None).await;
    all.send(&service, "GET", "/v1/sandboxes", None).await;
    all.send(&service, "GET", "/v1/snapshots", None).await;
    all.send(&service, "POST", "/v1/sandboxes", Some(r#"{"snapshot_tag":"standard"}"#)).await;
    insta::assert_snapshot!("snapshots", all.finish());
    assert_eq!(service.left().await, [""; 0]);
    service.end().await;
}

async fn missing() {
    let service = Service::start().await;
    let mut all = Transcript::default();
    for (method, path) in [
        ("POST", "/v1/snapshots"),
        ("POST", "/v1/snapshots/standard/compact"),
        ("POST", "/v1/sandboxes/sb-1/branch"),
        ("GET", "/v1/workspaces"),
        ("POST", "/v1/workspaces"),
        ("GET", "/v1/workspaces/one"),
        ("DELETE", "/v1/workspaces/one"),
        ("POST", "/v1/workspaces/one/suspend"),
        ("POST", "/v1/workspaces/one/resume"),
    ] {
        let body = (method == "POST").then_some("{}");
        assert_eq!(all.send(&service, method, path, body).await.status, 501, "{method} {path}");
    }
    for path in ["/", "/v1", "/v2/sandboxes", "/v1/sandboxes/a/b/c", "/favicon.ico"] {
        let answer = all.send(&service, "GET", path, None).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
    }
    all.send(&service, "PUT", "/v1/sandboxes", None).await;
    insta::assert_snapshot!("missing", all.finish());
    service.end().await;
}

async fn unauthorised() {
    let service = Service::start().await;
    let mut all = Transcript::default();
    all.note("GET /healthz, no token", &service.raw("GET", "/healthz", "", "").await);
    all.note("GET /version, no token", &service.raw("GET", "/version", "", "").await);
    insta::assert_snapshot!("unauthorised", all.finish());
    let json = "Content-Type: application/json\r\n";
    let heads = [
        String::new(),
        "Authorization: Bearer wrong-wrong-wrong-wrong\r\n".to_owned(),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("X-Token: {TOKEN}\r\n"),
    ];
    for head in heads {
        for (method, path) in [
            ("GET", "/metrics"),
            ("GET", "/v1/snapshots"),
            ("DELETE", "/v1/snapshots/standard"),
            ("GET", "/v1/snapshots/standard/info"),
            ("GET", "/v1/sandboxes"),
            ("POST", "/v1/sandboxes"),
            ("POST", "/v1/sandboxes/x/exec"),
            ("POST", "/v1/sandboxes/x/eval"),
            ("POST", "/v1/sandboxes/x/ping"),
            ("DELETE", "/v1/sandboxes/x"),
            ("POST", "/v1/snapshots"),
            ("GET", "/v1/workspaces"),
        ] {
            let body = r#"{"snapshot_tag":"standard"}"#;
            let answer = service.raw(method, path, &format!("{head}{json}"), body).await;
            assert_eq!(answer.status, 401, "{method} {path} {head:?}: {answer:?}");
            assert!(answer.error().contains("token"));
        }
    }
    let good = service.raw("GET", "/version", &format!("Authorization: bearer {TOKEN}\r\n"), "").await;
    assert_eq!(good.status, 200);
    assert_eq!(service.get("/v1/snapshots").await.json().as_array().unwrap().len(), 2);
    service.end().await;
}

async fn loopback() {
    let state = tempfile::tempdir().unwrap();
    let open = |backend| harness::engine(state.path(), backend);
    let engine = open(testkit::fake::backend()).await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let config = harness::config(Access::Loopback);
    let served =
        controller::serve(config, engine, harness::images(), listener, CancellationToken::new()).await;
    assert!(matches!(served, Err(Error::Open { .. })), "{served:?}");

    let service = Service::with(testkit::fake::backend(), |config| config.access = Access::Loopback).await;
    for (host, code) in [("127.0.0.1:8889", 200), ("localhost", 200), ("evil.example:8889", 403)] {
        let answer = service.raw("GET", "/v1/sandboxes", &format!("Host: {host}\r\n"), "").await;
        assert_eq!(answer.status, code, "{host}");
    }
    assert_eq!(service.spawn(1).await.len(), 1);
    service.end().await;
}

async fn bodies() {
    let service = Service::start().await;
    let auth = format!("Authorization: Bearer {TOKEN}\r\n");
    let json = format!("{auth}Content-Type: application/json\r\n");
    let cases = [
        ("/v1/sandboxes", &json, "{".to_owned(), 400),
        ("/v1/sandboxes", &json, String::new(), 400),
        ("/v1/sandboxes", &json, "{}".to_owned(), 422),
        ("/v1/sandboxes", &json, r#"{"snapshot_tag":1}"#.to_owned(), 422),
        ("/v1/sandboxes", &json, r#"{"snapshot_tag":"standard","n":-1}"#.to_owned(), 422),
        ("/v1/sandboxes", &json, r#"{"snapshot_tag":"standard","n":"2"}"#.to_owned(), 422),
        ("/v1/sandboxes", &auth, r#"{"snapshot_tag":"standard"}"#.to_owned(), 415),
        ("/v1/sandboxes", &json, format!(r#"{{"snapshot_tag":"{}"}}"#, "x".repeat(2 << 20)), 413),
        ("/v1/sandboxes/x/exec", &json, r#"{"timeout_secs":1}"#.to_owned(), 422),
        ("/v1/sandboxes/x/exec", &json, r#"{"args":"true"}"#.to_owned(), 422),
        ("/v1/sandboxes/x/eval", &json, "{}".to_owned(), 422),
    ];
    for (path, head, body, code) in cases {
        let answer = service.raw("POST", path, head, &body).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status, code, "{path} {shown}: {answer:?}");
        assert!(answer.kind.starts_with("text/plain"), "{path} {shown}: {answer:?}");
    }
    assert_eq!(service.get("/v1/sandboxes").await.body, "[]");
    service.end().await;
}

async fn bounds() {
    let service = Service::with(testkit::fake::backend(), |config| config.max_sandboxes = 3).await;
    let spawn = |extra: serde_json::Value| {
        let mut body = json!({"snapshot_tag": "standard"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    for extra in [
        json!({"n": 0}),
        json!({"n": 1001}),
        json!({"memory_limit_mib": 0}),
        json!({"memory_limit_mib": 63}),
        json!({"memory_limit_mib": 513}),
        json!({"memory_limit_mib": 1_u64 << 40}),
        json!({"ttl_secs": 0}),
        json!({"ttl_secs": 1_000_000}),
    ] {
        let answer = service.post("/v1/sandboxes", spawn(extra.clone())).await;
        assert_eq!(answer.status, 400, "{extra}: {answer:?}");
        assert!(answer.error().contains("must be"), "{answer:?}");
    }
    let made = service.post("/v1/sandboxes", spawn(json!({"memory_limit_mib": 512, "n": 2}))).await;
    assert_eq!(made.json()[0]["memory_limit_mib"], 512);
    let full = service.post("/v1/sandboxes", spawn(json!({"n": 2}))).await;
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.error().contains("2 of 3"), "{full:?}");
    assert_eq!(service.spawn(1).await.len(), 1);
    service.end().await;
}

async fn silent() {
    let service = Service::with(testkit::fake::backend(), |config| {
        config.max_connections = 3;
        config.head_timeout = Duration::from_millis(300);
    })
    .await;
    let mut idle = Vec::new();
    for head in ["", "GET /healthz HT", "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut socket = TcpStream::connect(&service.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        idle.push(socket);
    }
    assert_eq!(service.spawn(1).await.len(), 1);
    for mut socket in idle {
        // it was cut off, with or without a word
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    service.end().await;
}

async fn kept() {
    let service = Service::start().await;
    let mut socket = TcpStream::connect(&service.address).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"ok\":true}") {
            assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
    service.end().await;
    assert_eq!(socket.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}
