//! The engine of this process: makes VMs and knows which of them this process owns.
//!
//! Owner: one per process and state directory, by whoever opened it. Each VM is a task of its own (see
//! `owner`); the engine starts those and, on its close, waits for them: they are its reaper too, since a
//! dropped lease only tells its task to end.
//! Invariant: after [`crate::Engine::close`] nothing of this engine runs and no slot of it is in the journal, except
//! for what could not be removed, and for the VMs that were left to the next engine.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vm::Backend;

use crate::{
    EngineConfig, Error, ForkSpec, Lease, LeaseSpec, Patience, Result, SnapshotGc, SnapshotInfo,
    SnapshotsRemoved, Swept,
    admission::Gate,
    boot::Parent,
    branch::{Branches, Copy},
    holding::Holding,
    journal::Journal,
    lease::{Coming, Keeper},
    owner::{Begin, Owner},
    pool::{self, Pool},
    snapshots::{self, Snapshots},
    ways,
};

/// Makes VMs in one state directory.
pub(crate) struct Local {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) patience: Patience,
    pub(crate) journal: Journal,
    pub(crate) snapshots: Snapshots,
    pub(crate) gate: Gate,
    pub(crate) pool: Pool,
    pub(crate) branches: Branches,
    /// Those that are ready.
    pub(crate) holding: Holding,
    /// Parent of every lease's token.
    pub(crate) closing: CancellationToken,
    /// Every task, so that [`crate::Engine::close`] can wait for the end of what dropped leases left.
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { backend, journal, tasks, .. } = &*self.inner;
        let state_dir = journal.state_dir().display();
        write!(f, "Local({} in {state_dir}, {} tasks)", backend.name(), tasks.len())
    }
}

impl Local {
    /// As [`crate::Engine::open`].
    pub(crate) async fn open(config: EngineConfig) -> Result<(Self, Swept)> {
        let EngineConfig { state_dir, backend, patience, pool, reserve } = config;
        let asked = Arc::clone(&backend);
        let opened = spawn_blocking(move || {
            let journal = Journal::open(&state_dir, patience.teardown)?;
            let swept = journal.sweep()?;
            let snapshots = Snapshots::open(journal.state_dir(), asked)?;
            Ok((journal, snapshots, swept))
        });
        let (journal, snapshots, swept) = opened.await.unwrap_or(Err(Error::Lost))?;
        let inner = Inner {
            backend,
            patience,
            gate: Gate::new(journal.state_dir(), reserve),
            pool: Pool::new(pool),
            branches: Branches::default(),
            holding: Holding::default(),
            journal,
            snapshots,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let inner = Arc::new(inner);
        inner.tasks.spawn(sweep_again(Arc::clone(&inner)));
        if pool.most > 0 {
            inner.tasks.spawn(pool::tend(Arc::clone(&inner)));
        }
        Ok((Self { inner }, swept))
    }

    /// As [`crate::Engine::lease`].
    pub(crate) async fn lease(&self, spec: LeaseSpec, cancel: &CancellationToken) -> Result<Lease> {
        self.lease_of(spec, None, cancel).await
    }

    /// As [`crate::Engine::lease_branch`].
    pub(crate) async fn lease_branch(
        &self,
        branch: &Arc<Copy>,
        fork: ForkSpec,
        cancel: &CancellationToken,
    ) -> Result<Lease> {
        let ForkSpec { bind, on_owner_loss, inherited } = fork;
        let spec = LeaseSpec { bind, on_owner_loss, ..branch.spec.clone() };
        self.lease_of(spec, Some(Parent { branch: Arc::clone(branch), inherited }), cancel).await
    }

    async fn lease_of(
        &self,
        spec: LeaseSpec,
        parent: Option<Parent>,
        cancel: &CancellationToken,
    ) -> Result<Lease> {
        if self.inner.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        ways::check(&spec.bind)?;
        let destroy = self.inner.closing.child_token();
        let (ready_to, ready) = oneshot::channel();
        let (ended_to, ended) = oneshot::channel();
        let coming = Coming { ready, ended, destroy: destroy.clone().drop_guard() };
        let owner = Owner {
            engine: Arc::clone(&self.inner),
            begin: Begin::Lease { spec: Box::new(spec), parent },
            destroy,
            ready: ready_to,
            ended: ended_to,
        };
        self.inner.tasks.spawn(owner.run());
        coming.leased(Keeper::Here(Arc::clone(&self.inner)), cancel).await
    }

    /// As [`crate::Engine::template`].
    pub(crate) async fn template(&self, spec: &LeaseSpec) -> Result<Option<String>> {
        // no VM could be forked of it
        self.inner.gate.check_size(spec.memory)?;
        Ok(snapshots::template(&self.inner, spec).await?.map(|(key, _)| key))
    }

    /// As [`crate::Engine::keep_ready`].
    pub(crate) async fn keep_ready(&self, spec: &LeaseSpec, count: usize) -> Result<()> {
        self.inner.gate.check_size(spec.memory)?;
        if let Some((key, _)) = snapshots::template(&self.inner, spec).await? {
            self.inner.pool.keep(&key, spec, count);
        }
        Ok(())
    }

    /// As [`crate::Engine::ready`].
    pub(crate) fn ready(&self) -> usize {
        self.inner.pool.count()
    }

    /// As [`crate::Engine::waiting`].
    pub(crate) fn waiting(&self) -> watch::Receiver<Option<String>> {
        self.inner.gate.waiting()
    }

    /// As [`crate::Engine::snapshots`].
    pub(crate) async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.blocking(|inner| inner.snapshots.disk().list()).await
    }

    /// As [`crate::Engine::remove_snapshot`].
    pub(crate) async fn remove_snapshot(&self, key: String) -> Result<()> {
        self.blocking(move |inner| inner.snapshots.disk().remove(&key)).await
    }

    /// As [`crate::Engine::collect_snapshots`].
    pub(crate) async fn collect_snapshots(&self, policy: SnapshotGc) -> Result<SnapshotsRemoved> {
        self.blocking(move |inner| inner.snapshots.disk().collect(&policy)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || work(&inner)).await.unwrap_or(Err(Error::Lost))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// What runs the VMs.
    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    /// As [`crate::Engine::close`].
    pub(crate) async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.branches.close();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// When what the first sweep spared is looked at again.
const AGAIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];
/// And then.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// Removes what a dead owner left and the first sweep had to spare: a process that it was just starting may have
/// held its locks for a moment longer than it lived; and, for as long as the engine is there, what is kept and finds
/// no owner in its time.
async fn sweep_again(engine: Arc<Inner>) {
    for after in AGAIN.into_iter().chain(std::iter::repeat(NOW_AND_THEN)) {
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => return,
            () = sleep(after) => {}
        }
        let swept = {
            let engine = Arc::clone(&engine);
            spawn_blocking(move || engine.journal.sweep()).await.unwrap_or(Err(Error::Lost))
        };
        match swept {
            Ok(Swept { removed, failed }) => {
                if !removed.is_empty() {
                    tracing::info!(slots = ?removed, "removed what dead processes left");
                }
                for (slot, error) in failed {
                    tracing::warn!(%error, slot, "what a dead process left cannot be removed");
                }
            }
            Err(error) => tracing::warn!(%error, "what dead processes left cannot be looked for"),
        }
    }
}
