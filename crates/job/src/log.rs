//! The one way out: events, in order, masked and timed.
//!
//! Purpose: what [`crate::event`] promises about order and times is kept here.
//! Owner: the job's task. Sending waits while the reader is behind; that is what stops the guest.
//!
//! Invariants: times never go back; every row of the host's own goes through the masker; a row holds no line
//! feed and at most 64 KiB.

use jiff::Timestamp;
use sandbox::Sandbox;
use tokio::sync::mpsc;
use workflow::mask::Masker;

use crate::{
    Event, EventKind,
    output::{MAX_ROW, Row},
};

/// The job's events.
pub(crate) struct Log {
    /// Masked.
    job: String,
    events: mpsc::Sender<Event>,
    last: Timestamp,
    guest: Option<Sandbox>,
    /// All that must not be shown.
    pub(crate) masker: Masker,
}

impl Log {
    pub(crate) fn new(job: &str, masker: Masker, events: mpsc::Sender<Event>) -> Self {
        Self { job: masker.mask(job), events, last: Timestamp::UNIX_EPOCH, guest: None, masker }
    }

    /// The job's name, masked.
    pub(crate) fn job(&self) -> &str {
        &self.job
    }

    /// From here on rows of the host are timed by the guest's clock, as the guest's own are.
    pub(crate) fn follow(&mut self, guest: Sandbox) {
        self.guest = Some(guest);
    }

    /// Now, for something of the host's.
    pub(crate) fn now(&self) -> Timestamp {
        self.guest.as_ref().map_or_else(Timestamp::now, Sandbox::now)
    }

    /// Sends something of the host's. Its texts are masked already.
    pub(crate) async fn event(&mut self, kind: EventKind) {
        let now = self.now();
        self.send(now, kind).await;
    }

    /// Sends rows of a step's output, which are masked already.
    pub(crate) async fn rows(&mut self, step: usize, rows: &mut Vec<Row>) {
        for row in rows.drain(..) {
            self.send(row.time, EventKind::Log { step: Some(step), line: row.text }).await;
            if let Some(annotation) = row.annotation {
                self.send(row.time, EventKind::Annotation { step, annotation }).await;
            }
        }
    }

    /// Says something in rows of the host's own; masks it.
    pub(crate) async fn say(&mut self, step: Option<usize>, text: &str) {
        let now = self.now();
        let text = self.masker.mask(text);
        for mut row in text.split('\n') {
            loop {
                let (line, rest) = row.split_at(row.floor_char_boundary(MAX_ROW));
                self.send(now, EventKind::Log { step, line: line.to_owned() }).await;
                if rest.is_empty() {
                    break;
                }
                row = rest;
            }
        }
    }

    async fn send(&mut self, time: Timestamp, kind: EventKind) {
        self.last = self.last.max(time);
        let event = Event { time: self.last, job: self.job.clone(), kind };
        // A reader that is gone wants to know nothing more; the job's result has another way.
        let _ = self.events.send(event).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_never_go_back_and_rows_of_ours_are_masked_and_cut() {
        let (sender, mut events) = mpsc::channel(100);
        let mut log = Log::new("job pw", Masker::new(["pw"]).unwrap(), sender);
        let early = Timestamp::from_second(5).unwrap();
        log.say(None, &format!("a pw\n{}", "x".repeat(MAX_ROW + 1))).await;
        log.rows(0, &mut vec![Row::new(early, "late".to_owned())]).await;
        drop(log);
        let mut last = Timestamp::UNIX_EPOCH;
        let mut lines = Vec::new();
        while let Some(event) = events.recv().await {
            assert!(event.time >= last);
            last = event.time;
            assert_eq!(event.job, "job ***");
            if let EventKind::Log { line, .. } = event.kind {
                lines.push(line.len());
            }
        }
        assert_eq!(lines, [5, MAX_ROW, 1, 4]);
    }
}
