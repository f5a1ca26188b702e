//! `--json`: one object per line.
//!
//! Invariants: every object has `type` and `time` (RFC 3339, UTC); keys stand in the order of the
//! documentation; no byte of a line is a control character, so that it is safe in a terminal too.

use std::{collections::BTreeMap, io, time::Duration};

use jiff::Timestamp;
use job::event::{Event, EventKind};
use serde::Serialize;

use super::{Say, Sink, word};

/// Writes objects.
pub struct Json<W> {
    out: W,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Row<'a> {
    RunStart {
        time: Time,
        workflow: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        event: &'a str,
        jobs: &'a [String],
    },
    JobStart {
        time: Time,
        job: &'a str,
    },
    StepStart {
        time: Time,
        job: &'a str,
        step: usize,
        name: &'a str,
    },
    Log {
        time: Time,
        job: &'a str,
        step: Option<usize>,
        line: &'a str,
    },
    Annotation {
        time: Time,
        job: &'a str,
        step: usize,
        level: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        end_line: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        end_column: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'a str>,
        message: &'a str,
    },
    StepEnd {
        time: Time,
        job: &'a str,
        step: usize,
        outcome: &'a str,
        conclusion: &'a str,
        duration_ms: u64,
    },
    JobEnd {
        time: Time,
        job: &'a str,
        result: &'a str,
        outputs: &'a BTreeMap<String, String>,
        duration_ms: u64,
    },
    RunEnd {
        time: Time,
        result: &'a str,
        duration_ms: u64,
    },
}

/// RFC 3339 in UTC, to the microsecond: texts of one length sort by time.
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

impl<W: io::Write + Send> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let text = escaped(serde_json::to_string(row)?);
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let (time, job) = (Time(event.time), event.job.as_str());
        let row = match &event.kind {
            EventKind::JobStart => Row::JobStart { time, job },
            EventKind::StepStart { step, name } => Row::StepStart { time, job, step: *step, name },
            EventKind::Log { step, line } => Row::Log { time, job, step: *step, line },
            EventKind::Annotation { step, annotation } => Row::Annotation {
                time,
                job,
                step: *step,
                level: annotation.level.name(),
                file: annotation.file.as_deref(),
                line: annotation.lines.line,
                end_line: annotation.lines.end_line,
                column: annotation.lines.column,
                end_column: annotation.lines.end_column,
                title: annotation.title.as_deref(),
                code: annotation.code.as_deref(),
                message: &annotation.message,
            },
            EventKind::StepEnd { step, outcome, conclusion, duration } => Row::StepEnd {
                time,
                job,
                step: *step,
                outcome: word(*outcome),
                conclusion: word(*conclusion),
                duration_ms: millis(*duration),
            },
            EventKind::JobEnd { result, outputs, duration } => {
                Row::JobEnd { time, job, result: word(*result), outputs, duration_ms: millis(*duration) }
            }
        };
        self.row(&row)
    }
}

impl<W: io::Write + Send> Sink for Json<W> {
    fn say(&mut self, say: &Say) -> io::Result<()> {
        match say {
            Say::RunStart(run) => self.row(&Row::RunStart {
                time: Time(run.time),
                workflow: &run.workflow,
                title: run.title.as_deref(),
                event: &run.event,
                jobs: &run.jobs,
            }),
            Say::Job(event) => self.event(event),
            Say::RunEnd(end) => self.row(&Row::RunEnd {
                time: Time(end.time),
                result: word(end.result),
                duration_ms: millis(end.duration),
            }),
            // has no shape of its own: it goes to standard error
            Say::Notice(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line of JSON without what a terminal obeys. serde escapes the C0 set; the others stand only inside strings,
/// where an escape means the same.
pub(crate) fn escaped(line: String) -> String {
    if !line.chars().any(splits) {
        return line;
    }
    line.chars().map(|c| if splits(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Characters that a terminal obeys, or that some readers take for the end of a line.
fn splits(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use job::event::Outcome;

    use super::*;
    use crate::sink::{RunEnd, RunStart};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn event(kind: EventKind) -> Say {
        Say::Job(Event { time: at(1), job: "test (3.12)".to_owned(), kind })
    }

    #[test]
    fn every_object_has_its_documented_shape() {
        let mut sink = Json::new(Vec::new());
        let says = [
            Say::RunStart(RunStart {
                title: None,
                time: at(0),
                workflow: "ci".to_owned(),
                event: "push".to_owned(),
                jobs: vec!["build".to_owned(), "test".to_owned()],
            }),
            event(EventKind::JobStart),
            event(EventKind::Log { step: None, line: "boundary: emulated + jail".to_owned() }),
            event(EventKind::StepStart { step: 0, name: "Run make".to_owned() }),
            event(EventKind::Log { step: Some(0), line: "\u{1b}[31m\"red\"\u{9b}\u{7f}\u{2028}".to_owned() }),
            event(EventKind::StepEnd {
                step: 0,
                outcome: Outcome::Failure,
                conclusion: Outcome::Success,
                duration: Duration::from_millis(1234),
            }),
            event(EventKind::JobEnd {
                result: Outcome::Success,
                outputs: BTreeMap::from([("version".to_owned(), "1.2".to_owned())]),
                duration: Duration::from_secs(3),
            }),
            Say::Notice("not here".to_owned()),
            Say::RunEnd(RunEnd { time: at(9), result: Outcome::Cancelled, duration: Duration::from_secs(9) }),
        ];
        for say in &says {
            sink.say(say).unwrap();
        }
        let text = String::from_utf8(sink.out).unwrap();
        insta::assert_snapshot!(text);
        for line in text.lines() {
            assert!(!line.chars().any(splits), "{line:?}");
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
