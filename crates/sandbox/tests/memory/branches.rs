//! Branches: what is asked of whom and when, and what is left, whatever goes wrong.

use std::{
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use rustix::fs::{MemfdFlags, memfd_create};
use sandbox::{
    Bind, Engine, Error, ExecId, ForkSpec, Inherited, LeaseSpec, Origin, Patience, Root, Start, Stdin,
};
use tokio::{io::AsyncWriteExt, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use vm::{
    Backend, BackendKey, BootSpec, Capabilities, Exit, Forks, Guest, Link, Machine, OwnerLoss, Ram, Saved,
    Slot, Snapshot,
};
use wire::message::{Body, Freeze, WriteBack};

use crate::guest::{Manner, Memory, Seen, engine_of, hosted, patience, run, slots, until};

/// The memory of this test's machines: what is in it does not matter.
const STATE: &[u8] = b"state";

/// The backend in memory, with snapshots: a machine stands still for so long.
struct Branching {
    memory: Arc<Memory>,
    still: Duration,
    key: BackendKey,
}

pub(crate) fn branching(manners: &[Manner], still: Duration) -> (Arc<Memory>, Arc<dyn Backend>) {
    let memory = Memory::new(manners);
    let backend = Branching { memory: Arc::clone(&memory), still, key: BackendKey("memory".to_owned()) };
    (memory, Arc::new(backend))
}

#[async_trait]
impl Backend for Branching {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn capabilities(&self) -> &Capabilities {
        self.memory.capabilities()
    }
    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        let machine = self.memory.boot(spec, slot).await?;
        Ok(Box::new(Saveable { machine, seen: Arc::clone(&self.memory.seen), still: self.still }))
    }
    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Gone(slot.id))
    }
    fn forks(&self) -> Option<&dyn Forks> {
        Some(self)
    }
}

#[async_trait]
impl Forks for Branching {
    fn key(&self) -> &BackendKey {
        &self.key
    }
    async fn fork(&self, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        assert_eq!(&*from.state, STATE);
        self.boot(spec, slot).await
    }
}

struct Saveable {
    machine: Box<dyn Machine>,
    seen: Arc<Seen>,
    still: Duration,
}

#[async_trait]
impl Machine for Saveable {
    async fn link(&mut self) -> vm::Result<Link> {
        self.machine.link().await
    }
    async fn save(&mut self, guest: &mut dyn Guest) -> vm::Result<Saved> {
        guest.freeze().await?;
        let written = *self.seen.written.lock().unwrap();
        if let Some(text) = written {
            let disk = disk(self.seen.specs.lock().unwrap().last().unwrap());
            std::fs::File::options()
                .write(true)
                .open(disk)
                .unwrap()
                .write_all_at(text.as_bytes(), 0)
                .unwrap();
        }
        self.seen.still.store(true, Ordering::SeqCst);
        tokio::time::sleep(self.still).await;
        self.seen.still.store(false, Ordering::SeqCst);
        guest.thaw().await;
        guest.copy_disks().await?;
        let ram: OwnedFd = memfd_create(Ram::NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        Ok(Saved { ram: Ram::new(ram, vm::Mebibytes(0)), state: STATE.to_vec(), pause: self.still })
    }
    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.machine.exited()
    }
}

pub(crate) fn token() -> CancellationToken {
    CancellationToken::new()
}

fn booted() -> LeaseSpec {
    LeaseSpec { start: Start::Boot, ..hosted() }
}

/// One with disks.
pub(crate) fn with_disk(dir: &Path) -> LeaseSpec {
    let image = dir.join("root.img");
    let mut bytes = vec![0; 4096];
    bytes[..4].copy_from_slice(b"hsqs");
    std::fs::write(&image, bytes).unwrap();
    LeaseSpec { root: Root::Image(image), scratch_bytes: 16 << 20, ..booted() }
}

fn fork(name: &str, inherited: Inherited) -> ForkSpec {
    let bind = Bind { hostname: name.to_owned(), ..Bind::default() };
    ForkSpec { bind, on_owner_loss: OwnerLoss::Kill, inherited }
}

pub(crate) fn disk(spec: &BootSpec) -> PathBuf {
    spec.drives[1].image.clone()
}

