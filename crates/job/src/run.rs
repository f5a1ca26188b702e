//! A job from its first event to its last.
//!
//! Purpose: the life of the VM around the steps: made for them, and gone before the last event.
//! Owner: [`crate::run`]'s caller.
//!
//! ```text
//!  JobStart ─▶ lease ─▶ fill the workspace ─▶ steps ─▶ outputs ─▶ destroy ─▶ open steps end ─▶ JobEnd
//!                └──────────┴── cancel, error ─┴─────────┴───────────▲
//! ```

use std::{collections::BTreeMap, time::Instant as StdInstant};

use sandbox::{
    Account, Bind, Directory, Error as SandboxError, Gone, Lease, LeaseSpec, Origin, Sandbox, Start,
};
use secrecy::ExposeSecret as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use vm::OwnerLoss;
use workflow::{ExpandedJob, Object, Value, Verdict, mask::Masker, matcher::Matchers};

use crate::{
    Cancel, Error, Event, EventKind, JobContext, JobOutcome, JobSpec, Machinery, Outcome, Reason, Stopped,
    Workspace, authorities,
    checkout::TreeState,
    drive::{Limits, Stop},
    environ::{Environ, Facts, Vars},
    files::Archive,
    guest::{Fault, Guest, OWN_DIR, workspace},
    introduce::introduce,
    log::Log,
    output::DebugRows,
    reads::{Reads, reads},
    refused,
    scope::{self, Progress, Scope},
    steps::Steps,
};

/// A job without `timeout-minutes`.
const DEFAULT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(360 * 60);

/// Most bytes of an output's value, and of its name, as the server takes them.
const MAX_OUTPUT: usize = 1 << 20;
const MAX_OUTPUT_NAME: usize = 255;

pub(crate) async fn run(
    spec: JobSpec,
    context: JobContext,
    machine: Machinery<'_>,
    events: mpsc::Sender<Event>,
    cancel: Cancel,
) -> Result<JobOutcome, Error> {
    let started = StdInstant::now();
    let job = &spec.job;
    let masker = masker(&context);
    let (masker, unmaskable) = match masker {
        Ok(masker) => (masker, None),
        // Nothing that could hold a secret is said from here on: the id is the workflow's own text.
        Err(error) => (Masker::default(), Some(error)),
    };
    let name = if unmaskable.is_some() { &job.id } else { &job.name };
    let mut log = Log::new(name, masker, events);
    if job.verdict == Verdict::Skip {
        let outcome = outcome(Outcome::Skipped, BTreeMap::new(), None, BTreeMap::new());
        finish(&mut log, &outcome, started).await;
        return Ok(outcome);
    }
    log.event(EventKind::JobStart).await;
    if let Some(error) = unmaskable {
        let outcome = outcome(Outcome::Failure, BTreeMap::new(), None, BTreeMap::new());
        finish(&mut log, &outcome, started).await;
        return Err(Error::Secrets(error));
    }
    if let Some(text) = unencoded(log.masker.unencoded()) {
        log.say(None, &text).await;
    }
    let mut steps = prepare(job, &context, &machine, &cancel, log);
    let result = session(&mut steps, job, &machine).await;
    let (result, outputs) = match result {
        Ok(outputs) => (Ok(()), outputs),
        Err(error) => {
            let step = steps.current.map(|(index, _)| index);
            steps.log.say(step, &format!("##[error]{}", whole(&error))).await;
            (Err(error), BTreeMap::new())
        }
    };
    close(&mut steps, result.is_err()).await;
    let ended = if result.is_err() { Outcome::Failure } else { steps.scope.progress().outcome() };
    let outcome = outcome(ended, outputs, steps.stopped, std::mem::take(&mut steps.summaries));
    finish(&mut steps.log, &outcome, started).await;
    result.map(|()| outcome)
}

