//! Rules: what works, though perhaps not as its author thinks, each under a name.
//!
//! Purpose: every warning of this crate has a rule, which can be turned off, made an error, or silenced at one place
//! by a comment with a reason; the rules that a run does not need are asked by [`check`] alone.
//! Owner: the lowering warns while it reads; [`check`] is the linter's door. Invariants
//! - A rule never changes what is read; an error without a rule cannot be silenced.
//! - The page of the docs is made of [`Rule::about`]; its examples are tests.
//!
//! ```text
//! Source ──lower──▶ model ─┬─ steps ─┬─ untrusted, cache, script, property (kinds) ─▶ diagnostics ─▶ allow ─▶ levels
//!                          └─ Plan ──┘ (needs, calls)
//! ```

mod about;
mod allow;
mod cache;
mod compare;
mod exclude;
mod format;
mod half;
mod kinds;
mod local;
#[cfg(test)]
mod more_tests;
mod property;
mod repeat;
mod script;
#[cfg(test)]
mod small;
mod steps;
mod table;
#[cfg(test)]
mod tests;
mod untrusted;

use std::sync::Arc;

use doc::{Diagnostic, Severity, Source, did_you_mean};

pub use about::{About, Example, Frame, page};

use crate::{
    Plan, Resolved, WorkflowRef,
    lower::{self, Lowered},
};

/// Most diagnostics of one file.
const MAX_DIAGNOSTICS: usize = 1000;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "Rule::about says it of each")]
pub enum Rule {
    UntrustedInput,
    SecretInIf,
    PasswordInClear,
    UnpinnedAction,
    IfAlwaysTrue,
    NeverEqual,
    MatrixInJobIf,
    EnvInJobIf,
    HalfExpression,
    UnknownProperty,
    ObjectAsText,
    RetiredCommand,
    LostPipeFailure,
    ConstantCacheKey,
    LooseInclude,
    IdleExclude,
    RepeatedValue,
    NumberAsVersion,
    OctalNumber,
    NumberWithUnderscores,
    DateAsText,
    YesOrNo,
    HashBeginsComment,
    IgnoredByForgejo,
    GithubOnly,
    GithubOnlyEvent,
    UnknownActivity,
    AdmitsNothing,
    CronNever,
    NotEvaluated,
    IdleKey,
    UntypedInput,
    UndeclaredSecret,
    NamesByCase,
    ActionInputs,
    MissingAction,
    MissingShell,
    EmptyOutput,
    ActionMetadata,
    AllowComment,
}

/// What becomes of what a rule finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is said.
    Off,
    /// A warning.
    Warn,
    /// An error.
    Error,
}

impl Level {
    /// As options and tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A name that is none of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no rule `{name}`{}", suggestion.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownRule {
    /// The name.
    pub name: String,
    /// The rule that was probably meant.
    pub suggestion: Option<&'static str>,
}

impl Rule {
    /// All, in the order of the docs.
    pub fn all() -> impl Iterator<Item = Rule> {
        table::TABLE.iter().map(|about| about.rule)
    }

