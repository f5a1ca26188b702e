//! One job of the plan to the jobs that run.
//!
//! Purpose: job `if`, matrix, names, labels and settings, evaluated when the needs are done.
//! Owner: whoever runs the plan calls it once per job. Invariants: at least one expanded job, or an
//! error; names within one expansion are unique; steps, env and outputs stay unevaluated.

use std::{sync::Arc, time::Duration};

use doc::Diagnostic;

use crate::{
    ContextName, Contexts, ExpandedCall, Job, Machines, Object, Plan, Results, RunState, Status, Template,
    Value, Workflow, call,
    foresee::holds,
    matrix::{self, Cell},
    settings::{boolean, boolean_of, count, count_of, fault, labels, minutes, settled, text},
    support,
};

/// A job as it runs, or as it is skipped.
#[derive(Clone, Debug)]
pub struct ExpandedJob {
    /// The workflow that it is of.
    pub workflow: Arc<Workflow>,
    /// Its key under `jobs`.
    pub id: String,
    /// Its name, with matrix values; unique in the expansion.
    pub name: String,
    /// Whether it runs.
    pub verdict: Verdict,
    /// Its labels.
    pub runs_on: Vec<String>,
    /// The `matrix` context.
    pub matrix: Value,
    /// The `strategy` context.
    pub strategy: Value,
    /// The `needs` context.
    pub needs: Value,
    /// `timeout-minutes`; none without.
    pub timeout: Option<Duration>,
    /// `continue-on-error`.
    pub continue_on_error: OnError,
    /// What it calls instead of steps, where that was looked for ([`Plan::with_calls`]) and it runs.
    pub call: Option<ExpandedCall>,
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Run,
    /// Its `if` is false.
    Skip,
}

/// What a failure does to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It fails.
    Fail,
    /// It goes on as if nothing was.
    Continue,
}

/// What a job became.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// The jobs: one without a matrix.
    pub jobs: Vec<ExpandedJob>,
    /// Whether the first failure of one cancels the others.
    pub fail_fast: FailFast,
    /// How many may run at once.
    pub max_parallel: Option<usize>,
}

/// Whether the first failure within a matrix cancels its other jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailFast {
    /// It does.
    Cancel,
    /// The others run on.
    RunOn,
}

/// One `--matrix KEY:VALUE`: only matrix jobs with this value run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixFilter {
    /// The matrix variable.
    pub key: String,
    /// Its value as text.
    pub value: String,
}

/// What stands around an expansion.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Results of the jobs that have ended: all that the job needs must be there.
    pub results: &'a Results,
    /// `github`, `vars`, `inputs`, `secrets`; the rest is set by the expansion.
    pub contexts: &'a Contexts,
    /// Whether the run was cancelled.
    pub run: RunState,
    /// Which matrix jobs; empty is all.
    pub filters: &'a [MatrixFilter],
}

/// The matrix jobs that are left after `--matrix`, with their index before it.
struct Cells {
    cells: Vec<(usize, Cell)>,
    fail_fast: FailFast,
    max_parallel: Option<usize>,
}

/// Where a job's `if` is looked at.
#[derive(Clone, Copy)]
enum Test {
    /// In each matrix job, because it looks at the matrix.
    Cell(Look),
    /// It was, or cannot be yet.
    Done,
}

/// When an expansion is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The needs are done.
    Now,
    /// They are not.
    Ahead,
}

impl ExpandedJob {
    /// The job of the model.
    ///
    /// # Panics
    /// Never: an expanded job is of its workflow.
    pub fn job(&self) -> &Job {
        self.workflow.job(&self.id).unwrap_or_else(|| &self.workflow.jobs[0])
    }
}

impl Plan {
    /// Expands a job whose needs are done.
    ///
    /// # Errors
    /// Everything that is wrong with its matrix, labels or settings, at least one diagnostic.
    pub fn expand(&self, id: &str, around: Surroundings<'_>) -> Result<Expansion, Vec<Diagnostic>> {
        let Some(job) = self.job(id) else {
            return Err(vec![Diagnostic::error(format!("job `{id}` is not in the plan"))]);
        };
        self.expand_as(job, around, Look::Now)
    }

