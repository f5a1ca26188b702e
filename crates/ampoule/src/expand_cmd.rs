//! `ampoule expand`: the jobs that a workflow becomes, with those of the workflows that it calls.
//!
//! ```text
//!  file ─▶ parse ─▶ Plan::with_calls (files of the repository) ─▶ foresee each job ─┬─▶ table
//!                                                 ▲───── the jobs of a call ◀───────┤
//!                                                                                   └─▶ JSON
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: nothing runs, and nothing is read outside of the repository but
//! the files that are named; what hangs on what other jobs give out is said to do so; a job that cannot be expanded
//! hides no other.

use std::{
    io::{self, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use doc::Diagnostic;
use serde_json::{Map, Value as Json, json};
use workflow::{
    ContextName, Contexts, Eval, ExpandedJob, Job, Machines, Plan, Prospect, Resolved, Results, RunState,
    Surroundings, Value, Verdict, Workflow, WorkflowRef,
};

use crate::{
    class::{Class, Classed, End},
    cli::args::ExpandArgs,
    exec::{
        find,
        github::{self, Facts, PayloadError},
        inputs,
        prepare::{self, NoEvent, PrepareError},
        show,
    },
    pretty,
    sanitise::{self, Colours},
    sink::Look,
    table,
    worktree::{self, WorkTree},
};

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum ExpandCmdError {
    /// The repository cannot be read.
    #[error(transparent)]
    Tree(#[from] worktree::Error),
    /// The workflow cannot be read, or not with this event and these inputs.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The event's payload cannot be used.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for ExpandCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Tree(error) => error.class(),
            Self::Prepare(error) => error.class(),
            Self::Payload(error) => error.class(),
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

/// Prints the jobs, or shows what is wrong with the workflow.
pub fn run(args: &ExpandArgs) -> Result<End, ExpandCmdError> {
    match expand(args) {
        Ok((shown, warnings)) => {
            show(Look::of(&io::stderr()), &warnings);
            let text = if args.json { pretty::json(&shown.json()) } else { shown.text() };
            io::stdout().lock().write_all(text.as_bytes()).map_err(ExpandCmdError::Output)?;
            show(Look::of(&io::stderr()), &shown.faults.all());
            Ok(shown.end())
        }
        Err(ExpandCmdError::Prepare(PrepareError::Diagnostics(found))) => {
            show(Look::of(&io::stderr()), &found);
            Ok(Class::User.into())
        }
        Err(error) => Err(error),
    }
}

fn expand(args: &ExpandArgs) -> Result<(Shown, Vec<Diagnostic>), ExpandCmdError> {
    let file = absolute(&args.file);
    let tree = WorkTree::find(&repository(&file))?;
    let facts = Facts::of(&tree);
    let (workflow, mut warnings) = prepare::parse(tree.root(), &file)?;
    let payload = match &args.eventpath {
        Some(path) => Some(github::read_payload(path)?),
        None => None,
    };
    let (event, contexts) = surroundings(&workflow, args, &facts, payload)?;
    let mut resolve = |uses: &WorkflowRef| resolved(tree.root(), uses);
    let (plan, more) =
        Plan::with_calls(Arc::clone(&workflow), &mut resolve).map_err(PrepareError::Diagnostics)?;
    warnings.extend(more);
    let mut shown = Shown { workflow, event, rows: Vec::new(), faults: Faults::default(), full: false };
    let outer = Outer { id: String::new(), name: String::new(), needs: Vec::new(), runs: Runs::Yes };
    shown.walk(&plan.on(Machines::Any), &contexts, &outer);
    Ok((shown, warnings))
}

/// Links of the path are followed, as they are where the repository is found.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The directory whose workflow a file is: above `.forgejo/workflows` and its kin, else that of the file.
fn repository(file: &Path) -> PathBuf {
    let workflows = |dir: &&Path| find::DIRECTORIES.into_iter().any(|name| dir.ends_with(name));
    let above = file.ancestors().find(workflows).and_then(|dir| dir.ancestors().nth(2));
    let beside = file.parent().filter(|dir| dir.is_dir());
    // a file that is not there is what is wrong, not its directory
    above.filter(|dir| dir.is_dir()).or(beside).unwrap_or(Path::new(".")).to_owned()
}

/// The event, and what the jobs see of it.
fn surroundings(
    workflow: &Workflow,
    args: &ExpandArgs,
    facts: &Facts,
    payload: Option<Map<String, Json>>,
) -> Result<(String, Contexts), PrepareError> {
    let file = workflow.source.name().to_owned();
    let event = prepare::event_of(workflow, args.event.as_deref());
    let Some(trigger) = workflow.trigger(&event) else {
        let events: Vec<_> = workflow.on.iter().map(|trigger| trigger.event.value.as_str()).collect();
        return Err(NoEvent { workflow: file, event, events: events.join(", ") }.into());
    };
    let mut inputs = inputs::typed(workflow, &event, &args.inputs)
        .map_err(|source| PrepareError::Input { workflow: file.clone(), source })?;
    let mut payload = payload.unwrap_or_else(|| github::payload(facts, &event));
    if event == "workflow_dispatch" {
        payload.insert("inputs".to_owned(), Value::from(inputs.clone()).to_json());
    }
    let run = github::Run { workflow: workflow.title(), file: &file, event: &event };
    let vars: Map<String, Json> =
        args.vars.iter().map(|pair| (pair.key.clone(), pair.value.clone().into())).collect();
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Github, Value::from_json(&github::context(facts, run, payload)));
    contexts.set(ContextName::Vars, Value::from_json(&Json::Object(vars)));
    for input in &trigger.inputs {
        let given = args.inputs.iter().any(|pair| pair.key == input.name.value);
        let Some(computed) = input.computed.as_ref().filter(|_| !given) else { continue };
        contexts.set(ContextName::Inputs, inputs.clone());
        match computed.eval(&contexts) {
            Ok(Eval::Value(value)) => inputs.insert(input.name.value.as_str(), value),
            Ok(Eval::Need(_)) => {}
            Err(error) => return Err(PrepareError::Diagnostics(vec![error.to_diagnostic()])),
        }
    }
    contexts.set(ContextName::Inputs, inputs);
    Ok((event, contexts))
}

/// The file of a called workflow, of the repository at `root`.
fn resolved(root: &Path, uses: &WorkflowRef) -> Resolved {
    let WorkflowRef::Local(path) = uses else { return Resolved::Elsewhere };
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Resolved::Missing("it lies outside of the repository".to_owned());
    }
    match prepare::read(root, &root.join(path)) {
        Ok(source) => Resolved::Text(source),
        Err(PrepareError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Resolved::Missing("the repository has no such file".to_owned())
        }
        Err(PrepareError::Read { source, .. }) => Resolved::Missing(format!("it cannot be read: {source}")),
        Err(error) => Resolved::Missing(error.to_string()),
    }
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Yes,
    No,
    /// That hangs on what it needs.
    Maybe,
    /// As does what it becomes.
    Later,
    /// What it becomes cannot be told.
    Error,
}

impl Runs {
    fn text(self) -> &'static str {
        match self {
            Runs::Yes => "yes",
            Runs::No => "no",
            Runs::Maybe => "maybe",
            Runs::Later => "later",
            Runs::Error => "error",
        }
    }

    /// Within a call that runs so.
    fn within(self, outer: Runs) -> Runs {
        match (outer, self) {
            (_, Runs::Error) | (Runs::Error, _) => Runs::Error,
            (Runs::No, _) | (_, Runs::No) => Runs::No,
            (_, Runs::Later) => Runs::Later,
            (Runs::Maybe | Runs::Later, _) | (_, Runs::Maybe) => Runs::Maybe,
            (Runs::Yes, Runs::Yes) => Runs::Yes,
        }
    }
}

/// The call that jobs are of.
struct Outer {
    /// Before their ids, with a dot at its end.
    id: String,
    /// Before their names, with a slash.
    name: String,
    /// What they need that need nothing within.
    needs: Vec<String>,
    runs: Runs,
}

/// A job.
struct Row {
    id: String,
    name: String,
    needs: Vec<String>,
    runs_on: Vec<String>,
    runs: Runs,
    matrix: Json,
    uses: Option<String>,
    file: String,
}

/// What a job calls, as written.
fn uses(job: &Job) -> Option<String> {
    let call = job.call.as_ref()?;
    let computed = call.uses.expr().map(|template| template.raw().to_owned());
    computed.or_else(|| call.uses.written().map(|uses| uses.value.to_string()))
}

/// What is wrong with jobs that are not shown, each once: a call of a matrix says the same for each of its jobs.
#[derive(Default)]
struct Faults {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Faults {
    /// Nobody reads more.
    const MOST: usize = 100;

    fn note(&mut self, found: Vec<Diagnostic>) {
        for fault in found {
            if self.found.contains(&fault) {
                continue;
            }
            if self.found.len() < Faults::MOST {
                self.found.push(fault);
            } else {
                self.more += 1;
            }
        }
    }

    fn all(&self) -> Vec<Diagnostic> {
        let mut all = self.found.clone();
        if self.more > 0 {
            all.push(Diagnostic::error(format!("{} more errors are not shown", self.more)));
        }
        all
    }
}

/// Most jobs that are shown: calls of matrices within calls of matrices multiply, in four files to millions.
const MOST_JOBS: usize = 10_000;

struct Shown {
    workflow: Arc<Workflow>,
    event: String,
    rows: Vec<Row>,
    faults: Faults,
    /// Whether there would be more than [`MOST_JOBS`].
    full: bool,
}

impl Shown {
    fn end(&self) -> End {
        if self.faults.found.is_empty() { End::Success } else { Class::User.into() }
    }

    fn walk(&mut self, plan: &Plan, contexts: &Contexts, outer: &Outer) {
        let results = Results::new();
        let around = Surroundings { results: &results, contexts, run: RunState::Running, filters: &[] };
        let prospects = plan.prospects(around);
        for job in plan.jobs() {
            if self.rows.len() >= MOST_JOBS {
                return self.too_many(plan, job);
            }
            let id = format!("{}{}", outer.id, job.id.value);
            let needs: Vec<_> = job.needs.iter().map(|need| format!("{}{}", outer.id, need.value)).collect();
            let row = Row {
                name: format!("{}{}", outer.name, job.id.value),
                needs: if needs.is_empty() { outer.needs.clone() } else { needs },
                runs_on: Vec::new(),
                runs: Runs::Later.within(outer.runs),
                matrix: Json::Null,
                uses: uses(job),
                file: plan.workflow().source.name().to_owned(),
                id,
            };
            let runs = match prospects.get(job.id.value.as_str()) {
                Some(Prospect::Runs) => Runs::Yes,
                Some(Prospect::Skipped) => Runs::No,
                Some(Prospect::Open) | None => Runs::Maybe,
            };
            match plan.foresee(&job.id.value, around) {
                Ok(None) => self.rows.push(Row { runs: row.runs.within(runs), ..row }),
                Ok(Some(expansion)) => {
                    for expanded in expansion.jobs {
                        if self.rows.len() >= MOST_JOBS {
                            return self.too_many(plan, job);
                        }
                        self.one(&expanded, runs, &row, outer);
                    }
                }
                Err(found) => {
                    self.faults.note(found);
                    self.rows.push(Row { runs: Runs::Error, ..row });
                }
            }
        }
    }

    fn too_many(&mut self, plan: &Plan, job: &Job) {
        if self.full {
            return;
        }
        self.full = true;
        let fault = Diagnostic::error(format!("the workflow becomes more than {MOST_JOBS} jobs"))
            .at(&plan.workflow().source, job.id.span)
            .label("the rest is not shown from here on")
            .help("a call from a matrix makes all jobs of the called workflow once for each value");
        self.faults.note(vec![fault]);
    }

    /// One job of a matrix, and the jobs that it calls.
    fn one(&mut self, job: &ExpandedJob, runs: Runs, row: &Row, outer: &Outer) {
        let runs = match job.verdict {
            Verdict::Run => runs.within(outer.runs),
            Verdict::Skip => Runs::No,
        };
        let name = format!("{}{}", outer.name, job.name);
        self.rows.push(Row {
            id: row.id.clone(),
            name: name.clone(),
            needs: row.needs.clone(),
            runs_on: job.runs_on.clone(),
            runs,
            matrix: job.matrix.to_json(),
            uses: row.uses.clone(),
            file: row.file.clone(),
        });
        let Some(call) = &job.call else { return };
        let outer =
            Outer { id: format!("{}.", row.id), name: format!("{name} / "), needs: row.needs.clone(), runs };
        self.walk(&call.plan, &call.contexts, &outer);
    }

    fn text(&self) -> String {
        let list =
            |texts: &[String]| if texts.is_empty() { "-".to_owned() } else { clean(&texts.join(", ")) };
        let cells = self.rows.iter().map(|row| {
            let on = match &row.uses {
                Some(uses) => format!("calls {}", clean(uses)),
                None => list(&row.runs_on),
            };
            [clean(&row.id), clean(&row.name), list(&row.needs), on, row.runs.text().to_owned()]
        });
        table::text(["JOB", "NAME", "NEEDS", "RUNS-ON", "RUNS"], &cells.collect::<Vec<_>>())
    }

    fn json(&self) -> Json {
        let jobs = self.rows.iter().map(|row| {
            json!({
                "id": row.id,
                "name": row.name,
                "needs": row.needs,
                "runs_on": row.runs_on,
                "runs": row.runs.text(),
                "matrix": row.matrix,
                "uses": row.uses,
                "file": row.file,
            })
        });
        json!({
            "workflow": self.workflow.title(),
            "file": self.workflow.source.name(),
            "event": self.event,
            "jobs": jobs.collect::<Vec<_>>(),
        })
    }
}

fn clean(text: &str) -> String {
    sanitise::line(&text.replace(['\n', '\r', '\t'], " "), Colours::Drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    const CI: &str = "name: CI
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: ${{ matrix.os }}
    strategy: {matrix: {os: [debian, windows-latest], include: [{os: debian, extra: x}]}}
    steps: [{run: make}]
  checks:
    needs: build
    uses: ./.forgejo/workflows/checks.yml
    strategy: {matrix: {level: [1, 2]}}
    with: {label: 'l${{ matrix.level }}', deep: '${{ matrix.level > 1 }}'}
  remote: {uses: 'o/r/.forgejo/workflows/x.yml@v1'}
  later:
    needs: build
    runs-on: ${{ needs.build.outputs.label }}
    steps: [{run: a}]
  undo: {needs: checks, if: failure(), runs-on: debian, steps: [{run: a}]}
  nightly: {if: github.event_name == 'schedule', uses: ./.forgejo/workflows/checks.yml, with: {label: n}}
";
    const CHECKS: &str = "on:
  workflow_call:
    inputs: {label: {type: string, required: true}, deep: {type: boolean}}
jobs:
  lint: {runs-on: '${{ inputs.label }}', steps: [{run: a}]}
  fuzz: {needs: lint, if: inputs.deep, runs-on: [a, b], steps: [{run: a}]}
";

    fn said(dir: &Path, words: &[&str]) -> String {
        let file = dir.join(".forgejo/workflows/ci.yml").display().to_string();
        let words = ["ampoule", "expand", file.as_str()].into_iter().chain(words.iter().copied());
        let Command::Expand(args) = Cli::parse_from(words).command else { panic!("expand") };
        match expand(&args) {
            Ok((shown, _)) if args.json => format!("{:#}", shown.json()),
            Ok((shown, _)) => {
                let faults = shown.faults.all();
                assert_eq!(shown.end(), if faults.is_empty() { End::Success } else { End::User });
                let said = faults.iter().map(|fault| format!("{fault}\n"));
                shown.text() + &said.collect::<String>()
            }
            Err(ExpandCmdError::Prepare(PrepareError::Diagnostics(found))) => {
                found.iter().map(|fault| fault.render(doc::Rendering::Plain)).collect::<Vec<_>>().join("\n")
            }
            Err(error) => error.to_string(),
        }
    }

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".forgejo/workflows")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(".forgejo/workflows").join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn jobs_of_matrices_and_calls() {
        let dir = repository(&[("ci.yml", CI), ("checks.yml", CHECKS)]);
        insta::assert_snapshot!("jobs", said(dir.path(), &[]));
        let json: Json = serde_json::from_str(&said(dir.path(), &["--json"])).unwrap();
        assert_eq!(json["jobs"][3]["id"], "checks.lint");
        assert_eq!(json["jobs"][3]["runs_on"], json!(["l1"]));
        assert_eq!(json["jobs"][0]["matrix"], json!({"os": "debian", "extra": "x"}));
        assert_eq!(json["event"], "push");
    }

    #[test]
    fn a_called_workflow_by_itself() {
        let dir = repository(&[("ci.yml", CHECKS)]);
        let table = said(dir.path(), &["--input", "label=me", "--input", "deep=true"]);
        assert_eq!(
            table,
            "JOB   NAME  NEEDS  RUNS-ON  RUNS\nlint  lint  -      me       yes\nfuzz  fuzz  lint   a, b     yes\n"
        );
        assert!(said(dir.path(), &[]).contains("`label` is required"));
        assert!(said(dir.path(), &["--event", "push"]).contains("is not started by push"));
    }

    #[test]
    fn a_job_that_cannot_be_expanded_hides_no_other() {
        let ci = "on: push
jobs:
  a: {runs-on: '${{ vars.NONE }}', steps: [{run: a}]}
  b: {runs-on: debian, needs: a, steps: [{run: a}]}
  c: {runs-on: x, strategy: {matrix: '${{ fromJSON(vars.NONE) }}'}, steps: [{run: a}]}
  d:
    uses: ./.forgejo/workflows/checks.yml
    strategy: {matrix: {level: ['', l]}}
    with: {label: '${{ matrix.level }}'}
  e: {uses: ./.forgejo/workflows/checks.yml, strategy: {matrix: {n: [1, 2]}}, with: {label: ''}}
";
        let dir = repository(&[("ci.yml", ci), ("checks.yml", CHECKS)]);
        insta::assert_snapshot!("faulty_jobs", said(dir.path(), &[]));
        let json: Json = serde_json::from_str(&said(dir.path(), &["--json"])).unwrap();
        assert_eq!((&json["jobs"][0]["runs"], &json["jobs"][0]["runs_on"]), (&json!("error"), &json!([])));
        assert_eq!(json["jobs"][1]["runs_on"], json!(["debian"]));
    }

    #[test]
    fn calls_of_matrices_are_not_multiplied_without_end() {
        let values = (0..64).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
        let caller = |next: &str| {
            let matrix = format!("strategy: {{matrix: {{x: [{values}]}}}}");
            format!(
                "on: [push, workflow_call]\njobs:\n  a:\n    {matrix}\n    uses: ./.forgejo/workflows/{next}\n"
            )
        };
        let texts = [caller("b.yml"), caller("c.yml"), caller("d.yml")];
        let leaf = "on: workflow_call\njobs: {z: {runs-on: debian, steps: [{run: make}]}}\n";
        let dir =
            repository(&[("ci.yml", &texts[0]), ("b.yml", &texts[1]), ("c.yml", &texts[2]), ("d.yml", leaf)]);
        let json: Json = serde_json::from_str(&said(dir.path(), &["--json"])).unwrap();
        assert_eq!(json["jobs"].as_array().map(Vec::len), Some(MOST_JOBS));
        let text = said(dir.path(), &[]);
        assert_eq!(text.matches("the workflow becomes more than 10000 jobs").count(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let dir = repository(&[("ci.yml", CI)]);
        assert!(said(dir.path(), &[]).contains("there is no workflow `./.forgejo/workflows/checks.yml`"));
        let outside = "on: push\njobs: {a: {uses: './../x.yml'}}\n";
        let dir = repository(&[("ci.yml", outside)]);
        assert!(said(dir.path(), &[]).contains("it lies outside of the repository"));
    }
}
