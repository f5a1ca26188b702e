//! Every call, on a real socket, to a forge that answers as it should.

use std::collections::BTreeMap;

use forgejo::{
    Client, Credential, Fetch, Instance, Lifetime, LogRow, More, Options, Registration, Runner, StepState,
    TaskId, TaskResult, TaskState,
};
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::forge::{FirstTask, Forge, Method, REGISTRATION_TOKEN, Request, Settings, TaskSpec};

const PAYLOAD: &str =
    "name: ci\non: push\njobs:\n  job:\n    runs-on: vm\n    steps:\n      - run: a\n      - run: b\n";

fn client(forge: &Forge) -> Client {
    let instance = Instance::parse(&forge.url()).expect("url");
    Client::new(&Options::new(instance, "ampoule-test/1")).expect("client")
}

fn runner(forge: &Forge) -> Runner {
    client(forge).runner(forge.add_runner("one", &["vm"], Lifetime::Persistent))
}

fn row(content: &str) -> LogRow {
    LogRow { time: "2026-01-02T03:04:05.5Z".parse().expect("time"), content: content.to_owned() }
}

#[tokio::test]
async fn a_runner_registers_and_declares() {
    let forge = Forge::start().await;
    let client = client(&forge);
    assert_eq!(client.ping("ampoule").await.expect("ping"), "Hello, ampoule!");
    let registration = Registration {
        name: "one".to_owned(),
        token: REGISTRATION_TOKEN.into(),
        labels: vec!["vm".to_owned(), "linux".to_owned()],
        version: "1.2".to_owned(),
        lifetime: Lifetime::Ephemeral,
    };
    let registered = client.register(registration).await.expect("register");
    assert_eq!((registered.name.as_str(), registered.lifetime), ("one", Lifetime::Ephemeral));
    assert_eq!(registered.labels, ["vm", "linux"]);
    let shown = format!("{registered:?}");
    assert!(!shown.contains(registered.token.expose_secret()), "{shown}");

    let runner = client.runner(Credential { uuid: registered.uuid.clone(), token: registered.token.clone() });
    assert!(!format!("{runner:?} {client:?}").contains(registered.token.expose_secret()));
    let declared = runner.declare("1.3", &["vm".to_owned()]).await.expect("declare");
    assert_eq!((declared.name.as_str(), declared.lifetime), ("one", Lifetime::Ephemeral));
    assert_eq!(declared.labels, ["vm"]);
    let Some(Request::Declare(sent)) = &forge.calls()[2].request else { panic!("{:?}", forge.calls()) };
    assert_eq!(sent.version, "1.3");
}

#[tokio::test]
async fn a_task_arrives_whole() {
    for (first_task, prefix) in [(FirstTask::InTask, ""), (FirstTask::InAdditional, "/git")] {
        let forge =
            Forge::start_with(Settings { first_task, prefix: prefix.to_owned(), ..Settings::default() })
                .await;
        let id = forge.add(
            TaskSpec::new(PAYLOAD)
                .labels(&["vm"])
                .secret("KEY", "ä secret")
                .var("V", "value")
                .need("one", TaskResult::Success, &[("o", "1")])
                .context(
                    "event",
                    json!({ "number": 7, "ratio": 0.5, "list": [null, true, "x"], "big": "y".repeat(5000) }),
                )
                .context("run_attempt", "2"),
        );
        let key = uuid_of(1);
        let fetch = Fetch { tasks_version: 0, capacity: Some(3), request_key: Some(key) };
        let fetched = runner(&forge).fetch_task(&fetch).await.expect("fetch");
        assert_eq!((fetched.tasks.len(), fetched.tasks_version), (1, 2));
        let task = &fetched.tasks[0];
        assert_eq!((task.id, task.payload.as_slice()), (id, PAYLOAD.as_bytes()));
        assert_eq!(task.secrets["KEY"].expose_secret(), "ä secret");
        assert_eq!(task.secrets["GITHUB_TOKEN"].expose_secret(), forge.token(id));
        assert_eq!(task.vars, BTreeMap::from([("V".to_owned(), "value".to_owned())]));
        assert_eq!(
            (task.needs["one"].result, task.needs["one"].outputs["o"].as_str()),
            (TaskResult::Success, "1")
        );
        assert_eq!(task.context["event"]["number"].to_string(), "7");
        assert_eq!(task.context["event"]["ratio"], json!(0.5));
        assert_eq!(task.context["event"]["list"], json!([null, true, "x"]));
        assert_eq!(task.context["run_attempt"], json!("2"));
        assert_eq!(task.context["ref_protected"], json!(false));
        assert_eq!(task.context["server_url"], json!(format!("{}/", forge.url())));
        let shown = format!("{fetched:?}");
        assert!(!shown.contains("ä secret") && !shown.contains(&forge.token(id)), "{shown}");
        let call = &forge.calls()[0];
        assert_eq!(call.request_key.as_deref(), Some(key.to_string().as_str()));
        let Some(Request::FetchTask(sent)) = &call.request else { panic!("{call:?}") };
        assert_eq!((sent.tasks_version, sent.task_capacity), (0, Some(3)));
    }
}

