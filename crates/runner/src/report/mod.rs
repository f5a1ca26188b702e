//! The report of one task: its log, its states, its outputs, on their way to the server.
//!
//! Purpose: nothing that a job says is lost or doubled, however calls and answers get lost.
//! Owner: one task per job. It reads the job's events and stops reading while the server is far behind, which
//! stops the guest.
//!
//! ```text
//!  following ── events end ──▶ rows ──▶ outputs, summaries ──▶ final state
//!      │ each interval: rows, then the state, whose answer may be a cancel; rows that fill a call: at once
//!      └── the server has given the task up (409, unauthenticated, no such task): the job is cancelled at once
//! ```
//! Invariants: one call is under way; a call that got no answer is sent again as it was; outputs are
//! acknowledged before the final state is sent.

mod state;

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use forgejo::{Code, More, TaskId, TaskResult};
use jiff::Timestamp;
use job::{Cancel, Cancellation, Canceller, Event, EventKind, How, Outcome, Reason};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use self::state::{Due, MAX_CALL, Report, Which};
use crate::{
    backoff::Backoff,
    error::{is_unknown_runner, is_unknown_task},
};

/// A job is not read on while the server lacks so many bytes of its log.
const MAX_BACKLOG: usize = 16 << 20;
/// Least bytes of a call: two rows of the largest size, so that halving ends.
const MIN_CALL: usize = 128 << 10;
/// How long steps that run in spite of a cancel may take, as a local run gives them.
pub(crate) const GRACE: Duration = Duration::from_secs(330);
/// When the first rows are sent: what a job says before its VM is made is said by then.
const FIRST: Duration = Duration::from_millis(10);
/// How long the end of a report is tried: then the server has failed the task by itself.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for a runner that is to end now.
const HURRY: Duration = Duration::from_secs(10);
/// How often rows may be answered and not kept.
const MAX_UNTAKEN: u32 = 10;
/// Most bytes of outputs in one call.
const MAX_OUTPUTS: usize = 1 << 20;

/// How fast a report goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two calls while the job runs.
    pub(crate) interval: Duration,
}

/// Why a report did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The server has given the task up, or someone deleted it.
    #[error("the server has given this task up")]
    GivenUp,
    /// The server answers and keeps no rows.
    #[error("the server does not take the rows of the log")]
    Untaken,
    /// The server could not be reached, or kept refusing.
    #[error("the end of the task could not be reported in time")]
    Unreported(#[source] forgejo::Error),
}

/// Reports one task.
pub(crate) struct Reporter {
    client: forgejo::Runner,
    task: TaskId,
    report: Report,
    outputs: BTreeMap<String, String>,
    canceller: Canceller,
    cancel: Cancel,
    pace: Pace,
    limit: usize,
    standing: Standing,
    /// When the report of the end began.
    closing: Instant,
}

/// What the server thinks of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It runs.
    Runs,
    /// It is to end, or has ended there.
    Cancelled,
    /// It is nothing of ours any more.
    GivenUp,
}

/// How far a job's events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Not when the server is far behind: then the job waits.
    WhileTheServerKeepsUp,
    /// To their end.
    ToTheEnd,
}

/// What a round brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// What is due of the log, between two intervals.
    Rows,
    /// And the state.
    RowsAndState,
}

/// The answers of one round.
struct Round {
    log: Option<Result<i64, forgejo::Error>>,
    state: Option<Result<TaskResult, forgejo::Error>>,
}

/// What the server made of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// It answered.
    Yes,
    /// It answered, and kept no row of those that it was sent.
    Untaken,
    /// It did not, or not as it should.
    No,
}

impl Reporter {
    pub(crate) fn new(
        client: forgejo::Runner,
        task: TaskId,
        steps: usize,
        canceller: Canceller,
        pace: Pace,
    ) -> Self {
        Self {
            client,
            task,
            report: Report::new(task, steps, Timestamp::now()),
            outputs: BTreeMap::new(),
            cancel: canceller.listener(),
            canceller,
            pace,
            limit: MAX_CALL,
            standing: Standing::Runs,
            closing: Instant::now(),
        }
    }

    /// Adds rows of the runner's own, before the job's first event.
    pub(crate) fn say(&mut self, text: &str) {
        self.report.say(text);
    }

    /// Nothing was run.
    pub(crate) fn fail(&mut self, at: Timestamp, result: Outcome) {
        self.report.finish(at, result);
    }

