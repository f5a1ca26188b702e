//! The jobs of one workflow, in the order that their needs allow.
//!
//! Purpose: expands a job when its needs are done, starts as many as may run at once, cancels the rest of a
//! matrix when one fails, and gathers the results.
//! Owner: `exec` drives one workflow at a time; what a job really does is a function that it is given, so
//! that the order can be tested without machines.
//!
//! ```text
//!  waiting ──needs done──▶ open (its matrix jobs: queued ──▶ running ──▶ ended) ──all ended──▶ result
//!     │                      │ fail-fast: queued ones are cancelled, running ones are asked to end
//!     └── the user ends the run: everything that has not begun is cancelled
//! ```
//! Invariants: every job of the plan has exactly one result at the end; every job that does not run has
//! exactly one `JobEnd`; nothing begins after the user asked for the end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    time::Duration,
};

use doc::{Diagnostic, Rendering};
use jiff::Timestamp;
use job::{Cancel, Canceller, Event, EventKind, How, Outcome, Reason};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::Instant,
};
use workflow::{
    Conclusion, Contexts, ExpandedJob, Expansion, FailFast, JobResult, MatrixFilter, OnError, Plan, Results,
    RunState, Surroundings, Verdict, mask::Masker,
};

use crate::{
    class::Class,
    signals::{Signal, Wish},
    sink::{Out, Say},
};

/// How long steps that run `always()` can delay the end, with the signals to the step before.
pub(super) const GRACE: Duration = Duration::from_secs(330);

/// How long a slow reader of the output is waited for when all is to end at once.
const LAST_ROWS: Duration = Duration::from_secs(1);

/// What one job came to.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// How it ended.
    pub(super) conclusion: Conclusion,
    /// Its outputs.
    pub(super) outputs: BTreeMap<String, String>,
    /// Set if it could not be run to its end.
    pub(super) fault: Option<Class>,
}

/// What is run, and how much of it at once.
pub(super) struct Work<'a> {
    /// The jobs.
    pub(super) plan: &'a Plan,
    /// `github`, `vars`, `inputs`, `secrets`.
    pub(super) contexts: &'a Contexts,
    /// `--matrix`.
    pub(super) filters: &'a [MatrixFilter],
    /// Hides secrets in what is said of jobs that never begin; none if there are too many.
    pub(super) masker: Option<&'a Masker>,
    /// Jobs at once, at least 1.
    pub(super) parallel: usize,
    /// How long a job may take to end when another of its matrix failed.
    pub(super) fail_fast: Duration,
}

/// What the workflow came to.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// Of every job of the plan.
    pub(super) results: Results,
    /// Of every job that could not be run to its end.
    pub(super) faults: Vec<Class>,
    /// Whether the user ended it.
    pub(super) cancelled: bool,
}

impl Finished {
    /// One result for all.
    pub(super) fn conclusion(&self) -> Conclusion {
        let all = Conclusion::of_all(self.results.values().map(|result| result.conclusion));
        if self.cancelled { Conclusion::Cancelled } else { all }
    }
}

/// A job whose matrix jobs run.
struct Open {
    id: String,
    queue: VecDeque<ExpandedJob>,
    running: usize,
    max_parallel: usize,
    fail_fast: FailFast,
    ended: Vec<JobResult>,
    canceller: Canceller,
}

struct Running {
    job: String,
    name: String,
    on_error: OnError,
    begun: Instant,
}

struct Scheduler<'a> {
    work: Work<'a>,
    out: Out,
    open: Vec<Open>,
    running: HashMap<Id, Running>,
    done: Finished,
}