fn uuid_of(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

#[tokio::test]
async fn one_task_by_its_handle() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    forge.add(TaskSpec::new(PAYLOAD).handle("h1"));
    let second = forge.add(TaskSpec::new(PAYLOAD).handle("h2"));
    let fetched = runner.fetch_single_task(0, Some("h2"), Some(uuid_of(2))).await.expect("fetch");
    assert_eq!(fetched.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [second]);
    let again = runner.fetch_single_task(0, Some("h2"), None).await.expect("fetch");
    assert!(again.tasks.is_empty());
    assert_eq!(again.tasks_version, 3);
    let rest = runner.fetch_single_task(0, None, None).await.expect("fetch");
    assert_eq!(rest.tasks.len(), 1);
}

#[tokio::test]
async fn a_task_is_reported() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    let id = forge.add(TaskSpec::new(PAYLOAD));
    runner.fetch_task(&Fetch::default()).await.expect("fetch");

    let rows = [row("one"), row("two")];
    assert_eq!(runner.update_log(id, 0, &rows, More::More).await.expect("log"), 2);
    assert_eq!(runner.update_log(id, 2, &[row("three")], More::NoMore).await.expect("log"), 3);
    assert!(forge.is_archived(id));
    let kept = forge.rows(id);
    assert_eq!(kept.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(kept[0].time, (1_767_323_045, 500_000_000));

    runner.update_step_summary(id, &[(1, "# Done".to_owned())]).await.expect("summary");
    assert_eq!(forge.summaries(id), BTreeMap::from([(1, "# Done".to_owned())]));

    let beat = runner.update_task(&TaskState::heartbeat(id), &BTreeMap::new()).await.expect("heartbeat");
    assert_eq!((beat.result, beat.sent_outputs), (TaskResult::Unspecified, vec![]));
    let state = TaskState {
        id,
        result: TaskResult::Failure,
        started_at: Some("2026-01-02T03:04:05Z".parse().expect("time")),
        stopped_at: Some("2026-01-02T03:05:05Z".parse().expect("time")),
        steps: vec![StepState {
            id: 1,
            result: TaskResult::Failure,
            started_at: Some("2026-01-02T03:04:06Z".parse().expect("time")),
            stopped_at: None,
            log_index: 1,
            log_length: 2,
        }],
    };
    let outputs = BTreeMap::from([("o".to_owned(), "v".to_owned())]);
    let updated = runner.update_task(&state, &outputs).await.expect("update");
    assert_eq!((updated.result, updated.sent_outputs), (TaskResult::Failure, vec!["o".to_owned()]));
    assert_eq!((forge.result(id), forge.outputs(id)), (TaskResult::Failure, outputs));
    let step = &forge.steps(id)[1];
    assert_eq!((step.result, step.started, step.stopped), (TaskResult::Failure, 1_767_323_046, 0));
    assert_eq!((step.log_index, step.log_length), (1, 2));
    let reported = forge.reported(id).expect("a state");
    assert_eq!(reported.stopped_at.map(|time| time.seconds), Some(1_767_323_105));
}

#[tokio::test]
async fn the_forge_is_asked_once_a_call() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    for _ in 0..3 {
        runner.fetch_task(&Fetch::default()).await.expect("fetch");
    }
    let refused =
        runner.update_log(TaskId::new(99).expect("id"), 0, &[], More::More).await.expect_err("foreign");
    assert_eq!(refused.code(), Some(forgejo::Code::Internal));
    assert_eq!((forge.count(Method::FetchTask), forge.count(Method::UpdateLog)), (3, 1));
    assert!(forge.calls().iter().all(|call| call.runner.is_some()));
}
