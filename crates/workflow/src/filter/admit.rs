//! Whether the server would start a workflow.
//!
//! Purpose: the filters of one event against what is known of a happening. Owner: `exec`, which warns.
//! Invariant: pure; what is not known is said to be unknown, never guessed.

use doc::{Diagnostic, Source, Span, Spanned};

use super::{FilterKey, Matched, PatternList, Words, summary};
use crate::{ContextName, Contexts, Trigger, Value};

/// What is known of a happening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefFacts {
    /// The full ref that is pushed: `refs/heads/main`, `refs/tags/v1`.
    pub pushed: Option<String>,
    /// The branch that a pull request is to be merged into: `main`.
    pub base: Option<String>,
    /// The activity: `opened`.
    pub activity: Option<String>,
}

/// Whether the server would start a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It would.
    Yes,
    /// It would not.
    No {
        /// The filter, or the pattern of it, that is why.
        span: Span,
        /// What does not start the workflow: "a push of `feature`".
        what: String,
        /// Why: "`branches` admits only `main`".
        reason: String,
    },
    /// That hangs on filters of which nothing is known here.
    Unknown {
        /// These.
        filters: Vec<Spanned<FilterKey>>,
    },
}

impl RefFacts {
    /// What a `github` context says: `ref`, `base_ref` and `event.action`.
    pub fn of_contexts(contexts: &Contexts) -> RefFacts {
        let github = contexts.get(ContextName::Github);
        let text = |value: Option<&Value>| {
            value.map(|value| value.to_text().to_string()).filter(|text| !text.is_empty())
        };
        let Value::Object(github) = &github else { return RefFacts::default() };
        let activity = match github.get("event") {
            Some(Value::Object(event)) => text(event.get("action")),
            _ => None,
        };
        RefFacts { pushed: text(github.get("ref")), base: text(github.get("base_ref")), activity }
    }

    /// The activity as `types` calls it: Forgejo's payloads have other words for some.
    fn activity(&self) -> Option<&str> {
        self.activity.as_deref().map(|activity| match activity {
            "synchronized" => "synchronize",
            "label_updated" => "labeled",
            "label_cleared" => "unlabeled",
            other => other,
        })
    }
}

impl Trigger {
    /// Whether the server would start the workflow for this event.
    pub fn admits(&self, facts: &RefFacts) -> Admission {
        let mut unknown: Vec<Spanned<FilterKey>> = Vec::new();
        let judged = match self.event.value.as_str() {
            "push" => self.admits_push(facts, &mut unknown),
            "pull_request" | "pull_request_target" => self.admits_pull(facts, &mut unknown),
            _ => {
                unknown.extend(self.filters.branches.iter().map(|list| list.key));
                unknown.extend(self.filters.tags.iter().map(|list| list.key));
                unknown.extend(self.filters.paths.iter().map(|list| list.key));
                self.admits_activity(facts, &mut unknown)
            }
        };
        unknown.extend(self.filters.others.iter().filter(|list| !list.words.is_empty()).map(|list| list.key));
        unknown.sort_by_key(|key| key.span.start);
        match judged {
            Some(no) => no,
            None if unknown.is_empty() => Admission::Yes,
            None => Admission::Unknown { filters: unknown },
        }
    }

    fn admits_push(&self, facts: &RefFacts, unknown: &mut Vec<Spanned<FilterKey>>) -> Option<Admission> {
        let (branches, tags) = (self.filters.branches.as_ref(), self.filters.tags.as_ref());
        let pushed = facts.pushed.as_deref().unwrap_or_default();
        let (own, other, kind, name) = if let Some(name) = pushed.strip_prefix("refs/heads/") {
            (branches, tags, "", name)
        } else if let Some(name) = pushed.strip_prefix("refs/tags/") {
            (tags, branches, "the tag ", name)
        } else {
            let lists =
                [&self.filters.branches, &self.filters.tags, &self.filters.paths].into_iter().flatten();
            unknown.extend(lists.map(|list| list.key));
            return None;
        };
        // A push of a tag changes no files, so that the server does not look at `paths`.
        if kind.is_empty() {
            unknown.extend(
                self.filters.paths.iter().filter(|list| !list.patterns.is_empty()).map(|list| list.key),
            );
        }
        let what = format!("a push of {kind}`{name}`");
        match (own, other) {
            (Some(list), _) => refused(list, name, what),
            (None, Some(other)) => {
                let reason = match other.key.value {
                    FilterKey::Tags | FilterKey::TagsIgnore => {
                        format!("with `{}` alone only tags start it", other.key.value)
                    }
                    key => format!("with `{key}` alone only branches start it"),
                };
                Some(Admission::No { span: other.key.span, what, reason })
            }
            (None, None) => None,
        }
    }

