//! A small job, again and again: what a person waits for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use testkit::gitea;

use crate::{
    figures::Figure,
    subject::{Done, Subject},
};

/// The file of its workflow.
pub(crate) const FILE: &str = "hello.yml";
/// Its workflow.
pub(crate) const WORKFLOW: &str = "on: workflow_dispatch
jobs:
  hello:
    runs-on: LABEL
    steps:
      - run: echo hello from $(uname -r)
";

/// The figures of so many runs, and the row that tells what they ran on.
pub(crate) async fn measure(subject: &Subject, runs: usize) -> gitea::Result<(Vec<Figure>, String)> {
    let mut figures = vec![
        figure("task received to the first row at the server", "received_to_first_row"),
        figure("task received to the step's first row at the server", "received_to_step_row"),
        figure("task received to the final state at the server", "received_to_final_state"),
        figure("boot of the VM, as the job's log has it", "boot"),
        figure(
            "dispatched, just after the server was asked, to received (2 s between)",
            "dispatched_to_received",
        ),
        figure("dispatched to the final state at the server", "dispatched_to_final_state"),
    ];
    let mut backend = String::new();
    for nth in 0..runs {
        let asked = Timestamp::now();
        let run = subject.api.dispatch(&subject.repo, FILE, "main", &BTreeMap::new()).await?;
        let done = subject.done(run, nth).await?;
        let seconds = times(&done, asked);
        for (figure, seconds) in figures.iter_mut().zip(seconds) {
            figure.seconds.push(seconds);
        }
        backend = done.text(done.find("backend: ")).to_owned();
        let [first, step, end, boot, ..] = seconds;
        crate::say(&format!(
            "{} {} of {runs}: first row after {first:.3} s, the step's after {step:.2} s, boot {boot:.1} s, \
             end after {end:.2} s",
            subject.name,
            nth + 1
        ));
    }
    Ok((figures, backend))
}

fn figure(what: &'static str, key: &'static str) -> Figure {
    Figure { what, key, seconds: Vec::new() }
}

/// In the order of the figures.
fn times(done: &Done, asked: Timestamp) -> [f64; 6] {
    let told = &done.told;
    let has = |row: usize| told.has(row).expect("the server has every row");
    let (first, step) = (has(0), has(done.find("hello from ")));
    let end = told.ended.expect("it has ended");
    let ready = done.text(done.find("the VM is ready after ")).to_owned();
    let boot = ready.split(' ').nth(5).and_then(|word| word.parse().ok());
    [
        seconds(told.received, first),
        seconds(told.received, step),
        seconds(told.received, end),
        boot.unwrap_or_else(|| panic!("{ready:?}")),
        seconds(asked, told.received),
        seconds(asked, end),
    ]
}

/// From one moment to a later one.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
