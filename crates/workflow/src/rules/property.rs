//! Properties that are nowhere: an expression of one is empty, and nothing says so.
//!
//! Purpose: `steps`, `needs`, `matrix`, `inputs` and `jobs` against what the file has, the other contexts by their
//! known names; [`super::kinds`] is asked in the same pass. Owner: [`super::steps`].
//! Invariants: where an error may have cost a name ([`Lost`]), no such name is said to be missing; what a server may
//! fill in (`env`, `vars`, `secrets`, the event, outputs of actions) is never said to be empty.

use std::collections::{HashMap, HashSet};

use doc::{Diagnostic, Source, Span, did_you_mean};

use super::{
    MAX_DIAGNOSTICS, Rule, format,
    kinds::{Contexts, STRATEGY, Walk},
};
use crate::{
    Action, Condition, Container, ContextName, Data, DataKind, Expr, Job, Matrix, OrExpr, Runs, Step,
    StepAction, Template, Variables, Workflow,
    expr::tree::{Accessor, Ast, AstKind, Function, from_json},
    lower::Lost,
};

/// What a step leaves.
const STEP: [&str; 3] = ["outputs", "outcome", "conclusion"];

/// What a job leaves.
const JOB: [&str; 2] = ["outputs", "result"];

/// `github`, of all servers.
const GITHUB: [&str; 49] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "action_status",
    "actor",
    "actor_id",
    "api_url",
    "artifact_cache_size_limit",
    "base_ref",
    "env",
    "event",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "job_name",
    "job_workflow_ref",
    "job_workflow_sha",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "repositoryUrl",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "runner_perflog",
    "runner_tracking_id",
    "secret_source",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "token",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

const RUNNER: [&str; 8] = ["name", "os", "arch", "temp", "tool_cache", "debug", "environment", "workspace"];

/// So many names behind a context are looked at: `needs.x.outputs.y`, `github.event.inputs.y`.
const DEEPEST: usize = 3;

/// Names, unless they are made when the workflow runs.
type Names<'a> = Option<Vec<&'a str>>;

/// What becomes of a value.
#[derive(Clone, Copy)]
enum Place {
    Text,
    Condition,
    /// It stays as it is.
    Value,
}

/// What the expressions of a job, or of an action, can see.
struct Look<'a, 'f> {
    workflow: Option<&'a Workflow>,
    /// Its jobs by their ids in lower case: a large one has hundreds, and each names others.
    jobs: HashMap<String, &'a Job>,
    job: Option<&'a Job>,
    lost: &'a Lost,
    /// Whether names of the job, or of the action, are missing.
    partly: bool,
    inputs: Names<'a>,
    matrix: Names<'a>,
    kinds: Contexts,
    /// The ids of the steps, with the number of each step.
    steps: Vec<(usize, &'a str)>,
    /// The number of the first step of each id, in lower case.
    numbers: HashMap<String, usize>,
    /// How much was found: nobody reads more than [`MAX_DIAGNOSTICS`], and each looks at all names for a near one.
    told: usize,
    /// The number of the step that is looked at: those before it have run.
    now: usize,
    found: &'f mut Vec<Diagnostic>,
}

pub(super) fn workflow(workflow: &Workflow, lost: &Lost, found: &mut Vec<Diagnostic>) {
    let triggers = workflow.on.iter().filter(|trigger| trigger.event.value.starts_with("workflow_"));
    let inputs: Vec<&str> =
        triggers.flat_map(|trigger| &trigger.inputs).map(|input| input.name.value.as_str()).collect();
    let mut look = Look::new(lost, inputs, Contexts::of(&workflow.on), found);
    look.workflow = Some(workflow);
    look.jobs = workflow.jobs.iter().rev().map(|job| (job.id.value.to_ascii_lowercase(), job)).collect();
    look.texts(workflow.run_name.iter());
    look.variables(&workflow.env);
    let concurrency = workflow.concurrency.iter();
    look.texts(concurrency.clone().flat_map(|it| &it.group));
    look.all(concurrency.flat_map(|it| &it.cancel_in_progress));
    for trigger in &workflow.on {
        look.texts(trigger.outputs.iter().map(|output| &output.value));
    }
    for job in &workflow.jobs {
        look.job(job);
    }
}

pub(super) fn action(action: &Action, lost: &Lost, found: &mut Vec<Diagnostic>) {
    let inputs = action.inputs.iter().map(|input| input.name.value.as_str()).collect();
    let mut look = Look::new(lost, inputs, Contexts::of_action(), found);
    look.partly = lost.names;
    match &action.runs {
        Runs::Composite { steps } => {
            look.steps(steps);
            look.texts(action.outputs.iter().filter_map(|output| output.value.as_ref()));
        }
        Runs::Docker { env, args, .. } => {
            look.variables(env);
            look.texts(args.iter());
        }
        Runs::Script { .. } => {}
    }
}

impl<'a, 'f> Look<'a, 'f> {
    fn new(
        lost: &'a Lost,
        inputs: Vec<&'a str>,
        kinds: Contexts,
        found: &'f mut Vec<Diagnostic>,
    ) -> Look<'a, 'f> {
        Look {
            workflow: None,
            jobs: HashMap::new(),
            job: None,
            lost,
            partly: false,
            inputs: (!lost.inputs).then_some(inputs),
            matrix: None,
            kinds,
            steps: Vec::new(),
            numbers: HashMap::new(),
            told: 0,
            now: 0,
            found,
        }
    }

