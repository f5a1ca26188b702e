//! The members of a group: made as many at a time as the engine lets begin, each run as soon as it is ready.
//!
//! Invariants: when one cannot be made, or the group is cancelled, every other one is destroyed before that is
//! told; each is destroyed as soon as its command has ended, so that its memory is free for the next.

use futures_util::{StreamExt, stream::FuturesUnordered};
use sandbox::{Engine, LeaseSpec};
use tokio_util::sync::CancellationToken;

use super::member::{Member, Task};
use crate::{exec::warn, sink::Look};

/// Why there are no ends to tell.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Somebody wanted it.
    Cancelled,
    /// One could not be made.
    Fork { index: u16, source: sandbox::Error },
}

pub(super) struct Group<'a> {
    engine: &'a Engine,
    spec: LeaseSpec,
    task: Task,
    /// Cancelled when the first is there.
    first: CancellationToken,
}

impl<'a> Group<'a> {
    pub(super) fn new(engine: &'a Engine, spec: LeaseSpec, task: Task) -> Self {
        Self { engine, spec, task, first: CancellationToken::new() }
    }

    /// Returns when the first is there; perhaps never.
    pub(super) async fn first(&self) {
        self.first.cancelled().await;
    }

    /// Runs all to their ends, in the order of their indexes.
    pub(super) async fn run(&self, cancel: &CancellationToken, look: Look) -> Result<Vec<Member>, Stopped> {
        // also cancelled by the first that cannot be made
        let all = cancel.child_token();
        let mut under_way: FuturesUnordered<_> =
            (0..self.task.count).map(|index| self.member(index, &all, look)).collect();
        let mut members = Vec::with_capacity(under_way.len());
        let mut stopped = None;
        while let Some(ended) = under_way.next().await {
            match ended {
                Ok(member) => members.push(member),
                Err(why) => {
                    // those after it were cancelled for the first
                    stopped.get_or_insert(why);
                    all.cancel();
                }
            }
        }
        match stopped {
            Some(why) => Err(why),
            None => {
                members.sort_by_key(|member| member.index);
                Ok(members)
            }
        }
    }

    async fn member(&self, index: u16, all: &CancellationToken, look: Look) -> Result<Member, Stopped> {
        let lease = match self.engine.lease(self.spec.clone(), all).await {
            Ok(lease) => lease,
            Err(sandbox::Error::Cancelled) => return Err(Stopped::Cancelled),
            Err(source) => return Err(Stopped::Fork { index, source }),
        };
        self.first.cancel();
        let sandbox = lease.sandbox();
        let member = tokio::select! {
            biased;
            () = all.cancelled() => None,
            member = self.task.run(index, &sandbox) => Some(member),
        };
        if let Err(error) = lease.destroy().await {
            warn(look, &format!("something of sandbox [{index}] is left, for the next start: {error}"));
        }
        member.ok_or(Stopped::Cancelled)
    }
}
