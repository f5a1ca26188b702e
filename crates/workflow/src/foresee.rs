//! What is known of a job before its needs are done.
//!
//! Purpose: faults that are better found before anything starts, and what a dry run may say of a job.
//! Owner: `exec` asks it of every job of a plan. Invariants: nothing here depends on what a need gives
//! out; an `if` is called false only where it is false however the needs end.

use doc::Diagnostic;

use crate::{
    Conclusion, ContextName, Contexts, Expansion, Job, JobResult, Plan, Results, Status, Surroundings,
    Template, Verdict,
    expand::Look,
    settings::{condition, labels},
    support,
};

/// Whether a job will run, as far as that is known before its needs are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Its `if` holds when what it needs succeeds; of a matrix, for one job at least.
    Runs,
    /// Its `if` is false, however its needs end.
    Skipped,
    /// That hangs on what its needs give out, or on one of them failing.
    Open,
}

/// How the needs of a job can end, the best first.
const ENDS: [Status; 4] = [
    Status::SUCCESS,
    Status::FAILURE,
    // One of them was skipped.
    Status { success: false, failure: false, cancelled: false },
    Status::CANCELLED,
];

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
    pub fn prospect(&self, id: &str, around: Surroundings<'_>) -> Prospect {
        let Some(job) = self.job(id) else { return Prospect::Open };
        let condition = &job.condition;
        let waits = !job.needs.is_empty();
        if waits && condition.mentions(ContextName::Needs) {
            return Prospect::Open;
        }
        if condition.mentions(ContextName::Matrix) || condition.mentions(ContextName::Strategy) {
            let runs = |expansion: &Expansion| expansion.jobs.iter().any(|job| job.verdict == Verdict::Run);
            let Ok(Some(expansion)) = self.foresee(id, around) else { return Prospect::Open };
            if !runs(&expansion) {
                return Prospect::Skipped;
            }
            // It can run: does it, when all goes well?
            let hoped: Results =
                self.jobs().map(|job| (job.id.value.clone(), JobResult::new(Conclusion::Success))).collect();
            return match self.expand(id, Surroundings { results: &hoped, ..around }) {
                Ok(expansion) if runs(&expansion) => Prospect::Runs,
                _ => Prospect::Open,
            };
        }
        let mut contexts = around.contexts.clone();
        if !waits {
            contexts.set_status(self.status(id, around.results, around.run));
        }
        match settle(job, &mut contexts, if waits { &ENDS } else { &[] }) {
            Ok(prospect) => prospect,
            Err(_) => Prospect::Open,
        }
    }

    /// Faults of a job's matrix and labels, where these do not look at the needs though the job does.
    fn partly(&self, job: &Job, around: Surroundings<'_>) -> Vec<Diagnostic> {
        let strategy = job.strategy.as_ref();
        let matrix = strategy.and_then(|strategy| strategy.matrix.as_ref());
        if matrix.is_some_and(|matrix| matrix.templates().into_iter().any(needy)) {
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
        if by_cell && job.condition.mentions(ContextName::Strategy) {
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
        Look::Now => condition(job, contexts),
        Look::Ahead => Ok(settle(job, &mut contexts.clone(), &ENDS)? != Prospect::Skipped),
    }
}

/// What an `if` says after each of these ends, of which the first is the one to hope for; after none,
/// what it says as things stand. Its faults count where that one finds them.
fn settle(job: &Job, contexts: &mut Contexts, ends: &[Status]) -> Result<Prospect, Vec<Diagnostic>> {
    if let Some(hoped) = ends.first() {
        contexts.set_status(*hoped);
    }
    if condition(job, contexts)? {
        return Ok(Prospect::Runs);
    }
    let otherwise = ends.iter().skip(1).any(|end| {
        contexts.set_status(*end);
        condition(job, contexts).unwrap_or(true)
    });
    Ok(if otherwise { Prospect::Open } else { Prospect::Skipped })
}

/// Whether a job's `if` may hold; one that has a fault does not.
fn can_run(job: &Job, contexts: &Contexts) -> bool {
    let open = [ContextName::Needs, ContextName::Matrix, ContextName::Strategy];
    open.into_iter().any(|context| job.condition.mentions(context))
        || matches!(holds(job, contexts, Look::Ahead), Ok(true))
}

fn needy(template: &Template) -> bool {
    template.exprs().any(|expr| expr.mentions(ContextName::Needs))
}

fn looks_at_needs(job: &Job) -> bool {
    let optional = |found: &Option<Template>| found.as_ref().is_some_and(needy);
    let strategy = job.strategy.as_ref().is_some_and(|strategy| {
        let matrix = strategy.matrix.as_ref();
        optional(&strategy.fail_fast)
            || optional(&strategy.max_parallel)
            || matrix.is_some_and(|matrix| matrix.templates().into_iter().any(needy))
    });
    let runs_on = job.runs_on.as_ref();
    strategy
        || runs_on.is_some_and(|runs_on| runs_on.labels.iter().chain(&runs_on.group).any(needy))
        || optional(&job.name)
        || optional(&job.timeout_minutes)
        || optional(&job.continue_on_error)
}