    /// By name.
    ///
    /// # Errors
    /// With the rule that was probably meant.
    pub fn parse(name: &str) -> Result<Rule, UnknownRule> {
        Rule::all().find(|rule| rule.name() == name).ok_or_else(|| UnknownRule {
            name: name.to_owned(),
            suggestion: did_you_mean(name, Rule::all().map(Rule::name)),
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// What is to be known of it.
    pub fn about(self) -> &'static About {
        // the table has the order of the rules, which a test looks at
        &table::TABLE[self as usize]
    }

    /// Whether what it finds matters only where Forgejo reads the file.
    pub fn is_about_forgejo(self) -> bool {
        matches!(
            self,
            Rule::IgnoredByForgejo
                | Rule::GithubOnly
                | Rule::GithubOnlyEvent
                | Rule::LooseInclude
                | Rule::NumberWithUnderscores
                | Rule::DateAsText
        )
    }

    /// What it says, so far without a place.
    pub(crate) fn warning(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(message).rule(self.name())
    }
}

/// What becomes of what each rule finds.
#[derive(Clone, Debug)]
pub struct Levels(Vec<Level>);

impl Default for Levels {
    fn default() -> Levels {
        Levels(table::TABLE.iter().map(|about| about.level).collect())
    }
}

impl Levels {
    /// That of a rule.
    pub fn of(&self, rule: Rule) -> Level {
        self.0.get(rule as usize).copied().unwrap_or(Level::Off)
    }

    /// Changes that of a rule.
    pub fn set(&mut self, rule: Rule, level: Level) {
        if let Some(slot) = self.0.get_mut(rule as usize) {
            *slot = level;
        }
    }

    fn is_on(&self, rule: Rule) -> bool {
        self.of(rule) != Level::Off
    }

    /// Those for a file: GitHub, which refuses secrets in an `if` and `env` in that of a job, reads nothing below `.forgejo` and `.gitea`.
    fn below(&self, path: &str) -> Levels {
        let mut levels = self.clone();
        let read_by_github = !path.starts_with(".forgejo/") && !path.starts_with(".gitea/");
        for rule in [Rule::SecretInIf, Rule::EnvInJobIf] {
            if !read_by_github && self.of(rule) == Level::Warn {
                levels.set(rule, Level::Off);
            }
        }
        levels
    }

    /// The diagnostic at the level of its rule, unless that is off.
    fn apply(&self, mut diagnostic: Diagnostic) -> Option<Diagnostic> {
        let Some(Ok(rule)) = diagnostic.rule.map(Rule::parse) else { return Some(diagnostic) };
        diagnostic.severity = match self.of(rule) {
            Level::Off => return None,
            Level::Warn => Severity::Warning,
            Level::Error => Severity::Error,
        };
        Some(diagnostic)
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A workflow.
    Workflow,
    /// An action.yml.
    Action,
}

/// The other files of the repository that a file is of. A function that finds workflows is one, which knows no actions.
pub trait Repository {
    /// A workflow that is called.
    fn workflow(&mut self, uses: &WorkflowRef) -> Resolved;

    /// What describes the action in a directory, whose path has no `.` and `..` in it unless it leads out.
    fn action(&mut self, directory: &str) -> ResolvedAction {
        let _ = directory;
        ResolvedAction::Unknown
    }
}

impl<F: FnMut(&WorkflowRef) -> Resolved> Repository for F {
    fn workflow(&mut self, uses: &WorkflowRef) -> Resolved {
        self(uses)
    }
}

/// What a repository has in the directory of an action.
#[derive(Clone, Debug)]
pub enum ResolvedAction {
    /// Its action.yml.
    Text(Source),
    /// Neither a file nor a directory.
    Nothing,
    /// What is not looked for, or cannot be read.
    Unknown,
}

/// Everything that is wrong with a file, in the order of the file, and after that what is wrong with the workflows
/// that it calls. `path` is what others of its repository call it by, `.forgejo/workflows/x.yml`.
pub fn check(
    source: &Source,
    kind: FileKind,
    path: &str,
    levels: &Levels,
    repository: &mut dyn Repository,
) -> Vec<Diagnostic> {
    let mut elsewhere = Vec::new();
    let levels = &levels.below(path);
    let found = match kind {
        FileKind::Action => {
            let Lowered { model, mut faults, lost, .. } = lower::action_for_rules(source);
            model.iter().for_each(|action| steps::action(action, &lost, levels, &mut faults));
            faults
        }
        FileKind::Workflow => {
            let Lowered { model, mut faults, whole, lost } = lower::for_rules(source);
            model.iter().for_each(|workflow| steps::workflow(workflow, &lost, levels, &mut faults));
            if let Some(workflow) = model.filter(|_| whole) {
                local::find(&workflow, levels, repository, &mut faults);
                let mut resolve = |uses: &WorkflowRef| repository.workflow(uses);
                let plan = Plan::with_calls_of(Arc::new(workflow), format!("./{path}"), &mut resolve);
                let more = plan.map_or_else(|faults| faults, |(_, warnings)| warnings);
                let (own, others): (Vec<_>, Vec<_>) = more.into_iter().partition(|fault| of(source, fault));
                faults.extend(own);
                // their warnings are said when they are looked at
                elsewhere.extend(others.into_iter().filter(Diagnostic::is_error));
            }
            faults
        }
    };
    let found = lower::finish(found, MAX_DIAGNOSTICS);
    let found = folded(allow::lint(source, found, levels));
    found.into_iter().chain(elsewhere).filter_map(|fault| levels.apply(fault)).collect()
}

/// How many errors and warnings there are, for the end of a list of them.
pub fn tally(found: &[Diagnostic], files: usize) -> String {
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    };
    let errors = found.iter().filter(|fault| fault.is_error()).count();
    let warnings = found.len() - errors;
    format!("{} and {} in {}", count(errors, "error"), count(warnings, "warning"), count(files, "file"))
}

/// What Forgejo reads over is said once for each key: it is the same everywhere.
fn folded(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept: Vec<(Diagnostic, usize)> = Vec::new();
    for fault in found {
        let same = |(first, _): &&mut (Diagnostic, usize)| first.message == fault.message;
        let foldable = fault.rule == Some(Rule::IgnoredByForgejo.name());
        match kept.iter_mut().find(|first| foldable && same(first)) {
            Some((_, more)) => *more += 1,
            None => kept.push((fault, 0)),
        }
    }
    let say = |(fault, more): (Diagnostic, usize)| match more {
        0 => fault,
        1 => fault.note("so it is at one more place of this file"),
        more => fault.note(format!("so it is at {more} more places of this file")),
    };
    kept.into_iter().map(say).collect()
}

/// What comments of the file do not silence: for those who read a file to run it.
pub(crate) fn allowed(source: &Source, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    allow::filter(source, found)
}

fn of(source: &Source, fault: &Diagnostic) -> bool {
    fault.primary.as_ref().is_none_or(|label| label.source == *source)
}
