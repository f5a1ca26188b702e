//! One job of the plan to the jobs that run.
//!
//! Purpose: job `if`, matrix, names, labels and settings, evaluated when the needs are done.
//! Owner: whoever runs the plan calls it once per job. Invariants: at least one expanded job, or an
//! error; names within one expansion are unique; steps, env and outputs stay unevaluated.

use std::{sync::Arc, time::Duration};

use doc::Diagnostic;

use crate::{
    ContextName, Contexts, Eval, EvalError, Job, Object, Plan, Results, RunState, Template, Value, Workflow,
    matrix::{self, Cell},
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
    /// `github`, `vars`, `inputs`; the rest is set by the expansion.
    pub contexts: &'a Contexts,
    /// Whether the run was cancelled.
    pub run: RunState,
    /// Which matrix jobs; empty is all.
    pub filters: &'a [MatrixFilter],
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
        let mut contexts = around.contexts.clone();
        let needs = self.needs_context(id, around.results);
        contexts.set(ContextName::Needs, needs.clone());
        contexts.set_status(self.status(id, around.results, around.run));
        let by_cell =
            job.condition.mentions(ContextName::Matrix) || job.condition.mentions(ContextName::Strategy);
        if !by_cell && !condition(job, &contexts)? {
            return Ok(Expansion {
                jobs: vec![self.skipped(job, needs, &contexts)],
                fail_fast: FailFast::RunOn,
                max_parallel: None,
            });
        }
        let mut faults = Vec::new();
        let (cells, fail_fast, max_parallel) = self.cells(job, &contexts, around.filters)?;
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
            match self.expand_cell(job, &cell, &contexts, by_cell) {
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
    ) -> Result<(Vec<(usize, Cell)>, FailFast, Option<usize>), Vec<Diagnostic>> {
        let source = &self.workflow().source;
        let Some(strategy) = &job.strategy else {
            return Ok((vec![(0, Cell::default())], FailFast::Cancel, None));
        };
        let fail_fast = match &strategy.fail_fast {
            Some(template) if !boolean(template, contexts)? => FailFast::RunOn,
            _ => FailFast::Cancel,
        };
        let max_parallel = match &strategy.max_parallel {
            Some(template) => Some(count(template, contexts)?),
            None => None,
        };
        let cells = match &strategy.matrix {
            Some(matrix) => matrix::cells(matrix, source, contexts)?,
            None => vec![Cell::default()],
        };
        let kept: Vec<_> =
            cells.into_iter().enumerate().filter(|(_, cell)| matrix::passes(cell, filters)).collect();
        if kept.is_empty() {
            return Err(vec![
                Diagnostic::error(format!("no matrix job of `{}` is left by `--matrix`", job.id.value))
                    .at(source, job.id.span)
                    .label("this job"),
            ]);
        }
        Ok((kept, fail_fast, max_parallel))
    }

    fn expand_cell(
        &self,
        job: &Job,
        cell: &Cell,
        contexts: &Contexts,
        check: bool,
    ) -> Result<ExpandedJob, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut note = |found: Vec<Diagnostic>| faults.extend(found);
        let runs = if check { condition(job, contexts).map_err(&mut note).unwrap_or(false) } else { true };
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
        if runs && let Some(span) = job.runs_on.as_ref().map(|runs_on| runs_on.span) {
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
        })
    }

    /// A job whose `if` is false before there is a matrix. Its name may lack what a matrix would give.
    fn skipped(&self, job: &Job, needs: Value, contexts: &Contexts) -> ExpandedJob {
        let name = job.name.as_ref().filter(|name| !name.exprs().any(|e| e.mentions(ContextName::Matrix)));
        let name = name.and_then(|template| text(template, contexts).ok());
        ExpandedJob {
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
        }
    }
}

fn condition(job: &Job, contexts: &Contexts) -> Result<bool, Vec<Diagnostic>> {
    settled(job.condition.eval(contexts))
}

fn text(template: &Template, contexts: &Contexts) -> Result<String, Vec<Diagnostic>> {
    settled(template.eval_text(contexts))
}

