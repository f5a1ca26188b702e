//! Runs prepared workflows, one after the other, on one engine.
//!
//! Owner: `exec`. The tokio runtime lives as long as [`run_all`]; the engine is closed before it ends.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use job::{Cancel, JobContext, JobSpec, Outcome, Reason, Repository, RunnerFacts, Stopped, Workspace};
use secrecy::ExposeSecret;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use workflow::{Conclusion, ExpandedJob, MatrixFilter, Value, mask::Masker};

use super::{
    ExecError,
    github::Facts,
    machine::{self, Machine},
    prepare::Prepared,
    schedule::{self, Ended, Finished, Work},
    shell::Shells,
    values::Values,
    warn,
    working_tree::LocalTree,
};
use crate::{
    class::{Classed, End},
    cli::args::ExecArgs,
    registry::Registry,
    signals::{Signal, Signals, Wish},
    sink::{Json, Look, Out, Prefix, RunEnd, RunStart, Say, Sink, Terminal, Writer},
    worktree::WorkTree,
};

/// Events of one job under way to the sink, at most.
const EVENTS: usize = 64;

/// How long a shell may take to leave the terminal when all is to end.
const LEAVE: Duration = Duration::from_secs(1);

/// How long a job may take to end when another of its matrix failed and somebody may be in a shell of it.
const UNHURRIED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What all workflows share.
pub(super) struct Shared<'a> {
    pub(super) args: &'a ExecArgs,
    pub(super) registry: &'a Registry,
    pub(super) tree: Arc<WorkTree>,
    pub(super) values: Values,
    pub(super) vars: &'a Value,
    pub(super) filters: &'a [MatrixFilter],
    pub(super) state_dir: PathBuf,
    pub(super) facts: &'a Facts,
}

/// Runs them all; the worst end.
pub(super) fn run_all(prepared: &[Prepared], shared: Shared<'_>, look: Look) -> Result<End, ExecError> {
    let runtime = crate::runtime::new().map_err(ExecError::Runtime)?;
    let end = runtime.block_on(async {
        // before anything is made that would have to be removed
        let signals = Signals::listen().map_err(ExecError::Runtime)?;
        let parallel = parallel();
        let writer = Writer::start(sink(&shared, prepared, parallel)).map_err(ExecError::Runtime)?;
        let end = supervised(prepared, &shared, &signals, &writer, parallel, look).await;
        let written = writer.finish().await;
        match (end, written) {
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(ExecError::Output(error)),
            (Ok(end), _) => Ok(end),
        }
    });
    // a thread that is stuck in a stopped terminal is left behind
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

fn sink(shared: &Shared<'_>, prepared: &[Prepared], parallel: usize) -> Box<dyn Sink> {
    let out = BufWriter::with_capacity(32 << 10, io::stdout());
    if shared.args.json {
        return Box::new(Json::new(out));
    }
    let several = prepared.iter().any(|workflow| {
        workflow.plan.jobs().count() > 1 || workflow.plan.jobs().any(|job| job.strategy.is_some())
    });
    let prefix = if several && parallel > 1 { Prefix::Job } else { Prefix::None };
    Box::new(Terminal::new(out, Look::of(&io::stdout()), prefix))
}

/// Jobs at once: each has 2 virtual processors.
fn parallel() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 2))
}

