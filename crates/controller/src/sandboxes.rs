//! The sandboxes that there are: made all or none, each with a keeper.
//!
//! ```text
//!  reserve ──▶ lease n, some at a time ──all──▶ live ──deleted, gone, too old, closing──▶ remembered ──▶ destroyed
//!     │                 │ one fails,             ▲  └──leaving──▶ the next controller's
//!     │                 │ the client goes away   └── adopted: the last controller's (`resume`)
//!     └── full          └──▶ destroyed, all of them        └──its engine process went──▶ adrift (`adrift`) ──▶ live
//! ```
//! Owner: the router's state. A keeper is a task; it alone holds the lease of its sandbox.
//!
//! Invariants
//! - The lock is held for a look into the table, never while something is waited for.
//! - A sandbox leaves the table before its VM is destroyed: who asks for it afterwards hears why it is gone. Of
//!   those that are gone the last [`REMEMBERED`] are remembered.
//! - After [`Sandboxes::close`] there is none, and none can be made; after [`Sandboxes::leave`] there are those that the
//!   ledger tells of, and they are nobody's.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use jiff::Timestamp;
use sandbox::{Engine, Gone, Lease, LeaseSpec, Sandbox};
use serde::{Serialize, Serializer};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Keeping, Tag,
    adrift::Landed,
    failure::Failure,
    ledger::{Ledger, Line},
    resume::left_of,
};

/// How many of those that are gone are remembered.
const REMEMBERED: usize = 1000;

/// Name of a sandbox, unique for all time; sorts by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SandboxId(vm::SlotId);

impl SandboxId {
    /// Its VM's.
    pub(crate) fn slot(self) -> vm::SlotId {
        self.0
    }

    /// `None` where the text is no name of a sandbox.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("sb-")?.parse().ok().map(Self)
    }

    /// That of a VM.
    pub(crate) fn of(id: vm::SlotId) -> Self {
        Self(id)
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sb-{}", self.0)
    }
}

impl Serialize for SandboxId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A sandbox as clients see it, in forkd's form. What a VM of ours does not have is empty: it has no network,
/// and no agent that could be reached but through us.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SandboxInfo {
    pub(crate) id: SandboxId,
    pub(crate) snapshot_tag: String,
    pub(crate) netns: Option<String>,
    pub(crate) guest_addr: &'static str,
    pub(crate) created_at_unix: i64,
    pub(crate) pid: Option<u32>,
    pub(crate) memory_limit_mib: u32,
    pub(crate) has_branched: bool,
    pub(crate) last_branch_memory_path: Option<String>,
    pub(crate) branch_count: u32,
    /// Ours: when it will be deleted.
    pub(crate) expires_at_unix: i64,
    /// Ours: from the start of the VM to the end of its guest's preparation.
    pub(crate) boot_ms: u64,
}

impl From<Line> for SandboxInfo {
    fn from(line: Line) -> Self {
        let Line { id, snapshot_tag, created_at_unix, expires_at_unix, memory_limit_mib, boot_ms } = line;
        Self {
            id: SandboxId(id),
            snapshot_tag,
            netns: None,
            guest_addr: "",
            created_at_unix,
            pid: None,
            memory_limit_mib,
            has_branched: false,
            last_branch_memory_path: None,
            branch_count: 0,
            expires_at_unix,
            boot_ms,
        }
    }
}

impl SandboxInfo {
    /// That its time was over.
    pub(crate) fn was_too_old(&self) -> String {
        let life = self.expires_at_unix.saturating_sub(self.created_at_unix);
        format!("its time to live of {life} s was over")
    }

    fn line(&self) -> Line {
        Line {
            id: self.id.0,
            snapshot_tag: self.snapshot_tag.clone(),
            created_at_unix: self.created_at_unix,
            expires_at_unix: self.expires_at_unix,
            memory_limit_mib: self.memory_limit_mib,
            boot_ms: self.boot_ms,
        }
    }
}

/// What is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) tag: Tag,
    pub(crate) n: u64,
    pub(crate) spec: LeaseSpec,
    pub(crate) ttl: Duration,
}

impl Wanted {
    /// What is to be known of one that is there now.
    fn info(&self, lease: &Lease) -> SandboxInfo {
        let sandbox = lease.sandbox();
        let now = Timestamp::now().as_second();
        Line {
            id: sandbox.id(),
            snapshot_tag: self.tag.to_string(),
            created_at_unix: now,
            expires_at_unix: now.saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX)),
            memory_limit_mib: self.spec.memory.0,
            boot_ms: u64::try_from(sandbox.info().boot.as_millis()).unwrap_or(u64::MAX),
        }
        .into()
    }
}

