//! What `--list` and `--dryrun` print.
//!
//! Invariant: text of workflow files goes through the sanitiser.

use std::collections::BTreeMap;

use doc::Diagnostic;
use workflow::{
    ContextName, Contexts, MatrixFilter, Plan, Prospect, Results, RunState, StepAction, Surroundings,
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
    let title = prepared.title.as_deref().map(|title| format!(", `{}`", clean(title))).unwrap_or_default();
    let mut lines = vec![format!(
        "{} ({}){title}, event {}",
        clean(workflow.title()),
        clean(workflow.source.name()),
        clean(&prepared.event)
    )];
    let nothing = Results::new();
    let around =
        Surroundings { results: &nothing, contexts: &prepared.contexts, run: RunState::Running, filters };
    // once for all: each looks at what it needs
    let prospects = plan.prospects(around);
    for job in plan.jobs() {
        let needs: Vec<_> = job.needs.iter().map(|need| need.value.as_str()).collect();
        let after =
            if needs.is_empty() { String::new() } else { format!(", after {}", clean(&needs.join(", "))) };
        let prospect = prospects.get(job.id.value.as_str()).copied().unwrap_or(Prospect::Open);
        let below = !job.condition.has_status_function()
            && needs.iter().any(|need| prospects.get(need) == Some(&Prospect::Skipped));
        let runs = match prospect {
            Prospect::Runs => "",
            Prospect::Skipped if below => ", skipped with what it needs",
            Prospect::Skipped => ", skipped: its `if` is false",
            Prospect::Open => ", if what it needs says so",
        };
        match plan.foresee(&job.id.value, around)? {
            Some(expansion) => {
                for expanded in &expansion.jobs {
                    let cell = match (prospect, expanded.verdict) {
                        (Prospect::Runs, Verdict::Skip) => ", skipped: its `if` is false",
                        _ => runs,
                    };
                    lines.push(format!("  job {}{after}{cell}", clean(&expanded.name)));
                    if expanded.verdict == Verdict::Run && prospect != Prospect::Skipped {
                        let mut contexts = prepared.contexts.clone();
                        contexts.set(ContextName::Matrix, expanded.matrix.clone());
                        contexts.set(ContextName::Strategy, expanded.strategy.clone());
                        lines.extend(steps(job, &contexts));
                    }
                }
            }
            None => {
                lines.push(format!(
                    "  job {}{after}{runs}; the rest is known when these are done",
                    clean(&job.id.value)
                ));
                lines.extend(steps(job, &prepared.contexts));
            }
        }
    }
    Ok(lines)
}

fn steps<'a>(job: &'a workflow::Job, contexts: &'a Contexts) -> impl Iterator<Item = String> + 'a {
    job.steps.iter().enumerate().map(|(index, step)| {
        let runs = match step.prospect(contexts) {
            Prospect::Runs => "",
            Prospect::Skipped => ", skipped: its `if` is false",
            Prospect::Open => ", if it turns out so",
        };
        let name = step.name.as_ref().map_or_else(|| step.title(), |name| name.raw().to_owned());
        let what = match &step.action {
            StepAction::Uses { uses, .. } => format!(" [{}]", uses.value),
            _ => String::new(),
        };
        let what = if step.name.is_some() { what } else { String::new() };
        format!("    {index}  {}{runs}", clean(&format!("{name}{what}")))
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
run-name: Of ${{ github.ref_name }}${{ github.token }}
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: debian
    steps:
      - uses: actions/checkout@v4
      - {name: \"Make \\e[2J\", run: make}
      - {if: github.event_name == 'schedule', run: nightly}
      - {if: env.DEEP, run: deep}
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
        let common = Common {
            args: &args,
            facts: &facts,
            vars: &vars,
            secrets: &Value::Null,
            payload: None,
            filters: &[],
            token: "t0k3n",
        };
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
