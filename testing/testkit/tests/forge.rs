//! The rules of the test forge, each pinned, over its socket.

use std::{collections::BTreeMap, time::Duration};

use forgejo::{
    Client, Code, Credential, Error, Fetch, Fetched, Instance, Lifetime, LogRow, More, Options, Registration,
    Runner, StepState, TaskId, TaskResult, TaskState,
};
use secrecy::ExposeSecret;
use testkit::forge::{Fault, FirstTask, Forge, Method, REGISTRATION_TOKEN, Settings, TaskSpec};
use uuid::Uuid;

const TWO_STEPS: &str =
    "on: push\njobs:\n  job:\n    runs-on: vm\n    steps:\n      - run: a\n      - run: b\n";

fn client(forge: &Forge) -> Client {
    Client::new(&Options::new(Instance::parse(&forge.url()).expect("url"), "test")).expect("client")
}

fn with(forge: &Forge, credential: &Credential) -> Runner {
    client(forge).runner(credential.clone())
}

fn runner(forge: &Forge, labels: &[&str]) -> Runner {
    with(forge, &forge.add_runner("one", labels, Lifetime::Persistent))
}

fn ids(fetched: &Fetched) -> Vec<TaskId> {
    fetched.tasks.iter().map(|task| task.id).collect()
}

fn rows(texts: &[&str]) -> Vec<LogRow> {
    let time = "2026-01-02T03:04:05Z".parse().expect("time");
    texts.iter().map(|&text| LogRow { time, content: text.to_owned() }).collect()
}

