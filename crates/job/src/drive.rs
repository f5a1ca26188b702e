//! One command of a step from its start to its end: output out, signals in.
//!
//! Purpose: takes the command's output into the log as fast as the log takes it, and ends the command when
//! the job is cancelled or a time is over.
//! Owner: the step that runs.
//!
//! ```text
//!   running ──cancel, time-out──▶ SIGINT ──7.5 s──▶ SIGTERM ──2.5 s──▶ SIGKILL to all of it ──▶ exited
//!      │                                                                     ▲                    ▲
//!      ├── the time of always() steps is over, or masks ran out ─────────────┘                    │
//!      └─────────────────────────────────── by itself ────────────────────────────────────────────┘
//! ```
//!
//! Invariants: the output is taken to its end in every case, so that nothing is lost that was printed; that
//! a command was stopped counts more than how it then exited. What a stopped one leaves running is killed;
//! what one leaves that ended by itself is meant for later steps.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sandbox::{Control, Error as SandboxError, Exited, Running};
use tokio::time::{Instant, sleep, sleep_until};
use workflow::{mask::TooManyMasks, matcher};

use crate::{
    Cancel, Error, Reason, files,
    guest::{Fault, Guest},
    log::Log,
    output::{Output, Row},
};

/// From SIGINT to SIGTERM.
const PATIENCE_INT: Duration = Duration::from_millis(7500);
/// From SIGTERM to SIGKILL.
const PATIENCE_TERM: Duration = Duration::from_millis(2500);
/// From SIGKILL to the conclusion that it does not help.
const PATIENCE_KILL: Duration = Duration::from_secs(30);

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What ends a command before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody wants the job to end.
    Cancelled(Reason),
    /// The job's time is over.
    JobTime,
    /// The step's time is over.
    StepTime,
    /// The time is over that a job that ends has for `always()` steps.
    EndingTime,
}

/// What can end a command before its time.
#[derive(Debug, Default)]
pub(crate) struct Limits<'a> {
    pub(crate) cancel: Option<&'a Cancel>,
    pub(crate) job: Option<Instant>,
    pub(crate) step: Option<Instant>,
    pub(crate) ending: Option<Instant>,
}

impl Limits<'_> {
    /// Waits for the first of them.
    pub(crate) async fn reached(&self) -> Stop {
        tokio::select! {
            biased;
            () = at(self.ending) => Stop::EndingTime,
            reason = asked(self.cancel) => Stop::Cancelled(reason),
            () = at(self.job) => Stop::JobTime,
            () = at(self.step) => Stop::StepTime,
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn asked(cancel: Option<&Cancel>) -> Reason {
    match cancel {
        Some(cancel) => cancel.any().await.reason,
        None => std::future::pending().await,
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exited: Exited,
    /// What ended it, if it did not end by itself.
    pub(crate) stop: Option<Stop>,
}

/// Takes a command to its end.
pub(crate) async fn drive(
    mut running: Running,
    guest: &Guest,
    output: &mut Output,
    log: &mut Log,
    step: usize,
    limits: Limits<'_>,
) -> Result<Ended, Fault> {
    let control = running.control();
    let stop = OnceLock::new();
    // Whether all that came is with the log's reader. While it is not, silence is not the guest's.
    let told = AtomicBool::new(true);
    let printed = async {
        let mut rows = Vec::new();
        loop {
            let chunk = match running.output.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(gone) => {
                    // Its last words may not have reached the end of their row.
                    let now = log.now();
                    if output.finish(&mut log.masker, now, &mut rows).is_ok() {
                        log.rows(step, &mut rows).await;
                    }
                    return Err(SandboxError::Gone(gone).into());
                }
            };
            let mut taken = output.chunk(&mut log.masker, chunk.stream, chunk.time, &chunk.bytes, &mut rows);
            loop {
                let wanted = match taken {
                    Ok(None) => break,
                    Ok(Some(wanted)) => wanted,
                    Err(flood) => return Err(flooded(&control, log, step, &mut rows, flood).await),
                };
                let path = guest.path(wanted.path());
                let content = files::content(&guest.sandbox, path, matcher::MAX_FILE).await?;
                if let Some(text) = output.problems.answer(&wanted, content) {
                    output.say(&log.masker, chunk.time, &text, &mut rows);
                }
                taken = output.resume(&mut log.masker, &mut rows);
            }
            told.store(false, Ordering::Relaxed);
            log.rows(step, &mut rows).await;
            told.store(true, Ordering::Relaxed);
        }
        let exited = running.exit().await?;
        if let Err(flood) = output.finish(&mut log.masker, exited.time, &mut rows) {
            return Err(flooded(&control, log, step, &mut rows, flood).await);
        }
        log.rows(step, &mut rows).await;
        Ok(exited)
    };
    let stopped = async {
        let reached = limits.reached().await;
        if *stop.get_or_init(|| reached) != Stop::EndingTime {
            // A VM that is gone is seen by the other side.
            let _ = control.signal(SIGINT).await;
            sleep(PATIENCE_INT).await;
            let _ = control.signal(SIGTERM).await;
            sleep(PATIENCE_TERM).await;
        }
        let _ = control.kill().await;
        sleep(PATIENCE_KILL).await;
        while !told.load(Ordering::Relaxed) {
            sleep(PATIENCE_KILL).await;
        }
    };
    let exited = tokio::select! {
        biased;
        exited = printed => exited?,
        () = stopped => return Err(Fault::Job(Error::Unkillable)),
    };
    let stop = stop.get().copied();
    if stop.is_some() {
        control.kill().await?;
    }
    Ok(Ended { exited, stop })
}

/// Says what was printed before, kills the command and drops the rest, which nobody could mask.
async fn flooded(
    control: &Control,
    log: &mut Log,
    step: usize,
    rows: &mut Vec<Row>,
    flood: TooManyMasks,
) -> Fault {
    let _ = control.kill().await;
    log.rows(step, rows).await;
    Fault::step(format!("{flood}; the rest of this step's output is not shown"))
}

#[cfg(test)]
mod tests {
    use crate::{Canceller, How};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_limit_counts_and_the_end_of_all_counts_most() {
        let now = Instant::now();
        let later = |seconds| Some(now + Duration::from_secs(seconds));
        let (canceller, cancel) = Canceller::new();
        let limits = Limits { cancel: Some(&cancel), job: later(2), step: later(1), ending: None };
        assert_eq!(limits.reached().await, Stop::StepTime);
        let limits = Limits { cancel: Some(&cancel), job: later(2), step: later(3), ending: None };
        assert_eq!(limits.reached().await, Stop::JobTime);
        canceller.cancel(Reason::FailFast, How::Graceful { deadline: now });
        assert_eq!(limits.reached().await, Stop::Cancelled(Reason::FailFast));
        let limits = Limits { step: later(3), ending: later(3), ..Limits::default() };
        assert_eq!(limits.reached().await, Stop::EndingTime);
        let unlimited = Limits::default();
        assert!(tokio::time::timeout(Duration::from_secs(1000), unlimited.reached()).await.is_err());
    }
}