/// The sandboxes that there are.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine>,
    keeping: Option<(Keeping, Ledger)>,
    table: Mutex<Table>,
    keepers: TaskTracker,
    pub(crate) closing: CancellationToken,
    /// The other end: what is there stays.
    pub(crate) leaving: CancellationToken,
    /// One permit for each VM that may boot at a time.
    pub(crate) boots: Semaphore,
    most: usize,
}

#[derive(Debug, Default)]
struct Table {
    live: BTreeMap<SandboxId, Entry>,
    gone: VecDeque<(SandboxId, String)>,
    /// Asked for and not there yet.
    reserved: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    info: SandboxInfo,
    /// None: the engine process that had it is gone, and the next one is waited for.
    sandbox: Option<Sandbox>,
    /// Tells its keeper that it was deleted.
    delete: CancellationToken,
    /// What its keeper found when nothing of it was left: what could not be removed.
    destroyed: watch::Receiver<Option<Result<(), String>>>,
}

impl Table {
    /// Takes one out and remembers why.
    fn bury(&mut self, id: SandboxId, why: &str) -> Option<Entry> {
        let entry = self.live.remove(&id)?;
        self.remember(id, why);
        Some(entry)
    }

    fn remember(&mut self, id: SandboxId, why: &str) {
        if self.gone.len() >= REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back((id, why.to_owned()));
    }

    fn find(&self, id: Option<SandboxId>) -> Result<&Entry, Failure> {
        let Some(id) = id else { return Err(Failure::NoSandbox) };
        self.live.get(&id).ok_or_else(|| match self.gone.iter().find(|(gone, _)| *gone == id) {
            Some((_, why)) => Failure::SandboxGone { id, why: why.clone() },
            None => Failure::NoSandbox,
        })
    }
}