async fn until_slots(engine: &Engine, dir: &Path, count: usize) {
    let gone = async {
        while slots(dir).len() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap_or_else(|_| panic!("{engine:?}: {:?}", slots(dir)));
}

#[tokio::test]
async fn a_fork_of_a_branch_has_its_disk_and_gets_an_identity_before_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good], Duration::ZERO);
    let engine = engine_of(dir.path(), backend, patience()).await;
    let source = engine.lease(with_disk(dir.path()), &token()).await.unwrap();
    let of_source = disk(&memory.seen.specs.lock().unwrap()[0]);
    std::fs::write(&of_source, "at the branch").unwrap();
    let branch = source.sandbox().branch().await.unwrap();
    assert_eq!(branch.source(), source.sandbox().id());
    std::fs::write(&of_source, "later").unwrap();
    let freeze = Body::Freeze(Freeze { disks: WriteBack::None });
    assert_eq!(std::mem::take(&mut *memory.seen.asked.lock().unwrap()), [freeze, Body::Thaw]);
    assert_eq!(slots(dir.path()).len(), 2, "the branch is journalled");

    let inherited = Inherited::KillOnly(vec![ExecId(7)]);
    for name in ["one", "two"] {
        let lease = engine.lease_branch(&branch, fork(name, inherited.clone()), &token()).await.unwrap();
        let of_fork = disk(memory.seen.specs.lock().unwrap().last().unwrap());
        assert_eq!(std::fs::read_to_string(&of_fork).unwrap(), "at the branch");
        std::fs::write(&of_fork, name).unwrap();
        let asked = std::mem::take(&mut *memory.seen.asked.lock().unwrap());
        let [Body::Bind(bind), Body::Thaw] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((bind.hostname.as_str(), &bind.inherited), (name, &inherited));
        let info = lease.sandbox().info().clone();
        assert_eq!((info.origin, info.kernel.as_str()), (Origin::Branched, "6.12"));
        // and a branch of the fork
        let again = lease.sandbox().branch().await.unwrap();
        lease.destroy().await.unwrap();
        let lease = engine.lease_branch(&again, fork(name, Inherited::GoOn), &token()).await.unwrap();
        let of_fork = disk(memory.seen.specs.lock().unwrap().last().unwrap());
        assert_eq!(std::fs::read_to_string(&of_fork).unwrap(), name);
        lease.destroy().await.unwrap();
        memory.seen.asked.lock().unwrap().clear();
    }
    assert_eq!(memory.seen.prepared.lock().unwrap().len(), 1, "a fork is not prepared again");
    source.destroy().await.unwrap();
    let clone = branch.clone();
    drop(branch);
    until_slots(&engine, dir.path(), 1).await;
    drop(clone);
    until_slots(&engine, dir.path(), 0).await;
}

#[tokio::test]
async fn nothing_is_said_to_a_machine_that_stands_still_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good], Duration::from_millis(30));
    let engine = engine_of(dir.path(), backend, patience()).await;
    let source = engine.lease(booted(), &token()).await.unwrap();
    let sandbox = source.sandbox();
    let mut request = run(&["cat"]);
    request.stdin = Stdin::Pipe;
    let mut echo = sandbox.exec(request).await.unwrap();
    let mut input = echo.stdin.take().unwrap();
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    sandbox.ping().await.unwrap();
                    let output =
                        sandbox.exec(run(&["print", "5000"])).await.unwrap().collect(5000).await.unwrap();
                    assert_eq!(output.stdout.len(), 5000);
                }
            })
        })
        .collect();
    let mut expected = Vec::new();
    let feed = async {
        for number in 0..200 {
            let line = format!("{number}\n");
            expected.extend_from_slice(line.as_bytes());
            input.write_all(line.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(input);
    };
    let branches = async {
        // by turns, and two at once
        for _ in 0..2 {
            sandbox.branch().await.unwrap();
        }
        let (one, other) = tokio::join!(sandbox.branch(), sandbox.branch());
        assert!(one.is_ok() && other.is_ok());
    };
    let ((), (), output) = tokio::join!(feed, branches, echo.collect(1 << 20));
    assert_eq!(output.unwrap().stdout, expected);
    for task in busy {
        task.await.unwrap();
    }
    assert!(
        !memory.seen.disturbed.load(Ordering::SeqCst),
        "something was said to a machine that stood still"
    );
    assert_eq!(memory.seen.asked.lock().unwrap().len(), 8);
    source.destroy().await.unwrap();
    engine.close().await;
}

#[tokio::test]
async fn a_guest_that_does_not_stop_is_not_branched_and_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Restless], Duration::ZERO);
    let patience = Patience { silence: Duration::from_millis(400), ..patience() };
    let engine = engine_of(dir.path(), backend, patience).await;
    let source = engine.lease(booted(), &token()).await.unwrap();
    let sandbox = source.sandbox();
    for _ in 0..3 {
        // asked while it waits, answered after
        let (refused, answer) = tokio::join!(sandbox.branch(), sandbox.ping());
        assert!(matches!(refused, Err(Error::NotFrozen { .. })), "{refused:?}");
        answer.unwrap();
    }
    let asked = memory.seen.asked.lock().unwrap().clone();
    assert!(asked.len() == 6 && asked.chunks(2).all(|pair| pair[1] == Body::Thaw), "{asked:?}");
    until_slots(&engine, dir.path(), 1).await;
    source.destroy().await.unwrap();
}

