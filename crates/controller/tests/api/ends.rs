//! How sandboxes end, and that nothing of them is left.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    harness::{Service, Wayward},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_sandbox_lives_for_its_time", too_old()),
        trial("a_sandbox_whose_vm_died_is_gone_and_says_why", died()),
        trial("one_that_cannot_be_made_takes_the_others_along", all_or_nothing()),
        trial("a_client_that_goes_away_in_a_spawn_leaves_nothing", abandoned()),
        trial("a_shutdown_ends_commands_and_leaves_nothing", shutdown()),
        trial("a_shutdown_in_a_spawn_leaves_nothing", shutdown_in_spawn()),
        trial("many_deletes_of_one_are_one", deletes()),
    ]
}

async fn until_gone(service: &Service, id: &str) -> String {
    let begun = Instant::now();
    loop {
        let answer = service.get(&format!("/v1/sandboxes/{id}")).await;
        if answer.status == 404 {
            return answer.error();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until so many boots have begun.
async fn boots(backend: &Wayward, count: usize) {
    let begun = Instant::now();
    while backend.boots.load(Ordering::SeqCst) < count {
        assert!(begun.elapsed() < Duration::from_secs(30), "they never begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn too_old() {
    let service = Service::start().await;
    let body = json!({"snapshot_tag": "standard", "n": 2, "ttl_secs": 1});
    let made = service.post("/v1/sandboxes", body).await.json();
    let id = made[0]["id"].as_str().unwrap();
    let life = made[0]["expires_at_unix"].as_i64().unwrap() - made[0]["created_at_unix"].as_i64().unwrap();
    assert_eq!(life, 1);
    let why = until_gone(&service, id).await;
    assert!(why.contains("time to live of 1 s"), "{why}");
    until_gone(&service, made[1]["id"].as_str().unwrap()).await;
    assert_eq!(service.get("/v1/sandboxes").await.body, "[]");
    assert_eq!(service.left().await, [""; 0]);
    service.end().await;
}

async fn died() {
    let service = Service::start().await;
    let ids = service.spawn(2).await;
    // on this backend the agent is the parent of a command
    let script = "echo last words; kill -9 $PPID; sleep 1000";
    let body = json!({"args": ["sh", "-c", script]});
    let answer = service.post(&format!("/v1/sandboxes/{}/exec", ids[0]), body).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.error().contains("the VM ended: signal 9"), "{answer:?}");
    let why = until_gone(&service, &ids[0]).await;
    assert!(why.contains("the VM ended: signal 9"), "{why}");
    let list = service.get("/v1/sandboxes").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let path = format!("/v1/sandboxes/{}", ids[0]);
    assert_eq!(service.delete(&path).await.status, 404);
    assert_eq!(service.post(&format!("{path}/ping"), json!({})).await.status, 404);
    assert_eq!(service.delete(&format!("/v1/sandboxes/{}", ids[1])).await.status, 204);
    assert_eq!(service.left().await, [""; 0]);
    service.end().await;
}

async fn all_or_nothing() {
    let backend = Wayward::new(5, Duration::ZERO);
    let service = Service::with(backend.clone(), |config| config.boots = 2).await;
    let answer = service.post("/v1/sandboxes", json!({"snapshot_tag": "standard", "n": 50})).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    let why = answer.error();
    assert!(why.contains("none of the 50") && why.contains("this boot fails"), "{why}");
    // when it is told the others are gone, and most were never begun
    assert_eq!(service.left().await, [""; 0]);
    assert!(backend.boots.load(Ordering::SeqCst) < 10);
    assert_eq!(service.get("/v1/sandboxes").await.body, "[]");
    assert_eq!(service.spawn(2).await.len(), 2);
    service.end().await;
}

async fn abandoned() {
    let backend = Wayward::new(0, Duration::from_millis(300));
    let service = Service::with(backend.clone(), |config| {
        config.boots = 2;
        config.max_sandboxes = 8;
    })
    .await;
    let spawn = service.post("/v1/sandboxes", json!({"snapshot_tag": "standard", "n": 8}));
    // one is there by then, or nearly; some boot, some wait
    tokio::select! {
        answer = spawn => panic!("{answer:?}"),
        () = boots(&backend, 3) => {}
    }
    assert_eq!(service.left().await, [""; 0]);
    let begun = backend.boots.load(Ordering::SeqCst);
    assert!(begun < 8, "{begun}");
    assert_eq!(service.get("/v1/sandboxes").await.body, "[]");
    // nor is their room taken
    assert_eq!(service.spawn(8).await.len(), 8);
    service.end().await;
}

async fn shutdown() {
    let service = Service::start().await;
    let ids = service.spawn(3).await;
    let path = format!("/v1/sandboxes/{}/exec", ids[0]);
    let script = "echo so far; touch begun; sleep 1000";
    let call = service.post(&path, json!({"args": ["sh", "-c", script], "timeout_secs": 600}));
    let end = async {
        let looking = json!({"args": ["sh", "-c", "until test -e begun; do sleep 0.01; done; sleep 0.1"]});
        assert_eq!(service.post(&path, looking).await.status, 200);
        service.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(call, end);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["stdout"], "so far\n");
    service.end().await;
}

async fn shutdown_in_spawn() {
    let backend = Wayward::new(0, Duration::from_millis(300));
    let service = Service::with(backend.clone(), |config| config.boots = 2).await;
    let spawn = service.post("/v1/sandboxes", json!({"snapshot_tag": "standard", "n": 8}));
    let end = async {
        boots(&backend, 3).await;
        service.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(spawn, end);
    assert_eq!(answer.status, 503, "{answer:?}");
    service.end().await;
}

async fn deletes() {
    let service = Service::start().await;
    let path = format!("/v1/sandboxes/{}", service.spawn(1).await[0]);
    let (one, two, three) = tokio::join!(service.delete(&path), service.delete(&path), service.delete(&path));
    let mut codes = [one.status, two.status, three.status];
    codes.sort_unstable();
    assert_eq!(codes, [204, 404, 404]);
    service.end().await;
}
