//! Ends that somebody wants: the server's cancel, a drain, a time-out, a runner that is deleted.

use std::time::Duration;

use forgejo::{Code, Lifetime, TaskResult};
use libtest_mimic::Trial;
use runner::{OneJob, Stop, Wait};
use testkit::forge::{Fault, Forge, Method, TaskSpec};
use tokio::sync::watch;

use crate::harness::{Bench, PATIENCE, config, payload, runner, texts, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_cancel_of_the_server_stops_the_step_and_lets_it_clean_up", cancel),
        trial("a_drain_waits_for_jobs_and_takes_no_more", drain),
        trial("a_second_wish_cancels_the_jobs_and_reports_it", stop),
        trial("a_time_out_of_the_runner_is_a_cancelled_task", time_out),
        trial("one_job_takes_one_and_an_ephemeral_runner_may_vanish", one),
        trial("a_runner_that_the_server_does_not_know_says_so", unknown),
        trial("a_task_that_the_server_gave_up_is_ended_at_once", given_up),
        trial("a_task_that_was_deleted_is_ended_at_once", deleted),
        trial("a_cancel_that_deletes_an_ephemeral_runner_is_no_error", cancelled_ephemeral),
        trial("rows_that_the_server_refuses_with_409_end_their_job", conflict),
        trial("a_401_ends_the_jobs_and_the_runner", unauthenticated),
    ]
}

const SLEEPS: &str = "- run: |\n    echo started\n    sleep 1000\n- {if: always(), run: echo cleaned}";

/// Waits until the step's row is on the server: no row waits for the next one.
async fn started(bench: &Bench, task: forgejo::TaskId) {
    let seen = |forge: &Forge| texts(forge, task).iter().any(|row| row == "started").then_some(());
    assert!(bench.forge.until(PATIENCE, seen).await.is_some(), "the step's row arrived while it sleeps");
}

async fn cancel() {
    let bench = Bench::start().await;
    let task = bench.forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    started(&bench, task).await;
    bench.forge.cancel(task);
    let archived = bench.forge.until(PATIENCE, |forge| forge.is_archived(task).then_some(())).await;
    assert!(archived.is_some());
    let forge = bench.end().await;
    assert_eq!(forge.result(task), TaskResult::Cancelled);
    assert!(texts(&forge, task).iter().any(|row| row == "cleaned"), "{:?}", texts(&forge, task));
}

async fn drain() {
    let bench = single().await;
    let first = bench.forge.add(TaskSpec::new(payload("- run: sleep 1")).labels(&["debian"]));
    let fetched = bench.forge.until(PATIENCE, |forge| forge.was_fetched(first).then_some(())).await;
    assert!(fetched.is_some());
    bench.ask(Stop::Drain);
    let second = bench.forge.add(TaskSpec::new(payload("- run: 'true'")).labels(&["debian"]));
    let forge = bench.end().await;
    assert_eq!(forge.result(first), TaskResult::Success);
    assert!(!forge.was_fetched(second));
}

async fn stop() {
    let bench = Bench::start().await;
    let task = bench.forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    started(&bench, task).await;
    bench.ask(Stop::Cancel);
    let forge = bench.end().await;
    assert_eq!(forge.result(task), TaskResult::Cancelled);
    assert!(forge.is_archived(task));
}

async fn time_out() {
    let mut short = config();
    short.runner.timeout = Duration::from_secs(1);
    let bench = Bench::start_with(Forge::start().await, short).await;
    let task = bench.forge.add(TaskSpec::new(payload("- run: sleep 1000")).labels(&["debian"]));
    bench.ends(task, TaskResult::Cancelled).await;
    bench.end().await;
}

async fn one() {
    let forge = Forge::start().await;
    let runner = runner(&forge, config(), Lifetime::Ephemeral).await;
    let tasks: Vec<_> =
        (0..2).map(|_| forge.add(TaskSpec::new(payload("- run: 'true'")).labels(&["debian"]))).collect();
    let (_stop, stopped) = watch::channel(Stop::No);
    let ended = runner::one_job(runner, None, Wait::ForWork, stopped).await.unwrap();
    assert_eq!(ended, OneJob::Ran);
    let done = tasks.iter().filter(|task| forge.result(**task) == TaskResult::Success).count();
    assert_eq!(done, 1);
    assert_eq!(tasks.iter().filter(|task| forge.was_fetched(**task)).count(), 1);
}

