//! What a step says about a place in the sources.
//!
//! Purpose: one form for `::error::` and its kin and for what problem matchers find. Owner: who read the row.
//! Invariants: a column has a line, an end has a beginning and is not before it, and columns of a range of
//! several lines do not count: so GitHub's runner corrects them.

use super::raw::Raw;

/// Level of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Notice,
    /// May be wrong.
    Warning,
    /// Is wrong.
    Error,
}

impl Level {
    /// Its name in the log: `notice`, `warning`, `error`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The level of this name, in any case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Notice, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
    }
}

/// Lines and columns, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// First line.
    pub line: Option<u32>,
    /// Last line.
    pub end_line: Option<u32>,
    /// First column.
    pub column: Option<u32>,
    /// Last column.
    pub end_column: Option<u32>,
}

impl Lines {
    /// The same without what contradicts itself.
    #[must_use]
    pub fn corrected(self) -> Self {
        let [line, end_line, column, end_column] =
            [self.line, self.end_line, self.column, self.end_column].map(|at| at.filter(|&at| at > 0));
        let mut lines = Self { line: line.or(end_line), end_line, column: column.or(end_column), end_column };
        let several = end_line.is_some_and(|end| lines.line != Some(end));
        if lines.line.is_none() || several {
            (lines.column, lines.end_column) = (None, None);
        }
        if lines.end_line < lines.line && lines.end_line.is_some() {
            (lines.line, lines.end_line) = (None, None);
        }
        if lines.end_column < lines.column && lines.end_column.is_some() {
            (lines.column, lines.end_column) = (None, None);
        }
        lines
    }
}

/// What is said, and about which place. Texts may hold line feeds and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Annotation {
    /// How bad it is.
    pub level: Level,
    /// The file, as whoever printed it names it.
    pub file: Option<String>,
    /// Where in the file.
    pub lines: Lines,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// What a tool calls this kind of problem, if it is a matcher's.
    pub code: Option<String>,
    /// What it says.
    pub message: String,
}

impl std::fmt::Debug for Annotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Annotation").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Annotation {
    /// As a row of a log, without its level: `file:line:column: title: message`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(file) = &self.file {
            text.push_str(file);
            if let Some(line) = self.lines.line {
                text.push_str(&format!(":{line}"));
                if let Some(column) = self.lines.column {
                    text.push_str(&format!(":{column}"));
                }
            }
            text.push_str(": ");
        }
        if let Some(title) = &self.title {
            text.push_str(title);
            text.push_str(": ");
        }
        text.push_str(&self.message);
        text
    }
}

impl Raw<'_> {
    pub(super) fn annotation(&self, level: Level) -> Annotation {
        let number = |key: &str| self.property(key).and_then(|value| value.parse().ok());
        let lines = Lines {
            line: number("line"),
            end_line: number("endLine"),
            column: number("col"),
            end_column: number("endColumn"),
        };
        Annotation {
            level,
            file: self.property("file"),
            lines: lines.corrected(),
            title: self.property("title"),
            code: None,
            message: self.text(),
        }
    }
}
