//! The controller when its engine process is killed: what clients are told, and that nothing of theirs is lost.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use sandbox::{Engine, EngineConfig, Patience, PoolLimits, Reserve};
use serde_json::{Value, json};
use vm_tests::{
    controller::{Controller, TOKEN},
    host,
    program::{On, Place},
};

pub(crate) fn trials() -> Vec<Trial> {
    let on = On::Fake;
    vec![
        crate::on(on, "a_controller_has_its_sandboxes_again_after_its_engine_was_killed", killed),
        crate::on(on, "what_ends_while_no_engine_is_there_is_told", ended),
    ]
}

/// What a client that is no library gets: the status, and the body's JSON.
fn ask(controller: &Controller, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let method = method.parse().expect("a method");
        let mut call = http.request(method, format!("{}{path}", controller.url())).bearer_auth(TOKEN);
        if let Some(body) = body {
            call = call.header("content-type", "application/json").body(body.to_string());
        }
        let answer = call.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.bytes().await.expect("a whole answer");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    })
}

fn spawn(controller: &Controller, n: u32, seconds: u32) -> Vec<String> {
    let body = json!({"snapshot_tag": "standard", "n": n, "ttl_secs": seconds});
    let (status, made) = ask(controller, "POST", "/v1/sandboxes", Some(&body));
    assert_eq!(status, 201, "{made}");
    ids(&made)
}

fn ids(all: &Value) -> Vec<String> {
    let all = all.as_array().expect("an array").iter();
    all.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

fn exec(controller: &Controller, id: &str, script: &str) -> (u16, Value) {
    ask(controller, "POST", &format!("/v1/sandboxes/{id}/exec"), Some(&json!({"args": ["sh", "-c", script]})))
}

/// Until a sandbox does what is said, or is not there any more.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The engine process is killed and another comes, then it is told to end, and is killed while the controller restarts.
fn killed(on: On) {
    let place = Place::new(on);
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    let controller = Controller::start(&place);
    let made = spawn(&controller, 2, 600);
    let one = &made[0];
    assert_eq!(exec(&controller, one, "echo mine > file").0, 200);
    let mut engine = engine;
    for signal in [Signal::KILL, Signal::TERM] {
        engine.signal(signal);
        engine.end();
        is_adrift(&controller, &made);
        engine = crate::engine::engine(&place, &["--idle", "0s"]);
        is_there_again(&controller, &made);
    }

    engine.signal(Signal::KILL);
    engine.end();
    is_adrift(&controller, &made);
    // it leaves what nobody has, and the next one of its name finds it
    controller.end(Signal::TERM);
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    let controller = Controller::start(&place);
    is_there_again(&controller, &made);
    for id in &made {
        assert_eq!(ask(&controller, "DELETE", &format!("/v1/sandboxes/{id}"), None).0, 204);
        assert_eq!(exec(&controller, id, "true").0, 404);
    }
    assert_eq!(spawn(&controller, 1, 600).len(), 1);
    controller.end(Signal::INT);
    engine.signal(Signal::TERM);
    engine.end().expect(0);
    place.assert_clean();
}

/// What clients get while no engine is there: nothing is lost, and nothing can be done.
fn is_adrift(controller: &Controller, made: &[String]) {
    let says = |said: &Value, words: &str| said["error"].as_str().is_some_and(|text| text.contains(words));
    for id in made {
        let words = format!("the engine process that had sandbox {id} is gone");
        until("nobody notices", || says(&exec(controller, id, "true").1, &words));
        let (status, said) = exec(controller, id, "true");
        assert!(status == 503 && says(&said, "start one with `ampoule engine`"), "{said}");
        let (status, said) = ask(controller, "DELETE", &format!("/v1/sandboxes/{id}"), None);
        assert!(status == 503 && says(&said, &words), "{said}");
        assert_eq!(ask(controller, "GET", &format!("/v1/sandboxes/{id}"), None).0, 200);
    }
    let (status, listed) = ask(controller, "GET", "/v1/sandboxes", None);
    assert_eq!((status, ids(&listed)), (200, made.to_vec()), "they run on");
    let more = json!({"snapshot_tag": "standard", "n": 1});
    let (status, said) = ask(controller, "POST", "/v1/sandboxes", Some(&more));
    assert!(status == 503 && says(&said, "no engine listens"), "{status} {said}");
}

/// Nobody did anything but start an engine; what they had is there.
fn is_there_again(controller: &Controller, made: &[String]) {
    for id in made {
        until("it is not there again", || exec(controller, id, "true").0 == 200);
    }
    assert_eq!(exec(controller, &made[0], "cat file").1["stdout"], "mine\n");
    assert_eq!(ids(&ask(controller, "GET", "/v1/sandboxes", None).1), made);
}

/// By an engine that is nobody's.
fn end_from_outside(place: &Place, id: &str) {
    let config = EngineConfig {
        state_dir: place.path().to_owned(),
        backend: testkit::fake::backend(),
        patience: Patience::default(),
        pool: PoolLimits::NONE,
        reserve: Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (engine, _) = Engine::open(config).await.expect("an engine");
        let id = id.trim_start_matches("sb-").parse().expect("the id of a VM");
        engine.end(id).await.expect("it ends");
        engine.close().await;
    });
}

fn ended(on: On) {
    let place = Place::new(on);
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    let controller = Controller::start(&place);
    let short = spawn(&controller, 1, 4)[0].clone();
    let long = spawn(&controller, 1, 600)[0].clone();
    let third = spawn(&controller, 1, 600)[0].clone();
    engine.signal(Signal::KILL);
    engine.end();
    let gone = |id: &str| {
        let (status, said) = ask(&controller, "GET", &format!("/v1/sandboxes/{id}"), None);
        (status == 404).then(|| said["error"].as_str().unwrap_or_default().to_owned())
    };
    until("it lives for ever", || gone(&short).is_some());
    assert!(gone(&short).is_some_and(|why| why.contains("its time to live of 4 s was over")));
    // somebody else ends one of those that are left
    end_from_outside(&place, &long);
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    until("nobody is told", || gone(&long).is_some());
    assert!(gone(&long).is_some_and(|why| why.contains("while no engine was there")));
    until("it is not there again", || exec(&controller, &third, "true").0 == 200);
    // and a controller that ends for good leaves nothing, also where it has no engine at that moment
    engine.signal(Signal::KILL);
    engine.end();
    until("nobody notices", || exec(&controller, &third, "true").0 == 503);
    let (code, said) = controller.end(Signal::INT);
    assert_eq!(code, Some(0), "{said}");
    assert!(!host::running(place.path()).is_empty(), "or this proves nothing");
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    let controller = Controller::start(&place);
    assert_eq!(ask(&controller, "GET", "/v1/sandboxes", None).1, json!([]));
    controller.end(Signal::INT);
    engine.signal(Signal::TERM);
    engine.end().expect(0);
    place.assert_clean();
}