fn outcome(
    result: Outcome,
    outputs: BTreeMap<String, String>,
    stopped: Option<Stopped>,
    summaries: BTreeMap<usize, String>,
) -> JobOutcome {
    JobOutcome { result, outputs, stopped, summaries }
}

async fn finish(log: &mut Log, outcome: &JobOutcome, started: StdInstant) {
    let JobOutcome { result, outputs, .. } = outcome;
    let (result, outputs) = (*result, outputs.clone());
    log.event(EventKind::JobEnd { result, outputs, duration: started.elapsed() }).await;
}

/// All that must not be shown, as far as it is known before the first step.
fn masker(context: &JobContext) -> Result<Masker, workflow::mask::TooManyMasks> {
    let secrets = context.secrets.values().chain(&context.masks).map(|value| value.expose_secret());
    let mut masker = Masker::new(secrets)?;
    if let Value::Object(github) = &context.github {
        for (name, value) in github.iter() {
            if name == "token" || name.ends_with("_token") {
                masker.add(&value.to_text())?;
            }
        }
    }
    Ok(masker)
}

/// What the log says where secrets are so large that not all of their forms are looked for.
fn unencoded(count: usize) -> Option<String> {
    let which = match count {
        0 => return None,
        1 => "a secret is".to_owned(),
        count => format!("{count} secrets are"),
    };
    Some(format!(
        "##[warning]{which} masked only as written, not in base64 nor in other encodings: all secrets together are \
         too large for that"
    ))
}

/// An error with its causes, as one line.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What is known before there is a VM. Paths are as in a VM; [`session`] corrects them.
fn prepare<'a>(
    job: &'a ExpandedJob,
    context: &'a JobContext,
    machine: &Machinery<'_>,
    cancel: &'a Cancel,
    log: Log,
) -> Steps<'a> {
    let model = job.job();
    let debug = wants_debug(context);
    let mut outer = Vars::default();
    outer.extend(context.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let environ = Environ::new(facts(context, machine, debug, &String::clone), outer);
    let scope = Scope::new(job, context, Object::new(), environ);
    Steps {
        steps: &model.steps,
        defaults: model.defaults.or(&job.workflow.defaults),
        context,
        cancel,
        log,
        scope,
        debug: if debug { DebugRows::Shown } else { DebugRows::Hidden },
        deadline: Instant::now() + job.timeout.unwrap_or(DEFAULT_TIMEOUT),
        matchers: Matchers::new(),
        ending: None,
        stopped: None,
        tree: TreeState::Empty,
        summaries: BTreeMap::new(),
        refused: Vec::new(),
        current: None,
        next: 0,
    }
}

fn wants_debug(context: &JobContext) -> bool {
    const NAME: &str = "ACTIONS_STEP_DEBUG";
    let secret = context.secrets.get(NAME).map(|value| value.expose_secret().to_owned());
    let env = context.env.iter().find(|(name, _)| name == NAME).map(|(_, value)| value.clone());
    let values = [secret, Some(context.vars.get(NAME).to_text().as_ref().to_owned()), env];
    values.into_iter().flatten().any(|value| value.eq_ignore_ascii_case("true"))
}

/// `seen` gives a path as commands see it.
fn facts(
    context: &JobContext,
    machine: &Machinery<'_>,
    debug: bool,
    seen: &dyn Fn(&String) -> String,
) -> Facts {
    Facts {
        runner_name: context.runner.name.clone(),
        version: context.runner.version.clone(),
        image_os: machine.image.os.clone(),
        home: seen(&"/root".to_owned()),
        temp: seen(&"/tmp".to_owned()),
        tool_cache: seen(&"/opt/hostedtoolcache".to_owned()),
        runner_workspace: seen(&format!("/workspace/{}", context.repository.owner())),
        debug,
    }
}