    pub(crate) fn expand_as(
        &self,
        job: &Job,
        around: Surroundings<'_>,
        look: Look,
    ) -> Result<Expansion, Vec<Diagnostic>> {
        let id = job.id.value.as_str();
        let mut contexts = around.contexts.clone();
        let needs = self.needs_context(id, around.results);
        contexts.set(ContextName::Needs, needs.clone());
        contexts.set_status(match look {
            Look::Now => self.status(id, around.results, around.run),
            Look::Ahead => Status::SUCCESS,
        });
        if job.condition.mentions(ContextName::Env) {
            contexts.set(ContextName::Env, env(self.workflow(), job, &contexts)?);
        }
        let unknown = look == Look::Ahead && condition_looks_at_needs(job);
        let by_cell = !unknown && condition_looks_at_cell(job);
        let test = if by_cell { Test::Cell(look) } else { Test::Done };
        if !by_cell && !unknown && !holds(job, &contexts, look)? {
            return Ok(self.skipped(job, needs, &contexts, look));
        }
        let mut faults = Vec::new();
        let Cells { cells, fail_fast, max_parallel } = self.cells(job, &contexts, around.filters)?;
        let total = cells.iter().map(|(index, _)| index + 1).max().unwrap_or(1);
        let mut jobs: Vec<ExpandedJob> = Vec::new();
        for (index, cell) in cells {
            let mut contexts = contexts.clone();
            let strategy: Object = [
                ("fail-fast", Value::Bool(fail_fast == FailFast::Cancel)),
                ("job-index", number(index)),
                ("job-total", number(total)),
                ("max-parallel", number(max_parallel.unwrap_or(total))),
            ]
            .into_iter()
            .collect();
            contexts.set(ContextName::Strategy, strategy);
            contexts.set(ContextName::Matrix, cell.to_value());
            if looks_at_env(job) {
                contexts.set(ContextName::Env, env(self.workflow(), job, &contexts)?);
            }
            match self.expand_cell(job, &cell, &contexts, test) {
                Ok(mut expanded) => {
                    while jobs.iter().any(|other| other.name == expanded.name) {
                        expanded.name = format!("{} ({})", expanded.name, index + 1);
                    }
                    jobs.push(expanded);
                }
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(Expansion { jobs, fail_fast, max_parallel }) } else { Err(faults) }
    }

    fn cells(
        &self,
        job: &Job,
        contexts: &Contexts,
        filters: &[MatrixFilter],
    ) -> Result<Cells, Vec<Diagnostic>> {
        let Some(strategy) = &job.strategy else {
            return Ok(Cells {
                cells: vec![(0, Cell::default())],
                fail_fast: FailFast::Cancel,
                max_parallel: None,
            });
        };
        let whole = match &strategy.whole {
            Some(template) => Some((template, whole(template, contexts)?)),
            None => None,
        };
        let of_whole = |name: &str| {
            let (template, value) = whole.as_ref()?;
            Some((*template, value.get(name))).filter(|(_, value)| !matches!(value, Value::Null))
        };
        let cancels = match (&strategy.fail_fast, of_whole("fail-fast")) {
            (Some(template), _) => boolean(template, contexts)?,
            (None, Some((template, value))) => boolean_of(&value, template)?,
            (None, None) => true,
        };
        let fail_fast = if cancels { FailFast::Cancel } else { FailFast::RunOn };
        let max_parallel = match (&strategy.max_parallel, of_whole("max-parallel")) {
            (Some(template), _) => count(template, contexts)?,
            (None, Some((template, value))) => count_of(&value, template)?,
            (None, None) => None,
        };
        let kept = self.kept(job, contexts, filters)?;
        Ok(Cells { cells: kept, fail_fast, max_parallel })
    }

    /// The cells of a job's matrix that `--matrix` leaves, at least one, with their index before it.
    pub(crate) fn kept(
        &self,
        job: &Job,
        contexts: &Contexts,
        filters: &[MatrixFilter],
    ) -> Result<Vec<(usize, Cell)>, Vec<Diagnostic>> {
        let source = &self.workflow().source;
        let Some(strategy) = &job.strategy else { return Ok(vec![(0, Cell::default())]) };
        let cells = match (&strategy.matrix, &strategy.whole) {
            (Some(matrix), _) => matrix::cells(matrix, source, contexts)?,
            (None, Some(template)) => match whole(template, contexts)?.get("matrix") {
                Value::Null => return Ok(vec![(0, Cell::default())]),
                matrix => matrix::of_value(&matrix, source, template.span())?,
            },
            (None, None) => return Ok(vec![(0, Cell::default())]),
        };
        if !cells.iter().any(|cell| matrix::passes(cell, filters)) {
            let fault =
                Diagnostic::error(format!("no matrix job of `{}` is left by `--matrix`", job.id.value))
                    .at(source, job.id.span)
                    .label("this job");
            let helps = matrix::misses(&cells, filters);
            return Err(vec![helps.into_iter().fold(fault, Diagnostic::help)]);
        }
        Ok(cells.into_iter().enumerate().filter(|(_, cell)| matrix::passes(cell, filters)).collect())
    }

    fn expand_cell(
        &self,
        job: &Job,
        cell: &Cell,
        contexts: &Contexts,
        test: Test,
    ) -> Result<ExpandedJob, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut note = |found: Vec<Diagnostic>| faults.extend(found);
        let runs = match test {
            Test::Cell(look) => holds(job, contexts, look).map_err(&mut note).unwrap_or(false),
            Test::Done => true,
        };
        let name = match &job.name {
            Some(template) => text(template, contexts).map_err(&mut note).unwrap_or_default(),
            None => matrix::name(&job.id.value, cell),
        };
        let runs_on = labels(job, contexts).map_err(&mut note).unwrap_or_default();
        let timeout = match &job.timeout_minutes {
            Some(template) => minutes(template, contexts).map_err(&mut note).ok(),
            None => None,
        };
        let tolerant = match &job.continue_on_error {
            Some(template) => boolean(template, contexts).map_err(&mut note).unwrap_or(false),
            None => false,
        };
        let call = match (&job.call, self.called(&job.id.value)) {
            (Some(call), Some(called)) if runs => {
                let called = Arc::new(called.as_ref().clone().on(self.machines()));
                call::expand(job, call, &called, contexts).map_err(&mut note).ok()
            }
            _ => None,
        };
        if runs
            && self.machines() == Machines::Ours
            && let Some(span) = job.runs_on.as_ref().map(|runs_on| runs_on.span)
        {
            faults.extend(support::labels(&runs_on, &self.workflow().source, span));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let name = if name.trim().is_empty() { job.id.value.clone() } else { name };
        Ok(ExpandedJob {
            workflow: Arc::clone(self.workflow()),
            id: job.id.value.clone(),
            name,
            verdict: if runs { Verdict::Run } else { Verdict::Skip },
            runs_on,
            matrix: contexts.get(ContextName::Matrix),
            strategy: contexts.get(ContextName::Strategy),
            needs: contexts.get(ContextName::Needs),
            timeout,
            continue_on_error: if tolerant { OnError::Continue } else { OnError::Fail },
            call,
        })
    }

    /// A job whose `if` is false before there is a matrix. Its name may lack what a matrix, or what it
    /// needs, would give.
    fn skipped(&self, job: &Job, needs: Value, contexts: &Contexts, look: Look) -> Expansion {
        let known = |name: &&Template| {
            !name.exprs().any(|expr| {
                expr.mentions(ContextName::Matrix) || look == Look::Ahead && expr.mentions(ContextName::Needs)
            })
        };
        let name = job.name.as_ref().filter(known).and_then(|name| text(name, contexts).ok());
        let skipped = ExpandedJob {
            workflow: Arc::clone(self.workflow()),
            id: job.id.value.clone(),
            name: name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| job.id.value.clone()),
            verdict: Verdict::Skip,
            runs_on: Vec::new(),
            matrix: Value::Null,
            strategy: Object::new().into(),
            needs,
            timeout: None,
            continue_on_error: OnError::Fail,
            call: None,
        };
        Expansion { jobs: vec![skipped], fail_fast: FailFast::RunOn, max_parallel: None }
    }
}

