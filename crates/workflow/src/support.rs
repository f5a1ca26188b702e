//! What the language knows and the engine cannot do yet.
//!
//! Purpose: a clear error with its place, before any VM starts, for each feature that is still to come.
//! Owner: whoever runs a plan calls [`check_for`] first; of a workflow with faults the lowering calls
//! [`check_workflow`]. Each feature takes its row with it when it comes.
//! Invariant: what is parsed and neither done nor ignored with a warning is in here.

use doc::{Diagnostic, Source, Span};

use crate::{Job, OtherKey, Plan, Shell, StepAction, Template, Uses, Workflow, checkout};

/// Everything that the jobs of a plan ask for and cannot get, and what is ignored (as warnings), in a run
/// of this repository, `owner/name`.
pub fn check_for(plan: &Plan, repository: &str) -> Vec<Diagnostic> {
    check_jobs(plan.workflow(), plan.jobs(), Some(repository))
}

/// The same where the repository is not known: a checkout of any may be one of the own.
pub fn check(plan: &Plan) -> Vec<Diagnostic> {
    check_jobs(plan.workflow(), plan.jobs(), None)
}

/// The same of all jobs of a workflow that has no plan.
pub fn check_workflow(workflow: &Workflow) -> Vec<Diagnostic> {
    check_jobs(workflow, workflow.jobs.iter(), None)
}

fn check_jobs<'a>(
    workflow: &Workflow,
    jobs: impl Iterator<Item = &'a Job>,
    repository: Option<&str>,
) -> Vec<Diagnostic> {
    let source = &workflow.source;
    let mut found = Vec::new();
    found.extend(workflow.defaults.shell.iter().filter_map(shell));
    found.extend(workflow.other.iter().map(|key| ignored(key.value, source, key.span)));
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
            match &step.action {
                StepAction::Run { shell: own, .. } => found.extend(own.iter().filter_map(shell)),
                StepAction::Uses { uses, with } if uses.value.is_checkout() => {
                    found.extend(checkout::look(with, repository, source));
                }
                StepAction::Uses { uses, .. } => found.push(action(&uses.value, source, uses.span)),
            }
        }
    }
    found.sort_by_key(|fault| fault.primary.as_ref().map_or(0, |label| label.span.start));
    found
}

fn job_keys(job: &Job, source: &Source, found: &mut Vec<Diagnostic>) {
    if let Some(uses) = &job.uses {
        found.push(
            Diagnostic::error("reusable workflows do not work yet")
                .at(source, uses.span)
                .label(format!("job `{}` calls one", job.id.value))
                .help("write its jobs into this workflow, or leave this job out with `-j`"),
        );
    }
    for key in &job.other {
        let (name, help) = match key.value {
            OtherKey::Container => {
                ("`container`", "remove it: every job runs in a microVM of the standard image")
            }
            OtherKey::Services => {
                ("`services`", "start the service in a step, or leave this job out with `-j`")
            }
            OtherKey::Environment | OtherKey::Concurrency | OtherKey::Permissions => {
                found.push(ignored(key.value, source, key.span));
                continue;
            }
            // The job's `uses` says it.
            OtherKey::CallArguments => continue,
        };
        found.push(
            Diagnostic::error(format!("{name} does not work yet"))
                .at(source, key.span)
                .label(format!("job `{}` asks for it", job.id.value))
                .help(help),
        );
    }
}

/// A key that is read and does nothing.
fn ignored(key: OtherKey, source: &Source, span: Span) -> Diagnostic {
    let (name, why) = match key {
        OtherKey::Permissions => {
            ("`permissions`", "Forgejo ignores it as well: the token can do what its owner can")
        }
        OtherKey::Concurrency => ("`concurrency`", "one run on this machine waits for no other"),
        OtherKey::Environment => ("`environment`", "Forgejo has no environments"),
        OtherKey::Container => ("`container`", "it does not work yet"),
        OtherKey::Services => ("`services`", "it does not work yet"),
        OtherKey::CallArguments => ("`with`", "only a reusable workflow reads it"),
    };
    Diagnostic::warning(format!("{name} is ignored")).at(source, span).label("does nothing").note(why)
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
