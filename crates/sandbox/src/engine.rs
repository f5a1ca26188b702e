//! The engine: makes VMs, in this process or in another.
//!
//! Owner: whoever opened it or connected to it. What can be done with it is the same for both; where a VM is, is known
//! only to [`crate::local`] and [`crate::remote`].
//! Invariant: after [`Engine::close`] nothing that was leased by it is left, except for what could not be removed, and
//! for the VMs that were left.

use std::{path::Path, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vm::{Capabilities, SlotId};

use crate::{
    Branch, EngineConfig, Error, ForkSpec, Kept, Lease, LeaseSpec, Result, Sandbox, SnapshotGc, SnapshotInfo,
    SnapshotsRemoved, Swept,
    local::Local,
    remote::{Ask, Remote},
};

/// Makes VMs in one state directory: itself ([`Engine::open`]), or by an engine in another process
/// ([`Engine::connect`]). One per process and directory; processes may share a directory.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Local(Local),
    Remote(Arc<Remote>),
}

impl Engine {
    /// Opens the engine and removes what dead owners left in its directory: also VMs that still run, but for those
    /// that are kept ([`Engine::kept`]) and whose time is not up.
    ///
    /// # Errors
    /// The directory cannot be made or read. A leftover that cannot be removed is no error, see [`Swept`].
    pub async fn open(config: EngineConfig) -> Result<(Self, Swept)> {
        let (local, swept) = Local::open(config).await?;
        Ok((Self { kind: Kind::Local(local) }, swept))
    }

    /// Uses the engine of another process that is served at the socket `path` ([`crate::serve`]).
    ///
    /// # Errors
    /// [`crate::EngineError::Absent`] where there is none, [`crate::EngineError::Build`] where it is of another build
    /// of this program, [`crate::EngineError::Stranger`] where it is another user's.
    pub async fn connect(path: &Path) -> Result<Self> {
        Ok(Self { kind: Kind::Remote(Remote::connect(path).await?) })
    }