impl Sandboxes {
    pub(crate) fn new(engine: Arc<Engine>, boots: usize, most: usize, keeping: Option<Keeping>) -> Self {
        let inner = Inner {
            engine,
            keeping: keeping.map(|keeping| {
                let ledger = Ledger::new(keeping.dir.clone());
                (keeping, ledger)
            }),
            leaving: CancellationToken::new(),
            table: Mutex::default(),
            keepers: TaskTracker::new(),
            closing: CancellationToken::new(),
            boots: Semaphore::new(boots.max(1)),
            most,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes all, or none. Dropping the future destroys what it has made so far.
    pub(crate) async fn spawn(&self, wanted: Wanted) -> Result<Vec<SandboxInfo>, Failure> {
        let n = usize::try_from(wanted.n).unwrap_or(usize::MAX);
        let reservation = self.inner.reserve(n)?;
        let leases = self.inner.lease_all(n, &wanted).await?;
        let mut infos = Vec::with_capacity(leases.len());
        for lease in leases {
            let info = wanted.info(&lease);
            infos.push(info.clone());
            self.inner.keep(lease, info);
        }
        drop(reservation);
        if let Err(error) = self.write_down().await {
            let ids: Vec<String> = infos.iter().map(|info| info.id.to_string()).collect();
            for end in join_all(ids.iter().map(|id| self.delete(id))).await {
                // what is left of one is told by its keeper, and one may have ended by itself
                let _ = end;
            }
            return Err(Failure::Ledger(error));
        }
        infos.sort_by_key(|info| info.id);
        tracing::info!(tag = %wanted.tag, n, "sandboxes were made");
        Ok(infos)
    }

    /// What VMs are leased with so that they outlive this controller.
    pub(crate) fn keeping(&self) -> Option<(&Keeping, &Ledger)> {
        self.inner.keeping.as_ref().map(|(keeping, ledger)| (keeping, ledger))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Puts one of the last controller into the table.
    pub(crate) fn keep_again(&self, lease: Lease, info: SandboxInfo) {
        self.inner.keep(lease, info);
    }

    /// One that is gone.
    pub(crate) fn remember(&self, id: SandboxId, why: &str) {
        self.inner.table().remember(id, why);
    }

    /// Writes down what is known of those that there are.
    pub(crate) async fn write_down(&self) -> io::Result<()> {
        self.inner.write_down().await
    }

    /// All, the oldest first.
    pub(crate) fn list(&self) -> Vec<SandboxInfo> {
        self.inner.table().live.values().map(|entry| entry.info.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner.table().live.len()
    }

    /// What is known of one.
    pub(crate) fn info(&self, id: &str) -> Result<SandboxInfo, Failure> {
        self.inner.table().find(SandboxId::parse(id)).map(|entry| entry.info.clone())
    }

    /// A handle of one.
    pub(crate) fn get(&self, id: &str) -> Result<Sandbox, Failure> {
        let table = self.inner.table();
        let entry = table.find(SandboxId::parse(id))?;
        entry.sandbox.clone().ok_or(Failure::Adrift(entry.info.id))
    }

    /// Ends one, and returns when nothing of it is left.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Failure> {
        let id = SandboxId::parse(id);
        let entry = {
            let mut table = self.inner.table();
            let entry = table.find(id)?;
            if entry.sandbox.is_none() {
                // nobody is there who could end it, and a client that tries again may find one
                return Err(Failure::Adrift(entry.info.id));
            }
            id.and_then(|id| table.bury(id, "it was deleted")).ok_or(Failure::NoSandbox)?
        };
        entry.delete.cancel();
        let mut destroyed = entry.destroyed;
        let end = destroyed.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        match end {
            Some(Ok(())) => Ok(()),
            Some(Err(left)) => Err(Failure::Destroy(left)),
            None => Err(sandbox::Error::Lost.into()),
        }
    }

    /// How many run on a snapshot.
    pub(crate) fn of(&self, tag: &Tag) -> Vec<SandboxId> {
        let table = self.inner.table();
        let of_tag = table.live.iter().filter(|(_, entry)| entry.info.snapshot_tag == tag.as_str());
        of_tag.map(|(id, _)| *id).collect()
    }

    /// Leaves all to the next controller, or as [`Sandboxes::close`] where they are not kept.
    pub(crate) async fn leave(&self) {
        self.inner.leaving.cancel();
        self.close().await;
    }

    /// Ends all, and returns when nothing is left of any.
    pub(crate) async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.keepers.close();
        self.inner.keepers.wait().await;
        // those of requests that are still under way
        self.inner.engine.close().await;
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // nothing panics while it is held, and the table would be whole
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, n: usize) -> Result<Reservation, Failure> {
        if self.closing.is_cancelled() {
            return Err(Failure::Closing);
        }
        let mut table = self.table();
        let there = table.live.len() + table.reserved;
        if there.saturating_add(n) > self.most {
            return Err(Failure::Full { there, wanted: n, most: self.most });
        }
        table.reserved += n;
        Ok(Reservation { inner: Arc::clone(self), n })
    }

    /// Leases of `n` VMs. When one fails, all others are destroyed before it is told.
    async fn lease_all(&self, n: usize, wanted: &Wanted) -> Result<Vec<Lease>, Failure> {
        let cancel = self.closing.child_token();
        let mut leases = Vec::with_capacity(n);
        let mut under_way: FuturesUnordered<_> = (0..n).map(|_| self.lease(wanted, &cancel)).collect();
        let mut failed = None;
        while let Some(leased) = under_way.next().await {
            match leased {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    // those after it were cancelled for the first
                    failed.get_or_insert(error);
                    cancel.cancel();
                }
            }
        }
        let Some(source) = failed else { return Ok(leases) };
        let left = join_all(leases.into_iter().map(Lease::destroy)).await;
        for error in left.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "something of a sandbox is left");
        }
        match source {
            sandbox::Error::Cancelled | sandbox::Error::Closed => Err(Failure::Closing),
            source => Err(Failure::Spawn { n: wanted.n, source }),
        }
    }

    async fn lease(&self, wanted: &Wanted, cancel: &CancellationToken) -> sandbox::Result<Lease> {
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(sandbox::Error::Cancelled),
            permit = self.boots.acquire() => permit,
        };
        let _permit = permit.map_err(|_| sandbox::Error::Closed)?;
        self.engine.lease(wanted.spec.clone(), cancel).await
    }

    async fn write_down(&self) -> io::Result<()> {
        let Some((_, ledger)) = &self.keeping else { return Ok(()) };
        ledger.write(|| self.table().live.values().map(|entry| entry.info.line()).collect()).await
    }

    /// Puts a lease into the table and starts its keeper.
    fn keep(self: &Arc<Self>, lease: Lease, info: SandboxInfo) {
        let sandbox = lease.sandbox();
        let delete = CancellationToken::new();
        let (destroyed_to, destroyed) = watch::channel(None);
        let entry = Entry { info: info.clone(), sandbox: Some(sandbox), delete: delete.clone(), destroyed };
        self.table().live.insert(info.id, entry);
        let inner = Arc::clone(self);
        self.keepers.spawn(async move {
            let Some((why, end)) = inner.keeper(lease, &delete, &info).await else { return };
            let id = info.id;
            if let Err(error) = inner.write_down().await {
                // the next controller finds that it is gone
                tracing::warn!(%id, %error, "it cannot be written down that a sandbox is gone");
            }
            match &end {
                Ok(()) => tracing::info!(%id, why, "a sandbox is gone"),
                Err(error) => tracing::warn!(%id, why, error, "something of a sandbox is left"),
            }
            destroyed_to.send_replace(Some(end));
        });
    }

    /// Holds a lease until its sandbox is gone: why, and what could not be removed. `None`: it is the next controller's.
    async fn keeper(
        &self,
        mut lease: Lease,
        delete: &CancellationToken,
        info: &SandboxInfo,
    ) -> Option<(String, Result<(), String>)> {
        let id = info.id;
        let why = loop {
            if self.keeping.is_some() {
                // its time began when it was there, not when it was asked for
                self.keep_until(&lease, left_of(info)).await;
            }
            match self.until_its_end(&lease, delete, info).await {
                End::Over(why) => break why,
                End::Stays => {
                    if let Err(error) = lease.leave().await {
                        tracing::warn!(%id, %error, "a sandbox is not left to the next controller");
                    }
                    return None;
                }
                End::Adrift => match self.adrift(delete, info).await {
                    Landed::Again(again) => lease = again,
                    Landed::Stays => return None,
                    Landed::Over(why, end) => {
                        self.table().bury(id, &why);
                        return Some((why, end));
                    }
                },
            }
        };
        self.table().bury(id, &why);
        if self.closing.is_cancelled() && self.keeping.is_some() {
            // also where this process is ended before all are
            self.keep_until(&lease, Duration::ZERO).await;
        }
        let end = lease.destroy().await.map_err(|error| error.to_string());
        Some((why, end))
    }

    /// What clients reach, once the engine of one is there again; `None` as long as it is gone.
    pub(crate) fn reach(&self, id: SandboxId, sandbox: Option<Sandbox>) {
        if let Some(entry) = self.table().live.get_mut(&id) {
            entry.sandbox = sandbox;
        }
    }

    async fn keep_until(&self, lease: &Lease, after: Duration) {
        let until = SystemTime::now() + after;
        match lease.keep_until(until).await {
            // one that is gone is found out anyway
            Ok(()) | Err(sandbox::Error::Gone(_)) => {}
            Err(error) => tracing::warn!(%error, "a sandbox is kept for another time than it should be"),
        }
    }

    /// What becomes of one, once it does.
    async fn until_its_end(&self, lease: &Lease, delete: &CancellationToken, info: &SandboxInfo) -> End {
        let mut gone = lease.sandbox().gone();
        let why = tokio::select! {
            biased;
            () = delete.cancelled() => "it was deleted".to_owned(),
            () = self.leaving.cancelled(), if self.keeping.is_some() => return End::Stays,
            () = self.closing.cancelled() => "the controller is shutting down".to_owned(),
            gone = gone.wait_for(Option::is_some) => match gone.ok().and_then(|gone| gone.clone()) {
                Some(Gone::EngineLost | Gone::Left) if self.keeping.is_some() => return End::Adrift,
                Some(why) => why.to_string(),
                None => "its VM ended".to_owned(),
            },
            () = tokio::time::sleep(left_of(info)) => info.was_too_old(),
        };
        End::Over(why)
    }
}