async fn unknown() {
    let forge = Forge::start().await;
    let other = Forge::start().await;
    // registered with one server, and shown to another
    let runner = runner(&other, config(), Lifetime::Persistent).await;
    drop(other);
    let (_stop, stopped) = watch::channel(Stop::No);
    let ended = tokio::time::timeout(Duration::from_millis(500), runner::daemon(runner, stopped)).await;
    assert!(ended.is_err(), "a server that is away is waited for");
    let mut stranger = config();
    stranger.runner.labels = runner::parse_all(["debian"]).unwrap();
    let runner = crate::harness::stranger(&forge, stranger).await;
    let (_stop, stopped) = watch::channel(Stop::No);
    let error = runner::daemon(runner, stopped).await.unwrap_err();
    assert!(matches!(error, runner::Error::Unknown { .. }), "{error}");
}

/// A daemon with one place.
async fn single() -> Bench {
    let mut one = config();
    one.runner.capacity = 1;
    Bench::start_with(Forge::start().await, one).await
}

async fn given_up() {
    let bench = single().await;
    let task = bench.forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    started(&bench, task).await;
    bench.forge.give_up(task);
    // the place is free again: the job was ended
    let next = bench.forge.add(TaskSpec::new(payload("- run: 'true'")).labels(&["debian"]));
    bench.ends(next, TaskResult::Success).await;
    bench.end().await;
}

async fn deleted() {
    let bench = single().await;
    let task = bench.forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    started(&bench, task).await;
    bench.forge.delete(task);
    // the only place is free again: neither the job nor the report of its end holds it
    let next = bench.forge.add(TaskSpec::new(payload("- run: 'true'")).labels(&["debian"]));
    bench.ends(next, TaskResult::Success).await;
    bench.end().await;
}

async fn cancelled_ephemeral() {
    let forge = Forge::start().await;
    let runner = runner(&forge, config(), Lifetime::Ephemeral).await;
    let task = forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    let (_stop, stopped) = watch::channel(Stop::No);
    let running = tokio::spawn(runner::one_job(runner, None, Wait::ForWork, stopped));
    let seen = |forge: &Forge| texts(forge, task).iter().any(|row| row == "started").then_some(());
    assert!(forge.until(PATIENCE, seen).await.is_some(), "the step's row arrived while it sleeps");
    forge.cancel(task);
    let ended = tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap().unwrap();
    assert_eq!(ended, OneJob::Ran);
    assert_eq!(forge.result(task), TaskResult::Cancelled);
}

/// A job that nobody wants is destroyed, without its cleaning up: the server would take nothing that it says.
async fn conflict() {
    let bench = single().await;
    let steps = "- run: |\n    echo started\n    while :; do echo on; sleep 0.05; done\n- {if: always(), run: echo cleaned}";
    let task = bench.forge.add(TaskSpec::new(payload(steps)).labels(&["debian"]));
    started(&bench, task).await;
    let from = bench.forge.count(Method::UpdateLog) + 1;
    bench.forge.plan(Method::UpdateLog, from..=from, Fault::Refuse(Code::AlreadyExists));
    let next = bench.forge.add(TaskSpec::new(payload("- run: 'true'")).labels(&["debian"]));
    bench.ends(next, TaskResult::Success).await;
    let forge = bench.end().await;
    assert_eq!(forge.result(task), TaskResult::Unspecified, "it is not told what it did not want to know");
    assert!(!texts(&forge, task).iter().any(|row| row == "cleaned"), "{:?}", texts(&forge, task));
}

/// The server has deleted the runner while its job runs.
async fn unauthenticated() {
    let bench = Bench::start().await;
    let task = bench.forge.add(TaskSpec::new(payload(SLEEPS)).labels(&["debian"]));
    started(&bench, task).await;
    for method in [Method::UpdateLog, Method::UpdateTask, Method::FetchTask] {
        let from = bench.forge.count(method) + 1;
        bench.forge.plan(method, from..=usize::MAX, Fault::Refuse(Code::Unauthenticated));
    }
    let error = bench.error().await;
    assert!(matches!(error, runner::Error::Unknown { .. }), "{error}");
}
