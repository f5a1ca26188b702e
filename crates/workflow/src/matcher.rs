//! Problem matchers: how the rows of a tool become annotations.
//!
//! Purpose: reads the JSON by which a workflow describes what a compiler or linter prints, and looks at rows
//! with it.
//! Owner: the job keeps one [`Matchers`]; rows come masked and without colours.
//!
//! Invariants
//! - The matcher that was added last is asked first; a row belongs to the first that finds something, and
//!   then the others forget what they have begun.
//! - Patterns of one matcher match rows that follow each other; the last one with `loop` matches as long as
//!   rows fit.
//! - Files, expressions, matchers and rows are capped, so that a row takes bounded time whatever they are.
//!
//! ```text
//!   row 1 ──pattern 1──▶ begun ──row 2, pattern 2──▶ annotation
//!                          ▲                             │ `loop`
//!                          └─────────────────────────────┘
//! ```

use std::sync::Arc;

use regex::{Captures, Regex};

use crate::command::{Annotation, Level, Lines};

mod file;
mod regexp;

pub use file::{MAX_FILE, parse};

/// Longer rows belong to no tool that a matcher describes, and are not looked at.
pub const MAX_ROW: usize = 2 << 10;

/// Most matchers of a job.
pub const MAX_MATCHERS: usize = 64;

/// Most patterns of a matcher.
pub const MAX_PATTERNS: usize = 16;

/// What the expressions of all matchers of a job may weigh together, in bytes.
pub const MAX_WEIGHT: usize = 256 << 10;

/// A part of what a matcher finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    File,
    Line,
    Column,
    Severity,
    Code,
    Message,
    FromPath,
}

impl Part {
    const ALL: [Self; 7] =
        [Self::File, Self::Line, Self::Column, Self::Severity, Self::Code, Self::Message, Self::FromPath];

    const fn key(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Line => "line",
            Self::Column => "column",
            Self::Severity => "severity",
            Self::Code => "code",
            Self::Message => "message",
            Self::FromPath => "fromPath",
        }
    }
}

/// How the rows of one tool look.
#[derive(Debug)]
pub struct Matcher {
    owner: String,
    severity: Option<Level>,
    from_path: Option<String>,
    /// At least one.
    patterns: Vec<Pattern>,
    weight: usize,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Which group holds which part.
    groups: [Option<usize>; 7],
    repeats: bool,
}

impl Matcher {
    /// The name by which it is replaced and removed, in any case.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// More than [`MAX_MATCHERS`], or heavier than [`MAX_WEIGHT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many matchers: a job has at most {MAX_MATCHERS}, whose expressions take at most {MAX_WEIGHT} bytes"
)]
pub struct TooManyMatchers;

/// The matchers of a job, and how far they are in its output.
#[derive(Clone, Debug, Default)]
pub struct Matchers {
    /// The newest first.
    running: Vec<Running>,
}

#[derive(Clone, Debug)]
struct Running {
    matcher: Arc<Matcher>,
    /// What each pattern but the last has found, with what those before it had.
    begun: Vec<Option<Found>>,
}

/// The parts found so far.
#[derive(Clone, Debug, Default)]
struct Found([Option<String>; 7]);

impl Matchers {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds matchers; each takes the place of the one with its owner.
    ///
    /// # Errors
    /// When there would be too many; nothing is then added.
    pub fn add(&mut self, matchers: Vec<Matcher>) -> Result<(), TooManyMatchers> {
        let mut running = self.running.clone();
        for matcher in matchers {
            running.retain(|known| !known.is_of(&matcher.owner));
            let begun = vec![None; matcher.patterns.len() - 1];
            running.insert(0, Running { matcher: Arc::new(matcher), begun });
        }
        let weight: usize = running.iter().map(|running| running.matcher.weight).sum();
        if running.len() > MAX_MATCHERS || weight > MAX_WEIGHT {
            return Err(TooManyMatchers);
        }
        self.running = running;
        Ok(())
    }