/// What becomes of a sandbox.
enum End {
    /// It ends, and why.
    Over(String),
    /// It is the next controller's.
    Stays,
    /// It runs on, and the engine process that had it is gone.
    Adrift,
}

/// Room for sandboxes that are asked for and not there yet.
struct Reservation {
    inner: Arc<Inner>,
    n: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut table = self.inner.table();
        table.reserved = table.reserved.saturating_sub(self.n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandboxs_name_is_read_back_and_nothing_else_is() {
        let id = SandboxId(vm::SlotId::new());
        assert_eq!(SandboxId::parse(&id.to_string()), Some(id));
        for bad in ["", "sb-", "sb-1", "sb-../../etc", &id.0.to_string(), &format!("{id}0")] {
            assert_eq!(SandboxId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn those_that_are_gone_are_remembered_up_to_a_number() {
        let mut table = Table::default();
        let gone: Vec<_> = (0..REMEMBERED + 1).map(|_| SandboxId(vm::SlotId::new())).collect();
        for id in &gone {
            table.remember(*id, "it was deleted");
        }
        assert!(matches!(table.find(Some(gone[0])), Err(Failure::NoSandbox)));
        assert!(matches!(table.find(Some(gone[1])), Err(Failure::SandboxGone { .. })));
        assert!(matches!(table.find(None), Err(Failure::NoSandbox)));
    }
}