    fn job(&mut self, job: &'a Job) {
        self.job = Some(job);
        self.partly = self.lost.job(&job.id.value);
        self.matrix = matrix(job).filter(|_| !self.partly);
        self.kinds.enter(job, self.matrix.is_some());
        self.steps.clear();
        self.numbers.clear();
        self.now = 0;
        self.texts(job.name.iter());
        self.condition(&job.condition);
        if let Some(runs_on) = &job.runs_on {
            self.all(runs_on.labels.iter().chain(&runs_on.group));
        }
        if let Some(strategy) = &job.strategy {
            self.all(strategy.whole.iter().chain(&strategy.fail_fast).chain(&strategy.max_parallel));
            if let Some(matrix) = &strategy.matrix {
                self.all(matrix.templates().into_iter());
            }
        }
        self.variables(&job.env);
        self.texts(job.defaults.shell.iter().chain(&job.defaults.working_directory));
        self.all(job.timeout_minutes.iter().chain(&job.continue_on_error));
        if let Some(concurrency) = &job.concurrency {
            self.texts(concurrency.group.iter());
            self.all(concurrency.cancel_in_progress.iter());
        }
        if let Some(container) = &job.container {
            self.container(&container.value);
        }
        if let Some(services) = &job.services {
            self.all(services.value.expr().into_iter());
            for service in services.value.written().into_iter().flatten() {
                self.container(&service.container);
            }
        }
        if let Some(call) = &job.call {
            self.all(call.templates());
        }
        self.steps(&job.steps);
        self.texts(job.outputs.iter().map(|output| &output.value));
        if let Some(environment) = &job.environment {
            self.all(std::iter::once(&environment.name));
            self.texts(environment.url.iter());
        }
    }

    fn container(&mut self, container: &OrExpr<Container>) {
        self.all(container.expr().into_iter());
        if let Some(container) = container.written() {
            self.variables(&container.env);
            self.all(container.image.iter().chain(&container.ports).chain(&container.volumes));
            self.all(container.options.iter().chain(&container.cmd));
        }
    }

    /// Steps one after the other; behind them all have run.
    fn steps(&mut self, steps: &'a [Step]) {
        for (number, step) in steps.iter().enumerate() {
            ids(step, number, &mut self.steps);
        }
        for (number, id) in &self.steps {
            self.numbers.entry(id.to_ascii_lowercase()).or_insert(*number);
        }
        for (number, step) in steps.iter().enumerate() {
            self.now = number;
            self.step(step);
        }
        self.now = steps.len();
    }

    fn step(&mut self, step: &'a Step) {
        self.texts(step.name.iter());
        self.all(step.timeout_minutes.iter().chain(&step.continue_on_error));
        self.condition(&step.condition);
        self.variables(&step.env);
        match &step.action {
            StepAction::Run { script, shell, working_directory } => {
                self.texts(std::iter::once(script).chain(shell).chain(working_directory));
            }
            StepAction::Uses { with, .. } => self.variables(with),
            StepAction::Computed { uses, with } => {
                self.all(std::iter::once(uses));
                self.variables(with);
            }
            StepAction::Parallel(inner) => {
                self.now += 1;
                inner.iter().for_each(|step| self.step(step));
            }
            StepAction::Wait(_) | StepAction::WaitAll | StepAction::Cancel(_) => {}
        }
    }