#[tokio::test]
async fn a_branch_that_fails_leaves_its_vm_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good], Duration::ZERO);
    let engine = engine_of(dir.path(), backend, patience()).await;
    let source = engine.lease(with_disk(dir.path()), &token()).await.unwrap();
    let of_source = disk(&memory.seen.specs.lock().unwrap()[0]);
    let away = of_source.with_extension("away");
    std::fs::rename(&of_source, &away).unwrap();
    let failed = source.sandbox().branch().await;
    assert!(matches!(failed, Err(Error::State { what: "open", .. })), "{failed:?}");
    until_slots(&engine, dir.path(), 1).await;
    source.sandbox().ping().await.unwrap();
    std::fs::rename(&away, &of_source).unwrap();
    source.sandbox().branch().await.unwrap();
    source.destroy().await.unwrap();
    until_slots(&engine, dir.path(), 0).await;

    let backend = Memory::new(&[Manner::Good]);
    let engine = crate::guest::engine(dir.path(), &backend).await;
    let source = engine.lease(hosted(), &token()).await.unwrap();
    let failed = source.sandbox().branch().await;
    assert!(matches!(failed, Err(Error::Save(vm::Error::Unsupported(_)))), "{failed:?}");
    source.sandbox().ping().await.unwrap();
    source.destroy().await.unwrap();
}

#[tokio::test]
async fn a_vm_is_destroyed_at_once_in_the_middle_of_its_branch() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good], Duration::from_secs(3600));
    let engine = engine_of(dir.path(), backend, patience()).await;
    let source = engine.lease(with_disk(dir.path()), &token()).await.unwrap();
    let sandbox = source.sandbox();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let sandbox = sandbox.clone();
            tokio::spawn(async move { sandbox.branch().await })
        })
        .collect();
    until(|| memory.seen.still.load(Ordering::SeqCst)).await;
    timeout(Duration::from_secs(20), source.destroy()).await.expect("at once").unwrap();
    for branch in waiting {
        let branch = branch.await.unwrap();
        assert!(matches!(branch, Err(Error::Gone(_))), "{branch:?}");
    }
    until_slots(&engine, dir.path(), 0).await;
}

#[tokio::test]
async fn the_branches_of_an_engine_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, backend) = branching(&[Manner::Good], Duration::ZERO);
    let engine = engine_of(dir.path(), backend, patience()).await;
    let source = engine.lease(with_disk(dir.path()), &token()).await.unwrap();
    let branch = source.sandbox().branch().await.unwrap();
    engine.close().await;
    assert!(slots(dir.path()).is_empty());
    let late = engine.lease_branch(&branch, fork("late", Inherited::GoOn), &token()).await;
    assert!(matches!(late, Err(Error::Closed)));
    drop((branch, source));
}

#[tokio::test]
async fn branches_of_an_engine_process_are_the_clients_and_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_memory, backend) = branching(&[Manner::Good], Duration::from_millis(10));
    let engine = engine_of(dir.path(), backend, patience()).await;
    let listening = sandbox::Listening::at(&dir.path().join("engine.sock")).unwrap();
    let path = listening.path().to_owned();
    let stop = token();
    let stopped = stop.clone();
    let served = tokio::spawn(async move { sandbox::serve(engine, &listening, None, stopped).await });
    let client = Engine::connect(&path).await.unwrap();
    let source = client.lease(booted(), &token()).await.unwrap();
    let branch = source.sandbox().branch().await.unwrap();
    assert_eq!(branch.source(), source.sandbox().id());
    assert!(branch.times().pause >= Duration::from_millis(10), "{:?}", branch.times());
    let forked = client.lease_branch(&branch, fork("one", Inherited::GoOn), &token()).await.unwrap();
    assert_eq!(forked.sandbox().info().origin, Origin::Branched);
    source.destroy().await.unwrap();
    // it outlives its VM, and a fork can be branched in turn
    let second = client.lease_branch(&branch, fork("two", Inherited::Kill), &token()).await.unwrap();
    let of_fork = second.sandbox().branch().await.unwrap();
    assert_eq!(of_fork.source(), second.sandbox().id());
    drop(branch.clone());
    until_slots(&client, dir.path(), 4).await;
    drop((branch, of_fork));
    until_slots(&client, dir.path(), 2).await;
    // of one whose future is dropped nothing is left either
    drop(timeout(Duration::ZERO, forked.sandbox().branch()).await);
    until_slots(&client, dir.path(), 2).await;
    client.close().await;
    until_slots(&client, dir.path(), 0).await;
    stop.cancel();
    assert_eq!(served.await.unwrap().unwrap(), sandbox::Served::Stopped);
}