    /// Removes the matcher of this owner, if there is one.
    pub fn remove(&mut self, owner: &str) {
        self.running.retain(|known| !known.is_of(owner));
    }

    /// Forgets what was begun: another step's output follows.
    pub fn reset(&mut self) {
        self.running.iter_mut().for_each(Running::reset);
    }

    /// What the next row says.
    pub fn read(&mut self, row: &str) -> Option<Annotation> {
        if row.len() > MAX_ROW {
            self.reset();
            return None;
        }
        for index in 0..self.running.len() {
            let Some(found) = self.running[index].read(row) else { continue };
            for (other, running) in self.running.iter_mut().enumerate() {
                if other != index {
                    running.reset();
                }
            }
            if let Some(annotation) = found.annotation(&self.running[index].matcher) {
                return Some(annotation);
            }
        }
        None
    }
}

impl Running {
    fn is_of(&self, owner: &str) -> bool {
        self.matcher.owner.to_lowercase() == owner.to_lowercase()
    }

    fn reset(&mut self) {
        self.begun.fill(None);
    }

    /// From the last pattern to the first, so that a row that goes on with one problem may also begin another.
    fn read(&mut self, row: &str) -> Option<Found> {
        let last = self.begun.len();
        for index in (0..=last).rev() {
            let before = match index.checked_sub(1) {
                Some(before) => match &self.begun[before] {
                    Some(found) => Some(found.clone()),
                    None => continue,
                },
                None => None,
            };
            let pattern = &self.matcher.patterns[index];
            let found = pattern.regex.captures(row).map(|captures| {
                let mut found = before.clone().unwrap_or_default();
                found.take(&pattern.groups, &captures);
                found
            });
            match found {
                Some(found) if index == last => {
                    let repeats = pattern.repeats;
                    self.reset();
                    if repeats && index > 0 {
                        self.begun[index - 1] = before;
                    }
                    return Some(found);
                }
                found if index < last => self.begun[index] = found,
                _ if index > 0 => self.begun[index - 1] = None,
                _ => {}
            }
        }
        None
    }
}

impl Found {
    fn take(&mut self, groups: &[Option<usize>; 7], captures: &Captures<'_>) {
        for (part, group) in self.0.iter_mut().zip(groups) {
            if let (None, Some(group)) = (&part, group) {
                *part = Some(captures.get(*group).map_or("", |found| found.as_str()).to_owned());
            }
        }
    }

    /// A part that is not blank.
    fn get(&self, part: Part) -> Option<&str> {
        self.0[part as usize].as_deref().map(str::trim).filter(|text| !text.is_empty())
    }

    /// Nothing when nothing is said, or at a level that is none.
    fn annotation(&self, matcher: &Matcher) -> Option<Annotation> {
        let level = match self.get(Part::Severity) {
            Some(severity) => Level::of(severity)?,
            None => matcher.severity.unwrap_or(Level::Error),
        };
        self.get(Part::Message)?;
        let number = |part: Part| {
            let digits = self.get(part).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse().ok()
        };
        let lines = Lines { line: number(Part::Line), column: number(Part::Column), ..Lines::default() };
        let from = self.get(Part::FromPath).or(matcher.from_path.as_deref());
        Some(Annotation {
            level,
            file: self.get(Part::File).map(|file| beside(from, file)),
            lines: lines.corrected(),
            title: None,
            code: self.get(Part::Code).map(str::to_owned),
            message: self.0[Part::Message as usize].clone().unwrap_or_default(),
        })
    }
}

/// A file that is named as seen from where another lies.
fn beside(from: Option<&str>, file: &str) -> String {
    let absolute = file.starts_with(['/', '\\']) || file.get(1..2) == Some(":");
    match from.and_then(|from| from.rsplit_once(['/', '\\'])) {
        Some((directory, _)) if !absolute => format!("{directory}/{file}"),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests;
