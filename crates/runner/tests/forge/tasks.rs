//! What a job is on the server: rows, steps, outputs, secrets, needs.

use forgejo::TaskResult;
use libtest_mimic::Trial;
use testkit::forge::{Forge, TaskSpec};

use crate::harness::{Bench, PATIENCE, payload, texts, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("rows_and_steps_are_where_the_server_looks_for_them", steps),
        trial("outputs_needs_vars_and_secrets_come_and_go", values),
        trial("two_jobs_run_at_once_and_a_third_waits", capacity),
        trial("a_payload_that_is_no_job_fails_with_its_reason", bad),
        trial("a_failing_step_fails_the_job_and_skips_the_rest", failing),
    ]
}

async fn steps() {
    let bench = Bench::start().await;
    let task = bench.forge.add(
        TaskSpec::new(payload(
            "- run: |\n    echo '::group::one'\n    echo in\n    echo '::endgroup::'\n- {if: false, run: echo no}\n- run: 'true'\n- run: echo last",
        ))
        .labels(&["debian"]),
    );
    bench.ends(task, TaskResult::Success).await;
    let rows = texts(&bench.forge, task);
    let steps = bench.forge.steps(task);
    assert!(bench.forge.is_archived(task), "the log was closed");
    let of = |step: usize| -> Vec<&str> {
        let step = &steps[step];
        let from = usize::try_from(step.log_index).unwrap();
        let to = from + usize::try_from(step.log_length).unwrap();
        rows[from..to].iter().map(String::as_str).collect()
    };
    let first = of(0);
    assert!(first.contains(&"##[group]one") && first.contains(&"##[endgroup]"), "{first:?}");
    assert!(of(1).is_empty(), "{:?}", of(1));
    assert!(of(3).contains(&"last"), "{:?}", of(3));
    let results: Vec<_> = steps.iter().map(|step| step.result).collect();
    let (success, skipped) = (TaskResult::Success, TaskResult::Skipped);
    assert_eq!(results, [success, skipped, success, success]);
    // set-up rows stand before the first step and say what runs the job
    let before = &rows[..usize::try_from(steps[0].log_index).unwrap()];
    assert!(before.iter().any(|row| row.starts_with("backend: fake")), "{before:?}");
    // every row from the first step on belongs to a step, so that the completion begins where the server thinks
    let lengths: i64 = steps.iter().map(|step| step.log_length).sum();
    let end = steps[0].log_index + lengths;
    assert_eq!(steps[3].log_index + steps[3].log_length, end);
    bench.end().await;
}

async fn values() {
    let bench = Bench::start().await;
    let text = "name: t
on: push
jobs:
  job:
    runs-on: docker
    outputs: {o: '${{ steps.a.outputs.v }}', hidden: '${{ secrets.KEY }}'}
    steps:
      - id: a
        env: {KEY: '${{ secrets.KEY }}'}
        run: |
          echo \"v=${{ needs.before.outputs.n }}-${{ vars.WHO }}\" >> $GITHUB_OUTPUT
          echo \"the key is $KEY, the token $GITHUB_TOKEN, ${{ github.token }}\"
          echo '# summary' >> $GITHUB_STEP_SUMMARY
";
    let task = bench.forge.add(
        TaskSpec::new(text).labels(&["docker"]).secret("KEY", "hunter2-hunter2").var("WHO", "me").need(
            "before",
            TaskResult::Success,
            &[("n", "seven")],
        ),
    );
    bench.ends(task, TaskResult::Success).await;
    let forge = bench.end().await;
    let outputs = forge.outputs(task);
    assert_eq!(outputs.get("o").map(String::as_str), Some("seven-me"));
    assert!(!outputs.contains_key("hidden"), "{outputs:?}");
    assert!(forge.late_outputs(task).is_empty());
    let log = texts(&forge, task).join("\n");
    let token = forge.token(task);
    assert!(log.contains("the key is ***, the token"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains(&token), "{log}");
    assert!(log.contains("asks for a container of node:22"), "{log}");
    assert_eq!(forge.summaries(task).get(&0).map(|text| text.trim()), Some("# summary"));
}

async fn capacity() {
    let bench = Bench::start().await;
    let sleep = || TaskSpec::new(payload("- run: sleep 1")).labels(&["debian"]);
    let tasks: Vec<_> = (0..3).map(|_| bench.forge.add(sleep())).collect();
    let fetched = |forge: &Forge| tasks.iter().filter(|task| forge.was_fetched(**task)).count();
    let two = bench.forge.until(PATIENCE, |forge| (fetched(forge) == 2).then_some(())).await;
    assert!(two.is_some());
    for task in &tasks {
        bench.ends(*task, TaskResult::Success).await;
    }
    bench.end().await;
}

async fn bad() {
    let bench = Bench::start().await;
    for (text, said) in [
        (
            "jobs: {a: {runs-on: debian, steps: [{uses: some/action@v1}]}}",
            "`some/action@v1` does not work yet",
        ),
        ("jobs: {a: {runs-on: debian, steps: [{rn: x}]}}", "did you mean `run`?"),
    ] {
        let task = bench.forge.add(TaskSpec::new(text).labels(&["debian"]));
        bench.ends(task, TaskResult::Failure).await;
        let log = texts(&bench.forge, task).join("\n");
        assert!(log.contains(said), "{log}");
        assert!(bench.forge.is_archived(task));
    }
    bench.end().await;
}

async fn failing() {
    let bench = Bench::start().await;
    let steps = "- {continue-on-error: true, run: exit 4}\n- run: exit 3\n- run: echo no\n- {if: always(), run: echo yes}";
    let task = bench.forge.add(TaskSpec::new(payload(steps)).labels(&["debian"]));
    bench.ends(task, TaskResult::Failure).await;
    let results: Vec<_> = bench.forge.steps(task).iter().map(|step| step.result).collect();
    let (success, failure) = (TaskResult::Success, TaskResult::Failure);
    assert_eq!(results, [success, failure, TaskResult::Skipped, success]);
    bench.end().await;
}
