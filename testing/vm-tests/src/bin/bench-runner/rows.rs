//! A job that prints many rows, some with secrets: how fast they come through mask and report.
//!
//! Invariant: a row that is missing, doubled, out of order or not masked is a panic, not a slower figure.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::gitea::{self, Scope};

use crate::{
    hello::seconds,
    subject::{Done, Subject},
};

/// The file of its workflow.
pub(crate) const FILE: &str = "rows.yml";
/// Its workflow, with `COUNT` rows, which are made before they are printed, so that the job's own share is one `cat`.
pub(crate) const WORKFLOW: &str = r#"on: workflow_dispatch
jobs:
  rows:
    runs-on: LABEL
    env:
      PASSWORD: ${{ secrets.PASSWORD }}
      KEY: ${{ secrets.KEY }}
    steps:
      - run: |
          awk 'BEGIN {
            for (i = 1; i <= COUNT; i++) {
              said = i % 10 == 0 ? ENVIRON["PASSWORD"] : i % 10 == 5 ? ENVIRON["KEY"] : "nothing"
              printf "row %09d of a log, with %s in it, as long as those of a build\n", i, said
            }
          }' > /tmp/rows
      - run: cat /tmp/rows; rm /tmp/rows
"#;

const SECRETS: [(&str, &str); 3] = [
    ("PASSWORD", "open-sesame"),
    ("KEY", "4f9c1d7be0a2463b8c55d1f0a7e6b3924f9c1d7be0a2463b8c55d1f0a7e6b392"),
    // begins like every row, and is in none
    ("UNUSED", "row of a log, with nothing"),
];

/// What became of them.
pub(crate) struct Rows {
    pub(crate) count: usize,
    /// From the first row, as the host got it, to the answer to the last.
    pub(crate) seconds: f64,
    /// From the first row to the first answer.
    pub(crate) first: f64,
    /// Answers to rows of these.
    pub(crate) calls: usize,
    /// The most memory that the daemon has had, in bytes.
    pub(crate) memory: u64,
}

impl Rows {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds.max(f64::EPSILON)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rows": self.count,
            "seconds": self.seconds,
            "rows_per_second": self.rate(),
            "seconds_to_first_answer": self.first,
            "calls": self.calls,
            "max_rss_kib": self.memory / 1024,
        })
    }
}

/// Stores what the job has to hide.
pub(crate) async fn prepare(subject: &Subject) -> gitea::Result<()> {
    for (name, value) in SECRETS {
        subject.api.set_secret(Scope::Repo(&subject.repo), name, &SecretString::from(value)).await?;
    }
    Ok(())
}

/// Runs it, as the `nth` job of the daemon.
pub(crate) async fn measure(subject: &Subject, count: usize, nth: usize) -> gitea::Result<Rows> {
    let run = subject.api.dispatch(&subject.repo, FILE, "main", &BTreeMap::new()).await?;
    let done = subject.done(run, nth).await?;
    let first = check(&done, count);
    let (begun, last) = (done.time(first), first + count - 1);
    let has = |row: usize| done.told.has(row).expect("the server has every row");
    let rows = Rows {
        count,
        seconds: seconds(begun, has(last)),
        first: seconds(begun, has(first)),
        calls: done.told.rows.iter().filter(|(at, _)| *at >= has(first) && *at <= has(last)).count(),
        memory: subject.peak_memory(),
    };
    crate::say(&format!(
        "{}: {count} rows in {:.2} s, {:.0} rows/s, each as it should be",
        subject.name,
        rows.seconds,
        rows.rate()
    ));
    Ok(rows)
}

/// Looks at each row; the place of the first.
fn check(done: &Done, count: usize) -> usize {
    let first = done.find("row ");
    for i in 1..=count {
        let said = if i % 5 == 0 { "***" } else { "nothing" };
        let wanted = format!("row {i:09} of a log, with {said} in it, as long as those of a build");
        assert_eq!(done.text(first + i - 1), wanted);
    }
    let more = (first + count..done.rows.len()).find(|row| done.text(*row).starts_with("row "));
    assert_eq!(more, None, "a row that nobody printed");
    first
}
