//! The steps of a job, one after the other.
//!
//! Purpose: whether a step runs, what it runs, how it ended, and what the next ones see of it.
//! Owner: the job's task. [`Steps`] outlives the future that runs them: when that is dropped (the VM is
//! gone, or the job has to end now) it still knows which step was under way.
//!
//! ```text
//!            condition false                ends, is stopped
//!  (next) ──────────────────▶ StepEnd   ┌────────────────────▶ StepEnd ──▶ (next)
//!     └──true──▶ StepStart ──▶ running ─┘
//! ```

use std::{
    collections::BTreeMap,
    time::{Duration, Instant as StdInstant},
};

use sandbox::{Error as SandboxError, ExecRequest, FailureKind, OutputMode, Running, Stdin};
use tokio::time::Instant;
use workflow::{
    Defaults, MINUTES, Shell, Step, StepAction, Template, command::Tokens, matcher::Matchers, minutes_of,
};

use crate::{
    Cancel, Error, EventKind, JobContext, Outcome, Stopped,
    checkout::TreeState,
    drive::{Ended, Limits, Stop, drive},
    effects::{self, Taken},
    environ::Vars,
    failure::Place,
    files::{File, StepFiles},
    guest::{Fault, Guest, USER},
    log::Log,
    output::{DebugRows, Output, Unsecure},
    problems::Problems,
    resolve::{self, Action},
    scope::{Progress, Scope},
};

/// What `always()` steps have after a cancel or a time-out, all together.
const ENDING: Duration = Duration::from_secs(300);

/// The steps and how far they are.
pub(crate) struct Steps<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) defaults: Defaults,
    pub(crate) context: &'a JobContext,
    pub(crate) cancel: &'a Cancel,
    pub(crate) log: Log,
    pub(crate) scope: Scope,
    pub(crate) debug: DebugRows,
    /// What looks at the rows of its steps.
    pub(crate) matchers: Matchers,
    /// When the job's time is over.
    pub(crate) deadline: Instant,
    /// When the time of `always()` steps is over, once it has begun.
    pub(crate) ending: Option<Instant>,
    pub(crate) stopped: Option<Stopped>,
    /// What the workspace holds.
    pub(crate) tree: TreeState,
    pub(crate) summaries: BTreeMap<usize, String>,
    /// What there is to say of the VM's network, once no step is under way.
    pub(crate) refused: Vec<String>,
    /// The step that is under way.
    pub(crate) current: Option<(usize, StdInstant)>,
    /// The first step that has neither ended nor begun.
    pub(crate) next: usize,
}

/// How a step's action ended.
struct Done {
    outcome: Outcome,
    stop: Option<Stop>,
    outputs: Vec<(String, String)>,
}

