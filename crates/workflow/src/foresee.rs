//! What is known of a job before its needs are done.
//!
//! Purpose: faults that are better found before anything starts, and what a dry run may say of a job and
//! of its steps. Owner: `exec` asks it of every job of a plan. Invariants: nothing here depends on what a
//! need gives out; an `if` is called false only where it is false however the needs, or the steps before,
//! end.

use std::collections::BTreeMap;

use doc::Diagnostic;

use crate::{
    Conclusion, Condition, ContextName, Contexts, Expansion, Job, JobResult, Object, Plan, Results, Status,
    Step, Surroundings, Template, Value, Verdict,
    expand::{Look, condition_looks_at_cell, env, looks_at_env},
    settings::{labels, settled},
    support,
};

/// Whether a job or a step will run, as far as that is known before what comes before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Its `if` holds when what comes before it goes well; of a matrix, for one job at least.
    Runs,
    /// Its `if` is false, however that ends; also because of a need that is skipped for sure.
    Skipped,
    /// That hangs on what comes before: on what it gives out, or on a failure.
    Open,
}

/// How the needs of a job can end, the best first.
const ENDS: [Status; 4] = [Status::SUCCESS, Status::FAILURE, SOME_SKIPPED, Status::CANCELLED];

/// One of the needs was skipped, and none failed.
const SOME_SKIPPED: Status = Status { success: false, failure: false, cancelled: false };

/// How what all needs of a job become is known.
#[derive(Clone, Copy, Default)]
struct Below {
    /// One is skipped for sure.
    skipped: bool,
    /// One may run.
    open: bool,
}

impl Below {
    /// How they can end, the best first.
    fn ends(self) -> &'static [Status] {
        match (self.skipped, self.open) {
            (true, true) => &[SOME_SKIPPED, Status::FAILURE, Status::CANCELLED],
            (true, false) => &[SOME_SKIPPED, Status::CANCELLED],
            (false, true) => &ENDS,
            // It needs nothing.
            (false, false) => &[],
        }
    }
}

/// What is known of the jobs that come before one.
#[derive(Default)]
struct Known<'a>(BTreeMap<&'a str, (Prospect, Below)>);

impl Known<'_> {
    fn skips(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|(prospect, _)| *prospect == Prospect::Skipped)
    }

    /// All that a job needs, directly or not.
    fn below(&self, job: &Job) -> Below {
        job.needs.iter().fold(Below::default(), |all, need| {
            let below = self.0.get(need.value.as_str()).map(|(_, below)| *below).unwrap_or_default();
            let skipped = self.skips(&need.value);
            Below {
                skipped: all.skipped || skipped || below.skipped,
                open: all.open || !skipped || below.open,
            }
        })
    }
}

impl Step {
    /// Whether the step will run when its job does. `contexts` has what is known before: `github`, `vars`,
    /// `inputs`, and of an expanded job `matrix` and `strategy`. An `if` that looks at anything else, also
    /// at what only the running job adds to `github`, is open, as is one with a fault.
    pub fn prospect(&self, contexts: &Contexts) -> Prospect {
        const ENDS: [Status; 3] = [Status::SUCCESS, Status::FAILURE, Status::CANCELLED];
        let known = |name: ContextName| match name {
            ContextName::Github => {
                let Value::Object(github) = contexts.get(name) else { return false };
                self.condition.looks_only_at(name, &|property| github.get(property).is_some())
            }
            ContextName::Vars | ContextName::Inputs | ContextName::Matrix | ContextName::Strategy => {
                contexts.has(name)
            }
            ContextName::Env
            | ContextName::Job
            | ContextName::Jobs
            | ContextName::Steps
            | ContextName::Runner
            | ContextName::Secrets
            | ContextName::Needs => false,
        };
        if ContextName::NAMES.iter().any(|(_, name)| self.condition.mentions(*name) && !known(*name)) {
            return Prospect::Open;
        }
        settle(&self.condition, &mut contexts.clone(), &ENDS).unwrap_or(Prospect::Open)
    }
}