/// Runs everything. `start` begins a job that is to run; it has to send that job's events itself.
pub(super) async fn drive<F, Fut>(
    work: Work<'_>,
    out: Out,
    mut wish: watch::Receiver<Wish>,
    start: F,
) -> Finished
where
    F: Fn(ExpandedJob, Cancel) -> Fut,
    Fut: Future<Output = Ended> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut this =
        Scheduler { work, out, open: Vec::new(), running: HashMap::new(), done: Finished::default() };
    this.obey(*wish.borrow_and_update());
    let mut listening = true;
    loop {
        this.settle().await;
        while let Some((at, job)) = this.next() {
            let Some(group) = this.open.get_mut(at) else { break };
            group.running += 1;
            let running = Running {
                job: group.id.clone(),
                name: job.name.clone(),
                on_error: job.continue_on_error,
                begun: Instant::now(),
            };
            let task = tasks.spawn(start(job, group.canceller.listener()));
            this.running.insert(task.id(), running);
        }
        if tasks.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => {
                let (id, ended) = match ended {
                    Ok((id, ended)) => (id, Some(ended)),
                    Err(error) => (error.id(), None),
                };
                this.ended(id, ended).await;
            }
            changed = wish.changed(), if listening => match changed {
                Ok(()) => this.obey(*wish.borrow_and_update()),
                Err(_) => listening = false,
            },
        }
    }
    this.done
}

