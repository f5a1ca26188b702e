//! Ends that are not the job's own.

use std::time::Duration;

use job::{Canceller, Error, Event, EventKind, How, Outcome, Reason, Stopped};
use libtest_mimic::Trial;
use tokio::time::Instant;

use crate::harness::{Said, context, run, run_with, spec, steps, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_cancel_interrupts_the_step_and_lets_always_steps_run", graceful),
        trial("a_step_that_ignores_signals_is_killed", stubborn),
        trial("what_a_stopped_step_left_is_killed", leftovers),
        trial("now_ends_at_once", now),
        trial("a_deadline_ends_always_steps", deadline),
        trial("a_cancel_before_the_vm_is_ready_runs_nothing", early),
        trial("the_time_of_a_step_is_over", step_time),
        trial("the_time_of_a_job_is_over", job_time),
        trial("a_guest_that_dies_is_no_failure_of_the_workflow", death),
        trial("a_job_that_switches_its_vm_off_fails", switched_off),
        trial("a_slow_reader_stops_the_guest_and_loses_nothing", slow_reader),
        trial("a_dropped_run_leaves_nothing", dropped),
    ]
}

fn far() -> How {
    How::Graceful { deadline: Instant::now() + Duration::from_secs(600) }
}

/// Runs a job and cancels it when a row says so.
async fn cancelled_at(steps_text: &str, row: &str, how: How) -> Said {
    let (canceller, cancel) = Canceller::new();
    let see = |event: &Event| {
        if matches!(&event.kind, EventKind::Log { line, .. } if line == row) {
            canceller.cancel(Reason::User, how);
        }
    };
    run_with(steps(steps_text), context(), cancel, see).await
}

const CLEAN_UP: &str = r#"
- run: |
    trap 'echo interrupted; exit 0' INT
    echo ready
    while true; do sleep 0.05; done
- run: echo never
- if: always()
  run: echo "clean up ${{ job.status }}"
- if: cancelled()
  run: echo "cancelled"
- if: failure()
  run: echo never
"#;

async fn graceful() {
    let said = cancelled_at(CLEAN_UP, "ready", far()).await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["ready", "interrupted", "##[error]cancelled"]);
    assert_eq!(said.rows(Some(2)), ["clean up cancelled"]);
    assert_eq!(said.rows(Some(3)), ["cancelled"]);
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Cancelled, Outcome::Skipped, Outcome::Success, Outcome::Success, Outcome::Skipped]
    );
    assert_eq!(said.outcome.unwrap().stopped, Some(Stopped::Cancelled(Reason::User)));
}

async fn stubborn() {
    let text = "- run: |\n    trap 'echo got INT' INT\n    trap 'echo got TERM' TERM\n    echo ready\n    while true; do sleep 0.05 || true; done";
    let said = cancelled_at(text, "ready", far()).await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    let mut rows = said.rows(Some(0));
    rows.retain(|row| *row != "Terminated"); // bash's own word about its `sleep`
    assert_eq!(rows, ["ready", "got INT", "got TERM", "##[error]cancelled"]);
}

async fn leftovers() {
    let text = "- run: |\n    sleep 1000 &\n    echo $! > pid\n    trap 'exit 0' INT\n    echo ready\n    while true; do sleep 0.05; done\n- if: always()\n  run: if kill -0 \"$(cat pid)\"; then echo alive; else echo gone; fi";
    let said = cancelled_at(text, "ready", far()).await;
    assert_eq!(said.rows(Some(1)).last(), Some(&"gone"), "{}", said.all());
}

async fn now() {
    let text = "- run: |\n    trap '' INT TERM\n    echo ready\n    while true; do sleep 0.05; done\n- if: always()\n  run: echo never";
    let said = cancelled_at(text, "ready", How::Now).await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["ready"]);
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Skipped]);
}

async fn deadline() {
    let text =
        "- run: |\n    echo ready\n    sleep 60\n- if: always()\n  run: |\n    echo cleaning\n    sleep 60";
    let how = How::Graceful { deadline: Instant::now() + Duration::from_secs(4) };
    let said = cancelled_at(text, "ready", how).await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    assert_eq!(said.rows(Some(1)), ["cleaning"]);
    assert_eq!(said.ends()[1].0, Outcome::Cancelled);
}