async fn supervised(
    prepared: &[Prepared],
    shared: &Shared<'_>,
    signals: &Signals,
    writer: &Writer,
    parallel: usize,
    look: Look,
) -> Result<End, ExecError> {
    let broken = writer.broken();
    let out = writer.out();
    let wish = signals.wish();
    let shells = shared.args.shell_on_failure.then(|| Shells::new(signals.wish()));
    // it would end us with the terminal as a shell has it
    let mut quit = match &shells {
        Some(_) => Some(signal(SignalKind::quit()).map_err(ExecError::Runtime)?),
        None => None,
    };
    let work = async {
        let mut ending = signals.wish();
        let machine = tokio::select! {
            machine = machine::open(shared.args, shared.registry, &shared.state_dir, look) => machine?,
            () = ended(&mut ending) => return Ok(End::Cancelled),
        };
        let machine = Arc::new(machine);
        let mut worst = Ok(End::Success);
        for workflow in prepared {
            let run = Run { workflow, shared, machine: &machine, out: &out, parallel, shells: &shells };
            let end = run.run(wish.clone(), look).await;
            worst = worst.and_then(|worst: End| end.map(|end| worst.max(end)));
            if worst.is_err() || *wish.borrow() != Wish::Run {
                break;
            }
        }
        if shared.args.warm && *wish.borrow() == Wish::Run {
            // so that the next run need not wait; nothing of this one does
            if let Err(error) = machine.engine.keep_ready(&machine.machinery().any_job(), 1).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no VM is kept ready for the next run");
            }
        }
        machine.engine.close().await;
        worst
    };
    tokio::pin!(work);
    let mut seen = signals.wish();
    let mut told = false;
    loop {
        tokio::select! {
            end = &mut work => return end,
            how = broken.how(), if !told => {
                told = true;
                signals.raise(how);
            }
            Some(()) = recv(&mut quit) => {
                signals.raise(Signal::Terminate);
                signals.raise(Signal::Terminate);
            }
            Ok(()) = seen.changed() => {
                let wish = *seen.borrow_and_update();
                if let Some(shells) = &shells {
                    // a shell that is open ends now; one that cannot must not keep this from being said
                    let _ = tokio::time::timeout(LEAVE, shells.turn()).await;
                }
                match wish {
                    Wish::Run => {}
                    Wish::End(signal) => warn(look, &format!(
                        "{}: the running steps are stopped, and `always()` steps get 5 minutes; once more ends \
                         all at once",
                        signal.reason()
                    )),
                    Wish::EndNow(signal) => {
                        warn(look, &format!("{} again: the VMs are destroyed", signal.reason()));
                    }
                }
            }
        }
    }
}