/// A result without the guest: `hashFiles` is refused at these sites when the workflow is read.
fn settled<T>(result: Result<Eval<T>, EvalError>) -> Result<T, Vec<Diagnostic>> {
    match result {
        Ok(Eval::Value(value)) => Ok(value),
        Ok(Eval::Need(_)) => Err(vec![Diagnostic::error("`hashFiles` is not available before a job runs")]),
        Err(error) => Err(vec![error.to_diagnostic()]),
    }
}

fn fault(template: &Template, message: String, wanted: &str) -> Vec<Diagnostic> {
    vec![
        Diagnostic::error(message).at(template.source(), template.span()).label(format!("expected {wanted}")),
    ]
}

fn boolean(template: &Template, contexts: &Contexts) -> Result<bool, Vec<Diagnostic>> {
    let value = settled(template.eval(contexts))?;
    match (&value, value.to_text().to_ascii_lowercase().as_str()) {
        (Value::Bool(value), _) => Ok(*value),
        (Value::String(_), "true") => Ok(true),
        (Value::String(_) | Value::Null, "false" | "") => Ok(false),
        _ => Err(fault(template, format!("this is {}", value.kind()), "`true` or `false`")),
    }
}

fn count(template: &Template, contexts: &Contexts) -> Result<usize, Vec<Diagnostic>> {
    let number = settled(template.eval(contexts))?.to_number();
    if number.fract() != 0.0 || !(1.0..=1e6).contains(&number) {
        return Err(fault(template, "this is no count".to_owned(), "a whole number from 1 on"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(number as usize)
}

/// `timeout-minutes`, which may be fractional, as a duration: more than zero and at most a year.
///
/// # Errors
/// A value that is no such number, or an expression without a value.
pub fn minutes(template: &Template, contexts: &Contexts) -> Result<Duration, Vec<Diagnostic>> {
    const YEAR: f64 = 366.0 * 24.0 * 60.0;
    let value = settled(template.eval(contexts))?;
    minutes_of(&value)
        .filter(|time| time.as_secs_f64() <= YEAR * 60.0)
        .ok_or_else(|| fault(template, "this is no number of minutes".to_owned(), "a number greater than 0"))
}

/// The same of a value; none when it is not a positive, finite number.
pub fn minutes_of(value: &Value) -> Option<Duration> {
    let minutes = value.to_number();
    if !(minutes > 0.0) {
        return None;
    }
    Duration::try_from_secs_f64(minutes * 60.0).ok()
}

fn labels(job: &Job, contexts: &Contexts) -> Result<Vec<String>, Vec<Diagnostic>> {
    let Some(runs_on) = &job.runs_on else { return Ok(Vec::new()) };
    let mut labels = Vec::new();
    let mut faults = Vec::new();
    for template in runs_on.labels.iter().chain(&runs_on.group) {
        match settled(template.eval(contexts)) {
            Ok(Value::Array(items)) => labels.extend(items.iter().map(|item| item.to_text().to_string())),
            // `runs-on: ${{ fromJSON('{"labels": …}') }}`
            Ok(Value::Object(object)) => match object.get("labels") {
                Some(Value::Array(items)) => {
                    labels.extend(items.iter().map(|item| item.to_text().to_string()))
                }
                Some(label) => labels.push(label.to_text().to_string()),
                None => faults.extend(fault(template, "this is an object".to_owned(), "a label or a list")),
            },
            Ok(value) => labels.push(value.to_text().to_string()),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() && (labels.is_empty() || labels.iter().any(|label| label.trim().is_empty())) {
        let place = runs_on.labels.first().or(runs_on.group.as_ref());
        faults.extend(
            place.map(|place| fault(place, "the label is empty".to_owned(), "a label")).into_iter().flatten(),
        );
    }
    if faults.is_empty() { Ok(labels) } else { Err(faults) }
}

fn number(count: usize) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a matrix has at most a few thousand jobs")]
    Value::Number(count as f64)
}
