//! What `--list` and `--dryrun` print.
//!
//! Invariant: text of workflow files goes through the sanitiser.

use std::collections::BTreeMap;

use doc::Diagnostic;
use workflow::{
    Conclusion, ContextName, JobResult, MatrixFilter, Plan, Results, RunState, StepAction, Surroundings,
    Verdict, Workflow,
};

use super::prepare::Prepared;
use crate::sanitise::{self, Colours};

const HEAD: [&str; 6] = ["STAGE", "JOB", "NEEDS", "WORKFLOW", "FILE", "EVENTS"];

/// A table of all jobs of some workflows.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 6]>,
}

impl Table {
    /// Adds the jobs of a plan.
    pub fn add(&mut self, plan: &Plan) {
        let workflow = plan.workflow();
        let events: Vec<_> = workflow.on.iter().map(|trigger| trigger.event.value.as_str()).collect();
        let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
        for job in plan.jobs() {
            let needs: Vec<_> = job.needs.iter().map(|need| need.value.as_str()).collect();
            let stage = needs.iter().filter_map(|need| stages.get(need)).max().map_or(0, |stage| stage + 1);
            stages.insert(&job.id.value, stage);
            self.rows.push([
                stage.to_string(),
                clean(&job.id.value),
                if needs.is_empty() { "-".to_owned() } else { clean(&needs.join(", ")) },
                clean(workflow.title()),
                clean(workflow.source.name()),
                clean(&events.join(", ")),
            ]);
        }
    }

    /// The lines, headings first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let all: Vec<[&str; 6]> = std::iter::once(HEAD)
            .chain(self.rows.iter().map(|row| row.each_ref().map(String::as_str)))
            .collect();
        let width = |column: usize| {
            all.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        all.iter()
            .map(|row| {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            })
            .collect()
    }
}

/// What would run, as far as it is known without running it.
pub fn dry_run(prepared: &Prepared, filters: &[MatrixFilter]) -> Result<Vec<String>, Vec<Diagnostic>> {
    let plan = &prepared.plan;
    let workflow: &Workflow = plan.workflow();
    let mut lines = vec![format!(
        "{} ({}), event {}",
        clean(workflow.title()),
        clean(workflow.source.name()),
        clean(&prepared.event)
    )];
    let nothing = Results::new();
    let known: Vec<&str> = plan.ready(&nothing).map(|job| job.id.value.as_str()).collect();
    // what a job needs is taken to succeed with nothing in its outputs
    let hoped: Results =
        plan.jobs().map(|job| (job.id.value.clone(), JobResult::new(Conclusion::Success))).collect();
    let around =
        Surroundings { results: &hoped, contexts: &prepared.contexts, run: RunState::Running, filters };
    for job in plan.jobs() {
        let needs: Vec<_> = job.needs.iter().map(|need| need.value.as_str()).collect();
        let after =
            if needs.is_empty() { String::new() } else { format!(", after {}", clean(&needs.join(", "))) };
        match plan.expand(&job.id.value, around) {
            Ok(expansion) => {
                // an `if` that reads what came before is not known yet, whatever it says of nothing
                let open = !needs.is_empty() && job.condition.mentions(ContextName::Needs);
                for expanded in &expansion.jobs {
                    let runs = match expanded.verdict {
                        _ if open => ", if what it needs says so",
                        Verdict::Skip if waits_for_status(job) => ", if what it needs does not succeed",
                        Verdict::Run => "",
                        Verdict::Skip => ", skipped: its `if` is false",
                    };
                    lines.push(format!("  job {}{after}{runs}", clean(&expanded.name)));
                    if open || expanded.verdict == Verdict::Run || waits_for_status(job) {
                        lines.extend(steps(job));
                    }
                }
            }
            Err(found) if known.contains(&job.id.value.as_str()) => return Err(found),
            Err(_) => {
                lines.push(format!(
                    "  job {}{after}; the rest is known when these are done",
                    clean(&job.id.value)
                ));
                lines.extend(steps(job));
            }
        }
    }
    Ok(lines)
}

/// Whether a status function of its `if` may yet say something else than it does of hoped successes.
fn waits_for_status(job: &workflow::Job) -> bool {
    !job.needs.is_empty() && job.condition.has_status_function()
}

fn steps(job: &workflow::Job) -> impl Iterator<Item = String> + '_ {
    job.steps.iter().enumerate().map(|(index, step)| {
        let name = step.name.as_ref().map_or_else(|| step.title(), |name| name.raw().to_owned());
        let what = match &step.action {
            StepAction::Run { .. } => String::new(),
            StepAction::Uses { uses, .. } => format!(" [{}]", uses.value),
        };
        let what = if step.name.is_some() { what } else { String::new() };
        format!("    {index}  {}", clean(&format!("{name}{what}")))
    })
}

fn clean(text: &str) -> String {
    sanitise::line(&text.replace(['\n', '\r', '\t'], " "), Colours::Drop)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use clap::Parser;
    use doc::Source;
    use workflow::Value;

    use super::*;
    use crate::{
        cli::args::{Cli, Command},
        exec::{
            github::Facts,
            prepare::{self, Common},
        },
    };

    const TEXT: &str = "name: CI
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: debian
    steps:
      - uses: actions/checkout@v4
      - {name: \"Make \\e[2J\", run: make}
  test:
    needs: build
    runs-on: debian
    strategy: {matrix: {python: ['3.11', '3.12']}}
    steps: [{run: pytest}]
  release:
    needs: [build, test]
    if: needs.build.outputs.version != ''
    runs-on: debian
    steps: [{uses: actions/checkout@v4, name: Fetch}]
  undo:
    needs: release
    if: failure()
    runs-on: debian
    steps: [{run: make undo}]
  never:
    if: github.event_name == 'schedule'
    runs-on: debian
    steps: [{run: echo}]
";

    #[test]
    fn what_there_is_and_what_would_run() {
        let workflow = workflow::parse(&Source::new("ci.yml", TEXT)).into_result().unwrap().0;
        let Command::Exec(args) = Cli::parse_from(["ampoule", "exec"]).command else { panic!("exec") };
        let facts = Facts {
            repository: "a/b".to_owned(),
            server_url: "https://h".to_owned(),
            sha: "0".repeat(40),
            head: "refs/heads/main".to_owned(),
            actor: "me".to_owned(),
        };
        let vars = Value::from_json(&serde_json::json!({}));
        let common =
            Common { args: &args, facts: &facts, vars: &vars, payload: None, filters: &[], token: "" };
        let (prepared, warnings) = prepare::prepare(Arc::new(workflow), common).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let mut table = Table::default();
        table.add(&prepared.plan);
        let text =
            format!("{}\n\n{}\n", table.lines().join("\n"), dry_run(&prepared, &[]).unwrap().join("\n"));
        insta::assert_snapshot!(text);
        assert!(prepare::parse(Path::new("/"), Path::new("/no/such.yml")).is_err());
    }
}