    fn condition(&mut self, condition: &Condition) {
        let whole = condition.whole().is_some();
        let place = if whole { Place::Condition } else { Place::Value };
        condition.exprs().for_each(|expr| self.expr(expr, place));
    }

    fn variables(&mut self, variables: &Variables) {
        match variables {
            OrExpr::Written(list) => self.texts(list.iter().map(|variable| &variable.value)),
            OrExpr::Expr(template) => self.all(std::iter::once(template)),
        }
    }

    /// Templates whose value may be an object or a list.
    fn all<'t>(&mut self, templates: impl Iterator<Item = &'t Template>) {
        for template in templates {
            let place = if template.sole().is_some() { Place::Value } else { Place::Text };
            template.exprs().for_each(|expr| self.expr(expr, place));
        }
    }

    /// Templates that become texts.
    fn texts<'t>(&mut self, templates: impl Iterator<Item = &'t Template>) {
        for template in templates {
            template.exprs().for_each(|expr| self.expr(expr, Place::Text));
        }
    }

    fn expr(&mut self, expr: &Expr, place: Place) {
        if self.told > MAX_DIAGNOSTICS {
            return;
        }
        let mut faults = Vec::new();
        let mut walk = Walk::new(&expr.source, &self.kinds);
        expr.root().walk(&mut |part| match &part.kind {
            AstKind::Access { base, path } => {
                let AstKind::Context(context) = base.kind else { return };
                let mut names = [""; DEEPEST];
                let known =
                    path.iter().map_while(name).zip(&mut names).map(|(name, slot)| *slot = name).count();
                let names = &names[..known];
                let path = Path { source: &expr.source, base: base.span, whole: part.span, names };
                if let Some(fault) = self.property(context, &path) {
                    walk.empty.insert(part.span);
                    faults.push(fault);
                }
            }
            AstKind::Call { function: Function::Format, args } => {
                faults.extend(format::find(&expr.source, args))
            }
            AstKind::Call { function: Function::FromJson, args } => faults.extend(json(&expr.source, args)),
            _ => {}
        });
        let known = walk.see(expr.root());
        match place {
            Place::Text => walk.as_text(expr.root(), &known),
            Place::Condition => walk.as_condition(expr.root(), &known),
            Place::Value => {}
        }
        faults.append(&mut walk.found);
        self.told += faults.len();
        self.found.extend(faults);
    }

    fn property(&self, context: ContextName, path: &Path<'_>) -> Option<Diagnostic> {
        let first = path.names.first()?;
        match context {
            ContextName::Steps | ContextName::Needs if self.partly => None,
            ContextName::Steps => self.of_step(path),
            ContextName::Needs => self.of_need(path),
            ContextName::Jobs => {
                let jobs = &self.workflow?.jobs;
                if jobs.is_empty() || self.lost.job(first) {
                    return None;
                }
                let Some(job) = self.job_of(first) else {
                    let ids: Vec<&str> = jobs.iter().map(|job| job.id.value.as_str()).collect();
                    return Some(path.unknown(0, format!("there is no job `{first}`"), &ids, "the jobs are"));
                };
                of_job(path, job)
            }
            ContextName::Matrix => {
                let names = self.matrix.as_ref()?;
                if !has(names, first) {
                    return Some(path.unknown(0, format!("the matrix has no `{first}`"), names, "it has"));
                }
                let (key, keys) = (path.names.get(1)?, keys_of(self.job?, first)?);
                let message = || format!("no value of `{first}` has a `{key}`");
                (!has(&keys, key)).then(|| path.unknown(1, message(), &keys, "they have"))
            }
            ContextName::Inputs => self.of_inputs(path, 0),
            ContextName::Github if same(first, "event") => {
                let inputs = path.names.get(1).is_some_and(|name| same(name, "inputs"));
                let run_by_hand = self.workflow?.trigger("workflow_dispatch").is_some();
                (inputs && run_by_hand).then(|| self.of_inputs(path, 2)).flatten()
            }
            ContextName::Github => path.near(context, &GITHUB),
            ContextName::Runner => path.near(context, &RUNNER),
            ContextName::Strategy => path.near(context, &STRATEGY),
            ContextName::Job | ContextName::Env | ContextName::Vars | ContextName::Secrets => None,
        }
    }

    fn job_of(&self, id: &str) -> Option<&'a Job> {
        self.jobs.get(&id.to_ascii_lowercase()).copied()
    }

    fn of_step(&self, path: &Path<'_>) -> Option<Diagnostic> {
        let id = path.names.first()?;
        let Some(number) = self.numbers.get(&id.to_ascii_lowercase()) else {
            let before: Vec<&str> =
                self.steps.iter().filter(|(number, _)| *number < self.now).map(|(_, id)| *id).collect();
            return Some(path.unknown(0, format!("no step has the id `{id}`"), &before, "the ids are"));
        };
        if *number >= self.now {
            let message = format!("the step `{id}` has not run yet");
            return Some(path.empty(0, message).help("only the steps above can be looked at"));
        }
        let property = path.names.get(1).filter(|name| !has(&STEP, name))?;
        Some(path.unknown(1, format!("a step has no property `{property}`"), &STEP, "it has"))
    }

    fn of_need(&self, path: &Path<'_>) -> Option<Diagnostic> {
        let (id, job) = (path.names.first()?, self.job?);
        let other = self.job_of(id);
        if job.needs.iter().any(|need| same(&need.value, id)) {
            return other.filter(|_| !self.lost.job(id)).and_then(|other| of_job(path, other));
        }
        Some(match other {
            Some(other) => {
                let (own, other) = (&job.id.value, &other.id.value);
                let fault = path.empty(0, format!("the job `{own}` does not need `{other}`"));
                fault.help(format!("add `{other}` to its `needs`"))
            }
            None => {
                let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
                path.unknown(0, format!("there is no need `{id}`"), &needs, "the needs are")
            }
        })
    }

    fn of_inputs(&self, path: &Path<'_>, index: usize) -> Option<Diagnostic> {
        let inputs = self.inputs.as_ref()?;
        let name = path.names.get(index).filter(|name| !has(inputs, name))?;
        let what = if self.workflow.is_some() { "workflow" } else { "action" };
        Some(path.unknown(index, format!("the {what} has no input `{name}`"), inputs, "it has"))
    }
}

