//! Cancelling a job: one side asks, the job's task listens.
//!
//! Purpose: a request that can only become harder: nothing, then [`How::Graceful`], then [`How::Now`].
//! Owner: the caller of [`crate::run`] holds the [`Canceller`]; the job holds the [`Cancel`].
//!
//! ```text
//!   runs ──Graceful──▶ the step is stopped, always() steps run ──deadline──▶ ends at once
//!     └───────────────────────────Now────────────────────────────────────────────▲
//! ```

use tokio::{sync::watch, time::Instant};

/// Who wants the job to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A person at the terminal, or at the server's page.
    User,
    /// This program is asked to end.
    Shutdown,
    /// Another job of its matrix failed.
    FailFast,
}

impl Reason {
    /// As the log says it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::User => "cancelled",
            Self::Shutdown => "cancelled, because the runner is asked to end",
            Self::FailFast => "cancelled, because another job of the matrix failed",
        }
    }
}

/// How a job is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The running step gets SIGINT, SIGTERM and SIGKILL in turn, then steps that want it run (`always()`,
    /// `cancelled()`), for five minutes in all.
    Graceful {
        /// From then on as [`How::Now`], if that is earlier.
        deadline: Instant,
    },
    /// The VM is destroyed, whatever is under way in it.
    Now,
}

/// A request to end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// Who wants it.
    pub reason: Reason,
    /// How.
    pub how: How,
}

/// The side that asks. Dropping it asks for nothing.
#[derive(Clone, Debug)]
pub struct Canceller(watch::Sender<Option<Cancellation>>);

impl Canceller {
    /// Both sides, nothing asked for.
    #[must_use]
    pub fn new() -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Cancel(receiver))
    }

    /// A further listener: one canceller can end several jobs.
    #[must_use]
    pub fn listener(&self) -> Cancel {
        Cancel(self.0.subscribe())
    }

    /// Asks. After a graceful request only [`How::Now`] changes anything; the first reason stays.
    pub fn cancel(&self, reason: Reason, how: How) {
        self.0.send_if_modified(|request| match (&mut *request, how) {
            (None, _) => {
                *request = Some(Cancellation { reason, how });
                true
            }
            (Some(before), How::Now) if before.how != How::Now => {
                before.how = How::Now;
                true
            }
            (Some(_), _) => false,
        });
    }
}

/// The side that listens.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<Option<Cancellation>>);

impl Cancel {
    /// What was asked for so far.
    #[must_use]
    pub fn requested(&self) -> Option<Cancellation> {
        *self.0.borrow()
    }

    /// Waits for the first request. Cancel-safe.
    pub async fn any(&self) -> Cancellation {
        let mut receiver = self.0.clone();
        loop {
            if let Some(request) = *receiver.borrow_and_update() {
                return request;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it has to end at once. Cancel-safe.
    pub async fn now(&self) -> Reason {
        let request = self.any().await;
        let How::Graceful { deadline } = request.how else { return request.reason };
        let mut receiver = self.0.clone();
        let harder = receiver.wait_for(|request| request.is_some_and(|request| request.how == How::Now));
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            // An error means that nobody can ask for more: then the deadline counts alone.
            Ok(_) = harder => {}
        }
        request.reason
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_only_becomes_harder() {
        let (canceller, cancel) = Canceller::new();
        assert_eq!(cancel.requested(), None);
        let deadline = Instant::now() + Duration::from_secs(60);
        canceller.cancel(Reason::User, How::Graceful { deadline });
        canceller.cancel(Reason::Shutdown, How::Graceful { deadline: deadline + Duration::from_secs(60) });
        assert_eq!(
            cancel.any().await,
            Cancellation { reason: Reason::User, how: How::Graceful { deadline } }
        );
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.now().await }
        });
        tokio::task::yield_now().await;
        canceller.cancel(Reason::Shutdown, How::Now);
        assert_eq!(waiting.await.unwrap(), Reason::User);
        assert_eq!(cancel.requested().unwrap().how, How::Now);
        canceller.cancel(Reason::User, How::Graceful { deadline });
        assert_eq!(cancel.requested().unwrap().how, How::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_also_when_nobody_can_ask_any_more() {
        let (canceller, cancel) = Canceller::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        canceller.cancel(Reason::User, How::Graceful { deadline });
        drop(canceller);
        cancel.now().await;
        assert!(Instant::now() >= deadline);
        let (canceller, cancel) = Canceller::new();
        drop(canceller);
        let waited = tokio::time::timeout(Duration::from_secs(3600), cancel.any()).await;
        assert!(waited.is_err(), "a dropped canceller asks for nothing");
    }
}
