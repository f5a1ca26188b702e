//! Faults of the way and of the server: no row lost or doubled, the right result.

use std::{path::PathBuf, time::Duration};

use forgejo::{Code, TaskResult};
use libtest_mimic::Trial;
use testkit::forge::{Fault, Forge, Method, Request, TaskSpec};

use crate::harness::{Bench, PATIENCE, config, payload, texts, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("lost_answers_lose_and_double_no_row", || faulty(Fault::LoseAnswer)),
        trial("lost_requests_lose_no_row", || faulty(Fault::LoseRequest)),
        trial("cut_answers_lose_and_double_no_row", || faulty(Fault::CutAnswer)),
        trial("calls_that_arrive_twice_double_no_row", || faulty(Fault::Twice)),
        trial("errors_500_lose_no_row", || faulty(Fault::Refuse(Code::Internal))),
        trial("errors_of_what_was_applied_double_no_row", || {
            faulty(Fault::ApplyAndRefuse(Code::Unavailable))
        }),
        trial("a_lost_answer_to_a_fetch_loses_no_task", lost_fetch),
        trial("a_task_that_is_given_again_runs_once", given_again),
        trial("a_server_that_was_away_gets_everything", away),
        trial("many_rows_arrive_complete_and_in_order", many),
        trial("rows_that_fill_a_call_do_not_wait_for_the_interval", full),
        trial("the_first_rows_do_not_wait_for_the_interval", first),
    ]
}

const ROWS: usize = 300;

fn counting(rows: usize) -> TaskSpec {
    counting_by(&format!("for i in $(seq {rows}); do echo \"row $i\"; done"))
}

/// A job whose first step is this script and whose second sets an output.
fn counting_by(script: &str) -> TaskSpec {
    let steps = format!("- run: |\n    {script}\n- id: o\n  run: echo v=1 >> $GITHUB_OUTPUT");
    let text =
        payload(&steps).replace("    runs-on", "    outputs: {o: '${{ steps.o.outputs.v }}'}\n    runs-on");
    TaskSpec::new(text).labels(&["debian"])
}

/// The numbers of the rows that count.
fn numbers(forge: &Forge, task: forgejo::TaskId) -> Vec<usize> {
    texts(forge, task).iter().filter_map(|row| row.strip_prefix("row ")?.parse().ok()).collect()
}

#[track_caller]
fn complete(forge: &Forge, task: forgejo::TaskId, rows: usize) {
    assert_eq!(numbers(forge, task), (1..=rows).collect::<Vec<_>>());
    assert_eq!(forge.outputs(task).get("o").map(String::as_str), Some("1"));
    assert!(forge.late_outputs(task).is_empty());
    assert!(forge.is_archived(task));
    // no call ever brought rows behind a gap
    let mut sent = 0;
    for call in forge.calls() {
        if let Some(Request::UpdateLog(call)) = call.request {
            assert!(call.index <= sent, "rows from {} on, and {sent} were sent", call.index);
            sent = sent.max(call.index + i64::try_from(call.rows.len()).unwrap());
        }
    }
}

/// Every second report meets the fault; then the first ones all do, so that the job ends among them.
async fn faulty(fault: Fault) {
    let second: Vec<usize> = (1..40).step_by(2).collect();
    for calls in [second, (1..=4).collect()] {
        let bench = Bench::start().await;
        for call in calls {
            bench.forge.plan(Method::UpdateLog, call..=call, fault.clone());
            bench.forge.plan(Method::UpdateTask, call + 1..=call + 1, fault.clone());
        }
        let task = bench.forge.add(counting(ROWS));
        bench.ends(task, TaskResult::Success).await;
        let forge = bench.end().await;
        complete(&forge, task, ROWS);
    }
}

async fn lost_fetch() {
    let bench = Bench::start().await;
    bench.forge.plan_next(Method::FetchTask, Fault::LoseAnswer);
    let task = bench.forge.add(counting(5));
    bench.ends(task, TaskResult::Success).await;
    bench.end().await;
}

async fn given_again() {
    let bench = Bench::start().await;
    let task =
        bench.forge.add(TaskSpec::new(payload("- run: |\n    echo row 1\n    sleep 1")).labels(&["debian"]));
    let fetched = bench.forge.until(PATIENCE, |forge| forge.was_fetched(task).then_some(())).await;
    assert!(fetched.is_some());
    bench.forge.redeliver(task);
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    assert_eq!(numbers(&forge, task), [1]);
}

async fn away() {
    let bench = Bench::start().await;
    let task = bench.forge.add(counting(50));
    let fetched = bench.forge.until(PATIENCE, |forge| forge.was_fetched(task).then_some(())).await;
    assert!(fetched.is_some());
    for method in [Method::UpdateLog, Method::UpdateTask, Method::FetchTask] {
        bench.forge.plan(method, 0..=usize::MAX, Fault::LoseRequest);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.forge.result(task), TaskResult::Unspecified);
    bench.forge.forget_plans();
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    complete(&forge, task, 50);
}

async fn many() {
    let mut slow = config();
    slow.runner.report_interval = Duration::from_millis(200);
    let bench = Bench::start_with(Forge::start().await, slow).await;
    let task = bench.forge.add(counting(20_000));
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    complete(&forge, task, 20_000);
}

/// A forge, a task whose script waits for a file after its own lines, and that file. The interval of reports is
/// longer than any test.
async fn waiting(lines: &str) -> (Bench, forgejo::TaskId, tempfile::TempDir, PathBuf) {
    let mut slow = config();
    slow.runner.report_interval = Duration::from_secs(3600);
    let bench = Bench::start_with(Forge::start().await, slow).await;
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("{lines}\n    while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let task = bench.forge.add(counting_by(&script));
    (bench, task, dir, go)
}

async fn full() {
    let (bench, task, _dir, go) = waiting("seq -f 'row %.0f' 25000").await;
    // more than one call holds, and what is left would not fill the next
    let sent = |forge: &Forge| (forge.rows(task).len() > 15_000).then_some(());
    assert!(bench.forge.until(PATIENCE, sent).await.is_some(), "{} rows", bench.forge.rows(task).len());
    assert_eq!(bench.forge.result(task), TaskResult::Unspecified, "it waits for the file");
    std::fs::write(&go, "").unwrap();
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    complete(&forge, task, 25_000);
}

async fn first() {
    let (bench, task, _dir, go) = waiting("echo 'row 1'").await;
    let sent =
        |forge: &Forge| texts(forge, task).iter().any(|row| row.starts_with("backend: ")).then_some(());
    assert!(bench.forge.until(PATIENCE, sent).await.is_some(), "{:?}", texts(&bench.forge, task));
    assert_eq!(bench.forge.result(task), TaskResult::Unspecified, "it waits for the file");
    std::fs::write(&go, "").unwrap();
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    complete(&forge, task, 1);
}
