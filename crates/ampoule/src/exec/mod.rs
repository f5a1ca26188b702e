//! `ampoule exec`: workflows of the working directory, each job in a VM of its own.
//!
//! ```text
//!  find ─▶ parse ─▶ prepare (event, plan, checks) ─┬─▶ list, dry run
//!                                                  └─▶ machine ─▶ schedule ─▶ job::run per job ─▶ sink
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: everything that can be found without a VM is found before
//! one starts; workflows run one after the other and the worst end of all is the end; whatever happens the
//! engine is closed before this returns, so that nothing of a VM is left.

pub(crate) mod ask;
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
mod shell;
pub mod values;
mod working_tree;

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use doc::{Diagnostic, Rendering};
use secrecy::ExposeSecret;
use workflow::{MatrixFilter, Object, Value, Workflow};

pub use error::ExecError;

use crate::{
    class::{Class, End},
    cli::args::ExecArgs,
    network,
    registry::Registry,
    sanitise::Colours,
    sink::Look,
    state_dir, terminal,
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
    if args.shell_on_failure && !terminal::is_there() {
        return Err(ExecError::NoTerminal);
    }
    // wrong names are said before anything is looked for
    registry.needs(&args.machine.backend)?;
    let tree = Arc::new(WorkTree::find(&args.directory)?);
    for notice in tree.notices() {
        warn(look, notice);
    }
    let depth = if args.no_recurse { find::Depth::Flat } else { find::Depth::All };
    let found = find::find(tree.root(), &args.directory, args.workflows.as_deref(), depth)?;
    let Parsed { workflows, faulty } = parse(tree.root(), &found, look)?;
    if args.list {
        return listed(workflows, args, faulty, look);
    }
    let facts = github::Facts::of(&tree);
    let payload = match &args.eventpath {
        Some(path) => Some(github::read_payload(&find::resolve(&args.directory, path))?),
        None => None,
    };
    let ask: values::Ask<'_> =
        if args.dryrun { &|_| Ok(String::new().into()) } else { &values::ask_terminal };
    let values = values::gather(args, &args.directory, ask)?;
    let token = ["GITHUB_TOKEN", "FORGEJO_TOKEN", "GITEA_TOKEN"]
        .into_iter()
        .find_map(|name| values.secrets.get(name))
        .map(|token| token.expose_secret().to_owned())
        .unwrap_or_default();
    let vars = Value::from_json(&serde_json::json!(values.vars));
    let secrets: Object =
        values.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    let secrets = Value::from(secrets);
    network::check_forwards(&args.forwards)?;
    let filters: Vec<MatrixFilter> = args
        .matrix
        .iter()
        .map(|filter| MatrixFilter { key: filter.key.clone(), value: filter.value.clone() })
        .collect();
    let common = Common {
        args,
        facts: &facts,
        vars: &vars,
        secrets: &secrets,
        payload: payload.as_ref(),
        filters: &filters,
        token: &token,
    };

    let (prepared, unfit) = prepare_all(workflows, &found, common, look)?;
    let bad = faulty + unfit;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    machine::check_image(args, &state_dir)?;
    if args.dryrun {
        return dry_run(&prepared, args, bad, look, &filters);
    }
    if bad > 0 {
        return match found {
            Found::Directory { files, .. } if files.len() > bad => {
                Err(ExecError::BadWorkflows { bad, all: files.len() })
            }
            // it was told what is wrong, and there is no other to choose
            Found::File(_) | Found::Directory { .. } => Ok(Class::User.into()),
        };
    }
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
    runner::run_all(&prepared, context, look)
}

/// What was parsed, and how many files could not be: what is wrong with these was told.
struct Parsed {
    workflows: Vec<Arc<Workflow>>,
    faulty: usize,
}

/// Parses what was found, all of it, so that one run tells everything that is wrong.
fn parse(root: &Path, found: &Found, look: Look) -> Result<Parsed, ExecError> {
    let mut workflows = Vec::new();
    let mut faulty = 0;
    for path in files(found) {
        match prepare::parse(root, path) {
            Ok((workflow, warnings)) => {
                show(look, &warnings);
                workflows.push(workflow);
            }
            Err(error) => {
                tell(look, error);
                faulty += 1;
            }
        }
    }
    Ok(Parsed { workflows, faulty })
}

fn files(found: &Found) -> &[std::path::PathBuf] {
    match found {
        Found::File(path) => std::slice::from_ref(path),
        Found::Directory { files, .. } => files,
    }
}

/// Prepares each workflow, and counts those that cannot run: why was told. Those of a directory that the
/// event does not start, or that lack the job, are left out, unless that leaves none.
fn prepare_all(
    parsed: Vec<Arc<Workflow>>,
    found: &Found,
    common: Common<'_>,
    look: Look,
) -> Result<(Vec<Prepared>, usize), ExecError> {
    let mut prepared = Vec::new();
    let mut unfit = 0;
    let mut not_started = Vec::new();
    let mut without_job = Vec::new();
    for workflow in parsed {
        match prepare::prepare(workflow, common) {
            Ok((ready, warnings)) => {
                show(look, &warnings);
                prepared.push(ready);
            }
            Err(PrepareError::UnknownJob(error)) if matches!(found, Found::Directory { .. }) => {
                without_job.push(error);
            }
            Err(PrepareError::NoEvent(error)) if matches!(found, Found::Directory { .. }) => {
                not_started.push(error);
            }
            Err(error) => {
                tell(look, error);
                unfit += 1;
            }
        }
    }
    if prepared.is_empty() && unfit == 0 {
        // that of a missing job says more
        if let Some(error) =
            PrepareError::job_nowhere(without_job).or_else(|| PrepareError::event_nowhere(not_started))
        {
            return Err(error.into());
        }
    }
    Ok((prepared, unfit))
}

fn listed(
    workflows: Vec<Arc<Workflow>>,
    args: &ExecArgs,
    mut bad: usize,
    look: Look,
) -> Result<End, ExecError> {
    let mut table = list::Table::default();
    for workflow in workflows {
        if args.event.as_deref().is_some_and(|event| workflow.trigger(event).is_none()) {
            continue;
        }
        let plan = match workflow::Plan::new(workflow) {
            Ok(plan) => plan,
            Err(diagnostics) => {
                tell(look, PrepareError::Diagnostics(diagnostics));
                bad += 1;
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
    Ok(looked_at(bad))
}

/// The end of a look that runs nothing.
fn looked_at(bad: usize) -> End {
    if bad == 0 { End::Success } else { Class::User.into() }
}

fn dry_run(
    prepared: &[Prepared],
    args: &ExecArgs,
    mut bad: usize,
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
            Err(diagnostics) => {
                tell(look, PrepareError::Diagnostics(diagnostics));
                bad += 1;
            }
        }
    }
    Ok(looked_at(bad))
}

fn print(lines: &[String]) -> Result<(), ExecError> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").map_err(ExecError::Output)?;
    }
    out.flush().map_err(ExecError::Output)
}

/// Shows why a workflow cannot run.
fn tell(look: Look, error: PrepareError) {
    match error {
        PrepareError::Diagnostics(diagnostics) => show(look, &diagnostics),
        other => crate::cli::report(look, &other),
    }
}

/// Shows diagnostics as rustc does.
pub(crate) fn show(look: Look, diagnostics: &[Diagnostic]) {
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

/// Says something that does not keep the command from going on.
pub(crate) fn warn(look: Look, text: &str) {
    let text = crate::sanitise::line(text, Colours::Drop);
    let _ = writeln!(io::stderr().lock(), "{} {text}", look.warning());
}
