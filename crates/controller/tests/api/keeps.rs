//! Sandboxes that outlive their controller.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use libtest_mimic::Trial;
use sandbox::Engine;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{self, Service},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the_next_controller_has_the_sandboxes_of_the_last", next()),
        trial("a_sandbox_lives_for_its_time_whoever_serves_it", lives()),
        trial("what_no_client_was_told_of_is_ended", unknown()),
        trial("two_controllers_in_one_directory_leave_each_other_alone", two()),
        trial("a_controller_that_is_to_end_for_good_leaves_nothing", for_good()),
        trial("a_command_under_way_ends_with_its_client_and_the_sandbox_stays", under_way()),
    ]
}

const SETTLED: Duration = Duration::from_secs(10);

async fn exec(service: &Service, id: &str, script: &str) -> String {
    let body = json!({"args": ["sh", "-c", script]});
    let answer = service.post(&format!("/v1/sandboxes/{id}/exec"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["stdout"].as_str().unwrap().to_owned()
}

async fn next() {
    let state = harness::state();
    let first = Service::named(&state, "a").await;
    let ids = first.spawn(3).await;
    exec(&first, &ids[0], "echo mine > file").await;
    assert_eq!(first.delete(&format!("/v1/sandboxes/{}", ids[2])).await.status, 204);
    let told = first.get("/v1/sandboxes").await.json();
    first.leave().await;

    let second = Service::named(&state, "a").await;
    assert_eq!(second.get("/v1/sandboxes").await.json(), told);
    assert_eq!(exec(&second, &ids[0], "cat file").await, "mine\n");
    second.leave().await;
    // one ends while no controller is there
    let engine = harness::engine(state.path(), testkit::fake::backend()).await;
    let id = |id: &str| id.strip_prefix("sb-").unwrap().parse().unwrap();
    engine.end(id(&ids[0])).await.unwrap();
    engine.close().await;

    let third = Service::named(&state, "a").await;
    let gone = third.get(&format!("/v1/sandboxes/{}", ids[0])).await;
    assert_eq!(gone.status, 404);
    assert!(gone.error().contains("while no controller was there"), "{gone:?}");
    assert_eq!(exec(&third, &ids[1], "echo there").await, "there\n");
    assert_eq!(third.delete(&format!("/v1/sandboxes/{}", ids[1])).await.status, 204);
    assert_eq!(third.left().await, [""; 0]);
    third.end().await;
}

async fn lives() {
    let state = harness::state();
    let first = Service::named(&state, "a").await;
    let spawn = |seconds: u64| json!({"snapshot_tag": "standard", "n": 1, "ttl_secs": seconds});
    let short = first.post("/v1/sandboxes", spawn(1)).await.json()[0]["id"].as_str().unwrap().to_owned();
    let long = first.post("/v1/sandboxes", spawn(4)).await.json()[0]["id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    first.leave().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let second = Service::named(&state, "a").await;
    assert_eq!(second.get(&format!("/v1/sandboxes/{short}")).await.status, 404);
    loop {
        let answer = second.get(&format!("/v1/sandboxes/{long}")).await;
        if answer.status == 404 {
            assert!(answer.error().contains("time to live of 4 s"), "{answer:?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(second.left().await, [""; 0]);
    second.end().await;
}

async fn unknown() {
    let state = harness::state();
    for damage in [None, Some("{"), Some("[]")] {
        let first = Service::named(&state, "a").await;
        let ids = first.spawn(2).await;
        first.leave().await;
        let ledger = state.path().join("controllers/a/sandboxes.json");
        match damage {
            None => fs::remove_file(&ledger).unwrap(),
            Some(text) => fs::write(&ledger, text).unwrap(),
        }
        let second = Service::named(&state, "a").await;
        assert_eq!(second.get("/v1/sandboxes").await.body, "[]");
        assert_eq!(second.get(&format!("/v1/sandboxes/{}", ids[0])).await.status, 404);
        assert_eq!(second.left().await, [""; 0], "{damage:?}");
        second.end().await;
    }
}

async fn kept(engine: &Engine) -> Vec<(Option<String>, SystemTime)> {
    engine.kept().await.unwrap().into_iter().map(|kept| (kept.mark, kept.until)).collect()
}

async fn two() {
    let state = harness::state();
    let (a, b) = (Service::named(&state, "a").await, Service::named(&state, "b").await);
    let (of_a, of_b) = (a.spawn(2).await, b.spawn(1).await);
    a.leave().await;
    b.leave().await;
    let engine = harness::engine(state.path(), testkit::fake::backend()).await;
    assert_eq!(kept(&engine).await.len(), 3);
    engine.close().await;
    let b = Service::named(&state, "b").await;
    assert_eq!(b.get("/v1/sandboxes").await.json().as_array().unwrap().len(), 1);
    assert_eq!(b.get(&format!("/v1/sandboxes/{}", of_a[0])).await.status, 404);
    let a = Service::named(&state, "a").await;
    assert_eq!(exec(&a, &of_a[1], "echo a").await, "a\n");
    assert_eq!(exec(&b, &of_b[0], "echo b").await, "b\n");
    b.shutdown.cancel();
    for id in &of_a {
        assert_eq!(exec(&a, id, "echo a").await, "a\n");
        assert_eq!(a.delete(&format!("/v1/sandboxes/{id}")).await.status, 204);
    }
    b.end().await;
    a.end().await;
}

async fn for_good() {
    let state = harness::state();
    let first = Service::named(&state, "a").await;
    first.spawn(3).await;
    first.end().await;
    let second = Service::named(&state, "a").await;
    assert_eq!(second.get("/v1/sandboxes").await.body, "[]");
    second.end().await;
}

async fn under_way() {
    let state = harness::state();
    let first = Service::named(&state, "a").await;
    let ids = first.spawn(1).await;
    let path = format!("/v1/sandboxes/{}/exec", ids[0]);
    let script = "touch begun; sleep 1000";
    let call = first.post(&path, json!({"args": ["sh", "-c", script], "timeout_secs": 600}));
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        _ = exec(&first, &ids[0], "until test -e begun; do sleep 0.01; done") => {}
    }
    // that one's client is gone; this one's stays until it is cut off
    let mut socket = TcpStream::connect(&first.address).await.unwrap();
    let body = json!({"args": ["sh", "-c", "touch again; sleep 1000"], "timeout_secs": 600}).to_string();
    let head = format!(
        "Host: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json",
        harness::TOKEN
    );
    let request = format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    exec(&first, &ids[0], "until test -e again; do sleep 0.01; done").await;
    let began = Instant::now();
    first.leave().await;
    assert!(began.elapsed() < SETTLED, "{:?}", began.elapsed());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer), "");
    let second = Service::named(&state, "a").await;
    let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^sleep 1000' && \
                  readlink $p/cwd; done; true";
    let running = exec(&second, &ids[0], script).await;
    let name = state.path().file_name().unwrap().to_str().unwrap();
    assert!(!running.contains(name), "{running}");
    second.end().await;
}
