//! The daemon: it asks for work, runs it, and drains when it is to end.
//!
//! Owner: the command `daemon`, and [`crate::one_job`] for the fetch.
//!
//! ```text
//!  declare ──▶ polling ──Drain──▶ draining ──shutdown_timeout, Cancel──▶ cancelling ──Now──▶ destroying
//!                 │ capacity is full: no fetch                       jobs are gone ──▶ end ◀──┘
//! ```
//! Invariants
//! - One fetch is under way, none while every place is taken: the server gives work for any call.
//! - A call without an answer is made again with its key, so that what the server gave for it is not lost; a
//!   task that runs is not run twice.

use std::{collections::HashMap, sync::Arc, time::Duration};

use forgejo::{Code, Fetch, Task, TaskId};
use job::Canceller;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use crate::{
    Error, ReportError, Runner, Stop,
    backoff::Backoff,
    error::is_unknown_runner,
    run::{more, obey},
};

/// The longest wait between two tries while the server is away.
const AWAY: Duration = Duration::from_secs(60);

/// Runs until it is asked to end, and its jobs have.
///
/// # Errors
/// The server does not know this runner. A server that is away is none.
pub async fn daemon(runner: Arc<Runner>, mut stop: watch::Receiver<Stop>) -> Result<(), Error> {
    let Some(declared) = declare(&runner, &mut stop).await else { return Ok(()) };
    declared?;
    tracing::info!(version = %runner.version, "takes jobs");
    let ahead = Arc::clone(&runner);
    tokio::spawn(async move { ahead.keep_ready().await });
    let mut daemon =
        Daemon { jobs: JoinSet::new(), running: HashMap::new(), fetch: Fetcher::new(&runner), runner };
    let polled = daemon.poll(&mut stop).await;
    daemon.drain(&mut stop).await;
    daemon.runner.close().await;
    polled
}

/// Declares the labels; waits for a server that is away. Nothing if it is to end before.
pub(crate) async fn declare(runner: &Runner, stop: &mut watch::Receiver<Stop>) -> Option<Result<(), Error>> {
    let mut backoff = Backoff::new(Duration::from_secs(1), AWAY);
    loop {
        let error = match runner.declare().await {
            Ok(()) => return Some(Ok(())),
            // the oldest servers know no such call
            Err(error) if error.code() == Some(Code::Unimplemented) => return Some(Ok(())),
            Err(error) => error,
        };
        if let Some(error) = lasting(runner, error) {
            return Some(Err(error));
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            _ = more(stop, Stop::No) => return None,
        }
    }
}

/// What no wait mends.
pub(crate) fn lasting(runner: &Runner, error: forgejo::Error) -> Option<Error> {
    let instance = runner.instance.clone();
    if is_unknown_runner(&error) {
        return Some(Error::Unknown { instance });
    }
    if error.is_transient() {
        tracing::warn!(error = &error as &dyn std::error::Error, "the server is away; trying again");
        return None;
    }
    Some(Error::Server { instance, source: error })
}

struct Daemon {
    runner: Arc<Runner>,
    jobs: JoinSet<Result<(), ReportError>>,
    running: HashMap<Id, (TaskId, Canceller)>,
    fetch: Fetcher,
}

impl Daemon {
    async fn poll(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Error> {
        let capacity = usize::from(self.runner.config.runner.capacity);
        let mut backoff = Backoff::new(self.runner.config.runner.fetch_interval, AWAY);
        let mut next = Instant::now();
        loop {
            let free = capacity.saturating_sub(self.jobs.len());
            tokio::select! {
                _ = more(stop, Stop::No) => return Ok(()),
                Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => {
                    self.ended(ended);
                    // what waited for this place was passed over: ask without a version, at once
                    self.fetch.anew();
                    next = Instant::now();
                }
                () = sleep_until(next), if free > 0 => match self.fetch.fetch(free).await {
                    Ok(tasks) => {
                        backoff.reset();
                        next = Instant::now();
                        if tasks.is_empty() {
                            next += self.runner.config.runner.fetch_interval;
                        }
                        tasks.into_iter().for_each(|task| self.start(task));
                    }
                    Err(error) => {
                        if let Some(error) = lasting(&self.runner, error) {
                            return Err(error);
                        }
                        next = Instant::now() + backoff.next();
                    }
                },
            }
        }
    }

    fn start(&mut self, task: Task) {
        if self.running.values().any(|(id, _)| *id == task.id) {
            tracing::warn!(task = %task.id, "was given again while it runs");
            return;
        }
        let (canceller, cancel) = Canceller::new();
        let (runner, id, own) = (Arc::clone(&self.runner), task.id, canceller.clone());
        let handle = self.jobs.spawn(async move { runner.run(task, own, cancel).await });
        self.running.insert(handle.id(), (id, canceller));
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), ReportError>), tokio::task::JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                tracing::error!(%error, "a job's task panicked: this is a bug of ampoule");
                (error.id(), Ok(()))
            }
        };
        let task = self.running.remove(&id).map(|(task, _)| task.get()).unwrap_or_default();
        if let Err(error) = result {
            tracing::error!(task, error = &error as &dyn std::error::Error, "the end was not reported");
        }
    }

    /// Waits for the jobs.
    async fn drain(&mut self, stop: &mut watch::Receiver<Stop>) {
        let deadline = Instant::now() + self.runner.config.runner.shutdown_timeout;
        if !self.jobs.is_empty() {
            tracing::info!(jobs = self.jobs.len(), "takes no more work; waiting for the jobs that run");
        }
        let mut wish = Stop::Drain;
        while !self.jobs.is_empty() {
            tokio::select! {
                Some(ended) = self.jobs.join_next_with_id() => self.ended(ended),
                harder = more(stop, wish) => {
                    wish = harder;
                    obey(wish, self.running.values().map(|(_, canceller)| canceller.clone()));
                }
                () = sleep_until(deadline), if wish < Stop::Cancel => {
                    wish = Stop::Cancel;
                    obey(wish, self.running.values().map(|(_, canceller)| canceller.clone()));
                }
            }
        }
    }
}

/// Asks for work.
pub(crate) struct Fetcher {
    client: forgejo::Runner,
    limit: Duration,
    version: i64,
    key: Uuid,
}

impl Fetcher {
    pub(crate) fn new(runner: &Runner) -> Self {
        Self {
            client: runner.client.clone(),
            limit: runner.config.runner.fetch_timeout,
            version: 0,
            key: Uuid::now_v7(),
        }
    }

    /// The next call looks at all work, not only at what is new.
    pub(crate) fn anew(&mut self) {
        self.version = 0;
    }

    /// Asks once. A call that is too slow is made again with its key: the server may have given work for it.
    pub(crate) async fn fetch(&mut self, capacity: usize) -> Result<Vec<Task>, forgejo::Error> {
        let fetch = Fetch {
            tasks_version: self.version,
            capacity: u32::try_from(capacity).ok(),
            request_key: Some(self.key),
        };
        let client = self.client.clone();
        let fetched = match timeout(self.limit, client.fetch_task(&fetch)).await {
            Ok(fetched) => fetched?,
            Err(_) => {
                tracing::warn!("the server took longer than fetch_timeout to answer");
                return Ok(Vec::new());
            }
        };
        self.key = Uuid::now_v7();
        self.version = if fetched.tasks.is_empty() { fetched.tasks_version } else { 0 };
        Ok(fetched.tasks)
    }
}
