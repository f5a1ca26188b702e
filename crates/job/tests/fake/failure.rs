//! Steps that failed, shown to the caller.

use std::time::{Duration, Instant};

use job::{Canceller, FailedStep, How, JobSpec, Outcome, Reason};
use libtest_mimic::Trial;
use sandbox::{OutputMode, Stdin};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::harness::{Said, context, run_with, spec, steps, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_failed_step_is_shown_as_it_was_and_the_job_goes_on", shown),
        trial("a_step_that_came_to_nothing_is_shown_in_the_workspace", nothing_ran),
        trial("what_is_no_failure_is_not_shown", not_shown),
        trial("time_with_a_failed_step_is_not_the_jobs", time),
        trial("a_job_that_has_to_end_does_not_wait", abandoned),
        trial("nobody_who_listens_is_not_waited_for", nobody),
    ]
}

/// Runs a job, with `look` for each failed step; also what it said of each.
async fn run<T, F, Fut>(job: JobSpec, look: F) -> (Said, Vec<T>)
where
    T: Send + 'static,
    F: Fn(FailedStep) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + Send,
{
    let (failures, mut failed) = mpsc::channel(1);
    let looking: JoinHandle<Vec<T>> = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(step) = failed.recv().await {
            all.push(look(step).await);
        }
        all
    });
    let mut context = context();
    context.failures = Some(failures);
    let said = run_with(job, context, Canceller::new().1, |_| {}).await;
    (said, looking.await.unwrap())
}

/// What a person sees who types `script` into the step's shell.
async fn typed(step: &FailedStep, script: &str) -> String {
    let mut request = step.shells[0].clone();
    request.stdin = Stdin::Bytes(script.as_bytes().to_vec());
    request.output = OutputMode::Separate;
    let said = step.sandbox.exec(request).await.unwrap().collect(1 << 20).await.unwrap();
    String::from_utf8(said.stdout).unwrap()
}

fn commands(step: &FailedStep) -> Vec<String> {
    step.shells.iter().map(|shell| shell.argv.join(" ")).collect()
}

async fn shown() {
    let job = steps(
        r#"
- run: mkdir sub; echo EARLIER=yes >> $GITHUB_ENV
- name: The ${{ secrets.PASSWORD }}
  shell: sh
  working-directory: sub
  env: {OWN: mine, SECRET: "${{ secrets.PASSWORD }}"}
  run: |
    echo LATER=yes >> $GITHUB_ENV
    touch made-by-the-step
    exit 3
- run: echo never
- if: always()
  run: echo "later $LATER, typed $TYPED, file $(ls sub/from-the-shell)"
- if: failure()
  run: echo and failure
"#,
    );
    let script = r#"
        echo "$OWN $SECRET $FROM_CALLER $EARLIER ${LATER:-unset}"
        basename "$PWD"; ls
        test -f "$GITHUB_OUTPUT" && test -f "$FORGEJO_ENV" && echo files
        echo TYPED=yes >> "$GITHUB_ENV"
        touch from-the-shell
        exit 9
    "#;
    let (said, seen) = run(job, move |step| async move {
        assert_eq!((step.job.as_str(), step.step.as_str()), ("it", "The ***"));
        assert!(!format!("{step:?}").contains("hunter2"), "{step:?}");
        (commands(&step), typed(&step, script).await)
    })
    .await;
    let text = "mine hunter2-secret caller yes unset\nsub\nmade-by-the-step\nfiles\n".to_owned();
    assert_eq!(seen, [(vec!["sh -i".to_owned()], text)]);
    assert_eq!(said.result(), Outcome::Failure, "{}", said.all());
    assert_eq!(said.rows(Some(2)), [""; 0]);
    assert_eq!(said.rows(Some(3)), ["later yes, typed , file sub/from-the-shell"]);
    assert_eq!(said.rows(Some(4)), ["and failure"]);
    assert!(!said.all().contains("mine"), "what is typed and shown is no output of the job");
}

async fn nothing_ran() {
    let job = steps(
        r#"
- working-directory: no-such-directory
  run: "true"
- if: always()
  env: {A: a, B: "${{ fromJSON('{') }}"}
  run: "true"
- if: always()
  shell: python
  run: raise Exception("no")
"#,
    );
    let (said, seen) = run(job, |step| async move {
        (commands(&step).join(", "), typed(&step, "basename \"$PWD\"; echo $FROM_CALLER").await)
    })
    .await;
    assert_eq!(said.result(), Outcome::Failure);
    let wanted = ("bash --noprofile --norc -i, sh -i".to_owned(), "it\ncaller\n".to_owned());
    assert_eq!(seen, vec![wanted; 3], "{}", said.all());
}

async fn not_shown() {
    let job = steps(
        r#"
- run: exit 1
  continue-on-error: true
- run: "true"
- if: false
  run: exit 1
"#,
    );
    let (said, seen) = run(job, |step| async move { step.step.clone() }).await;
    assert_eq!((said.result(), seen), (Outcome::Success, vec![]));

    let (failures, mut failed) = mpsc::channel(1);
    let (canceller, cancel) = Canceller::new();
    let mut context = context();
    context.failures = Some(failures);
    let how = How::Graceful { deadline: tokio::time::Instant::now() + Duration::from_secs(600) };
    let job = steps("- run: echo ready; sleep 1000\n- if: always()\n  run: exit 1");
    let said = run_with(job, context, cancel, |event| {
        if matches!(&event.kind, job::EventKind::Log { line, .. } if line == "ready") {
            canceller.cancel(Reason::User, how);
        }
    })
    .await;
    assert_eq!(said.result(), Outcome::Cancelled);
    assert!(failed.recv().await.is_none(), "a job that ends shows no step");
}

async fn time() {
    let job = spec(
        "on: push\njobs:\n  it:\n    runs-on: any\n    timeout-minutes: 0.05\n    steps:\n      \
         - run: exit 1\n      - if: always()\n        run: echo afterwards\n",
    );
    let (said, seen) = run(job, |step| async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(step);
    })
    .await;
    assert_eq!(seen.len(), 1);
    assert_eq!((said.result(), said.rows(Some(1))), (Outcome::Failure, vec!["afterwards"]), "{}", said.all());
}

async fn abandoned() {
    let (failures, mut failed) = mpsc::channel::<FailedStep>(1);
    let (canceller, cancel) = Canceller::new();
    let looking = tokio::spawn(async move {
        let mut step = failed.recv().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), step.abandoned()).await;
        assert!(waited.is_err(), "it waits");
        canceller.cancel(Reason::User, How::Now);
        let asked = Instant::now();
        step.abandoned().await;
        asked.elapsed()
    });
    let mut context = context();
    context.failures = Some(failures);
    let said =
        run_with(steps("- run: exit 1\n- if: always()\n  run: echo never"), context, cancel, |_| {}).await;
    assert!(looking.await.unwrap() < Duration::from_secs(10));
    assert_eq!((said.result(), said.rows(Some(1))), (Outcome::Cancelled, vec![]), "{}", said.all());
}

async fn nobody() {
    let (failures, failed) = mpsc::channel(1);
    drop(failed);
    let mut context = context();
    context.failures = Some(failures);
    let job = steps("- run: exit 1\n- if: always()\n  run: echo afterwards");
    let said = run_with(job, context, Canceller::new().1, |_| {}).await;
    assert_eq!((said.result(), said.rows(Some(1))), (Outcome::Failure, vec!["afterwards"]));
}