async fn early() {
    let (canceller, cancel) = Canceller::new();
    canceller.cancel(Reason::Shutdown, far());
    let said = run_with(steps("- if: always()\n  run: echo never"), context(), cancel, |_| {}).await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    assert_eq!(said.ends(), [(Outcome::Skipped, Outcome::Skipped)]);
    assert!(said.rows(None).last().unwrap().contains("asked to end"), "{}", said.all());
}

async fn step_time() {
    let said = run(steps(
        r#"
- id: slow
  timeout-minutes: 0.01
  run: |
    echo begun
    sleep 60
- run: echo never
- if: failure()
  run: echo "${{ job.status }} ${{ steps.slow.outcome }}"
- if: cancelled()
  run: echo never
- if: always()
  run: echo "always"
"#,
    ))
    .await;
    assert_eq!(said.result(), Failure, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["begun", "##[error]the step's time is over"]);
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    use Outcome::{Failure, Skipped, Success};
    assert_eq!(outcomes, [Failure, Skipped, Success, Skipped, Success]);
    assert_eq!(said.rows(Some(2)), ["failure failure"]);
    assert_eq!(said.rows(None).last(), Some(&"the job ended: failure"));
    assert_eq!(said.outcome.unwrap().stopped, None);
}

async fn job_time() {
    let said = run(spec(
        "on: push\njobs:\n  it:\n    runs-on: any\n    timeout-minutes: 0.05\n    steps:\n    - run: sleep 60\n    - if: always()\n      run: echo end\n",
    ))
    .await;
    assert_eq!(said.result(), Outcome::Cancelled, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["##[error]the job's time is over"]);
    assert_eq!(said.rows(Some(1)), ["end"]);
    assert_eq!(said.rows(None).last(), Some(&"the job ended: cancelled, because its time is over"));
    assert_eq!(said.outcome.unwrap().stopped, Some(Stopped::TimedOut));
}

async fn death() {
    // Commands of the fake run on this host, and their parent is the agent.
    let said = run(steps("- run: |\n    echo last words\n    sleep 1\n    kill -9 $PPID\n    sleep 60\n- if: always()\n  run: echo never")).await;
    assert!(matches!(said.outcome, Err(Error::Vm(_))), "{:?}\n{}", said.outcome, said.all());
    let rows = said.rows(Some(0));
    assert_eq!(rows[0], "last words");
    assert!(rows[1].starts_with("##[error]the job's VM failed: the VM ended"), "{rows:?}");
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Failure, Outcome::Skipped]);
    assert!(matches!(said.events.last().unwrap().kind, EventKind::JobEnd { result: Outcome::Failure, .. }));
}

async fn switched_off() {
    // The agent ends in order at this signal, as a machine does that is switched off.
    let said = run(steps("- run: echo fine\n- name: The ${{ vars.GREETING }} end\n  run: |\n    echo last words\n    sleep 1\n    kill -TERM $PPID\n    sleep 60\n- if: always()\n  run: echo never")).await;
    assert_eq!(said.result(), Outcome::Failure, "{}", said.all());
    assert_eq!(
        said.rows(Some(1)),
        [
            "last words",
            "##[error]the VM ended while step `The ${{ vars.GREETING }} end` ran: the job switched it off or crashed it"
        ]
    );
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Success, Outcome::Failure, Outcome::Skipped]);
    assert_eq!(said.outcome.unwrap().stopped, None);
}

async fn slow_reader() {
    let mut seen = 0;
    let said = run_with(steps("- run: seq 1 20000"), context(), Canceller::new().1, |_| {
        seen += 1;
        if seen % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await;
    assert_eq!(said.rows(Some(0)).len(), 20_000);
}

async fn dropped() {
    let text = steps("- run: |\n    echo ready\n    sleep 600");
    let (seen_to, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let running = run_with(text, context(), Canceller::new().1, move |event| {
        if matches!(&event.kind, EventKind::Log { line, .. } if line == "ready") {
            let _ = seen_to.send(());
        }
    });
    tokio::select! {
        _ = running => panic!("it cannot have ended"),
        _ = seen.recv() => {}
    }
    // What is left of it would be found at the end of this binary; here it is enough that another job runs.
    assert_eq!(run(steps("- run: echo fine")).await.result(), Outcome::Success);
}