impl Scheduler<'_> {
    /// Closes what has ended and opens what can begin, until neither changes anything.
    async fn settle(&mut self) {
        loop {
            let before = (self.done.results.len(), self.open.len());
            let (closed, open) =
                self.open.drain(..).partition(|group| group.queue.is_empty() && group.running == 0);
            self.open = open;
            let closed: Vec<Open> = closed;
            for group in closed {
                self.done.results.insert(group.id, JobResult::of_all(group.ended));
            }
            if self.done.cancelled {
                self.cancel_the_rest().await;
            } else {
                self.open_ready().await;
            }
            if before == (self.done.results.len(), self.open.len()) {
                return;
            }
        }
    }

    async fn open_ready(&mut self) {
        let plan = self.work.plan;
        let ready: Vec<String> = plan
            .ready(&self.done.results)
            .map(|job| job.id.value.clone())
            .filter(|id| !self.open.iter().any(|group| group.id == *id))
            .collect();
        for id in ready {
            let around = Surroundings {
                results: &self.done.results,
                contexts: self.work.contexts,
                run: RunState::Running,
                filters: self.work.filters,
            };
            match plan.expand(&id, around) {
                Ok(expansion) => self.begin(id, expansion).await,
                Err(diagnostics) => {
                    self.say(id.clone(), EventKind::JobStart).await;
                    for line in self.rows(&diagnostics) {
                        self.say(id.clone(), EventKind::Log { step: None, line }).await;
                    }
                    self.done.faults.push(Class::User);
                    self.job_end(&id, Outcome::Failure).await;
                    self.done.results.insert(id, JobResult::new(Conclusion::Failure));
                }
            }
        }
    }

    /// What is wrong with a job, as rows of its log. A value that is quoted in them may hold a secret.
    fn rows(&self, diagnostics: &[Diagnostic]) -> Vec<String> {
        let Some(masker) = self.work.masker else {
            return vec![
                "##[error]something is wrong with this job, and too many secrets to mask it".to_owned(),
            ];
        };
        let mut rows = Vec::new();
        for diagnostic in diagnostics {
            let text = masker.mask(&diagnostic.render(Rendering::Plain));
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            rows.extend(text.trim_end().lines().enumerate().map(|(at, line)| {
                let mark = if at == 0 && diagnostic.is_error() { "##[error]" } else { "" };
                format!("{mark}{line}")
            }));
        }
        rows
    }

    async fn begin(&mut self, id: String, expansion: Expansion) {
        let mut group = Open {
            id,
            queue: VecDeque::new(),
            running: 0,
            max_parallel: expansion.max_parallel.unwrap_or(usize::MAX),
            fail_fast: expansion.fail_fast,
            ended: Vec::new(),
            canceller: Canceller::new().0,
        };
        for job in expansion.jobs {
            match job.verdict {
                Verdict::Run => group.queue.push_back(job),
                Verdict::Skip => {
                    self.job_end(&job.name, Outcome::Skipped).await;
                    group.ended.push(JobResult::new(Conclusion::Skipped));
                }
            }
        }
        self.open.push(group);
    }

    /// The next job that may start, and its group.
    fn next(&mut self) -> Option<(usize, ExpandedJob)> {
        if self.running.len() >= self.work.parallel.max(1) {
            return None;
        }
        let at = self
            .open
            .iter()
            .position(|group| !group.queue.is_empty() && group.running < group.max_parallel)?;
        let job = self.open.get_mut(at)?.queue.pop_front()?;
        Some((at, job))
    }

    async fn ended(&mut self, id: Id, ended: Option<Ended>) {
        let Some(running) = self.running.remove(&id) else { return };
        let ended = match ended {
            Some(ended) => ended,
            // it panicked, and cannot have said how it ended
            None => {
                let kind = EventKind::JobEnd {
                    result: Outcome::Failure,
                    outputs: BTreeMap::new(),
                    duration: running.begun.elapsed(),
                };
                self.say(running.name, kind).await;
                Ended { conclusion: Conclusion::Failure, outputs: BTreeMap::new(), fault: Some(Class::Bug) }
            }
        };
        self.done.faults.extend(ended.fault);
        let Some(at) = self.open.iter().position(|group| group.id == running.job) else { return };
        let Some(group) = self.open.get_mut(at) else { return };
        group.running -= 1;
        let conclusion = match (ended.conclusion, running.on_error) {
            // a fault of ours is not what `continue-on-error` is for
            (Conclusion::Failure, OnError::Continue) if ended.fault.is_none() => Conclusion::Success,
            (conclusion, _) => conclusion,
        };
        group.ended.push(JobResult { conclusion, outputs: ended.outputs });
        if conclusion == Conclusion::Failure && group.fail_fast == FailFast::Cancel {
            let deadline = Instant::now() + self.work.fail_fast;
            group.canceller.cancel(Reason::FailFast, How::Graceful { deadline });
            let queued: Vec<_> = group.queue.drain(..).collect();
            group.ended.extend(queued.iter().map(|_| JobResult::new(Conclusion::Cancelled)));
            for job in queued {
                self.job_end(&job.name, Outcome::Cancelled).await;
            }
        }
    }

    /// Does what the user wants.
    fn obey(&mut self, wish: Wish) {
        let (signal, how) = match wish {
            Wish::Run => return,
            Wish::End(signal) => (signal, How::Graceful { deadline: Instant::now() + GRACE }),
            Wish::EndNow(signal) => (signal, How::Now),
        };
        self.done.cancelled = true;
        let reason = match signal {
            Signal::Interrupt | Signal::Hangup | Signal::OutputGone | Signal::OutputFailed => Reason::User,
            Signal::Terminate => Reason::Shutdown,
        };
        for group in &self.open {
            group.canceller.cancel(reason, how);
        }
        // a terminal that is stopped must not hold the end back for ever; a job that takes its time may
        let deadline = match how {
            How::Now => Instant::now(),
            How::Graceful { deadline } => deadline,
        };
        let surrender = self.out.surrender();
        let expired = async move {
            tokio::time::sleep_until(deadline).await;
            surrender.when_stuck(LAST_ROWS).await;
        };
        // ends with the runtime; it holds nothing but the way to give up, or the output's end would wait for it
        drop(tokio::spawn(expired));
    }

    /// Everything that has not begun is cancelled.
    async fn cancel_the_rest(&mut self) {
        let mut names = Vec::new();
        for group in &mut self.open {
            let queued = group.queue.drain(..);
            for job in queued {
                names.push(job.name);
                group.ended.push(JobResult::new(Conclusion::Cancelled));
            }
        }
        let open: Vec<&str> = self.open.iter().map(|group| group.id.as_str()).collect();
        let left: Vec<String> = self
            .work
            .plan
            .jobs()
            .map(|job| job.id.value.clone())
            .filter(|id| !self.done.results.contains_key(id) && !open.contains(&id.as_str()))
            .collect();
        for id in left {
            self.done.results.insert(id.clone(), JobResult::new(Conclusion::Cancelled));
            names.push(id);
        }
        for name in names {
            self.job_end(&name, Outcome::Cancelled).await;
        }
    }

    async fn job_end(&self, name: &str, result: Outcome) {
        self.say(
            name.to_owned(),
            EventKind::JobEnd { result, outputs: BTreeMap::new(), duration: Duration::ZERO },
        )
        .await;
    }

    async fn say(&self, job: String, kind: EventKind) {
        self.out.send(Say::Job(Event { time: Timestamp::now(), job, kind })).await;
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