/// The VM's life. Gives the job's outputs.
async fn session(
    steps: &mut Steps<'_>,
    job: &ExpandedJob,
    machine: &Machinery<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    introduce(steps, machine).await;
    let Some(lease) = lease(steps, machine).await? else { return Ok(BTreeMap::new()) };
    let guest = Guest::new(lease.sandbox(), &steps.context.repository);
    steps.log.follow(lease.sandbox());
    let cancel = steps.cancel.clone();
    let body = tokio::select! {
        biased;
        reason = cancel.now() => Err(reason),
        result = body(steps, job, machine, &guest) => Ok(result),
    };
    // who wants the end now does not wait for this
    if body.is_ok() {
        steps.refused = refused::ask(&guest.sandbox, machine.network).await;
    }
    let destroyed = lease.destroy().await.map_err(Error::Destroy);
    match body {
        Ok(result) => {
            let outputs = result?;
            destroyed.map(|()| outputs)
        }
        Err(reason) => {
            steps.stop(Stop::Cancelled(reason));
            destroyed.map(|()| BTreeMap::new())
        }
    }
}

/// What the VM of a job is made of.
pub(crate) fn lease_spec(machine: &Machinery<'_>, workspace: &str) -> LeaseSpec {
    let directory = |path: &str, mode: u32| Directory { path: path.to_owned(), owner: Account::ROOT, mode };
    LeaseSpec {
        kernel: machine.image.kernel.clone(),
        initramfs: machine.image.initramfs.clone(),
        root: machine.image.root.clone(),
        cpus: machine.size.cpus,
        memory: machine.size.memory,
        scratch_bytes: machine.size.scratch_bytes,
        bind: Bind {
            hostname: "ampoule".to_owned(),
            directories: vec![
                directory("/tmp", 0o1777),
                directory("/var/lib/containers", 0o755),
                directory("/workspace", 0o755),
                directory(workspace, 0o755),
            ],
            network: machine.network.clone(),
            limits: machine.limits,
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: sandbox::WhenFull::Wait,
    }
}

/// Makes the VM; none when the job was stopped before it was ready.
async fn lease(steps: &mut Steps<'_>, machine: &Machinery<'_>) -> Result<Option<Lease>, Error> {
    let mut spec = lease_spec(machine, &workspace(&steps.context.repository));
    spec.bind.forwards.clone_from(&steps.context.forwards);
    spec.bind.services = steps.context.services.clone();
    let token = CancellationToken::new();
    let limits = Limits { cancel: Some(steps.cancel), job: Some(steps.deadline), ..Limits::default() };
    let leasing = machine.engine.lease(spec, &token);
    tokio::pin!(leasing);
    let stop = limits.reached();
    tokio::pin!(stop);
    let mut waiting = machine.engine.waiting();
    let stop = loop {
        tokio::select! {
            biased;
            stop = &mut stop => break stop,
            leased = &mut leasing => return leased.map(Some).map_err(Error::Lease),
            Ok(()) = waiting.changed() => {
                let reason = waiting.borrow_and_update().clone();
                if let Some(reason) = reason {
                    steps.log.say(None, &format!("waiting for room on this host: {reason}")).await;
                }
            }
        }
    };
    token.cancel();
    // It may have become ready in the same moment; else it answers that it was cancelled.
    if let Ok(lease) = leasing.await {
        lease.destroy().await.map_err(Error::Destroy)?;
    }
    steps.stop(stop);
    Ok(None)
}

/// What happens in the VM.
async fn body(
    steps: &mut Steps<'_>,
    job: &ExpandedJob,
    machine: &Machinery<'_>,
    guest: &Guest,
) -> Result<BTreeMap<String, String>, Error> {
    ready(steps, &guest.sandbox).await;
    let limits = Limits { cancel: Some(steps.cancel), job: Some(steps.deadline), ..Limits::default() };
    let stop = limits.reached();
    let set_up = set_up(steps, job, machine, guest);
    let set_up = tokio::select! {
        biased;
        stop = stop => Err(stop),
        result = set_up => Ok(result),
    };
    match set_up {
        Ok(Ok(())) => {}
        Ok(Err(Fault::Job(error))) => return Err(error),
        Ok(Err(Fault::Step(text))) => {
            steps.log.say(None, &format!("##[error]{}", text.trim_end())).await;
            steps.scope.advance(Progress::Failure);
            return Ok(BTreeMap::new());
        }
        Err(stop) => {
            steps.stop(stop);
            return Ok(BTreeMap::new());
        }
    }
    let ran = match steps.run(guest).await {
        Ok(()) => outputs(steps, job, guest).await,
        Err(error) => Err(error),
    };
    let Err(error) = ran else { return ran };
    let Some(text) = own_doing(steps, &error) else { return Err(error) };
    // Asked to end, it may as well end like this.
    steps.look();
    steps.scope.advance(Progress::Failure);
    let step = steps.current.map(|(index, _)| index);
    steps.log.say(step, &format!("##[error]{text}")).await;
    Ok(BTreeMap::new())
}

/// What to say where the job itself ended its VM: a job may run whatever it likes, so that is its failure and
/// none of the infrastructure's. Before a script ran it cannot have been the job.
fn own_doing(steps: &Steps<'_>, error: &Error) -> Option<String> {
    let Error::Vm(SandboxError::Gone(gone)) = error else { return None };
    let Gone::Exited(exit) = gone else { return None };
    if !gone.by_guest() || steps.tree != TreeState::Used {
        return None;
    }
    let when = match steps.current {
        Some((index, _)) => {
            let step = &steps.steps[index];
            let name = step.name.as_ref().map_or_else(|| step.title(), |name| name.raw().to_owned());
            format!("while step `{name}` ran")
        }
        None => "between steps".to_owned(),
    };
    let words = exit.stderr.trim().replace('\n', "; ");
    let words = if words.is_empty() { words } else { format!(" ({words})") };
    Some(format!("the VM ended {when}: the job switched it off or crashed it{words}"))
}

async fn ready(steps: &mut Steps<'_>, sandbox: &Sandbox) {
    let info = sandbox.info();
    let again = if info.tries > 1 { ", at the second try" } else { "" };
    let origin = match info.origin {
        Origin::Booted => "booted",
        Origin::Forked => "forked",
        Origin::Pooled => "from the pool",
        Origin::Branched => "forked from another",
    };
    let text = format!(
        "the VM is ready after {:.1} s, {origin}{again}: kernel {}, agent {}",
        info.boot.as_secs_f64(),
        info.kernel,
        info.agent
    );
    steps.log.say(None, &text).await;
}

/// Fills the workspace and evaluates what holds for all steps.
async fn set_up(
    steps: &mut Steps<'_>,
    job: &ExpandedJob,
    machine: &Machinery<'_>,
    guest: &Guest,
) -> Result<(), Fault> {
    let context = steps.context;
    let event = guest.seen(&format!("{OWN_DIR}/event.json"));
    let mut github = match &context.github {
        Value::Object(github) => Object::clone(github),
        _ => Object::new(),
    };
    let mut own = Archive::default();
    let payload = github.get("event").map_or_else(|| serde_json::json!({}), Value::to_json);
    own.add("event.json", 0o644, payload.to_string().as_bytes());
    if let Some(authorities) = &context.authorities {
        authorities.add_to(&mut own);
    }
    github.insert("workspace", guest.seen(guest.workspace()));
    github.insert("event_path", event);
    github.insert("job", job.id.as_str());
    guest.deliver(OWN_DIR, own.finish()).await?;
    let mut outer = Vars::default();
    if context.authorities.is_some()
        && let Some(warning) = authorities::install(guest, &mut outer).await?
    {
        steps.log.say(None, &format!("##[warning]{warning}")).await;
    }
    outer.extend(context.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let debug = steps.debug == DebugRows::Shown;
    let environ = Environ::new(facts(context, machine, debug, &|path| guest.seen(path)), outer);
    steps.scope = Scope::new(job, context, github, environ);
    for env in [&job.workflow.env, &job.job().env] {
        let vars = steps.scope.variables(guest, env.list()).await?;
        steps.scope.environ.vars.extend(vars.iter());
    }
    if context.workspace == Workspace::Tree {
        steps.fill(guest).await?;
        if !job.job().has_checkout() && reads_tree(steps, job, guest).await? {
            let text = "##[warning]this job reads the repository's files and has no checkout step: on a server \
                        its workspace would be empty, here it holds the working tree";
            steps.log.say(None, text).await;
        }
    }
    Ok(())
}

/// Whether the job plausibly reads the tree that lies in its workspace.
async fn reads_tree(steps: &Steps<'_>, job: &ExpandedJob, guest: &Guest) -> Result<bool, Fault> {
    const MAX_LIST: usize = 4 << 20;
    let names = match reads(job.job(), &steps.defaults, &job.workflow.source) {
        Reads::Yes => return Ok(true),
        Reads::If(names) if names.is_empty() => return Ok(false),
        Reads::If(names) => names,
    };
    let list = ["find", ".", "-mindepth", "1", "-maxdepth", "1", "-print0"];
    match guest.ask(&list, Vec::new(), MAX_LIST).await {
        Ok(list) => Ok(list
            .split(|&byte| byte == 0)
            .filter_map(|path| std::str::from_utf8(path.strip_prefix(b"./")?).ok())
            .any(|name| names.contains(name))),
        // An image without `find`: no warning is no fault.
        Err(Fault::Step(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The job's outputs, without those that hold a secret.
async fn outputs(
    steps: &mut Steps<'_>,
    job: &ExpandedJob,
    guest: &Guest,
) -> Result<BTreeMap<String, String>, Error> {
    let mut outputs = BTreeMap::new();
    steps.scope.enter("", &Vars::default(), |_| {});
    for output in &job.job().outputs {
        let name = output.name.value.as_str();
        let fault = match steps.scope.text(guest, &output.value).await {
            Ok(value) if steps.log.masker.finds(&value) => {
                format!("##[warning]the output `{name}` is left out, for it may hold a secret")
            }
            Ok(value) if value.len() > MAX_OUTPUT || name.len() > MAX_OUTPUT_NAME => {
                format!("##[warning]the output `{name}` is left out: it is longer than {MAX_OUTPUT} bytes")
            }
            Ok(value) => {
                outputs.insert(name.to_owned(), value);
                continue;
            }
            Err(Fault::Step(text)) => {
                steps.scope.advance(Progress::Failure);
                format!("##[error]{}", text.trim_end())
            }
            Err(Fault::Job(error)) => return Err(error),
        };
        steps.log.say(None, &fault).await;
    }
    Ok(outputs)
}

/// Ends what is open, and says how the job ended.
async fn close(steps: &mut Steps<'_>, failed: bool) {
    if let Some((index, started)) = steps.current.take() {
        let cancelled = !failed && steps.scope.progress() == Progress::Cancelled;
        let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Failure };
        steps.end(index, outcome, outcome, started.elapsed()).await;
    }
    for index in steps.next..steps.steps.len() {
        steps.end(index, Outcome::Skipped, Outcome::Skipped, std::time::Duration::ZERO).await;
    }
    steps.next = steps.steps.len();
    for row in std::mem::take(&mut steps.refused) {
        steps.log.say(None, &row).await;
    }
    let why = match steps.stopped {
        Some(Stopped::Cancelled(Reason::User)) | None => "",
        Some(Stopped::Cancelled(Reason::Shutdown)) => ", because the runner is asked to end",
        Some(Stopped::Cancelled(Reason::FailFast)) => ", because another job of the matrix failed",
        Some(Stopped::TimedOut) => ", because its time is over",
    };
    let result = if failed { Outcome::Failure } else { steps.scope.progress().outcome() };
    steps.log.say(None, &format!("the job ended: {}{why}", scope::name(result))).await;
}