/// A strategy that is one expression.
fn whole(template: &Template, contexts: &Contexts) -> Result<Value, Vec<Diagnostic>> {
    match settled(template.eval(contexts))? {
        value @ (Value::Object(_) | Value::Null) => Ok(value),
        other => Err(fault(template, format!("this is {}", other.kind()), "a map with `matrix`")),
    }
}

/// Whether an `if`, or what a call passes on, looks at `env`: Forgejo has it there.
pub(crate) fn looks_at_env(job: &Job) -> bool {
    let passed = |call: &crate::Call| call.templates().any(|template| template.mentions(ContextName::Env));
    job.condition.mentions(ContextName::Env) || job.call.as_ref().is_some_and(passed)
}

/// Whether what an `if` says hangs on the matrix job, also by way of `env`.
pub(crate) fn condition_looks_at_cell(job: &Job) -> bool {
    const CELL: [ContextName; 2] = [ContextName::Matrix, ContextName::Strategy];
    let cell = |variable: &crate::Variable| CELL.into_iter().any(|context| variable.value.mentions(context));
    CELL.into_iter().any(|context| job.condition.mentions(context))
        || job.condition.mentions(ContextName::Env) && job.env.list().iter().any(cell)
}

/// Whether what an `if` says hangs on the needs, also by way of `env`.
pub(crate) fn condition_looks_at_needs(job: &Job) -> bool {
    let needs = |variable: &crate::Variable| variable.value.mentions(ContextName::Needs);
    job.condition.mentions(ContextName::Needs)
        || job.condition.mentions(ContextName::Env) && job.env.list().iter().any(needs)
}

/// The `env` context before a job runs: that of the workflow and of the job.
pub(crate) fn env(workflow: &Workflow, job: &Job, contexts: &Contexts) -> Result<Value, Vec<Diagnostic>> {
    let mut env = Object::new();
    for variable in workflow.env.list().iter().chain(job.env.list()) {
        env.insert(variable.name.value.as_str(), text(&variable.value, contexts)?);
    }
    Ok(env.into())
}

fn number(count: usize) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a matrix has at most a few thousand jobs")]
    Value::Number(count as f64)
}