impl Steps<'_> {
    /// Runs all that have not begun.
    pub(crate) async fn run(&mut self, guest: &Guest) -> Result<(), Error> {
        while self.next < self.steps.len() {
            self.look();
            if self.ending.is_some_and(|ending| Instant::now() >= ending) {
                return Ok(());
            }
            let index = self.next;
            self.step(guest, index).await?;
        }
        self.look();
        Ok(())
    }

    /// Takes note of a cancel or time-out that no step has met.
    pub(crate) fn look(&mut self) {
        if self.ending.is_none() {
            if let Some(request) = self.cancel.requested() {
                self.stop(Stop::Cancelled(request.reason));
            } else if Instant::now() >= self.deadline {
                self.stop(Stop::JobTime);
            }
        }
    }

    /// The job ends: only steps that want it run from here on, for a while.
    pub(crate) fn stop(&mut self, stop: Stop) {
        let stopped = match stop {
            Stop::Cancelled(reason) => Stopped::Cancelled(reason),
            Stop::JobTime | Stop::StepTime | Stop::EndingTime => Stopped::TimedOut,
        };
        self.stopped.get_or_insert(stopped);
        self.ending.get_or_insert_with(|| Instant::now() + ENDING);
        self.scope.advance(Progress::Cancelled);
    }

    /// One step, from its condition to its end.
    async fn step(&mut self, guest: &Guest, index: usize) -> Result<(), Error> {
        let step = &self.steps[index];
        let id = step.id.as_ref().map(|id| id.value.clone());
        let action = id.clone().unwrap_or_else(|| format!("__step_{index}"));
        let files = StepFiles::new(index);
        let see = |scope: &mut Scope, own: &Vars| {
            scope.enter(&action, own, |github| {
                for file in File::ALL {
                    github.insert(file.variable().to_ascii_lowercase(), guest.seen(&files.file(file)));
                }
            });
        };
        see(&mut self.scope, &Vars::default());
        let own = self.scope.variables(guest, step.env.list()).await;
        if let Ok(own) = &own {
            see(&mut self.scope, own);
        }
        let wanted = self.scope.settle(guest, |contexts| step.condition.eval(contexts)).await;
        self.next = index + 1;
        if let Ok(false) = wanted {
            self.scope.leave(id.as_deref(), Outcome::Skipped, Outcome::Skipped, &[]);
            self.end(index, Outcome::Skipped, Outcome::Skipped, Duration::ZERO).await;
            return Ok(());
        }
        let started = StdInstant::now();
        self.current = Some((index, started));
        let name = match &step.name {
            Some(name) => self.scope.text(guest, name).await.unwrap_or_else(|_| name.raw().to_owned()),
            None => step.title(),
        };
        let name = self.log.masker.mask(name.trim()).replace('\n', " ");
        self.log.event(EventKind::StepStart { step: index, name: name.clone() }).await;
        let mut place = Place::default();
        let known = own.as_ref().ok().cloned().unwrap_or_default();
        let performed = async {
            own?;
            wanted?;
            self.perform(guest, index, step, &known, &files, &mut place).await
        };
        let done = performed.await;
        let done = self.told(index, done).await?;
        let tolerant = self.scope.flag(guest, step.continue_on_error.as_ref()).await;
        let tolerant = match tolerant {
            Ok(tolerant) => tolerant,
            Err(fault) => {
                self.told(index, Err(fault)).await?;
                false
            }
        };
        let conclusion = self.conclude(&done, tolerant);
        self.scope.leave(id.as_deref(), done.outcome, conclusion, &done.outputs);
        self.current = None;
        self.end(index, done.outcome, conclusion, started.elapsed()).await;
        self.look();
        if conclusion == Outcome::Failure && self.ending.is_none() {
            self.show(guest, name, &known, &files, place).await;
        }
        Ok(())
    }

    /// Says why a step went wrong.
    async fn told(&mut self, index: usize, done: Result<Done, Fault>) -> Result<Done, Error> {
        match done {
            Ok(done) => Ok(done),
            Err(Fault::Job(error)) => Err(error),
            Err(Fault::Step(text)) => {
                self.log.say(Some(index), &format!("##[error]{}", text.trim_end())).await;
                Ok(Done { outcome: Outcome::Failure, stop: None, outputs: Vec::new() })
            }
        }
    }

    /// What `continue-on-error` makes of it, and what it means for the job. A cancel or time-out of the job
    /// is none of the step's errors; a time-out of its own is one.
    fn conclude(&mut self, done: &Done, tolerant: bool) -> Outcome {
        match (done.outcome, done.stop) {
            (_, Some(stop @ (Stop::Cancelled(_) | Stop::JobTime | Stop::EndingTime))) => {
                self.stop(stop);
                done.outcome
            }
            (Outcome::Failure, _) if tolerant => Outcome::Success,
            (Outcome::Failure, _) => {
                self.scope.advance(Progress::Failure);
                done.outcome
            }
            (outcome, _) => outcome,
        }
    }

    pub(crate) async fn end(
        &mut self,
        step: usize,
        outcome: Outcome,
        conclusion: Outcome,
        duration: Duration,
    ) {
        self.log.event(EventKind::StepEnd { step, outcome, conclusion, duration }).await;
    }

    async fn perform(
        &mut self,
        guest: &Guest,
        index: usize,
        step: &Step,
        own: &Vars,
        files: &StepFiles,
        place: &mut Place,
    ) -> Result<Done, Fault> {
        let until = match &step.timeout_minutes {
            Some(template) => Some(Instant::now() + self.timeout(guest, template).await?),
            None => None,
        };
        match &step.action {
            StepAction::Run { script, working_directory, .. } => {
                let script = self.scope.text(guest, script).await?;
                let shell = step.shell(&self.defaults).cloned();
                let shell = match self.scope.some_text(guest, shell.as_ref()).await? {
                    Some(name) => Some(Shell::parse(&name).map_err(|error| Fault::step(error.to_string()))?),
                    None => None,
                };
                let dir = working_directory.as_ref().or(self.defaults.working_directory.as_ref()).cloned();
                let dir = self.scope.some_text(guest, dir.as_ref()).await?;
                let cwd = guest.path(dir.as_deref().unwrap_or_default());
                self.tree.used();
                self.command(guest, index, Script { script, shell, cwd, own, files, until }, place).await
            }
            StepAction::Uses { uses, with } => {
                let mut inputs = Vec::new();
                for input in with.list() {
                    let value = self.scope.settle(guest, |contexts| input.value.eval(contexts)).await?;
                    inputs.push(resolve::input(&input.name.value, &value));
                }
                let Action::Checkout(checkout) =
                    resolve::resolve(&uses.value, &inputs, &self.context.repository)?;
                let text = format!("{} is satisfied by the host", uses.value);
                self.log.say(Some(index), &text).await;
                self.checkout(guest, index, &checkout).await?;
                Ok(Done { outcome: Outcome::Success, stop: None, outputs: Vec::new() })
            }
            // `support` refuses them before a machine starts
            StepAction::Computed { .. }
            | StepAction::Wait(_)
            | StepAction::WaitAll
            | StepAction::Cancel(_)
            | StepAction::Parallel(_) => Err(Fault::step("this kind of step does not work")),
        }
    }

    async fn timeout(&mut self, guest: &Guest, template: &Template) -> Result<Duration, Fault> {
        let value = self.scope.settle(guest, |contexts| template.eval(contexts)).await?;
        minutes_of(&value).ok_or_else(|| {
            Fault::step(format!(
                "`timeout-minutes` is a number, {MINUTES}, which this is not: `{}`",
                template.raw()
            ))
        })
    }

    /// Runs a script and takes what it wrote.
    async fn command(
        &mut self,
        guest: &Guest,
        index: usize,
        script: Script<'_>,
        place: &mut Place,
    ) -> Result<Done, Fault> {
        let Script { script, shell, cwd, own, files, until } = script;
        let extension = shell.unwrap_or(Shell::Bash).extension();
        let env = self.environment(guest, own, files);
        let allows = |switch: &str| {
            env.iter().any(|(name, value)| name == switch && value.eq_ignore_ascii_case("true"))
        };
        let unsecure = match allows("ACTIONS_ALLOW_UNSECURE_COMMANDS") {
            true => Unsecure::Allowed,
            false => Unsecure::Refused,
        };
        let tokens = match allows("ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS") {
            true => Tokens::Any,
            false => Tokens::Safe,
        };
        guest.deliver(files.dir(), StepFiles::archive(extension, &script)).await?;
        let path = guest.seen(&files.script(extension));
        let origin = self.scope.environ.path_origin(own);
        if self.context.failures.is_some() {
            (place.shell, place.env) = (shell, Some(env.clone()));
        }
        let running = start(guest, commands(shell, &path), env, cwd.clone(), origin).await?;
        place.cwd = Some(cwd);
        let limits = match self.ending {
            Some(_) => Limits { ending: self.ending, step: until, ..Limits::default() },
            None => Limits { cancel: Some(self.cancel), job: Some(self.deadline), step: until, ending: None },
        };
        let workspace = guest.seen(guest.workspace());
        let problems = Problems::new(std::mem::take(&mut self.matchers), workspace);
        let mut output = Output::new(self.debug, unsecure).stopped_by(tokens).with(problems);
        let ended = drive(running, guest, &mut output, &mut self.log, index, limits).await;
        self.matchers = std::mem::take(&mut output.problems.matchers);
        let ended = ended?;
        let written = files.read(&guest.sandbox).await;
        let refused = output.effects.refused;
        let Taken { outputs, summary, faults, notes } =
            effects::take(output.effects, written?, &mut self.scope.environ, &self.log.masker);
        if let Some(summary) = summary {
            self.summaries.insert(index, summary);
        }
        for note in &notes {
            self.log.say(Some(index), note).await;
        }
        for fault in &faults {
            self.log.say(Some(index), &format!("##[error]{fault}")).await;
        }
        let outcome = self.verdict(index, &ended, refused || !faults.is_empty()).await;
        Ok(Done { outcome, stop: ended.stop, outputs })
    }

    /// How the command ended, said in a row where it did not end well.
    async fn verdict(&mut self, index: usize, ended: &Ended, spoiled: bool) -> Outcome {
        let (outcome, text) = match (ended.stop, ended.exited.code, ended.exited.signal) {
            (Some(Stop::Cancelled(reason)), ..) => (Outcome::Cancelled, reason.text().to_owned()),
            (Some(Stop::JobTime), ..) => (Outcome::Cancelled, "the job's time is over".to_owned()),
            (Some(Stop::StepTime), ..) => (Outcome::Failure, "the step's time is over".to_owned()),
            (Some(Stop::EndingTime), ..) => {
                (Outcome::Cancelled, "the time for steps after a cancel is over".to_owned())
            }
            (None, _, Some(signal)) => (Outcome::Failure, format!("the script was ended by signal {signal}")),
            (None, Some(0), None) if spoiled => return Outcome::Failure,
            (None, Some(0), None) => return Outcome::Success,
            (None, Some(code), None) => (Outcome::Failure, format!("the script ended with exit code {code}")),
            (None, None, None) => (Outcome::Failure, "the script ended without an exit code".to_owned()),
        };
        self.log.say(Some(index), &format!("##[error]{text}")).await;
        outcome
    }
}