impl Plan {
    /// What a job will become as far as that is known before its needs are done: none if its matrix,
    /// name, labels or settings look at them. An `if` that looks at them, or that holds after one way or
    /// another in which they can end, counts as true: see [`Plan::prospect`] for what is known of it.
    ///
    /// Ask it of every job of a plan before anything starts. What it reports never depends on what a need
    /// gives out; of a job for which it gives none it has looked at the matrix and at the labels, where
    /// these alone do not look at the needs.
    ///
    /// # Errors
    /// As [`Plan::expand`].
    pub fn foresee(&self, id: &str, around: Surroundings<'_>) -> Result<Option<Expansion>, Vec<Diagnostic>> {
        let Some(job) = self.job(id).filter(|job| !job.needs.is_empty()) else {
            return self.expand(id, around).map(Some);
        };
        if !looks_at_needs(job) || !can_run(job, around.contexts) {
            return self.expand_as(job, around, Look::Ahead).map(Some);
        }
        match self.partly(job, around) {
            faults if faults.is_empty() => Ok(None),
            faults => Err(faults),
        }
    }

    /// Whether a job will run. An `if` or a matrix that has a fault is open: [`Plan::foresee`] says it.
    /// Of several jobs ask [`Plan::prospects`], which looks at each once.
    pub fn prospect(&self, id: &str, around: Surroundings<'_>) -> Prospect {
        self.prospects(around).get(id).copied().unwrap_or(Prospect::Open)
    }

    /// Whether each job will run, by its id.
    pub fn prospects(&self, around: Surroundings<'_>) -> BTreeMap<&str, Prospect> {
        let mut known = Known::default();
        for job in self.jobs() {
            let below = known.below(job);
            let prospect = self.look(job, around, &known, below);
            known.0.insert(&job.id.value, (prospect, below));
        }
        known.0.into_iter().map(|(id, (prospect, _))| (id, prospect)).collect()
    }

    fn look(&self, job: &Job, around: Surroundings<'_>, known: &Known<'_>, below: Below) -> Prospect {
        let condition = &job.condition;
        if below.skipped && !condition.has_status_function() {
            return Prospect::Skipped;
        }
        let by_matrix = condition_looks_at_cell(job);
        let mut contexts = around.contexts.clone();
        if condition.mentions(ContextName::Env) {
            match env(self.workflow(), job, &contexts) {
                Ok(env) if !job.env.list().iter().any(|variable| needy(&variable.value)) => {
                    contexts.set(ContextName::Env, env);
                }
                _ => return Prospect::Open,
            }
        }
        if !job.needs.is_empty() && condition.mentions(ContextName::Needs) {
            let skipped = || job.needs.iter().filter(|need| known.skips(&need.value));
            let is_skipped = |id: &str| skipped().any(|need| need.value.eq_ignore_ascii_case(id));
            let all = skipped().count() == job.needs.len();
            if by_matrix || !all && !condition.looks_only_at(ContextName::Needs, &is_skipped) {
                return Prospect::Open;
            }
            let result = JobResult::new(Conclusion::Skipped).to_value();
            let needs: Object = skipped().map(|need| (need.value.as_str(), result.clone())).collect();
            contexts.set(ContextName::Needs, needs);
        }
        if by_matrix {
            let id = job.id.value.as_str();
            let runs = |expansion: &Expansion| expansion.jobs.iter().any(|job| job.verdict == Verdict::Run);
            let Ok(Some(expansion)) = self.foresee(id, around) else { return Prospect::Open };
            if !runs(&expansion) {
                return Prospect::Skipped;
            }
            // It can run: does it, when all goes well?
            let hope = |id: &str| match known.skips(id) {
                true => JobResult::new(Conclusion::Skipped),
                false => JobResult::new(Conclusion::Success),
            };
            let hoped: Results = self.jobs().map(|job| (job.id.value.clone(), hope(&job.id.value))).collect();
            return match self.expand(id, Surroundings { results: &hoped, ..around }) {
                Ok(expansion) if runs(&expansion) => Prospect::Runs,
                _ => Prospect::Open,
            };
        }
        if job.needs.is_empty() {
            contexts.set_status(self.status(&job.id.value, around.results, around.run));
        }
        settle(condition, &mut contexts, below.ends()).unwrap_or(Prospect::Open)
    }