/// What is wrong with a text of `fromJSON`, likewise.
fn json(source: &Source, args: &[Ast]) -> Option<Diagnostic> {
    let [Ast { kind: AstKind::Text(text), span }] = args else { return None };
    let fault = from_json(&text.as_str().into()).err()?;
    // GitHub's parser takes more than JSON has: keys and texts in single quotes, comments
    Some(Rule::GithubOnly.warning(fault.to_string()).at(source, *span).label("Forgejo refuses this text"))
}

/// What a job that is done leaves.
fn of_job(path: &Path<'_>, job: &Job) -> Option<Diagnostic> {
    let property = path.names.get(1)?;
    if !has(&JOB, property) {
        let message = format!("a job has no property `{property}` here");
        return Some(path.unknown(1, message, &JOB, "it has"));
    }
    // what is called may give out more than is known here
    let name = path.names.get(2).filter(|_| same(property, "outputs") && job.call.is_none())?;
    let outputs: Vec<&str> = job.outputs.iter().map(|output| output.name.value.as_str()).collect();
    let message = || format!("the job `{}` has no output `{name}`", job.id.value);
    (!has(&outputs, name)).then(|| path.unknown(2, message(), &outputs, "it has"))
}

/// The ids of a step and of those in it.
fn ids<'a>(step: &'a Step, number: usize, found: &mut Vec<(usize, &'a str)>) {
    found.extend(step.id.iter().map(|id| (number, id.value.as_str())));
    if let StepAction::Parallel(inner) = &step.action {
        inner.iter().for_each(|step| ids(step, number, found));
    }
}

