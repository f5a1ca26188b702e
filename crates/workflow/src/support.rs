//! What the language knows and the engine cannot do yet.
//!
//! Purpose: a clear error with its place, before any VM starts, for each feature that is still to come.
//! Owner: whoever runs a plan calls [`check_for`] first; of a workflow with faults the lowering calls
//! [`check_workflow`]. Each feature takes its row with it when it comes.
//! Invariant: what is parsed and neither done nor ignored with a warning is in here.

use doc::{Diagnostic, Source, Span};

use crate::{
    Concurrency, Job, OrExpr, Plan, Shell, Step, StepAction, Template, Uses, Variables, Workflow, checkout,
    lower, matrix,
};

/// Everything that the jobs of a plan ask for and cannot get, and what is ignored (as warnings), in a run
/// of this repository, `owner/name`.
pub fn check_for(plan: &Plan, repository: &str) -> Vec<Diagnostic> {
    shown(check_jobs(plan.workflow(), plan.jobs(), Some(repository)))
}

/// The same where the repository is not known: a checkout of any may be one of the own.
pub fn check(plan: &Plan) -> Vec<Diagnostic> {
    shown(check_jobs(plan.workflow(), plan.jobs(), None))
}

/// The same of all jobs of a workflow that has no plan.
pub fn check_workflow(workflow: &Workflow) -> Vec<Diagnostic> {
    check_jobs(workflow, workflow.jobs.iter(), None)
}

/// Those that somebody reads: each is rendered.
fn shown(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    lower::finish(found, lower::MAX_DIAGNOSTICS)
}

fn check_jobs<'a>(
    workflow: &Workflow,
    jobs: impl Iterator<Item = &'a Job>,
    repository: Option<&str>,
) -> Vec<Diagnostic> {
    let source = &workflow.source;
    let mut found = Vec::new();
    found.extend(workflow.defaults.shell.iter().filter_map(shell));
    if repository.is_some() {
        let jobs = workflow.jobs.iter().filter_map(|job| job.concurrency.as_ref());
        found.extend(workflow.concurrency.iter().chain(jobs).map(|key| alone(key, source)));
    }
    found.extend(computed("`env`", &workflow.env));
    for job in jobs {
        job_keys(job, source, &mut found);
        found.extend(job.defaults.shell.iter().filter_map(shell));
        if let Some(runs_on) = &job.runs_on {
            for label in &runs_on.labels {
                let text: Vec<_> = label.literal().map(str::to_owned).into_iter().collect();
                found.extend(labels(&text, source, label.span()));
            }
        }
        for step in &job.steps {
            one_step(step, repository, source, &mut found);
        }
    }
    found.sort_by_key(|fault| fault.primary.as_ref().map_or(0, |label| label.span.start));
    found
}

fn one_step(step: &Step, repository: Option<&str>, source: &Source, found: &mut Vec<Diagnostic>) {
    found.extend(computed("`env`", &step.env));
    if let Some(background) = step.background.filter(|background| background.value) {
        found.push(github_only("a step in the background", source, background.span));
    }
    match &step.action {
        StepAction::Run { shell: own, .. } => found.extend(own.iter().filter_map(shell)),
        StepAction::Uses { uses, with } => {
            found.extend(computed("`with`", with));
            if uses.value.is_checkout() {
                found.extend(checkout::look(with.list(), repository, source));
            } else {
                found.push(action(&uses.value, source, uses.span));
            }
        }
        StepAction::Computed { uses, .. } => found.push(
            Diagnostic::error("an action whose name is computed does not work yet")
                .at(source, uses.span())
                .label("only `actions/checkout` works so far")
                .help("write what it does as a `run` step"),
        ),
        StepAction::Wait(_) | StepAction::WaitAll | StepAction::Cancel(_) => {
            found.push(github_only("waiting for a step", source, step.span));
        }
        StepAction::Parallel(steps) => {
            found.push(github_only("`parallel`", source, step.span));
            for step in steps {
                one_step(step, repository, source, found);
            }
        }
    }
}

