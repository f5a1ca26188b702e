//! The VMs of an engine that are ready, and what becomes of those that are kept.
//!
//! Purpose: [`crate::Engine::kept`], [`crate::Engine::adopt`], [`crate::Engine::attach`], [`crate::Engine::end`]; who decides over a VM is told in
//! one table, under one lock. Owner: the engine; each VM's owner task puts it in and takes it out.
//!
//! ```text
//!            leave                       time is up, end
//!   Leased ────────▶ Left ─────────────────────────────▶ Ending ──▶ gone
//!     ▲  ▲            │ │ the engine closes
//!     │  └── adopt ───┘ └──────────────▶ nobody's: it runs on ──── adopt, attach (an engine) ──▶ Left
//!     └── ready         destroyed, dropped, the engine closes: Ending
//! ```
//!
//! Invariants
//! - A VM is left to the next engine only by an owner task that found it left, in this table, when its engine closed;
//!   a lease that is given up later than that is refused.
//! - An adoption that is given up, or that the host's own trouble hinders, leaves the VM as it was.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Mutex as Turn, oneshot, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use vm::SlotId;

use crate::{
    Error, Gone, Holder, Kept, Lease, Result, Sandbox,
    command::Command,
    kept,
    lease::Keeper,
    local::{Inner, Local},
    owner::{Begin, Owner},
};

/// The longest wait for a time in one piece: the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One VM that is ready.
struct Vm {
    sandbox: Sandbox,
    destroy: CancellationToken,
    holder: Lessee,
    /// What is written down of it, where it is kept.
    record: Option<kept::Record>,
    /// When it ends by itself: while it is left.
    ends: watch::Sender<Option<SystemTime>>,
    /// Nothing of it is left, or it was left to the next engine.
    over: CancellationToken,
}

/// Who decides how long it lives.
enum Lessee {
    Leased,
    /// The engine; with what a lease would wait for.
    Left(oneshot::Receiver<Result<()>>),
    /// Nobody any more.
    Ending,
}

/// The VMs of an engine.
#[derive(Default)]
pub(crate) struct Holding {
    vms: Mutex<HashMap<SlotId, Vm>>,
    /// One adoption of a VM at a time.
    coming: Mutex<HashMap<SlotId, Arc<Turn<()>>>>,
}

/// What an owner task has of its place in the table; it goes with the task.
pub(crate) struct Place {
    engine: Arc<Inner>,
    id: SlotId,
    ends: watch::Receiver<Option<SystemTime>>,
    over: CancellationToken,
}

impl Holding {
    fn vms(&self) -> MutexGuard<'_, HashMap<SlotId, Vm>> {
        // nothing panics while it is held
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in one that is ready: leased, or, with what tells its end, left.
    pub(crate) fn put(
        engine: &Arc<Inner>,
        sandbox: &Sandbox,
        destroy: &CancellationToken,
        record: Option<kept::Record>,
        left: Option<oneshot::Receiver<Result<()>>>,
    ) -> Place {
        let until = record.as_ref().filter(|_| left.is_some()).map(|record| record.until);
        let (ends_to, ends) = watch::channel(until);
        let over = CancellationToken::new();
        let vm = Vm {
            sandbox: sandbox.clone(),
            destroy: destroy.clone(),
            holder: left.map_or(Lessee::Leased, Lessee::Left),
            record,
            ends: ends_to,
            over: over.clone(),
        };
        let id = sandbox.id();
        engine.holding.vms().insert(id, vm);
        Place { engine: Arc::clone(engine), id, ends, over }
    }

    /// Gives one up to the engine.
    pub(crate) fn leave(&self, id: SlotId, ended: oneshot::Receiver<Result<()>>) -> Result<()> {
        let mut vms = self.vms();
        let vm = vms.get_mut(&id).ok_or(Error::Gone(Gone::Destroyed))?;
        let record = vm.record.as_ref().ok_or(Error::NotToKeep)?;
        if let Lessee::Ending = vm.holder {
            return Err(vm.sandbox.gone().borrow().clone().unwrap_or(Gone::Destroyed).into());
        }
        vm.ends.send_replace(Some(record.until));
        vm.holder = Lessee::Left(ended);
        Ok(())
    }

