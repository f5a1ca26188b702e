//! The order of jobs, with jobs that are plain futures.

use std::sync::{Arc, Mutex};

use doc::Source;
use tokio::sync::{mpsc, oneshot};
use workflow::{ContextName, Object};

use super::*;
use crate::sink::{Sink, Writer};

/// Remembers which jobs ended without running, and how.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Sink for Told {
    fn say(&mut self, say: &Say) -> std::io::Result<()> {
        if let Say::Job(Event { job, kind: EventKind::JobEnd { result, .. }, .. }) = say {
            self.0.lock().unwrap().push(format!("{job}: {}", crate::sink::word(*result)));
        }
        if let Say::Job(Event { job, kind: EventKind::Log { line, .. }, .. }) = say {
            self.0.lock().unwrap().push(format!("{job}| {line}"));
        }
        Ok(())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A job that was started, and the way to end it.
struct Started {
    name: String,
    needs: String,
    cancel: Cancel,
    end: oneshot::Sender<Ended>,
}

impl Started {
    fn end(self, conclusion: Conclusion) {
        self.end_with(conclusion, &[]);
    }

    fn end_with(self, conclusion: Conclusion, outputs: &[(&str, &str)]) {
        let outputs = outputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(self.end.send(Ended { conclusion, outputs, fault: None }).is_ok());
    }
}

struct Bench {
    started: mpsc::UnboundedReceiver<Started>,
    wish: watch::Sender<Wish>,
    told: Told,
    task: tokio::task::JoinHandle<Finished>,
}

impl Bench {
    fn new(text: &str, parallel: usize) -> Self {
        let source = Source::new("ci.yml", text);
        let (workflow, _) = workflow::parse(&source).into_result().unwrap();
        let plan = Plan::new(Arc::new(workflow)).unwrap();
        let (started_to, started) = mpsc::unbounded_channel();
        let (wish, listener) = watch::channel(Wish::Run);
        let told = Told::default();
        let writer = Writer::start(Box::new(told.clone())).unwrap();
        let task = tokio::spawn(async move {
            let mut contexts = Contexts::new();
            contexts.set(ContextName::Github, Object::new());
            let masker = Masker::new(["no json"]).unwrap();
            let masker = Some(&masker);
            let work =
                Work { plan: &plan, contexts: &contexts, filters: &[], masker, parallel, fail_fast: GRACE };
            let start = |job: ExpandedJob, cancel: Cancel| {
                let (end, ended) = oneshot::channel();
                let needs = job.needs.to_json().to_string();
                started_to.send(Started { name: job.name, needs, cancel, end }).ok();
                async move { ended.await.unwrap() }
            };
            let finished = drive(work, writer.out(), listener, start).await;
            // it ends although the grace of a cancelled run is not over
            writer.finish().await.unwrap();
            finished
        });
        Self { started, wish, told, task }
    }

    async fn next(&mut self) -> Started {
        self.started.recv().await.unwrap()
    }

    /// The end; nothing else may have been started.
    async fn finish(mut self) -> (Finished, Vec<String>) {
        let finished = self.task.await.unwrap();
        assert!(self.started.recv().await.is_none());
        let told = self.told.0.lock().unwrap().clone();
        (finished, told)
    }
}

fn results(finished: &Finished) -> Vec<(&str, Conclusion)> {
    finished.results.iter().map(|(id, result)| (id.as_str(), result.conclusion)).collect()
}

const DIAMOND: &str = "on: push
jobs:
  a: {runs-on: x, steps: [{run: a}]}
  b: {runs-on: x, needs: a, steps: [{run: b}]}
  c: {runs-on: x, needs: a, steps: [{run: c}]}
  d: {runs-on: x, needs: [b, c], steps: [{run: d}]}
";

#[tokio::test]
async fn needs_come_first_and_hand_their_outputs_on() {
    let mut bench = Bench::new(DIAMOND, 2);
    let a = bench.next().await;
    assert_eq!(a.name, "a");
    a.end_with(Conclusion::Success, &[("version", "1.2")]);
    let (b, c) = (bench.next().await, bench.next().await);
    assert_eq!((b.name.as_str(), c.name.as_str()), ("b", "c"));
    assert!(b.needs.contains("1.2"), "{}", b.needs);
    c.end(Conclusion::Success);
    b.end(Conclusion::Success);
    bench.next().await.end(Conclusion::Success);
    let (finished, told) = bench.finish().await;
    assert_eq!(finished.conclusion(), Conclusion::Success);
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_failure_skips_what_needs_it() {
    let mut bench = Bench::new(DIAMOND, 2);
    bench.next().await.end(Conclusion::Failure);
    let (finished, told) = bench.finish().await;
    assert_eq!(told, ["b: skipped", "c: skipped", "d: skipped"]);
    assert_eq!(finished.conclusion(), Conclusion::Failure);
}

const MATRIX: &str = "on: push
jobs:
  m:
    runs-on: x
    strategy: {matrix: {n: [1, 2, 3, 4]}}
    steps: [{run: x}]
";

#[tokio::test]
async fn the_first_failure_of_a_matrix_cancels_the_others() {
    let mut bench = Bench::new(MATRIX, 2);
    let (one, two) = (bench.next().await, bench.next().await);
    one.end(Conclusion::Failure);
    assert_eq!(two.cancel.any().await.reason, Reason::FailFast);
    two.end(Conclusion::Cancelled);
    let (finished, told) = bench.finish().await;
    assert_eq!(told, ["m (3): cancelled", "m (4): cancelled"]);
    assert_eq!(results(&finished), [("m", Conclusion::Failure)]);
    assert!(!finished.cancelled);
}

#[tokio::test]
async fn without_fail_fast_all_run_and_max_parallel_is_kept() {
    let text = MATRIX.replace("{matrix:", "{fail-fast: false, max-parallel: 1, matrix:");
    let mut bench = Bench::new(&text, 2);
    for n in 1..=4 {
        let job = bench.next().await;
        assert_eq!(job.name, format!("m ({n})"));
        tokio::task::yield_now().await;
        assert!(bench.started.try_recv().is_err(), "two at once");
        job.end(if n == 1 { Conclusion::Failure } else { Conclusion::Success });
    }
    let (finished, _) = bench.finish().await;
    assert_eq!(results(&finished), [("m", Conclusion::Failure)]);
}

#[tokio::test]
async fn a_failure_that_may_be_is_none() {
    let text = MATRIX.replace("strategy:", "continue-on-error: true\n    strategy:");
    let mut bench = Bench::new(&text, 1);
    for _ in 0..4 {
        bench.next().await.end(Conclusion::Failure);
    }
    assert_eq!(bench.finish().await.0.conclusion(), Conclusion::Success);
}

#[tokio::test]
async fn the_user_ends_what_runs_and_nothing_else_begins() {
    let mut bench = Bench::new(DIAMOND, 1);
    bench.next().await.end(Conclusion::Success);
    let b = bench.next().await;
    bench.wish.send(Wish::End(Signal::Interrupt)).unwrap();
    let asked = b.cancel.any().await;
    assert_eq!(asked.reason, Reason::User);
    assert!(matches!(asked.how, How::Graceful { .. }));
    bench.wish.send(Wish::EndNow(Signal::Interrupt)).unwrap();
    assert_eq!(b.cancel.now().await, Reason::User);
    b.end(Conclusion::Cancelled);
    let (finished, _) = bench.finish().await;
    assert!(finished.cancelled);
    assert_eq!(finished.conclusion(), Conclusion::Cancelled);
    assert_eq!(
        results(&finished),
        [
            ("a", Conclusion::Success),
            ("b", Conclusion::Cancelled),
            ("c", Conclusion::Cancelled),
            ("d", Conclusion::Cancelled)
        ]
    );
}

#[tokio::test]
async fn what_can_only_be_seen_late_fails_its_job() {
    let text = "on: push
jobs:
  a: {runs-on: x, outputs: {list: x}, steps: [{run: a}]}
  b:
    needs: a
    runs-on: x
    strategy: {matrix: {n: '${{ fromJSON(needs.a.outputs.list) }}'}}
    steps: [{run: b}]
  c: {needs: b, if: always(), runs-on: x, steps: [{run: c}]}
";
    let mut bench = Bench::new(text, 1);
    bench.next().await.end_with(Conclusion::Success, &[("list", "no json")]);
    bench.next().await.end(Conclusion::Success);
    let (finished, told) = bench.finish().await;
    assert_eq!(told.last().map(String::as_str), Some("b: failure"));
    let rows = &told[..told.len() - 1];
    assert!(rows[0].starts_with("b| ##[error]"), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("ci.yml:7:")), "{rows:?}");
    assert!(!rows.iter().any(|row| row.contains("no json")), "{rows:?}");
    assert_eq!(finished.faults, [Class::User]);
    assert_eq!(finished.results["c"].conclusion, Conclusion::Success);
}

#[tokio::test]
async fn a_job_that_panics_is_a_bug_and_ends() {
    let mut bench = Bench::new(DIAMOND, 1);
    // its future panics when nobody can end it any more
    drop(bench.next().await);
    let (finished, told) = bench.finish().await;
    assert_eq!(finished.faults, [Class::Bug]);
    assert_eq!(told.first().map(String::as_str), Some("a: failure"));
}
