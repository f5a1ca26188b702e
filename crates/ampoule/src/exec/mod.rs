//! `ampoule exec`: workflows of the working directory, each job in a VM of its own.
//!
//! ```text
//!  find ─▶ parse ─▶ prepare (event, plan, checks) ─┬─▶ list, dry run
//!                                                  └─▶ machine ─▶ schedule ─▶ job::run per job ─▶ sink
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: everything that can be found without a VM is found before
//! one starts; workflows run one after the other and the worst end of all is the end; whatever happens the
//! engine is closed before this returns, so that nothing of a VM is left.

pub mod dotenv;
mod error;
pub mod find;
pub mod github;
pub mod inputs;
pub mod list;
pub mod machine;
pub mod prepare;
mod runner;
mod schedule;
pub mod values;
mod working_tree;

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use doc::{Diagnostic, Rendering};
use secrecy::ExposeSecret;
use workflow::{MatrixFilter, Value, Workflow};

pub use error::ExecError;

use crate::{
    class::{Class, Classed, End},
    cli::args::ExecArgs,
    registry::Registry,
    sanitise::Colours,
    sink::Look,
    state_dir,
    worktree::WorkTree,
};
use find::Found;
use prepare::{Common, PrepareError, Prepared};

/// Does what the command line asks for.
pub fn run(args: &ExecArgs, registry: &Registry) -> Result<End, ExecError> {
    let look = Look::of(&io::stderr());
    for notice in args.inapplicable.notices() {
        warn(look, &format!("{} means nothing here: {}", notice.option, notice.reason));
    }
    // wrong names are said before anything is looked for
    registry.needs(&args.machine.backend)?;
    let tree = Arc::new(WorkTree::find(&args.directory)?);
    for notice in tree.notices() {
        warn(look, notice);
    }
    let found = find::find(tree.root(), &args.directory, args.workflows.as_deref())?;
    let facts = github::Facts::of(&tree);
    let payload = match &args.eventpath {
        Some(path) => Some(github::read_payload(&find::resolve(&args.directory, path))?),
        None => None,
    };
    let ask: values::Ask<'_> =
        if args.list || args.dryrun { &|_| Ok(String::new().into()) } else { &values::ask_terminal };
    let values = values::gather(args, &args.directory, ask)?;
    let token = ["GITHUB_TOKEN", "FORGEJO_TOKEN", "GITEA_TOKEN"]
        .into_iter()
        .find_map(|name| values.secrets.get(name))
        .map(|token| token.expose_secret().to_owned())
        .unwrap_or_default();
    let vars = Value::from_json(&serde_json::json!(values.vars));
    let filters: Vec<MatrixFilter> = args
        .matrix
        .iter()
        .map(|filter| MatrixFilter { key: filter.key.clone(), value: filter.value.clone() })
        .collect();
    let common = Common {
        args,
        facts: &facts,
        vars: &vars,
        payload: payload.as_ref(),
        filters: &filters,
        token: &token,
    };

    let (parsed, mut worst) = parse(tree.root(), &found, look)?;
    if args.list {
        return listed(parsed, args, worst, look);
    }
    let (prepared, end) = prepare_all(parsed, &found, common, look)?;
    worst = worst.max(end);
    if args.dryrun {
        return dry_run(&prepared, args, worst, look, &filters);
    }
    if prepared.is_empty() {
        return Ok(worst);
    }
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let context = runner::Shared {
        args,
        registry,
        tree,
        values,
        vars: &vars,
        filters: &filters,
        state_dir,
        facts: &facts,
    };
    // a bad workflow of a directory has its own end; the good ones run all the same
    Ok(worst.max(runner::run_all(&prepared, context, look)?))
}

/// Parses what was found; in a directory a bad workflow is told and the others are looked at.
fn parse(root: &Path, found: &Found, look: Look) -> Result<(Vec<Arc<Workflow>>, End), ExecError> {
    let mut workflows = Vec::new();
    let mut worst = End::Success;
    for path in files(found) {
        match prepare::parse(root, path) {
            Ok((workflow, warnings)) => {
                show(look, &warnings);
                workflows.push(workflow);
            }
            Err(error) => worst = worst.max(told(look, error)),
        }
    }
    Ok((workflows, worst))
}