/// What neither Forgejo nor we have.
fn github_only(what: &str, source: &Source, span: Span) -> Diagnostic {
    Diagnostic::error(format!("{what} does not work: only GitHub has it"))
        .at(source, span)
        .label("here")
        .help("write steps that come one after the other")
}

/// Variables that an expression gives as a whole: Forgejo's runner has none of them.
fn computed(what: &str, variables: &Variables) -> Option<Diagnostic> {
    let template = variables.expr()?;
    let fault =
        Diagnostic::error(format!("an expression in place of {what} does not work: only GitHub has it"))
            .at(template.source(), template.span())
            .label("expected names and values")
            .help("write each name down, with an expression as its value");
    Some(fault)
}

fn job_keys(job: &Job, source: &Source, found: &mut Vec<Diagnostic>) {
    if let Some(call) = &job.call {
        let span = match &call.uses {
            OrExpr::Written(uses) => uses.span,
            OrExpr::Expr(template) => template.span(),
        };
        found.push(
            Diagnostic::error("reusable workflows do not work yet")
                .at(source, span)
                .label(format!("job `{}` calls one", job.id.value))
                .help("write its jobs into this workflow, or leave this job out with `-j`"),
        );
    }
    found.extend(computed("`env`", &job.env));
    let matrix = job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref());
    for span in matrix.into_iter().flat_map(matrix::loose_inclusions) {
        found.push(matrix::loose(source, span));
    }
    let not_yet = |name: &str, span: Span, help: &str| {
        Diagnostic::error(format!("{name} does not work yet"))
            .at(source, span)
            .label(format!("job `{}` asks for it", job.id.value))
            .help(help)
    };
    if let Some(container) = job.container.as_ref().filter(|_| job.call.is_none()) {
        let help = "remove it: every job runs in a microVM of the standard image";
        found.push(not_yet("`container`", container.span, help));
    }
    if let Some(services) = &job.services {
        let help = "start the service in a step, or leave this job out with `-j`";
        found.push(not_yet("`services`", services.span, help));
    }
    if let Some(image) = &job.snapshot {
        found.push(github_only("`snapshot`", source, image.name.span));
    }
}

/// What a run of one machine does not look at.
fn alone(key: &Concurrency, source: &Source) -> Diagnostic {
    Diagnostic::warning("`concurrency` is ignored")
        .at(source, key.span)
        .label("does nothing here")
        .note("one run on this machine waits for no other")
}

fn shell(template: &Template) -> Option<Diagnostic> {
    let error = Shell::parse(template.literal()?).err()?;
    let fault =
        Diagnostic::error(error.to_string()).at(template.source(), template.span()).label("this shell");
    Some(match error.suggestion {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => fault.help(format!("use one of {}", Shell::NAMES.join(", "))),
    })
}

/// An action that does not work, which is any but a checkout.
fn action(uses: &Uses, source: &Source, span: Span) -> Diagnostic {
    let what = match uses {
        Uses::Repository { .. } => format!("the action `{uses}` does not work yet"),
        Uses::Local(_) => "local actions do not work yet".to_owned(),
        Uses::Image(_) => "docker actions do not work yet".to_owned(),
    };
    Diagnostic::error(what)
        .at(source, span)
        .label("only `actions/checkout` works so far")
        .help("write what it does as a `run` step")
}

/// The labels that no machine of ours can satisfy.
pub(crate) fn labels(labels: &[String], source: &Source, span: Span) -> Vec<Diagnostic> {
    let foreign = |label: &&String| {
        let label = label.to_ascii_lowercase();
        label.starts_with("windows") || label.starts_with("macos") || label == "win" || label == "osx"
    };
    let fault = |label: &String| {
        Diagnostic::error(format!("no machine for `{label}`: jobs run on Linux"))
            .at(source, span)
            .label("asks for another system")
            .help("write `runs-on: ubuntu-latest`, or leave this job out with `-j`")
    };
    labels.iter().filter(foreign).map(fault).collect()
}