    /// Reports what the job says until it says no more.
    pub(crate) async fn follow(&mut self, events: &mut mpsc::Receiver<Event>) {
        let mut tick = interval_at(Instant::now() + FIRST.min(self.pace.interval), self.pace.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::new(self.pace.interval, Duration::from_secs(30));
        let mut not_before = Instant::now();
        let mut call: Option<Pin<Box<dyn Future<Output = Round> + Send>>> = None;
        let cancel = self.cancel.clone();
        let mut reading = Reading::WhileTheServerKeepsUp;
        let mut reached = Reached::Yes;
        loop {
            // rows that fill a call have nothing to wait for, unless it would be in vain
            let full = reached == Reached::Yes
                && self.standing != Standing::GivenUp
                && self.report.is_full(self.limit);
            tokio::select! {
                round = async { match &mut call { Some(call) => call.await, None => std::future::pending().await } } => {
                    call = None;
                    reached = self.settle(round);
                    match reached {
                        Reached::Yes | Reached::Untaken => backoff.reset(),
                        Reached::No => not_before = Instant::now() + backoff.next(),
                    }
                }
                // a job whose VM is destroyed says little more, and must be able to say it
                _ = cancel.now(), if reading != Reading::ToTheEnd => reading = Reading::ToTheEnd,
                event = events.recv(),
                    if self.report.backlog() < MAX_BACKLOG || reading == Reading::ToTheEnd => match event {
                    Some(event) => self.take(event),
                    None => break,
                },
                () = std::future::ready(()), if full && call.is_none() => call = self.round(Load::Rows),
                _ = tick.tick(), if call.is_none() && Instant::now() >= not_before => {
                    call = self.round(Load::RowsAndState);
                }
                () = sleep_until(not_before), if call.is_none() && Instant::now() < not_before => {}
            }
        }
        if let Some(call) = call {
            let round = call.await;
            self.settle(round);
        }
        // a job that was dropped in the middle
        self.report.finish(Timestamp::now(), Outcome::Failure);
    }

    fn take(&mut self, event: Event) {
        if let EventKind::JobEnd { outputs, .. } = &event.kind {
            self.outputs.clone_from(outputs);
        }
        self.report.take(event);
    }

    /// The next calls of a running job; the state is a sign of life.
    fn round(&mut self, load: Load) -> Option<Pin<Box<dyn Future<Output = Round> + Send>>> {
        if self.standing == Standing::GivenUp {
            return None;
        }
        let (client, task, due) = (self.client.clone(), self.task, self.report.due(self.limit));
        let state = self.report.state(Which::Running);
        Some(Box::pin(async move {
            let log = match due {
                Some(due) => Some(send(&client, task, &due).await),
                None => None,
            };
            let state = match &log {
                // one that failed says enough of the server
                Some(Err(error)) if error.is_transient() => None,
                _ if load == Load::Rows => None,
                _ => Some(client.update_task(&state, &BTreeMap::new()).await.map(|answer| answer.result)),
            };
            Round { log, state }
        }))
    }

    /// Takes the answers of a round.
    fn settle(&mut self, round: Round) -> Reached {
        let mut reached = Reached::Yes;
        if let Some(log) = round.log {
            let before = self.report.acknowledged();
            reached = match self.logged(log) {
                Ok(()) if self.report.acknowledged() > before => Reached::Yes,
                Ok(()) => Reached::Untaken,
                Err(_) => Reached::No,
            };
        }
        match round.state {
            Some(Ok(TaskResult::Cancelled | TaskResult::Failure)) => self.stop(Standing::Cancelled),
            Some(Ok(_)) | None => {}
            Some(Err(error)) => {
                tracing::warn!(task = %self.task, error = &error as &dyn std::error::Error, "no state reported");
                reached = Reached::No;
                self.refused(&error);
            }
        }
        reached
    }

    /// Takes the answer to rows.
    fn logged(&mut self, answer: Result<i64, forgejo::Error>) -> Result<(), forgejo::Error> {
        match answer {
            Ok(stored) => {
                match self.report.acknowledge(stored) {
                    Ok(()) => tracing::debug!(task = %self.task, rows = stored, "the server has rows"),
                    Err(error) => {
                        tracing::warn!(task = %self.task, %error, "an acknowledgement that cannot be");
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(task = %self.task, error = &error as &dyn std::error::Error, "no rows reported");
                if error.is_too_large() {
                    self.limit = (self.limit / 2).max(MIN_CALL);
                }
                self.refused(&error);
                Err(error)
            }
        }
    }

    /// What an error says of the task.
    fn refused(&mut self, error: &forgejo::Error) {
        let ended = matches!(error.code(), Some(Code::AlreadyExists | Code::NotFound));
        if ended || is_unknown_runner(error) || is_unknown_task(error) {
            self.stop(Standing::GivenUp);
        }
    }

    fn stop(&mut self, standing: Standing) {
        if self.standing == Standing::GivenUp {
            return;
        }
        if self.standing != standing {
            tracing::info!(task = %self.task, ?standing, "the server ends the task");
        }
        self.standing = standing;
        let how = match standing {
            Standing::GivenUp => How::Now,
            _ => How::Graceful { deadline: Instant::now() + GRACE },
        };
        self.canceller.cancel(Reason::User, how);
    }

    /// Reports the end: all rows, outputs, summaries, the final state.
    ///
    /// # Errors
    /// The server does not want it, or cannot be reached for long.
    pub(crate) async fn close(mut self, summaries: &BTreeMap<usize, String>) -> Result<(), ReportError> {
        self.closing = Instant::now();
        let deadline = self.closing + PATIENCE;
        self.report.close();
        while let Some(due) = self.report.due(self.limit) {
            let mut backoff = end_backoff();
            let before = self.report.backlog();
            let mut untaken = 0;
            loop {
                self.wanted()?;
                let answer = send(&self.client, self.task, &due).await;
                match self.logged(answer) {
                    Ok(()) if self.report.backlog() < before => break,
                    Ok(()) => {
                        untaken += 1;
                        if untaken > MAX_UNTAKEN {
                            return Err(ReportError::Untaken);
                        }
                        sleep(backoff.next()).await;
                    }
                    // the limit may be another one now
                    Err(error) if error.is_too_large() => break,
                    Err(error) => self.again(error, deadline, &mut backoff).await?,
                }
            }
        }
        self.outputs(deadline).await?;
        self.summaries(summaries).await;
        let state = self.report.state(Which::Final);
        let mut backoff = end_backoff();
        loop {
            match self.client.update_task(&state, &BTreeMap::new()).await {
                Ok(_) => {
                    tracing::debug!(task = %self.task, "the server has the final state");
                    return Ok(());
                }
                // a runner that lived for this task is deleted with its end: the answer before was lost
                Err(error) if is_unknown_runner(&error) => return Ok(()),
                Err(error) => {
                    self.refused(&error);
                    self.again(error, deadline, &mut backoff).await?;
                }
            }
        }
    }

    /// Outputs, until each is acknowledged: jobs that need this one start with the final state.
    async fn outputs(&mut self, deadline: Instant) -> Result<(), ReportError> {
        let state = self.report.state(Which::Running);
        let mut backoff = end_backoff();
        while !self.outputs.is_empty() {
            self.wanted()?;
            let mut bytes = 0;
            let part: BTreeMap<String, String> = self
                .outputs
                .iter()
                .take_while(|(key, value)| {
                    let first = bytes == 0;
                    bytes += key.len() + value.len();
                    first || bytes <= MAX_OUTPUTS
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            match self.client.update_task(&state, &part).await {
                Ok(answer) => {
                    let before = self.outputs.len();
                    self.outputs.retain(|key, _| !answer.sent_outputs.contains(key));
                    if self.outputs.len() == before {
                        // it took none of them: it will take none the next time
                        tracing::warn!(task = %self.task, "the server does not acknowledge outputs");
                        return Ok(());
                    }
                }
                Err(error) => {
                    self.refused(&error);
                    self.again(error, deadline, &mut backoff).await?;
                }
            }
        }
        Ok(())
    }

    /// Best effort: older servers know no summaries.
    async fn summaries(&self, summaries: &BTreeMap<usize, String>) {
        for (step, text) in summaries {
            let Ok(step) = i64::try_from(*step) else { continue };
            let sent = self.client.update_step_summary(self.task, &[(step, text.clone())]).await;
            if let Err(error) = sent {
                if error.code() != Some(Code::Unimplemented) {
                    tracing::warn!(task = %self.task, error = &error as &dyn std::error::Error, "no summary reported");
                }
                return;
            }
        }
    }

    /// Whether this runner is to end now.
    fn hurried(&self) -> bool {
        let now = Cancellation { reason: Reason::Shutdown, how: How::Now };
        self.cancel.requested() == Some(now)
    }

    fn wanted(&self) -> Result<(), ReportError> {
        if self.standing == Standing::GivenUp { Err(ReportError::GivenUp) } else { Ok(()) }
    }

    /// Waits before the same call is made again, if that makes sense.
    async fn again(
        &self,
        error: forgejo::Error,
        deadline: Instant,
        backoff: &mut Backoff,
    ) -> Result<(), ReportError> {
        self.wanted()?;
        // whoever wants the end at once waits for a server that is away, but not for long
        let deadline = if self.hurried() { deadline.min(self.closing + HURRY) } else { deadline };
        let wait = backoff.next();
        if Instant::now() + wait > deadline {
            return Err(ReportError::Unreported(error));
        }
        sleep(wait).await;
        Ok(())
    }
}

fn end_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
}

async fn send(client: &forgejo::Runner, task: TaskId, due: &Due) -> Result<i64, forgejo::Error> {
    let more = if due.last { More::NoMore } else { More::More };
    client.update_log(task, due.index, &due.rows, more).await
}