    /// Faults of a job's matrix and labels, where these do not look at the needs though the job does.
    fn partly(&self, job: &Job, around: Surroundings<'_>) -> Vec<Diagnostic> {
        let strategy = job.strategy.as_ref();
        let matrix = strategy.and_then(|strategy| strategy.matrix.as_ref());
        let whole = strategy.and_then(|strategy| strategy.whole.as_ref());
        if whole.is_some_and(needy) || matrix.is_some_and(|matrix| matrix.templates().into_iter().any(needy))
        {
            return Vec::new();
        }
        let cells = match self.kept(job, around.contexts, around.filters) {
            Ok(cells) => cells,
            Err(faults) => return faults,
        };
        let Some(runs_on) = &job.runs_on else { return Vec::new() };
        let unknown = |template: &Template| {
            needy(template) || template.exprs().any(|expr| expr.mentions(ContextName::Strategy))
        };
        if runs_on.labels.iter().chain(&runs_on.group).any(unknown) {
            return Vec::new();
        }
        let by_cell = !job.condition.mentions(ContextName::Needs);
        let unknown = [ContextName::Strategy, ContextName::Env];
        if by_cell && unknown.into_iter().any(|context| job.condition.mentions(context)) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let mut contexts = around.contexts.clone();
        contexts.set_status(Status::SUCCESS);
        for (_, cell) in cells {
            contexts.set(ContextName::Matrix, cell.to_value());
            if by_cell && !matches!(holds(job, &contexts, Look::Ahead), Ok(true)) {
                continue;
            }
            match labels(job, &contexts) {
                Ok(found) => faults.extend(support::labels(&found, &self.workflow().source, runs_on.span)),
                Err(found) => faults.extend(found),
            }
        }
        faults.dedup();
        faults
    }
}

/// Whether a job's `if` holds; ahead of its needs, whether it can.
pub(crate) fn holds(job: &Job, contexts: &Contexts, look: Look) -> Result<bool, Vec<Diagnostic>> {
    match look {
        Look::Now => settled(job.condition.eval(contexts)),
        Look::Ahead => Ok(settle(&job.condition, &mut contexts.clone(), &ENDS)? != Prospect::Skipped),
    }
}

/// What an `if` says after each of these ends, of which the first is the one to hope for; after none,
/// what it says as things stand. Its faults count where that one finds them.
fn settle(
    condition: &Condition,
    contexts: &mut Contexts,
    ends: &[Status],
) -> Result<Prospect, Vec<Diagnostic>> {
    if let Some(hoped) = ends.first() {
        contexts.set_status(*hoped);
    }
    if settled(condition.eval(contexts))? {
        return Ok(Prospect::Runs);
    }
    let otherwise = ends.iter().skip(1).any(|end| {
        contexts.set_status(*end);
        settled(condition.eval(contexts)).unwrap_or(true)
    });
    Ok(if otherwise { Prospect::Open } else { Prospect::Skipped })
}

/// Whether a job's `if` may hold; one that has a fault does not.
fn can_run(job: &Job, contexts: &Contexts) -> bool {
    let open = [ContextName::Needs, ContextName::Env, ContextName::Matrix, ContextName::Strategy];
    open.into_iter().any(|context| job.condition.mentions(context))
        || matches!(holds(job, contexts, Look::Ahead), Ok(true))
}

fn needy(template: &Template) -> bool {
    template.mentions(ContextName::Needs)
}

fn looks_at_needs(job: &Job) -> bool {
    let optional = |found: &Option<Template>| found.as_ref().is_some_and(needy);
    let strategy = job.strategy.as_ref().is_some_and(|strategy| {
        let matrix = strategy.matrix.as_ref();
        optional(&strategy.whole)
            || optional(&strategy.fail_fast)
            || optional(&strategy.max_parallel)
            || matrix.is_some_and(|matrix| matrix.templates().into_iter().any(needy))
    });
    let runs_on = job.runs_on.as_ref();
    strategy
        || runs_on.is_some_and(|runs_on| runs_on.labels.iter().chain(&runs_on.group).any(needy))
        || job.call.as_ref().is_some_and(|call| call.templates().any(needy))
        || looks_at_env(job) && job.env.list().iter().any(|variable| needy(&variable.value))
        || optional(&job.name)
        || optional(&job.timeout_minutes)
        || optional(&job.continue_on_error)
}