/// The names of a job's matrix.
fn matrix(job: &Job) -> Names<'_> {
    let Some(strategy) = &job.strategy else { return Some(Vec::new()) };
    if strategy.whole.is_some() {
        return None;
    }
    let Some(matrix) = &strategy.matrix else { return Some(Vec::new()) };
    let Matrix::Written { axes, include, .. } = matrix else { return None };
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    let axes = axes.iter().map(|(name, _)| name.value.as_str());
    for name in axes.chain(included(include.as_ref())?) {
        if seen.insert(name.to_ascii_lowercase()) {
            names.push(name);
        }
    }
    // `${{ insert }}` takes in more
    (!names.iter().any(|name| name.contains("${{"))).then_some(names)
}

/// The keys that any of the values of a variable has, where all of them are written maps.
fn keys_of<'a>(job: &'a Job, variable: &str) -> Names<'a> {
    let Matrix::Written { axes, include, .. } = job.strategy.as_ref()?.matrix.as_ref()? else { return None };
    if included(include.as_ref())?.iter().any(|name| same(name, variable)) {
        return None;
    }
    let (_, values) = axes.iter().find(|(name, _)| same(&name.value, variable))?;
    let DataKind::List(values) = &values.kind else { return None };
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    for value in values {
        let DataKind::Map(entries) = &value.kind else { return None };
        for (name, _) in entries {
            if seen.insert(name.value.as_str()) {
                keys.push(name.value.as_str());
            }
        }
    }
    // `${{ insert }}` takes in more
    (!keys.iter().any(|key| key.contains("${{"))).then_some(keys)
}

/// The names that an `include` adds.
fn included(include: Option<&Data>) -> Names<'_> {
    let entries = match include.map(|data| &data.kind) {
        None | Some(DataKind::Value(_)) => return Some(Vec::new()),
        Some(DataKind::List(entries)) => entries,
        Some(DataKind::Template(_) | DataKind::Map(_)) => return None,
    };
    let mut names = Vec::new();
    for entry in entries {
        let DataKind::Map(values) = &entry.kind else { return None };
        for (name, _) in values {
            if !names.contains(&name.value.as_str()) {
                names.push(&name.value);
            }
        }
    }
    Some(names)
}

/// A context and the names behind it.
struct Path<'e> {
    source: &'e Source,
    base: Span,
    whole: Span,
    /// Up to the first that is made when it runs; no more than [`DEEPEST`].
    names: &'e [&'e str],
}

impl Path<'_> {
    /// Where one of the names stands.
    fn place(&self, index: usize) -> Span {
        let text = self.source.slice(Span::new(self.base.end, self.whole.end));
        let mut found = None;
        let mut from = 0;
        for name in self.names.iter().take(index + 1) {
            let Some(at) = text.get(from..).and_then(|rest| rest.find(name)) else { return self.whole };
            let start = self.base.end + from + at;
            found = Some(Span::new(start, start + name.len()));
            from += at + name.len();
        }
        found.unwrap_or(self.whole)
    }

    fn empty(&self, index: usize, message: String) -> Diagnostic {
        let warning = Rule::UnknownProperty.warning(message);
        warning.at(self.source, self.place(index)).label("this is always empty")
    }

    fn unknown(&self, index: usize, message: String, known: &[&str], have: &str) -> Diagnostic {
        const SHOWN: usize = 20;
        let fault = self.empty(index, message);
        let name = self.names.get(index).copied().unwrap_or_default();
        match did_you_mean(name, known.iter().copied()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => fault.note("there are none here"),
            None if known.len() > SHOWN => fault,
            None => fault.note(format!("{have} {}", known.join(", "))),
        }
    }

    /// Of a context that servers extend: only what is near a known name is told.
    fn near(&self, context: ContextName, known: &[&'static str]) -> Option<Diagnostic> {
        let name = self.names.first().filter(|name| !has(known, name))?;
        let near = did_you_mean(name, known.iter().copied())?;
        let message = format!("`{}` has no property `{name}`", context.name());
        Some(self.empty(0, message).help(format!("did you mean `{near}`?")))
    }
}

fn name(accessor: &Accessor) -> Option<&str> {
    match accessor {
        Accessor::Name(name) => Some(name),
        Accessor::Index(Ast { kind: AstKind::Text(text), .. }) => Some(text),
        Accessor::Index(_) | Accessor::All => None,
    }
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn has(known: &[&str], name: &str) -> bool {
    known.iter().any(|known| same(known, name))
}