fn files(found: &Found) -> &[std::path::PathBuf] {
    match found {
        Found::File(path) => std::slice::from_ref(path),
        Found::Directory { files, .. } => files,
    }
}

/// Prepares each workflow; those of a directory that the event does not start, or that lack the job, are
/// left out, unless that leaves none.
fn prepare_all(
    parsed: Vec<Arc<Workflow>>,
    found: &Found,
    common: Common<'_>,
    look: Look,
) -> Result<(Vec<Prepared>, End), ExecError> {
    let mut prepared = Vec::new();
    let mut worst = End::Success;
    let mut left_out = None;
    for workflow in parsed {
        match prepare::prepare(workflow, common) {
            Ok((ready, warnings)) => {
                show(look, &warnings);
                prepared.push(ready);
            }
            Err(error @ (PrepareError::NoEvent { .. } | PrepareError::UnknownJob(_)))
                if matches!(found, Found::Directory { .. }) =>
            {
                // which of several is told hardly matters; that of a missing job says more
                if left_out.is_none() || matches!(error, PrepareError::UnknownJob(_)) {
                    left_out = Some(error);
                }
            }
            Err(error) => worst = worst.max(told(look, error)),
        }
    }
    match left_out {
        Some(error) if prepared.is_empty() && worst == End::Success => Err(error.into()),
        _ => Ok((prepared, worst)),
    }
}

fn listed(parsed: Vec<Arc<Workflow>>, args: &ExecArgs, mut worst: End, look: Look) -> Result<End, ExecError> {
    let mut table = list::Table::default();
    for workflow in parsed {
        if args.event.as_deref().is_some_and(|event| workflow.trigger(event).is_none()) {
            continue;
        }
        let plan = match workflow::Plan::new(workflow) {
            Ok(plan) => plan,
            Err(diagnostics) => {
                worst = worst.max(told(look, PrepareError::Diagnostics(diagnostics)));
                continue;
            }
        };
        match &args.job {
            None => table.add(&plan),
            Some(job) => {
                if let Ok(plan) = plan.select(job) {
                    table.add(&plan);
                }
            }
        }
    }
    print(&table.lines())?;
    Ok(worst)
}

fn dry_run(
    prepared: &[Prepared],
    args: &ExecArgs,
    mut worst: End,
    look: Look,
    filters: &[MatrixFilter],
) -> Result<End, ExecError> {
    for workflow in prepared {
        match list::dry_run(workflow, filters) {
            Ok(lines) if args.json => {
                drop(lines);
                runner::dry_run_json(workflow)?;
            }
            Ok(lines) => print(&lines)?,
            Err(diagnostics) => worst = worst.max(told(look, PrepareError::Diagnostics(diagnostics))),
        }
    }
    Ok(worst)
}

fn print(lines: &[String]) -> Result<(), ExecError> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").map_err(ExecError::Output)?;
    }
    out.flush().map_err(ExecError::Output)
}

/// Shows why a workflow cannot run; what that means for the end.
fn told(look: Look, error: PrepareError) -> End {
    match error {
        PrepareError::Diagnostics(diagnostics) => {
            show(look, &diagnostics);
            Class::User.into()
        }
        other => {
            let end = other.class().into();
            crate::cli::report(look, &other);
            end
        }
    }
}

/// Shows diagnostics as rustc does.
fn show(look: Look, diagnostics: &[Diagnostic]) {
    let rendering = match look.colours() {
        Colours::Keep => Rendering::Coloured,
        Colours::Drop => Rendering::Plain,
    };
    let mut err = io::stderr().lock();
    for diagnostic in diagnostics {
        // nobody is left to tell if standard error is gone
        let _ = writeln!(err, "{}\n", diagnostic.render(rendering));
    }
}

fn warn(look: Look, text: &str) {
    let text = crate::sanitise::line(text, Colours::Drop);
    let _ = writeln!(io::stderr().lock(), "{} {text}", look.warning());
}
