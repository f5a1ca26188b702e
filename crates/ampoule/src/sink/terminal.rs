//! Rows for people: jobs, steps, their output, a summary.
//!
//! Invariants: text of guests and of workflow files goes through the sanitiser; when rows of several jobs
//! can mix, each begins with its job's name; a group of rows is indented, however it is left.

use std::{collections::BTreeMap, io, time::Duration};

use anstyle::AnsiColor;
use job::event::{Event, EventKind, Outcome};

use super::{Look, Results, RunEnd, RunStart, Say, Sink, style::sign, word};
use crate::sanitise::{self, Colours};

/// Whether rows of several jobs can mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Every row begins with its job's name.
    Job,
    /// Jobs come one after the other.
    None,
}

/// Writes rows.
pub struct Terminal<W> {
    out: W,
    look: Look,
    prefix: Prefix,
    jobs: BTreeMap<String, Progress>,
    results: Results,
}

/// Where one job is.
#[derive(Default)]
struct Progress {
    /// Depth of open groups.
    groups: usize,
    /// Names of the steps that began, for their ends.
    names: BTreeMap<usize, String>,
}

impl<W: io::Write + Send> Terminal<W> {
    /// Writes to `out`.
    pub fn new(out: W, look: Look, prefix: Prefix) -> Self {
        Self { out, look, prefix, jobs: BTreeMap::new(), results: Results::new() }
    }

    fn run_start(&mut self, run: &RunStart) -> io::Result<()> {
        let plural = if run.jobs.len() == 1 { "job" } else { "jobs" };
        let dot = self.look.dim("·");
        write!(self.out, "{} {dot} ", self.look.bold(clean(&run.workflow)))?;
        if let Some(title) = &run.title {
            write!(self.out, "{} {dot} ", clean(title))?;
        }
        writeln!(
            self.out,
            "{}",
            self.look.dim(format_args!("{}, {} {plural}", clean(&run.event), run.jobs.len()))
        )
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let job = event.job.as_str();
        let look = self.look;
        match &event.kind {
            EventKind::JobStart => {
                self.row(job, "", &format!("{} {}", look.bold("▶"), look.bold(clean(job))))
            }
            EventKind::StepStart { step, name } => {
                let name = clean(name);
                let row = format!("{} {}", look.paint(AnsiColor::Cyan.on_default(), "▸"), look.bold(&name));
                let progress = self.jobs.entry(job.to_owned()).or_default();
                progress.groups = 0;
                progress.names.insert(*step, name);
                self.row(job, "  ", &row)
            }
            EventKind::Log { line, .. } => self.log(job, line),
            // the row in front of it shows it, in its colour
            EventKind::Annotation { .. } => Ok(()),
            EventKind::StepEnd { step, outcome, conclusion, duration } => {
                let progress = self.jobs.entry(job.to_owned()).or_default();
                progress.groups = 0;
                let name = progress.names.remove(step);
                if *outcome == Outcome::Skipped {
                    return Ok(());
                }
                let name = name.unwrap_or_else(|| format!("step {step}"));
                let forgiven = if outcome == conclusion { "" } else { ", which may fail" };
                let text = format!(
                    "{} {} {}",
                    look.outcome(*outcome, sign(*outcome)),
                    name,
                    look.dim(format_args!("{}{forgiven}, {}", word(*outcome), seconds(*duration)))
                );
                self.row(job, "  ", &text)
            }
            EventKind::JobEnd { result, duration, .. } => {
                self.jobs.remove(job);
                self.results.insert(job.to_owned(), (*result, *duration));
                let text = match result {
                    Outcome::Skipped => format!(
                        "{} {} {}",
                        look.outcome(*result, sign(*result)),
                        clean(job),
                        look.dim("skipped")
                    ),
                    _ => format!(
                        "{} {} {}",
                        look.outcome(*result, sign(*result)),
                        look.bold(clean(job)),
                        look.dim(format_args!("{}, {}", word(*result), seconds(*duration)))
                    ),
                };
                self.row(job, "", &text)
            }
        }
    }

    fn log(&mut self, job: &str, line: &str) -> io::Result<()> {
        let progress = self.jobs.entry(job.to_owned()).or_default();
        let mut indent = "    ".to_owned() + &"  ".repeat(progress.groups.min(8));
        let (style, text) = match Marker::of(line) {
            Some((Marker::Group, rest)) => {
                progress.groups += 1;
                (Some(anstyle::Style::new().bold()), format!("▾ {rest}"))
            }
            Some((Marker::EndGroup, _)) => {
                progress.groups = progress.groups.saturating_sub(1);
                return Ok(());
            }
            Some((Marker::Error, rest)) => (Some(AnsiColor::Red.on_default()), format!("error: {rest}")),
            Some((Marker::Warning, rest)) => {
                (Some(AnsiColor::Yellow.on_default()), format!("warning: {rest}"))
            }
            Some((Marker::Notice, rest)) => (Some(AnsiColor::Cyan.on_default()), format!("notice: {rest}")),
            Some((Marker::Debug, rest)) => (Some(anstyle::Style::new().dimmed()), format!("debug: {rest}")),
            Some((Marker::Command, rest)) => (Some(AnsiColor::Blue.on_default()), rest.to_owned()),
            None => (None, line.to_owned()),
        };
        let colours = if style.is_some() { Colours::Drop } else { self.look.colours() };
        for row in sanitise::rows(&text, colours) {
            if row.is_empty() {
                indent.truncate(0);
            }
            match style {
                Some(style) => self.row(job, &indent, &self.look.paint(style, row).to_string())?,
                None => self.row(job, &indent, &row)?,
            }
        }
        Ok(())
    }