    fn admits_pull(&self, facts: &RefFacts, unknown: &mut Vec<Spanned<FilterKey>>) -> Option<Admission> {
        unknown
            .extend(self.filters.paths.iter().filter(|list| !list.patterns.is_empty()).map(|list| list.key));
        let activity = match (&self.filters.types, facts.activity()) {
            (None, Some(activity)) if !matches!(activity, "opened" | "synchronize" | "reopened") => {
                Some(Admission::No {
                    span: self.event.span,
                    what: format!("the activity `{activity}`"),
                    reason: "without `types` only opened, synchronize and reopened start it".to_owned(),
                })
            }
            _ => self.admits_activity(facts, unknown),
        };
        let base = match (&self.filters.branches, facts.base.as_deref()) {
            (Some(list), Some(base)) => {
                let base = base.strip_prefix("refs/heads/").unwrap_or(base);
                refused(list, base, format!("a pull request into `{base}`"))
            }
            (Some(list), None) => {
                unknown.push(list.key);
                None
            }
            (None, _) => None,
        };
        base.or(activity)
    }

    fn admits_activity(&self, facts: &RefFacts, unknown: &mut Vec<Spanned<FilterKey>>) -> Option<Admission> {
        let Words { key, words } = self.filters.types.as_ref().filter(|types| !types.words.is_empty())?;
        let known = facts.activity().filter(|_| !words.iter().any(|word| is_glob(&word.value)));
        let Some(activity) = known else {
            unknown.push(*key);
            return None;
        };
        if words.iter().any(|word| word.value == activity) {
            return None;
        }
        Some(Admission::No {
            span: key.span,
            what: format!("the activity `{activity}`"),
            reason: format!("`types` admits only {}", summary(words.iter().map(|word| word.value.clone()))),
        })
    }
}

/// Forgejo takes globs as activities; nobody writes them.
pub(crate) fn is_glob(word: &str) -> bool {
    word.contains(['*', '?', '[', '{', '\\'])
}

fn refused(list: &PatternList, name: &str, what: String) -> Option<Admission> {
    let key = list.key.value;
    match list.matches(name) {
        Matched::Admitted => None,
        Matched::Refused(span) if key.ignores() => {
            Some(Admission::No { span, what, reason: format!("`{key}` names it") })
        }
        Matched::Refused(span) => {
            Some(Admission::No { span, what, reason: format!("this pattern of `{key}` takes it out") })
        }
        Matched::Nowhere => Some(Admission::No {
            span: list.key.span,
            what,
            reason: format!("`{key}` admits only {}", list.summary()),
        }),
    }
}

impl Admission {
    /// What a person who runs the workflow here is told, as warnings: none when the server would start it.
    pub fn to_diagnostics(&self, source: &Source) -> Vec<Diagnostic> {
        match self {
            Admission::Yes => Vec::new(),
            Admission::No { span, what, reason } => vec![
                Diagnostic::warning(format!("on the server {what} would not start this workflow"))
                    .at(source, *span)
                    .label(reason.as_str())
                    .note("here it runs all the same"),
            ],
            Admission::Unknown { filters } => {
                let warn = |key: &Spanned<FilterKey>| {
                    Diagnostic::warning(format!("a local run does not look at `{}`", key.value))
                        .at(source, key.span)
                        .label("on the server this can keep the workflow from starting")
                };
                filters.iter().map(warn).collect()
            }
        }
    }
}