/// A script that is ready to run.
struct Script<'a> {
    script: String,
    shell: Option<Shell>,
    /// As requests name it.
    cwd: String,
    own: &'a Vars,
    files: &'a StepFiles,
    until: Option<Instant>,
}

/// Command lines of which the first whose program is there is run.
fn commands(shell: Option<Shell>, script: &str) -> Vec<Vec<String>> {
    let with = |words: &[&str]| words.iter().copied().chain([script]).map(str::to_owned).collect();
    match shell {
        None => vec![with(&["bash", "-e"]), with(&["sh", "-e"])],
        Some(Shell::Python) => vec![with(&["python3"]), with(&["python"])],
        Some(shell) => vec![with(shell.command())],
    }
}

async fn start(
    guest: &Guest,
    commands: Vec<Vec<String>>,
    env: Vec<(String, String)>,
    cwd: String,
    path_origin: Option<&str>,
) -> Result<Running, Fault> {
    let mut missing = Vec::new();
    for argv in commands {
        missing.push(format!("`{}`", argv[0]));
        let request = ExecRequest {
            argv,
            env: env.clone(),
            cwd: cwd.clone(),
            user: USER,
            stdin: Stdin::Null,
            // One pipe: rows come in the order in which they were written, whichever stream they are of.
            output: OutputMode::Merged,
            timeout: None,
        };
        match guest.sandbox.exec(request).await {
            Err(SandboxError::Guest { kind: FailureKind::NotFound, .. }) => {}
            Err(SandboxError::Guest { kind: FailureKind::Cwd, message }) => {
                return Err(Fault::step(format!("the working directory cannot be entered: {message}")));
            }
            other => return Ok(other?),
        }
    }
    let missing = missing.join(" and ");
    let Some(origin) = path_origin else {
        return Err(Fault::step(format!("the shell is not in the image: {missing} not found in PATH")));
    };
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    Err(Fault::step(format!(
        "the shell was not found: {missing} not found in PATH, which is `{path}`, set by {origin}; to add a \
         directory, write it to the file `$GITHUB_PATH` instead"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_run_the_script_as_the_language_says() {
        let line = |shell| commands(shell, "/s").into_iter().map(|argv| argv.join(" ")).collect::<Vec<_>>();
        assert_eq!(line(None), ["bash -e /s", "sh -e /s"]);
        assert_eq!(line(Some(Shell::Bash)), ["bash --noprofile --norc -e -o pipefail /s"]);
        assert_eq!(line(Some(Shell::Sh)), ["sh -e /s"]);
        assert_eq!(line(Some(Shell::Python)), ["python3 /s", "python /s"]);
        assert_eq!(line(Some(Shell::Node)), ["node /s"]);
    }
}
