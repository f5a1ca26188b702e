//! The filters of `on`: which happenings start a workflow.
//!
//! Purpose: `branches`, `tags`, `paths`, `types`, `cron` and their kin, typed, and the judgement whether
//! the server would start a workflow. Owner: [`crate::Trigger`]; the lowering makes them.
//! Invariants: every pattern and every cron expression is one that the server takes; of two keys that
//! contradict each other only one is there; a list without a pattern lets everything through.
//!
//! A local run never ends because of a filter: what is judged here becomes a warning.

mod admit;
mod cron;
pub(crate) mod events;
mod pattern;

use std::fmt;

use doc::{Span, Spanned};

pub(crate) use admit::is_glob;
pub use admit::{Admission, RefFacts};
pub use cron::Cron;
pub use pattern::Pattern;

/// A key below an event of `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKey {
    /// `types`: activities.
    Types,
    /// `branches`
    Branches,
    /// `branches-ignore`
    BranchesIgnore,
    /// `tags`
    Tags,
    /// `tags-ignore`
    TagsIgnore,
    /// `paths`
    Paths,
    /// `paths-ignore`
    PathsIgnore,
    /// `workflows` of `workflow_run`.
    Workflows,
    /// `names` of `image_version`.
    Names,
    /// `versions` of `image_version`.
    Versions,
}

impl FilterKey {
    /// All of them.
    pub(crate) const ALL: [FilterKey; 10] = [
        FilterKey::Types,
        FilterKey::Branches,
        FilterKey::BranchesIgnore,
        FilterKey::Tags,
        FilterKey::TagsIgnore,
        FilterKey::Paths,
        FilterKey::PathsIgnore,
        FilterKey::Workflows,
        FilterKey::Names,
        FilterKey::Versions,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            FilterKey::Types => "types",
            FilterKey::Branches => "branches",
            FilterKey::BranchesIgnore => "branches-ignore",
            FilterKey::Tags => "tags",
            FilterKey::TagsIgnore => "tags-ignore",
            FilterKey::Paths => "paths",
            FilterKey::PathsIgnore => "paths-ignore",
            FilterKey::Workflows => "workflows",
            FilterKey::Names => "names",
            FilterKey::Versions => "versions",
        }
    }

    /// The key of that name.
    pub(crate) fn of(name: &str) -> Option<FilterKey> {
        FilterKey::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The key that says the opposite of the same.
    pub(crate) fn opposite(self) -> Option<FilterKey> {
        match self {
            FilterKey::Branches => Some(FilterKey::BranchesIgnore),
            FilterKey::BranchesIgnore => Some(FilterKey::Branches),
            FilterKey::Tags => Some(FilterKey::TagsIgnore),
            FilterKey::TagsIgnore => Some(FilterKey::Tags),
            FilterKey::Paths => Some(FilterKey::PathsIgnore),
            FilterKey::PathsIgnore => Some(FilterKey::Paths),
            FilterKey::Types | FilterKey::Workflows | FilterKey::Names | FilterKey::Versions => None,
        }
    }

    /// Whether it says what does not start the workflow.
    pub(crate) fn ignores(self) -> bool {
        matches!(self, FilterKey::BranchesIgnore | FilterKey::TagsIgnore | FilterKey::PathsIgnore)
    }
}

impl fmt::Display for FilterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What stands below an event.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// `types`.
    pub types: Option<Words>,
    /// `branches` or `branches-ignore`.
    pub branches: Option<PatternList>,
    /// `tags` or `tags-ignore`.
    pub tags: Option<PatternList>,
    /// `paths` or `paths-ignore`.
    pub paths: Option<PatternList>,
    /// `workflows`, `names`, `versions`: nothing here reads them.
    pub others: Vec<Words>,
    /// The entries of `schedule`.
    pub schedules: Vec<Schedule>,
}

/// A list of words, such as `types`.
#[derive(Clone, Debug)]
pub struct Words {
    /// Under which key, and where that stands.
    pub key: Spanned<FilterKey>,
    /// The words.
    pub words: Vec<Spanned<String>>,
}

/// A list of patterns.
#[derive(Clone, Debug)]
pub struct PatternList {
    /// Under which key, and where that stands.
    pub key: Spanned<FilterKey>,
    /// The patterns in their order, which matters.
    pub patterns: Vec<Spanned<Pattern>>,
}

/// An entry of `schedule`.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `cron`.
    pub cron: Spanned<Cron>,
    /// `timezone`.
    pub timezone: Option<Spanned<String>>,
}

/// What a list says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// It lets the name through.
    Admitted,
    /// It does not, and this pattern is why.
    Refused(Span),
    /// It does not: no pattern is of the name's form.
    Nowhere,
}

impl PatternList {
    /// What the list says of a name.
    ///
    /// Of a list that admits, the last pattern that is of the name's form decides: a `!` in front takes
    /// the name out again. Of a list that ignores, any does; there a `!` ignores every other name.
    pub fn matches(&self, name: &str) -> Matched {
        if self.patterns.is_empty() {
            return Matched::Admitted;
        }
        if self.key.value.ignores() {
            let ignored =
                |pattern: &&Spanned<Pattern>| pattern.value.matches(name) != pattern.value.is_negative();
            let found = self.patterns.iter().find(ignored);
            return found.map_or(Matched::Admitted, |pattern| Matched::Refused(pattern.span));
        }
        match self.patterns.iter().rfind(|pattern| pattern.value.matches(name)) {
            Some(pattern) if pattern.value.is_negative() => Matched::Refused(pattern.span),
            Some(_) => Matched::Admitted,
            None => Matched::Nowhere,
        }
    }

    /// The patterns for a message, at most a few.
    pub(crate) fn summary(&self) -> String {
        summary(self.patterns.iter().map(|pattern| pattern.value.to_string()))
    }
}

/// Some words for a message, at most a few.
fn summary(words: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let more = words.len().saturating_sub(SHOWN);
    let mut text = words.take(SHOWN).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}
