//! One job and no more: for machines that are made for a job and thrown away.
//!
//! Owner: the command `one-job`. Invariant: at most one task is taken.

use std::{sync::Arc, time::Duration};

use forgejo::{Code, Task};
use job::Canceller;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Error, ReportError, Runner, Stop,
    backoff::Backoff,
    daemon::{Fetcher, declare, lasting},
    run::{more, obey},
};

/// How long a server may be away for a runner that does not wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a runner waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It asks until there is some.
    ForWork,
    /// It asks once, and does not wait for a server that is away.
    No,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneJob {
    /// A job was run and reported.
    Ran,
    /// There was none.
    NoWork,
}

/// Takes one job, that of a handle if it is given, runs and reports it.
///
/// # Errors
/// The server cannot be used, or the job's end could not be reported.
pub async fn one_job(
    runner: Arc<Runner>,
    handle: Option<&str>,
    wait: Wait,
    mut stop: watch::Receiver<Stop>,
) -> Result<OneJob, Error> {
    let result = taken(&runner, handle, wait, &mut stop).await;
    runner.close().await;
    result
}

async fn taken(
    runner: &Arc<Runner>,
    handle: Option<&str>,
    wait: Wait,
    stop: &mut watch::Receiver<Stop>,
) -> Result<OneJob, Error> {
    let away = || Error::Away { instance: runner.instance.clone() };
    let declared = tokio::select! {
        declared = declare(runner, stop) => declared,
        () = sleep(PATIENCE), if wait == Wait::No => return Err(away()),
    };
    match declared {
        Some(declared) => declared?,
        None => return Ok(OneJob::NoWork),
    }
    let began = Instant::now();
    let mut fetcher = Fetcher::new(runner);
    let mut backoff = Backoff::new(runner.config.runner.fetch_interval, Duration::from_secs(60));
    let task = loop {
        let pause = match fetch(runner, &mut fetcher, handle).await {
            Ok(Some(task)) => break task,
            Ok(None) if wait == Wait::No => return Ok(OneJob::NoWork),
            Ok(None) => runner.config.runner.fetch_interval,
            Err(error) => match lasting(runner, error) {
                Some(error) => return Err(error),
                None if wait == Wait::No && began.elapsed() > PATIENCE => return Err(away()),
                None => backoff.next(),
            },
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = more(stop, Stop::No) => return Ok(OneJob::NoWork),
        }
    };
    let (canceller, cancel) = Canceller::new();
    let running = runner.run(task, canceller.clone(), cancel);
    tokio::pin!(running);
    // one job is asked to end at once: there is nothing else to wait for
    let mut wish = Stop::No;
    loop {
        tokio::select! {
            reported = &mut running => return match reported {
                // the server deleted this runner with its task: someone cancelled it there
                Err(ReportError::GivenUp) if runner.is_ephemeral() => Ok(OneJob::Ran),
                reported => reported.map(|()| OneJob::Ran).map_err(Error::from),
            },
            harder = more(stop, wish) => {
                wish = harder;
                obey(wish.max(Stop::Cancel), std::iter::once(canceller.clone()));
            }
        }
    }
}

/// Asks for one task. Without a handle any server knows a call for it.
async fn fetch(
    runner: &Runner,
    fetcher: &mut Fetcher,
    handle: Option<&str>,
) -> Result<Option<Task>, forgejo::Error> {
    let one = runner.client.fetch_single_task(0, handle, None).await;
    match one {
        Ok(fetched) => Ok(fetched.tasks.into_iter().next()),
        Err(error)
            if handle.is_none() && matches!(error.code(), Some(Code::Unimplemented | Code::NotFound)) =>
        {
            Ok(fetcher.fetch(1).await?.into_iter().next())
        }
        Err(error) => Err(error),
    }
}