    /// The socket of the engine, where that is in another process.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Local(_) => None,
            Kind::Remote(remote) => Some(remote.path()),
        }
    }

    /// Boots a VM and prepares its guest. When the future is dropped or `cancel` fires before it is ready,
    /// nothing of it is left: an error is returned after that, and for a dropped future [`Engine::close`]
    /// waits for it.
    ///
    /// # Errors
    /// Whatever made it impossible; [`Error::Cancelled`] where `cancel` fired.
    pub async fn lease(&self, spec: LeaseSpec, cancel: &CancellationToken) -> Result<Lease> {
        match &self.kind {
            Kind::Local(local) => local.lease(spec, cancel).await,
            Kind::Remote(remote) => remote.lease(Ask::Lease(Box::new(spec)), cancel).await,
        }
    }

    /// Forks a VM of a branch: what ran when it was made goes on in it, unless `fork` says otherwise, after it has
    /// got an identity of its own. Otherwise as [`Engine::lease`].
    ///
    /// # Errors
    /// Whatever made it impossible; [`Error::Cancelled`] where `cancel` fired.
    pub async fn lease_branch(
        &self,
        branch: &Branch,
        fork: ForkSpec,
        cancel: &CancellationToken,
    ) -> Result<Lease> {
        match (&self.kind, branch.here(), branch.far()) {
            (Kind::Local(local), Some(copy), _) => local.lease_branch(copy, fork, cancel).await,
            (Kind::Remote(remote), _, Some(branch)) => {
                let ForkSpec { bind, on_owner_loss, inherited } = fork;
                remote.lease(Ask::LeaseBranch { branch, bind, on_owner_loss, inherited }, cancel).await
            }
            _ => Err(Error::Request("the branch is another engine's")),
        }
    }

    /// Makes the template that leases of `spec` are forks of, where there is none; its key. `None`: such VMs are
    /// booted.
    ///
    /// # Errors
    /// Whatever made it impossible; [`Error::NoRoom`] where VMs of this size never have room on this host.
    pub async fn template(&self, spec: &LeaseSpec) -> Result<Option<String>> {
        match &self.kind {
            Kind::Local(local) => local.template(spec).await,
            Kind::Remote(remote) => remote.template(spec).await,
        }
    }

    /// Keeps `count` VMs of `spec` ready for their lease, within the limits of the pool, whatever is asked for;
    /// the template is made first where there is none.
    ///
    /// # Errors
    /// The template cannot be made.
    pub async fn keep_ready(&self, spec: &LeaseSpec, count: usize) -> Result<()> {
        match &self.kind {
            Kind::Local(local) => local.keep_ready(spec, count).await,
            Kind::Remote(remote) => remote.done(Ask::KeepReady { spec: Box::new(spec.clone()), count }).await,
        }
    }

    /// How many VMs are ready for their lease; of an engine in another process, as it said last.
    #[must_use]
    pub fn ready(&self) -> usize {
        match &self.kind {
            Kind::Local(local) => local.ready(),
            Kind::Remote(remote) => remote.ready(),
        }
    }

    /// Why the first of the leases that wait for room on this host does; `None` while none does. Of an engine in
    /// another process only those count that were asked for here.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<Option<String>> {
        match &self.kind {
            Kind::Local(local) => local.waiting(),
            Kind::Remote(remote) => remote.waiting(),
        }
    }

    /// The snapshots of the state directory, the oldest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        match &self.kind {
            Kind::Local(local) => local.snapshots().await,
            Kind::Remote(remote) => remote.snapshots().await,
        }
    }

    /// Removes a snapshot; VMs that were forked of it go on. Fine when it is not there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove_snapshot(&self, key: String) -> Result<()> {
        match &self.kind {
            Kind::Local(local) => local.remove_snapshot(key).await,
            Kind::Remote(remote) => remote.done(Ask::RemoveSnapshot { key }).await,
        }
    }

    /// Removes the snapshots that `policy` does not keep, and those that nobody can use.
    ///
    /// # Errors
    /// One cannot be removed.
    pub async fn collect_snapshots(&self, policy: SnapshotGc) -> Result<SnapshotsRemoved> {
        match &self.kind {
            Kind::Local(local) => local.collect_snapshots(policy).await,
            Kind::Remote(remote) => remote.collect_snapshots(policy).await,
        }
    }

    /// The VMs of this state directory that run, are kept, and have no lease: those of no process, and those which
    /// the engine holds since [`Lease::leave`]. The oldest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn kept(&self) -> Result<Vec<Kept>> {
        match &self.kind {
            Kind::Local(local) => local.kept().await,
            Kind::Remote(remote) => remote.kept().await,
        }
    }

    /// Takes over a VM that is kept and has no lease. What its former owner started goes on in it, without anybody
    /// who reads what it prints or writes what it reads; a terminal hangs up.
    ///
    /// When the future is dropped, the VM is as it was, or the engine holds it as after [`Lease::leave`].
    ///
    /// # Errors
    /// [`Error::NotKept`] where there is none, [`Error::Owned`] where it has an owner. An error that says that the VM
    /// does not work any more comes after it was removed.
    pub async fn adopt(&self, id: SlotId) -> Result<Lease> {
        match &self.kind {
            Kind::Local(local) => local.adopt(id).await,
            Kind::Remote(remote) => remote.lease(Ask::Adopt { id }, &CancellationToken::new()).await,
        }
    }

    /// A handle of a VM that the engine has, adopting it first where it is kept and nobody owns it: then the engine
    /// holds it, as after [`Lease::leave`].
    ///
    /// # Errors
    /// As [`Engine::adopt`].
    pub async fn attach(&self, id: SlotId) -> Result<Sandbox> {
        match &self.kind {
            Kind::Local(local) => local.attach(id).await,
            Kind::Remote(remote) => remote.attach(id).await,
        }
    }

    /// Ends a VM that the engine has, or that is kept and nobody owns, and returns when nothing of it is left. Fine
    /// when it is gone.
    ///
    /// # Errors
    /// [`Error::Owned`] where another process owns it; what could not be removed.
    pub async fn end(&self, id: SlotId) -> Result<()> {
        match &self.kind {
            Kind::Local(local) => local.end(id).await,
            Kind::Remote(remote) => remote.done(Ask::End { id }).await,
        }
    }

    /// Keeps a VM that the engine has until another time, as [`Lease::keep_until`] does.
    ///
    /// # Errors
    /// [`Error::NotKept`] where it is not here; as [`Lease::keep_until`].
    pub async fn keep_until(&self, id: SlotId, until: SystemTime) -> Result<()> {
        match &self.kind {
            Kind::Local(local) => local.keep_until(id, until).await,
            Kind::Remote(remote) => remote.done(Ask::Keep { id, until }).await,
        }
    }

    /// The name of what runs the VMs.
    #[must_use]
    pub fn backend_name(&self) -> &str {
        match &self.kind {
            Kind::Local(local) => local.backend().name(),
            Kind::Remote(remote) => remote.backend(),
        }
    }

    /// What that can do on this host.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        match &self.kind {
            Kind::Local(local) => local.backend().capabilities(),
            Kind::Remote(remote) => remote.capabilities(),
        }
    }

    /// Why its VMs can reach nothing, so that a lease with another policy fails; `None` where they can.
    #[must_use]
    pub fn no_network(&self) -> Option<&str> {
        match &self.kind {
            Kind::Local(local) => local.inner().networks.lacking(),
            Kind::Remote(remote) => remote.no_network(),
        }
    }

    /// What was found or changed on this host when the engine's networks were made, a sentence each: a setting of the
    /// kernel, a way out that there is none of.
    #[must_use]
    pub fn network_notes(&self) -> Vec<String> {
        match &self.kind {
            Kind::Local(local) => local.inner().networks.notes(),
            Kind::Remote(remote) => remote.network_notes().to_vec(),
        }
    }

    /// Ends every VM that was leased by this, also those whose leases are still held, and returns when nothing of
    /// them is left; those that were left ([`Lease::leave`]) run on, for the next engine or for the other process.
    /// Later leases fail.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Local(local) => local.close().await,
            Kind::Remote(remote) => remote.close().await,
        }
    }

    /// Waits until it is closed.
    pub(crate) async fn closing(&self) {
        match &self.kind {
            Kind::Local(local) => local.inner().closing.cancelled().await,
            Kind::Remote(remote) => remote.closing.cancelled().await,
        }
    }

    /// A handle of a VM that is ready.
    pub(crate) fn handle(&self, id: SlotId) -> Result<Sandbox> {
        match &self.kind {
            Kind::Local(local) => local.inner().holding.sandbox(id).ok_or(Error::NotKept { id }),
            Kind::Remote(_) => Err(Error::Request("an engine serves what is its own")),
        }
    }

    /// Whether a VM is to be kept.
    pub(crate) fn is_kept(&self, id: SlotId) -> bool {
        match &self.kind {
            Kind::Local(local) => local.inner().holding.record(id).is_some(),
            Kind::Remote(_) => false,
        }
    }

    /// How many VMs are leased, and how many it holds that were left.
    pub(crate) fn counts(&self) -> (usize, usize) {
        match &self.kind {
            Kind::Local(local) => local.inner().holding.counts(),
            Kind::Remote(_) => (0, 0),
        }
    }

    /// Whether it holds a VM that was left.
    pub(crate) fn holds_kept(&self) -> bool {
        match &self.kind {
            Kind::Local(local) => !local.inner().holding.left().is_empty(),
            Kind::Remote(_) => false,
        }
    }
}

impl Drop for Engine {
    /// Without [`Engine::close`] the VMs are still told to end; whether they get the time depends on the
    /// runtime, and what is left is swept by the next engine.
    fn drop(&mut self) {
        match &self.kind {
            Kind::Local(local) => local.inner().closing.cancel(),
            Kind::Remote(remote) => remote.closing.cancel(),
        }
    }
}
