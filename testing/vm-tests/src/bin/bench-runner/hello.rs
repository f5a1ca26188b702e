//! A small job, again and again: what a person waits for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use testkit::gitea;

use crate::{
    figures::Figure,
    subject::{Done, Subject},
};

/// How the row of a VM that was made begins.
const READY: &str = "the VM is ready after ";
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

/// What so many runs took.
pub(crate) struct Hello {
    /// In the order of the table.
    pub(crate) figures: Vec<Figure>,
    /// The row that tells what they ran on.
    pub(crate) backend: String,
    /// How many VMs were made in which way.
    pub(crate) origins: BTreeMap<String, usize>,
}

/// Runs it so many times.
pub(crate) async fn measure(subject: &Subject, runs: usize) -> gitea::Result<Hello> {
    let mut figures = vec![
        figure("task received to the first row at the server", "received_to_first_row"),
        figure("task received to the step's first row at the server", "received_to_step_row"),
        figure("task received to the final state at the server", "received_to_final_state"),
        figure("task received to the VM being ready, by its row's time", "received_to_ready"),
        figure("the VM's making, as that row has it", "made"),
        figure(
            "dispatched, just after the server was asked, to received (2 s between)",
            "dispatched_to_received",
        ),
        figure("dispatched to the final state at the server", "dispatched_to_final_state"),
    ];
    let (mut backend, mut origins) = (String::new(), BTreeMap::new());
    for nth in 0..runs {
        let asked = Timestamp::now();
        let run = subject.api.dispatch(&subject.repo, FILE, "main", &BTreeMap::new()).await?;
        let done = subject.done(run, nth).await?;
        let seconds = times(&done, asked);
        for (figure, seconds) in figures.iter_mut().zip(seconds) {
            figure.seconds.push(seconds);
        }
        backend = done.text(done.find("backend: ")).to_owned();
        let origin = made(&done).1;
        let [first, step, end, ready, ..] = seconds;
        crate::say(&format!(
            "{} {} of {runs}: first row after {first:.3} s, ready after {ready:.2} s, {origin}, the step's row after \
             {step:.2} s, end after {end:.2} s",
            subject.name,
            nth + 1
        ));
        *origins.entry(origin).or_default() += 1;
    }
    Ok(Hello { figures, backend, origins })
}

/// How long the VM took, and how it was made: `the VM is ready after 0.3 s, forked: kernel …`.
fn made(done: &Done) -> (f64, String) {
    let text = done.text(done.find(READY));
    let read = || {
        let (seconds, rest) = text.strip_prefix(READY)?.split_once(" s, ")?;
        Some((seconds.parse().ok()?, rest.split([':', ',']).next()?.to_owned()))
    };
    read().unwrap_or_else(|| panic!("another row than expected: {text:?}"))
}

fn figure(what: &'static str, key: &'static str) -> Figure {
    Figure { what, key, seconds: Vec::new() }
}

/// In the order of the figures.
fn times(done: &Done, asked: Timestamp) -> [f64; 7] {
    let told = &done.told;
    let has = |row: usize| told.has(row).expect("the server has every row");
    let (first, step) = (has(0), has(done.find("hello from ")));
    let end = told.ended.expect("it has ended");
    [
        seconds(told.received, first),
        seconds(told.received, step),
        seconds(told.received, end),
        seconds(told.received, done.time(done.find(READY))),
        made(done).0,
        seconds(asked, told.received),
        seconds(asked, end),
    ]
}

/// From one moment to a later one.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