/// The next signal of a kind that may not be listened to.
async fn recv(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns when the user wants the end.
pub(super) async fn ended(wish: &mut watch::Receiver<Wish>) {
    if wish.wait_for(|wish| *wish != Wish::Run).await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Run<'a> {
    workflow: &'a Prepared,
    shared: &'a Shared<'a>,
    machine: &'a Arc<Machine>,
    out: &'a Out,
    parallel: usize,
    shells: &'a Option<Shells>,
}

impl Run<'_> {
    async fn run(&self, wish: watch::Receiver<Wish>, look: Look) -> Result<End, ExecError> {
        let begun = Instant::now();
        let plan = &self.workflow.plan;
        self.out
            .send(Say::RunStart(RunStart {
                time: Timestamp::now(),
                workflow: plan.workflow().title().to_owned(),
                title: self.workflow.title.clone(),
                event: self.workflow.event.clone(),
                jobs: plan.jobs().map(|job| job.id.value.clone()).collect(),
            }))
            .await;
        let context = self.context()?;
        let secrets = self.shared.values.secrets.values().map(|value| value.expose_secret());
        let masker = Masker::new(secrets).ok();
        let work = Work {
            plan,
            contexts: &self.workflow.contexts,
            filters: self.shared.filters,
            masker: masker.as_ref(),
            parallel: self.parallel,
            fail_fast: if self.shells.is_some() { UNHURRIED } else { schedule::GRACE },
        };
        let start = |job: ExpandedJob, cancel: Cancel| {
            let show = Show { out: self.out.clone(), look, shells: self.shells.clone() };
            one_job(job, cancel, context.clone(), Arc::clone(self.machine), show)
        };
        let finished = schedule::drive(work, self.out.clone(), wish, start).await;
        let result = outcome(finished.conclusion());
        self.out
            .send(Say::RunEnd(RunEnd { time: Timestamp::now(), result, duration: begun.elapsed() }))
            .await;
        Ok(end(&finished))
    }

    fn context(&self) -> Result<JobContext, ExecError> {
        let shared = self.shared;
        Ok(JobContext {
            github: self.workflow.github.clone(),
            vars: shared.vars.clone(),
            inputs: self.workflow.inputs.clone(),
            secrets: shared.values.secrets.clone(),
            masks: Vec::new(),
            env: shared.values.env.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
            repository: Repository::parse(&shared.facts.repository)?,
            tree: Arc::new(LocalTree::new(Arc::clone(&shared.tree))),
            workspace: Workspace::Tree,
            runner: RunnerFacts { name: "ampoule".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            failures: None,
            forwards: shared.args.forwards.clone(),
            services: sandbox::Services::default(),
            authorities: None,
        })
    }
}

/// Where a job is shown.
struct Show {
    out: Out,
    look: Look,
    shells: Option<Shells>,
}

/// One job, and its events on their way to the sink.
async fn one_job(
    job: ExpandedJob,
    cancel: Cancel,
    mut context: JobContext,
    machine: Arc<Machine>,
    Show { out, look, shells }: Show,
) -> Ended {
    let (events, mut said) = mpsc::channel(EVENTS);
    let (failures, mut failed) = mpsc::channel(1);
    context.failures = shells.is_some().then_some(failures);
    let forward = async {
        loop {
            tokio::select! {
                // all that the job said before its step is shown
                biased;
                event = said.recv() => match event {
                    Some(event) => out.send(Say::Job(event)).await,
                    None => break,
                },
                Some(step) = failed.recv() => if let Some(shells) = &shells {
                    shells.open(step, &out, look).await;
                },
            }
        }
    };
    let run = job::run(JobSpec { job }, context, machine.machinery(), events, cancel);
    let (outcome, ()) = tokio::join!(run, forward);
    match outcome {
        Ok(outcome) => {
            let conclusion = match (outcome.result, outcome.stopped) {
                (Outcome::Success, _) => Conclusion::Success,
                (Outcome::Failure, _) => Conclusion::Failure,
                (Outcome::Skipped, _) => Conclusion::Skipped,
                (Outcome::Cancelled, Some(Stopped::TimedOut)) => Conclusion::Cancelled,
                (
                    Outcome::Cancelled,
                    Some(Stopped::Cancelled(Reason::User | Reason::Shutdown | Reason::FailFast)),
                ) => Conclusion::Cancelled,
                (Outcome::Cancelled, None) => Conclusion::Cancelled,
            };
            Ended { conclusion, outputs: outcome.outputs, fault: None }
        }
        Err(error) => {
            let _turn = match &shells {
                Some(shells) => shells.turn().await,
                None => None,
            };
            crate::cli::report(look, &error);
            Ended { conclusion: Conclusion::Failure, outputs: BTreeMap::new(), fault: Some(error.class()) }
        }
    }
}

fn outcome(conclusion: Conclusion) -> Outcome {
    match conclusion {
        Conclusion::Success => Outcome::Success,
        Conclusion::Failure => Outcome::Failure,
        Conclusion::Cancelled => Outcome::Cancelled,
        Conclusion::Skipped => Outcome::Skipped,
    }
}

/// How a workflow ends the command: a job that was stopped by its time is a failed workflow, not a
/// cancelled one.
fn end(finished: &Finished) -> End {
    let faults = finished.faults.iter().map(|class| End::from(*class)).max();
    let result = match finished.conclusion() {
        Conclusion::Success | Conclusion::Skipped => End::Success,
        Conclusion::Cancelled if finished.cancelled => End::Cancelled,
        Conclusion::Failure | Conclusion::Cancelled => End::Failed,
    };
    faults.unwrap_or(End::Success).max(result)
}

/// The rows of a dry run: what would be looked at, and that nothing failed.
pub(super) fn dry_run_json(workflow: &Prepared) -> Result<(), ExecError> {
    let mut sink = Json::new(io::stdout());
    let time = Timestamp::now();
    let start = RunStart {
        time,
        workflow: workflow.plan.workflow().title().to_owned(),
        title: workflow.title.clone(),
        event: workflow.event.clone(),
        jobs: workflow.plan.jobs().map(|job| job.id.value.clone()).collect(),
    };
    let end = RunEnd { time, result: Outcome::Success, duration: Duration::ZERO };
    sink.say(&Say::RunStart(start)).and_then(|()| sink.say(&Say::RunEnd(end))).map_err(ExecError::Output)?;
    sink.flush().map_err(ExecError::Output)
}