    /// A lease of one that was left; `None`: it is not here.
    fn take(&self, engine: &Arc<Inner>, id: SlotId) -> Result<Option<Lease>> {
        let mut vms = self.vms();
        let Some(vm) = vms.get_mut(&id) else { return Ok(None) };
        match std::mem::replace(&mut vm.holder, Lessee::Leased) {
            Lessee::Left(ended) => {
                vm.ends.send_replace(None);
                Ok(Some(Lease::new(
                    Keeper::Here(Arc::clone(engine)),
                    vm.sandbox.clone(),
                    vm.destroy.clone(),
                    ended,
                )))
            }
            Lessee::Leased => Err(Error::Owned { id }),
            Lessee::Ending => {
                vm.holder = Lessee::Ending;
                Err(Error::NotKept { id })
            }
        }
    }

    /// The turns of those who want to take over a VM.
    fn turn(&self, id: SlotId) -> Arc<Turn<()>> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(coming.entry(id).or_default())
    }

    pub(crate) fn sandbox(&self, id: SlotId) -> Option<Sandbox> {
        self.vms().get(&id).map(|vm| vm.sandbox.clone())
    }

    /// What is written down of one that is kept.
    pub(crate) fn record(&self, id: SlotId) -> Option<kept::Record> {
        self.vms().get(&id).and_then(|vm| vm.record.clone())
    }

    /// It is kept until another time.
    pub(crate) fn moved(&self, id: SlotId, until: SystemTime) {
        if let Some(vm) = self.vms().get_mut(&id) {
            if let Some(record) = &mut vm.record {
                record.until = until;
            }
            vm.ends.send_if_modified(|ends| ends.as_mut().map(|ends| *ends = until).is_some());
        }
    }

    /// All that there are.
    fn ids(&self) -> Vec<SlotId> {
        self.vms().keys().copied().collect()
    }

    /// Those that were left.
    pub(crate) fn left(&self) -> Vec<Kept> {
        let left = |(id, vm): (&SlotId, &Vm)| match &vm.holder {
            Lessee::Left(_) => vm.record.as_ref().map(|record| record.shown(*id, Holder::ThisEngine)),
            Lessee::Leased | Lessee::Ending => None,
        };
        self.vms().iter().filter_map(left).collect()
    }

    /// How many are leased, and how many were left.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let vms = self.vms();
        let count = |is: fn(&Lessee) -> bool| vms.values().filter(|vm| is(&vm.holder)).count();
        (count(|holder| matches!(holder, Lessee::Leased)), count(|holder| matches!(holder, Lessee::Left(_))))
    }

    /// Begins the end of one; whoever waits for it is told by the returned.
    fn end(&self, id: SlotId) -> Option<(CancellationToken, Option<oneshot::Receiver<Result<()>>>)> {
        let mut vms = self.vms();
        let vm = vms.get_mut(&id)?;
        let ended = match std::mem::replace(&mut vm.holder, Lessee::Ending) {
            Lessee::Left(ended) => Some(ended),
            Lessee::Leased | Lessee::Ending => None,
        };
        vm.destroy.cancel();
        Some((vm.over.clone(), ended))
    }
}

impl Place {
    /// What is to become of the VM whose token was cancelled: by a lease, by an end, or because the engine closes.
    pub(crate) fn verdict(&self) -> Gone {
        match self.engine.holding.vms().get_mut(&self.id) {
            Some(Vm { holder: Lessee::Left(_), .. }) => Gone::Left,
            Some(vm) => {
                vm.holder = Lessee::Ending;
                Gone::Destroyed
            }
            None => Gone::Destroyed,
        }
    }