fn state(id: TaskId, result: TaskResult) -> TaskState {
    TaskState { result, ..TaskState::heartbeat(id) }
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<Code> {
    result.expect_err("a refusal").code()
}

/// A forge, a runner, and a task that it has.
async fn working() -> (Forge, Runner, TaskId) {
    let forge = Forge::start().await;
    let runner = runner(&forge, &["vm"]);
    let id = forge.add(TaskSpec::new(TWO_STEPS));
    assert_eq!(ids(&runner.fetch_task(&Fetch::default()).await.expect("fetch")), [id]);
    (forge, runner, id)
}

#[tokio::test]
async fn registration_needs_the_token_and_a_name() {
    let forge = Forge::start().await;
    let client = client(&forge);
    let registration = |name: &str, token: &str| Registration {
        name: name.to_owned(),
        token: token.into(),
        labels: vec![],
        version: "1".to_owned(),
        lifetime: Lifetime::Persistent,
    };
    assert_eq!(code(client.register(registration("a", "wrong")).await), Some(Code::InvalidArgument));
    assert_eq!(
        code(client.register(registration("", REGISTRATION_TOKEN)).await),
        Some(Code::InvalidArgument)
    );
    let one = client.register(registration("a", REGISTRATION_TOKEN)).await.expect("register");
    let two = client.register(registration("a", REGISTRATION_TOKEN)).await.expect("register");
    assert_ne!(one.uuid, two.uuid);
    assert_ne!(one.token.expose_secret(), two.token.expose_secret());
}

#[tokio::test]
async fn each_call_of_a_runner_needs_both_halves_of_its_credential() {
    let forge = Forge::start().await;
    let good = forge.add_runner("one", &[], Lifetime::Persistent);
    let other = forge.add_runner("two", &[], Lifetime::Persistent);
    let mixed = Credential { uuid: good.uuid.clone(), token: other.token.clone() };
    for credential in [mixed, Credential { uuid: "u".to_owned(), token: good.token.clone() }] {
        let runner = with(&forge, &credential);
        let id = TaskId::new(1).expect("id");
        let unauthenticated = Some(Code::Unauthenticated);
        assert_eq!(code(runner.declare("1", &[]).await), unauthenticated);
        assert_eq!(code(runner.fetch_task(&Fetch::default()).await), unauthenticated);
        assert_eq!(code(runner.fetch_single_task(0, None, None).await), unauthenticated);
        assert_eq!(code(runner.update_task(&TaskState::heartbeat(id), &none()).await), unauthenticated);
        assert_eq!(code(runner.update_log(id, 0, &[], More::More).await), unauthenticated);
        assert_eq!(code(runner.update_step_summary(id, &[]).await), unauthenticated);
    }
    with(&forge, &good).declare("1", &[]).await.expect("the good one");
    client(&forge).ping("anybody").await.expect("ping");
}

#[tokio::test]
async fn work_is_looked_for_only_when_the_version_differs() {
    let forge = Forge::start().await;
    let runner = runner(&forge, &["vm"]);
    let fetch = async |tasks_version| {
        runner.fetch_task(&Fetch { tasks_version, ..Fetch::default() }).await.expect("fetch")
    };
    let version = fetch(0).await.tasks_version;
    let id = forge.add(TaskSpec::new(TWO_STEPS));
    let stale = fetch(version + 1).await;
    assert!(stale.tasks.is_empty() && stale.tasks_version == version + 1, "{stale:?}");
    assert_eq!(ids(&fetch(version).await), [id]);
    let single = forge.add(TaskSpec::new(TWO_STEPS));
    let unchanged = runner.fetch_single_task(version + 2, None, None).await.expect("fetch");
    assert!(unchanged.tasks.is_empty(), "{unchanged:?}");
    assert_eq!(ids(&fetch(0).await), [single]);
    assert!(fetch(0).await.tasks.is_empty(), "each is handed out once");
}

#[tokio::test]
async fn capacity_is_a_number_of_tasks_and_at_least_one() {
    for first_task in [FirstTask::InTask, FirstTask::InAdditional] {
        let forge = Forge::start_with(Settings { first_task, ..Settings::default() }).await;
        let runner = runner(&forge, &[]);
        for _ in 0..7 {
            forge.add(TaskSpec::new(TWO_STEPS));
        }
        let mut counts = Vec::new();
        for capacity in [Some(3), Some(0), None, Some(1), Some(9)] {
            let fetch = Fetch { capacity, ..Fetch::default() };
            counts.push(runner.fetch_task(&fetch).await.expect("fetch").tasks.len());
        }
        assert_eq!(counts, [3, 1, 1, 1, 1]);
    }
}

#[tokio::test]
async fn a_job_goes_to_a_runner_that_declares_all_its_labels() {
    let forge = Forge::start().await;
    let runner = runner(&forge, &["vm"]);
    let id = forge.add(TaskSpec::new(TWO_STEPS).labels(&["vm", "large"]));
    let small = forge.add(TaskSpec::new(TWO_STEPS).labels(&["vm"]));
    let all = Fetch { capacity: Some(9), ..Fetch::default() };
    assert_eq!(ids(&runner.fetch_task(&all).await.expect("fetch")), [small]);
    assert!(!forge.was_fetched(id));
    runner.declare("1", &["large".to_owned(), "vm".to_owned()]).await.expect("declare");
    assert_eq!(ids(&runner.fetch_task(&all).await.expect("fetch")), [id]);
}

#[tokio::test]
async fn a_request_key_gives_the_same_tasks_with_new_tokens() {
    let forge = Forge::start().await;
    let runner = runner(&forge, &[]);
    let one = forge.add(TaskSpec::new(TWO_STEPS));
    let two = forge.add(TaskSpec::new(TWO_STEPS));
    let key = Some(Uuid::from_u128(1));
    let fetch = Fetch { capacity: Some(2), request_key: key, tasks_version: 0 };
    let first = runner.fetch_task(&fetch).await.expect("fetch");
    assert_eq!((ids(&first), first.tasks_version), (vec![one, two], 3));
    let token = forge.token(one);
    runner.update_task(&state(one, TaskResult::Success), &none()).await.expect("final");
    // whatever the version and the task's state are, and no new work
    forge.add(TaskSpec::new(TWO_STEPS));
    let again = runner.fetch_task(&Fetch { tasks_version: 4, ..fetch }).await.expect("fetch");
    assert_eq!((ids(&again), again.tasks_version), (vec![one, two], 0));
    assert_ne!(forge.token(one), token);
    assert_eq!(again.tasks[0].secrets["FORGEJO_TOKEN"].expose_secret(), forge.token(one));
    assert_eq!(again.tasks[0].context["token"], forge.token(one));
    // two do not fit into the answer for one
    assert_eq!(code(runner.fetch_single_task(0, None, key).await), Some(Code::Internal));
    // another runner has no part in it
    let other = with(&forge, &forge.add_runner("two", &[], Lifetime::Persistent));
    let theirs = other.fetch_task(&Fetch { tasks_version: 4, ..fetch }).await.expect("fetch");
    assert!(theirs.tasks.is_empty(), "{theirs:?}");
}

#[tokio::test]
async fn a_single_task_is_delivered_again_by_its_key() {
    let forge = Forge::start().await;
    let runner = runner(&forge, &[]);
    let id = forge.add(TaskSpec::new(TWO_STEPS).handle("h"));
    let key = Some(Uuid::from_u128(1));
    assert_eq!(ids(&runner.fetch_single_task(0, Some("h"), key).await.expect("fetch")), [id]);
    let again = runner.fetch_single_task(2, Some("other"), key).await.expect("fetch");
    assert_eq!((ids(&again), again.tasks_version), (vec![id], 0));
    for handle in [Some("h"), Some("unknown")] {
        let nothing = runner.fetch_single_task(0, handle, None).await.expect("fetch");
        assert!(nothing.tasks.is_empty(), "{handle:?}");
    }
    let rest = forge.add(TaskSpec::new(TWO_STEPS).handle("h2"));
    assert_eq!(ids(&runner.fetch_single_task(0, Some(""), None).await.expect("fetch")), [rest], "any");
}

#[tokio::test]
async fn an_ephemeral_runner_gets_one_task_and_is_forgotten_with_it() {
    let forge = Forge::start().await;
    let five = Fetch { capacity: Some(5), ..Fetch::default() };
    for end in ["final", "cancel", "give up"] {
        let credential = forge.add_runner("e", &[end], Lifetime::Ephemeral);
        let runner = with(&forge, &credential);
        let id = forge.add(TaskSpec::new(TWO_STEPS).labels(&[end]));
        let waiting = forge.add(TaskSpec::new(TWO_STEPS).labels(&[end]));
        assert_eq!(ids(&runner.fetch_task(&five).await.expect("fetch")), [id]);
        assert!(runner.fetch_task(&five).await.expect("fetch").tasks.is_empty());
        runner.update_task(&TaskState::heartbeat(id), &none()).await.expect("heartbeat");
        forge.cancel(waiting);
        assert!(forge.knows_runner(&credential.uuid));
        match end {
            "final" => {
                drop(runner.update_task(&state(id, TaskResult::Success), &none()).await.expect("final"))
            }
            "cancel" => forge.cancel(id),
            _ => forge.give_up(id),
        }
        assert!(!forge.knows_runner(&credential.uuid), "{end}");
        let refused = runner.update_task(&state(id, TaskResult::Success), &none()).await;
        assert_eq!(code(refused), Some(Code::Unauthenticated), "{end}");
        assert_eq!(
            code(runner.update_log(id, 0, &rows(&["x"]), More::More).await),
            Some(Code::Unauthenticated)
        );
    }
}

#[tokio::test]
async fn the_log_acknowledges_what_it_has() {
    let (forge, runner, id) = working().await;
    let log = async |index, texts: &[&str], more| runner.update_log(id, index, &rows(texts), more).await;
    assert_eq!(log(0, &["a", "b"], More::More).await.expect("log"), 2);
    assert_eq!(log(0, &["a", "b"], More::NoMore).await.expect("duplicate"), 2);
    assert_eq!(log(5, &["x"], More::NoMore).await.expect("gap"), 2);
    assert_eq!(log(2, &[], More::NoMore).await.expect("empty"), 2);
    assert!(!forge.is_archived(id), "no new row, no archive");
    assert_eq!(log(1, &["b", "c\nd"], More::NoMore).await.expect("overlap"), 3);
    assert!(forge.is_archived(id));
    assert_eq!(log(1, &["b", "c"], More::NoMore).await.expect("nothing new"), 3);
    let refused = log(3, &["e"], More::More).await.expect_err("behind the archive");
    assert!(matches!(refused, Error::Refused { status: 409, code: Code::AlreadyExists, .. }), "{refused:?}");
    let texts: Vec<_> = forge.rows(id).into_iter().map(|row| row.content).collect();
    assert_eq!(texts, ["a", "b", "c\\nd"]);
}

#[tokio::test]
async fn a_foreign_task_is_an_internal_error() {
    let (forge, _owner, id) = working().await;
    let waiting = forge.add(TaskSpec::new(TWO_STEPS));
    let stranger = runner(&forge, &[]);
    for id in [id, waiting, TaskId::new(77).expect("id")] {
        let internal = Some(Code::Internal);
        assert_eq!(code(stranger.update_log(id, 0, &rows(&["x"]), More::More).await), internal);
        assert_eq!(code(stranger.update_task(&TaskState::heartbeat(id), &none()).await), internal);
        assert_eq!(code(stranger.update_step_summary(id, &[]).await), internal);
    }
    assert!(forge.rows(id).is_empty());
}

#[tokio::test]
async fn a_final_state_stays() {
    let (forge, runner, id) = working().await;
    let step = |result, log_length| StepState { id: 0, result, log_length, ..StepState::default() };
    let mut told = state(id, TaskResult::Failure);
    told.steps = vec![step(TaskResult::Failure, 4), StepState { id: 9, ..StepState::default() }];
    assert_eq!(runner.update_task(&told, &none()).await.expect("final").result, TaskResult::Failure);
    told.result = TaskResult::Success;
    told.steps = vec![step(TaskResult::Success, 8)];
    for told in [told, TaskState::heartbeat(id)] {
        assert_eq!(runner.update_task(&told, &none()).await.expect("late").result, TaskResult::Failure);
    }
    forge.cancel(id);
    forge.give_up(id);
    assert_eq!(forge.result(id), TaskResult::Failure);
    let steps = forge.steps(id);
    assert_eq!((steps.len(), steps[0].result, steps[0].log_length), (2, TaskResult::Failure, 4));
    assert_eq!(steps[1].result, TaskResult::Unspecified, "the server ends no step by itself here");
}

#[tokio::test]
async fn a_step_that_began_and_is_not_named_runs_again() {
    let (forge, runner, id) = working().await;
    let begun = Some("2026-01-02T03:04:05Z".parse().expect("time"));
    let mut told = TaskState::heartbeat(id);
    told.steps = vec![
        StepState {
            id: 0,
            result: TaskResult::Success,
            started_at: begun,
            log_length: 3,
            ..StepState::default()
        },
        StepState { id: 1, result: TaskResult::Skipped, ..StepState::default() },
    ];
    runner.update_task(&told, &none()).await.expect("update");
    let results = || forge.steps(id).iter().map(|step| step.result).collect::<Vec<_>>();
    assert_eq!(results(), [TaskResult::Success, TaskResult::Skipped]);
    runner.update_task(&TaskState::heartbeat(id), &none()).await.expect("heartbeat");
    assert_eq!(results(), [TaskResult::Unspecified, TaskResult::Skipped]);
    assert_eq!(forge.steps(id)[0].log_length, 3);
    told.result = TaskResult::Success;
    runner.update_task(&told, &none()).await.expect("final");
    assert_eq!(results(), [TaskResult::Success, TaskResult::Skipped]);
}

#[tokio::test]
async fn a_cancel_is_in_the_answer_and_freezes_the_steps() {
    let (forge, runner, id) = working().await;
    let mut told = TaskState::heartbeat(id);
    told.steps =
        vec![StepState { id: 0, result: TaskResult::Success, log_length: 1, ..StepState::default() }];
    assert_eq!(runner.update_task(&told, &none()).await.expect("update").result, TaskResult::Unspecified);
    forge.cancel(id);
    told.steps[0].log_length = 5;
    told.steps.push(StepState { id: 1, result: TaskResult::Success, ..StepState::default() });
    told.result = TaskResult::Success;
    assert_eq!(runner.update_task(&told, &none()).await.expect("update").result, TaskResult::Cancelled);
    let steps: Vec<_> = forge.steps(id).iter().map(|step| (step.result, step.log_length)).collect();
    assert_eq!(steps, [(TaskResult::Success, 1), (TaskResult::Cancelled, 0)]);
    assert_eq!(runner.update_log(id, 0, &rows(&["a"]), More::NoMore).await.expect("rows are taken"), 1);
}

#[tokio::test]
async fn a_task_that_is_given_up_failed_and_takes_no_row() {
    let (forge, runner, id) = working().await;
    forge.give_up(id);
    assert_eq!(code(runner.update_log(id, 0, &rows(&["x"]), More::More).await), Some(Code::AlreadyExists));
    let told = runner.update_task(&TaskState::heartbeat(id), &none()).await.expect("update");
    assert_eq!(told.result, TaskResult::Failure);
}

#[tokio::test]
async fn a_job_that_was_cancelled_in_the_queue_is_not_handed_out() {
    let forge = Forge::start().await;
    let runner = runner(&forge, &[]);
    let id = forge.add(TaskSpec::new(TWO_STEPS));
    forge.cancel(id);
    assert!(runner.fetch_task(&Fetch::default()).await.expect("fetch").tasks.is_empty());
    assert_eq!(forge.result(id), TaskResult::Cancelled);
}

#[tokio::test]
async fn the_first_value_of_an_output_wins() {
    let (forge, runner, id) = working().await;
    let outputs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let beat = TaskState::heartbeat(id);
    let sent = runner.update_task(&beat, &outputs(&[("a", "1")])).await.expect("update").sent_outputs;
    assert_eq!(sent, ["a"]);
    let long = ("n".repeat(256), "v".repeat((1 << 20) + 1));
    let odd = outputs(&[("a", "2"), (&long.0, "x"), ("big", &long.1), ("b", "3")]);
    let sent = runner.update_task(&state(id, TaskResult::Success), &odd).await.expect("update").sent_outputs;
    assert_eq!(sent, ["a", "b"]);
    let late =
        runner.update_task(&beat, &outputs(&[("a", "9"), ("c", "4")])).await.expect("update").sent_outputs;
    assert_eq!(late, ["a", "b", "c"], "it is acknowledged");
    assert_eq!(forge.outputs(id), outputs(&[("a", "1"), ("b", "3")]), "and nobody sees it");
    assert_eq!(forge.late_outputs(id), outputs(&[("c", "4")]));
}

#[tokio::test]
async fn summaries_are_replaced_one_by_one() {
    let (forge, runner, id) = working().await;
    runner.update_step_summary(id, &[(0, "a".to_owned()), (1, "b".to_owned())]).await.expect("summary");
    runner.update_step_summary(id, &[(1, "c".to_owned())]).await.expect("summary");
    assert_eq!(forge.summaries(id), BTreeMap::from([(0, "a".to_owned()), (1, "c".to_owned())]));
}

#[tokio::test]
async fn faults_happen_to_the_calls_that_were_planned() {
    let (forge, runner, id) = working().await;
    let log = async |index, text: &str| runner.update_log(id, index, &rows(&[text]), More::More).await;
    forge.plan(Method::UpdateLog, 2..=3, Fault::LoseAnswer);
    forge.plan(Method::UpdateLog, 4..=4, Fault::LoseRequest);
    forge.plan(Method::UpdateLog, 5..=5, Fault::CutAnswer);
    forge.plan(Method::UpdateLog, 6..=6, Fault::Refuse(Code::Unavailable));
    forge.plan(Method::UpdateLog, 7..=7, Fault::ApplyAndRefuse(Code::Internal));
    forge.plan(Method::UpdateLog, 8..=8, Fault::Twice);
    let mut told = Vec::new();
    for (index, text) in ["a", "b", "c", "lost", "d", "refused", "e", "f", "g"].iter().enumerate() {
        let length = forge.rows(id).len();
        let answer = log(i64::try_from(length).expect("small"), text).await;
        told.push((index + 1, answer.is_ok(), forge.rows(id).len() - length));
    }
    let expected = [
        (1, true, 1),
        (2, false, 1),
        (3, false, 1),
        (4, false, 0),
        (5, false, 1),
        (6, false, 0),
        (7, false, 1),
        (8, true, 1),
        (9, true, 1),
    ];
    assert_eq!(told, expected);
    let statuses: Vec<_> = forge
        .calls()
        .iter()
        .filter(|call| call.method == Method::UpdateLog)
        .map(|call| call.status)
        .collect();
    let ok = Some(200);
    assert_eq!(statuses, [ok, ok, ok, None, ok, Some(503), Some(500), ok, ok]);
    forge.plan(Method::UpdateLog, 1..=usize::MAX, Fault::LoseRequest);
    assert!(log(9, "x").await.is_err());
    forge.forget_plans();
    assert!(log(9, "x").await.is_ok());
}

#[tokio::test]
async fn a_delayed_answer_was_applied_before() {
    let (forge, runner, id) = working().await;
    forge.plan_next(Method::UpdateLog, Fault::Delay(Duration::from_millis(300)));
    let answer = tokio::spawn(async move { runner.update_log(id, 0, &rows(&["a"]), More::More).await });
    let patience = Duration::from_secs(20);
    let seen = forge.until(patience, |forge| (!forge.rows(id).is_empty()).then_some(())).await;
    assert!(seen.is_some() && !answer.is_finished());
    assert_eq!(answer.await.expect("task").expect("log"), 1);
}

#[tokio::test]
async fn a_task_can_be_delivered_twice() {
    let (forge, runner, id) = working().await;
    let token = forge.token(id);
    forge.redeliver(id);
    let other = with(&forge, &forge.add_runner("two", &[], Lifetime::Persistent));
    assert!(other.fetch_task(&Fetch::default()).await.expect("fetch").tasks.is_empty());
    assert_eq!(ids(&runner.fetch_task(&Fetch::default()).await.expect("fetch")), [id]);
    assert_ne!(forge.token(id), token);
    assert!(runner.fetch_task(&Fetch::default()).await.expect("fetch").tasks.is_empty());
}

#[tokio::test]
async fn a_test_waits_for_an_end() {
    let (forge, runner, id) = working().await;
    assert_eq!(forge.until_final(id, Duration::from_millis(20)).await, None);
    let told =
        tokio::spawn(async move { runner.update_task(&state(id, TaskResult::Skipped), &none()).await });
    assert_eq!(forge.until_final(id, Duration::from_secs(20)).await, Some(TaskResult::Skipped));
    told.await.expect("task").expect("update");
}