    fn row(&mut self, job: &str, indent: &str, text: &str) -> io::Result<()> {
        match self.prefix {
            Prefix::Job => {
                writeln!(self.out, "{} {indent}{text}", self.look.dim(format_args!("[{}]", clean(job))))
            }
            Prefix::None => writeln!(self.out, "{indent}{text}"),
        }
    }

    fn run_end(&mut self, end: &RunEnd) -> io::Result<()> {
        let look = self.look;
        if self.results.len() > 1 {
            writeln!(self.out)?;
            for (job, (result, duration)) in &self.results {
                let time = if *result == Outcome::Skipped { String::new() } else { seconds(*duration) };
                let word = look.outcome(*result, format!("{} {:<9}", sign(*result), word(*result)));
                writeln!(self.out, "{word} {} {}", clean(job), look.dim(time))?;
            }
        }
        self.results.clear();
        self.jobs.clear();
        let word = look.outcome(end.result, look.bold(word(end.result)));
        writeln!(self.out, "{word} {}", look.dim(format_args!("in {}", seconds(end.duration))))
    }
}

impl<W: io::Write + Send> Sink for Terminal<W> {
    fn say(&mut self, say: &Say) -> io::Result<()> {
        match say {
            Say::RunStart(run) => self.run_start(run),
            Say::Job(event) => self.event(event),
            Say::RunEnd(end) => self.run_end(end),
            Say::Notice(text) => writeln!(self.out, "{}", self.look.dim(clean(text))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Rows that mean something, as the job writes them.
enum Marker {
    Group,
    EndGroup,
    Error,
    Warning,
    Notice,
    Debug,
    Command,
}

impl Marker {
    fn of(line: &str) -> Option<(Self, &str)> {
        let rest = line.strip_prefix("##[")?;
        let (word, rest) = rest.split_once(']')?;
        let marker = match word {
            "group" => Self::Group,
            "endgroup" => Self::EndGroup,
            "error" => Self::Error,
            "warning" => Self::Warning,
            "notice" => Self::Notice,
            "debug" => Self::Debug,
            "command" => Self::Command,
            _ => return None,
        };
        Some((marker, rest))
    }
}

/// Text of a workflow file in a row of ours.
fn clean(text: &str) -> String {
    sanitise::line(&text.replace(['\n', '\r'], " "), Colours::Drop)
}

/// A duration as people read it.
fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn shown(look: Look, prefix: Prefix) -> String {
        let mut sink = Terminal::new(Vec::new(), look, prefix);
        let time = Timestamp::UNIX_EPOCH;
        let mut say =
            |kind| sink.say(&Say::Job(Event { time, job: "test (3.12)".to_owned(), kind })).unwrap();
        let log = |step, line: &str| EventKind::Log { step, line: line.to_owned() };
        say(EventKind::JobStart);
        say(log(None, "boundary: emulated + jail"));
        say(EventKind::StepStart { step: 0, name: "Run \u{1b}[2Jmake".to_owned() });
        say(log(Some(0), "\u{1b}[31mred\u{1b}[2J and on"));
        say(log(Some(0), "##[group]Compile"));
        say(log(Some(0), "inside"));
        say(log(Some(0), "10%\r20%"));
        say(log(Some(0), "##[endgroup]"));
        say(log(Some(0), "##[error]it \u{1b}[8mbroke"));
        say(log(Some(0), ""));
        let duration = Duration::from_millis(1250);
        say(EventKind::StepEnd {
            step: 0,
            outcome: Outcome::Failure,
            conclusion: Outcome::Success,
            duration,
        });
        say(EventKind::StepEnd {
            step: 1,
            outcome: Outcome::Skipped,
            conclusion: Outcome::Skipped,
            duration,
        });
        say(EventKind::JobEnd {
            result: Outcome::Success,
            outputs: BTreeMap::new(),
            duration: Duration::from_secs(75),
        });
        let skipped = EventKind::JobEnd {
            result: Outcome::Skipped,
            outputs: BTreeMap::new(),
            duration: Duration::ZERO,
        };
        sink.say(&Say::Job(Event { time, job: "deploy".to_owned(), kind: skipped })).unwrap();
        sink.say(&Say::RunEnd(RunEnd {
            time,
            result: Outcome::Success,
            duration: Duration::from_secs(4000),
        }))
        .unwrap();
        String::from_utf8(sink.out).unwrap()
    }

    #[test]
    fn rows_without_colours() {
        insta::assert_snapshot!(shown(Look::new(Colours::Drop), Prefix::None));
    }

    #[test]
    fn rows_of_mixed_jobs_begin_with_the_name() {
        insta::assert_snapshot!(shown(Look::new(Colours::Drop), Prefix::Job));
    }

    #[test]
    fn colours_of_the_guest_are_kept_and_nothing_else() {
        let text = shown(Look::new(Colours::Keep), Prefix::None);
        assert!(text.contains("\u{1b}[31mred and on\u{1b}[0m"), "{text}");
        assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}[8m"), "{text}");
    }
}