    /// Waits until the time of one that was left is up.
    pub(crate) async fn time_is_up(&mut self) {
        loop {
            let left = self
                .ends
                .borrow_and_update()
                .map(|until| until.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_WAIT));
            let changed = match left {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::select! {
                    changed = self.ends.changed() => changed,
                    () = sleep(left) => Ok(()),
                },
                None => self.ends.changed().await,
            };
            if changed.is_err() {
                // it is not in the table any more, which is this task's own doing
                return std::future::pending().await;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.holding.vms().remove(&self.id);
        self.over.cancel();
    }
}

impl Local {
    /// As [`crate::Engine::kept`].
    pub(crate) async fn kept(&self) -> Result<Vec<Kept>> {
        let inner = Arc::clone(self.inner());
        let ours = inner.holding.ids();
        let found = spawn_blocking(move || inner.journal.kept(&ours)).await.unwrap_or(Err(Error::Lost))?;
        let mut kept = self.inner().holding.left();
        // one may have been taken over meanwhile
        let ours = self.inner().holding.ids();
        let others = found.into_iter().filter(|(id, _)| !ours.contains(id));
        kept.extend(others.map(|(id, record)| record.shown(id, Holder::Nobody)));
        kept.sort_by_key(|kept| kept.id);
        Ok(kept)
    }

    /// As [`crate::Engine::adopt`].
    pub(crate) async fn adopt(&self, id: SlotId) -> Result<Lease> {
        self.hold(id).await?;
        self.inner().holding.take(self.inner(), id)?.ok_or(Error::NotKept { id })
    }

    /// As [`crate::Engine::attach`].
    pub(crate) async fn attach(&self, id: SlotId) -> Result<Sandbox> {
        self.hold(id).await?;
        self.inner().holding.sandbox(id).ok_or(Error::NotKept { id })
    }

    /// As [`crate::Engine::end`].
    pub(crate) async fn end(&self, id: SlotId) -> Result<()> {
        if let Some((over, ended)) = self.inner().holding.end(id) {
            over.cancelled().await;
            return match ended {
                Some(ended) => ended.await.unwrap_or(Err(Error::Lost)),
                // its lease is told what could not be removed
                None => Ok(()),
            };
        }
        let inner = Arc::clone(self.inner());
        spawn_blocking(move || inner.journal.end(id)).await.unwrap_or(Err(Error::Lost))
    }

    /// As [`crate::Engine::keep_until`].
    pub(crate) async fn keep_until(&self, id: SlotId, until: SystemTime) -> Result<()> {
        let sandbox = self.inner().holding.sandbox(id).ok_or(Error::NotKept { id })?;
        keep_until(&sandbox, until).await
    }

    /// Makes sure that this engine has the VM. In a task of its own: whoever comes next finds it there, or not
    /// begun, also where nobody waits for this one any more.
    async fn hold(&self, id: SlotId) -> Result<()> {
        let inner = Arc::clone(self.inner());
        let turn = inner.holding.turn(id);
        let held = self.inner().tasks.spawn(async move {
            let _turn = turn.lock_owned().await;
            if inner.holding.sandbox(id).is_some() {
                return Ok(());
            }
            take_over(&inner, id).await
        });
        held.await.unwrap_or(Err(Error::Lost))
    }
}

async fn take_over(inner: &Arc<Inner>, id: SlotId) -> Result<()> {
    if inner.closing.is_cancelled() {
        return Err(Error::Closed);
    }
    let (ready_to, ready) = oneshot::channel();
    let (ended_to, ended) = oneshot::channel();
    let owner = Owner {
        engine: Arc::clone(inner),
        begin: Begin::Adopt { id, ended },
        destroy: inner.closing.child_token(),
        ready: ready_to,
        ended: ended_to,
    };
    inner.tasks.spawn(owner.run());
    ready.await.unwrap_or(Err(Error::Lost)).map(drop)
}

pub(crate) async fn keep_until(sandbox: &Sandbox, until: SystemTime) -> Result<()> {
    sandbox.ask(|answer| Command::Keep { until, answer }).await
}
