//! How machines stand still, are saved, and are forked; for backends that can.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use tokio::{sync::OnceCell, time::timeout};
use vm::{
    BootSpec, DriveId, DriveMode, Error, Guest, Machine, Mebibytes, Memory, Nobody, Ram, Saved, Slot,
    Snapshot,
};
use wire::message::{Answer, Body, Freeze, WriteBack};

use crate::{
    client::Client,
    stage::{PATIENCE, Stage, Test, chain, until_gone},
};

/// The memory of these tests' machines.
const MEMORY: Mebibytes = Mebibytes(512);
/// Between the end of a link and a saving: the guest sees the end.
const SETTLE: Duration = Duration::from_millis(300);
/// A machine that answers does it sooner.
const SILENCE: Duration = Duration::from_secs(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("forks_of_one_template_do_not_see_each_other", |stage| Box::pin(forks(stage))),
        ("a_running_machine_is_saved_and_its_forks_go_on_where_it_was", |stage| Box::pin(branches(stage))),
        ("what_cannot_be_saved_runs_on", |stage| Box::pin(refused(stage))),
        ("a_fork_is_kept_as_any_other_machine", |stage| Box::pin(kept(stage))),
        ("a_fork_takes_a_tap_that_its_template_did_not_have", |stage| Box::pin(tapped(stage))),
        ("a_parked_machine_answers_nothing_until_it_is_unparked", |stage| Box::pin(parked(stage))),
    ]
}

/// The template of all these tests, made once in a process for each backend.
async fn template(stage: &Stage) -> Snapshot {
    type Cells = Mutex<HashMap<&'static str, Arc<OnceCell<Snapshot>>>>;
    static TEMPLATES: std::sync::LazyLock<Cells> = std::sync::LazyLock::new(Mutex::default);
    let cell = {
        let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(templates.entry(stage.subject.backend.name()).or_default())
    };
    cell.get_or_init(|| build(stage)).await.clone()
}

async fn build(stage: &Stage) -> Snapshot {
    let slot = stage.slot();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file: OwnedFd = memfd_create(Ram::NAME, flags).expect("a file in memory");
    ftruncate(&file, MEMORY.bytes()).expect("a file in memory");
    let spec = BootSpec { memory: Memory::Shared(Ram::new(file, MEMORY)), ..stage.spec() };
    let booted = stage.subject.backend.boot(&spec, &slot).await;
    let mut machine = booted.unwrap_or_else(|error| panic!("boot: {}", chain(&error)));
    let mut client = Client::connect(&mut *machine, 1).await;
    client.warm(&stage.subject).await;
    drop(client);
    tokio::time::sleep(SETTLE).await;
    let saved = machine.save(&mut Nobody).await;
    let saved = saved.unwrap_or_else(|error| panic!("save: {}", chain(&error)));
    drop(machine);
    until_gone(&slot).await;
    sealed(saved)
}

fn sealed(saved: Saved) -> Snapshot {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&saved.ram, seals).expect("nobody has it mapped for writing");
    Snapshot { ram: saved.ram, state: saved.state.into() }
}

/// A machine of a snapshot, with its scratch disk.
struct Fork {
    slot: Slot,
    machine: Box<dyn Machine>,
    scratch: PathBuf,
}

/// Forks `from`, with a copy of `disk` or a fresh one.
async fn fork(stage: &Stage, from: &Snapshot, disk: Option<&Path>) -> Fork {
    let forks = stage.subject.backend.forks().expect("it can fork");
    let spec = BootSpec { memory: Memory::Own(MEMORY), ..stage.spec() };
    let scratch = scratch(&spec);
    if let Some(disk) = disk {
        copy(disk, &scratch);
    }
    let slot = stage.slot();
    let machine = forks.fork(from, &spec, &slot).await;
    let machine = machine.unwrap_or_else(|error| panic!("fork: {}", chain(&error)));
    Fork { slot, machine, scratch }
}

fn scratch(spec: &BootSpec) -> PathBuf {
    let drive = spec.drives.iter().find(|drive| drive.id == DriveId::Scratch).expect("a scratch disk");
    assert_eq!(drive.mode, DriveMode::ReadWrite);
    drive.image.clone()
}

/// The content is what counts: whoever owns `to` still does.
fn copy(from: &Path, to: &Path) {
    let mut command = std::process::Command::new("cp");
    assert!(command.arg("--sparse=always").args([from, to]).status().expect("cp runs").success());
}

/// A guest that is frozen through its link.
struct Linked<'a> {
    client: &'a mut Client,
    disk: &'a Path,
    copy: &'a Path,
    /// What fails.
    fault: Option<Fault>,
    asked: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Freeze,
    Copy,
}

#[async_trait]
impl Guest for Linked<'_> {
    async fn freeze(&mut self) -> vm::Result<()> {
        self.asked.push("freeze");
        if self.fault == Some(Fault::Freeze) {
            return Err(Error::NotFrozen("it does not want to".to_owned()));
        }
        let answer = self.client.request(Body::Freeze(Freeze { disks: WriteBack::None })).await;
        assert!(matches!(answer, Ok(Answer::Frozen)), "{answer:?}");
        Ok(())
    }

    async fn thaw(&mut self) {
        self.asked.push("thaw");
        let answer = self.client.request(Body::Thaw).await;
        assert!(matches!(answer, Ok(Answer::Done)), "{answer:?}");
    }

    async fn copy_disks(&mut self) -> vm::Result<()> {
        self.asked.push("copy");
        if self.fault == Some(Fault::Copy) {
            return Err(Error::Unsupported("no room".to_owned()));
        }
        copy(self.disk, self.copy);
        Ok(())
    }
}

async fn save(of: &mut Fork, client: &mut Client, to: &Path) -> Snapshot {
    let mut guest = Linked { client, disk: &of.scratch, copy: to, fault: None, asked: Vec::new() };
    let saved = of.machine.save(&mut guest).await;
    assert_eq!(guest.asked, ["freeze", "thaw", "copy"]);
    sealed(saved.unwrap_or_else(|error| panic!("save: {}", chain(&error))))
}

async fn said(client: &mut Client, stage: &Stage, script: &str) -> String {
    let ran = client.run(&stage.subject, script).await;
    let output = String::from_utf8_lossy(&ran.output).trim().to_owned();
    assert_eq!(ran.exited.code, Some(0), "{script}: {output}");
    output
}

async fn tapped(stage: Stage) {
    let tap = (stage.subject.tap)().await;
    let spec = |memory| BootSpec { tap: Some(Arc::clone(&tap.fd)), memory, ..stage.spec() };
    let slot = stage.slot();
    let booted = stage.subject.backend.boot(&spec(stage.spec().memory), &slot).await;
    let mut machine = booted.unwrap_or_else(|error| panic!("boot: {}", chain(&error)));
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
    let Some(forks) = stage.subject.backend.forks() else { return };
    let template = template(&stage).await;
    let slot = stage.slot();
    let forked = forks.fork(&template, &spec(Memory::Own(MEMORY)), &slot).await;
    let mut machine = forked.unwrap_or_else(|error| panic!("fork: {}", chain(&error)));
    let (mut client, _) = Client::greet(&mut *machine, 2).await;
    client.prepare(&stage.subject).await;
    if stage.subject.backend.capabilities().no_card.is_none() {
        let cards = said(&mut client, &stage, "ls -d /sys/class/net/*/device | wc -l").await;
        assert_eq!(cards, "1", "a machine has one card, whatever it leads to");
    }
    drop((client, machine));
    until_gone(&slot).await;
}

async fn forks(stage: Stage) {
    if stage.subject.backend.forks().is_none() {
        return;
    }
    let template = template(&stage).await;
    let mut one = fork(&stage, &template, None).await;
    let mut other = fork(&stage, &template, None).await;
    let mut clients = Vec::new();
    for fork in [&mut one, &mut other] {
        let (mut client, hello) = Client::greet(&mut *fork.machine, 2).await;
        assert_eq!(hello.epoch, 1, "the epoch of the template's link");
        client.prepare(&stage.subject).await;
        clients.push(client);
    }
    for (name, client) in ["one", "other"].iter().zip(&mut clients) {
        said(client, &stage, &format!("echo {name} | tee /root/file > /dev/shm/memory; sync")).await;
    }
    for (name, client) in ["one", "other"].iter().zip(&mut clients) {
        assert_eq!(said(client, &stage, "cat /root/file /dev/shm/memory").await, format!("{name}\n{name}"));
    }
    for fork in [one, other] {
        drop(fork.machine);
        until_gone(&fork.slot).await;
    }
}

/// Counts in memory and on disk, for ever.
const COUNTER: &str =
    "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; echo $n >> /root/n; sleep 0.01; done";

/// What the counter counted: in memory, on disk, and whether every number is there.
async fn counted(client: &mut Client, stage: &Stage) -> u32 {
    // the number before the last is on disk, the last may be under way
    let script = "n=; while [ -z $n ]; do n=$(cat /dev/shm/n); done
        [ $(wc -l < /root/n) -ge $((n - 1)) ] || echo too short
        seq $n | cmp - /root/n 2>&1 | grep -v EOF
        echo $n";
    said(client, stage, script).await.parse().expect("a number and no difference")
}

async fn branches(stage: Stage) {
    if stage.subject.backend.forks().is_none() {
        return;
    }
    let template = template(&stage).await;
    let mut source = fork(&stage, &template, None).await;
    let mut client = Client::connect(&mut *source.machine, 2).await;
    client.prepare(&stage.subject).await;
    client.start(&stage.subject, COUNTER).await;
    while said(&mut client, &stage, "cat /dev/shm/n || echo").await.is_empty() {}
    let disk = source.scratch.with_extension("branch");
    let branch = save(&mut source, &mut client, &disk).await;
    // the same saved once more, a moment later
    let at_first = counted(&mut client, &stage).await;
    let later = source.scratch.with_extension("later");
    let second = save(&mut source, &mut client, &later).await;
    let on = counted(&mut client, &stage).await;
    assert!(on > at_first, "the source stands still");

    let mut generations = vec![(branch, disk), (second, later)];
    let mut forks = Vec::new();
    for (generation, before, epoch) in [(0, 2, 100), (1, 2, 100), (2, 100, 101)] {
        let (snapshot, disk) = &generations[generation];
        let mut fork = fork(&stage, snapshot, Some(disk)).await;
        let (mut client, hello) = Client::greet(&mut *fork.machine, epoch).await;
        assert_eq!(hello.epoch, before, "the epoch that its parent was saved in");
        client.bind(&format!("fork-{generation}")).await;
        let first = counted(&mut client, &stage).await;
        while counted(&mut client, &stage).await <= first {}
        assert_eq!(said(&mut client, &stage, "hostname").await, format!("fork-{generation}"));
        said(&mut client, &stage, &format!("test ! -e /root/mine; echo {generation} > /root/mine")).await;
        if generation == 1 {
            // a branch of a fork of a branch; without what only this one has
            said(&mut client, &stage, "rm /root/mine").await;
            let disk = fork.scratch.with_extension("branch");
            let snapshot = save(&mut fork, &mut client, &disk).await;
            generations.push((snapshot, disk));
        }
        forks.push((fork, client));
    }
    counted(&mut client, &stage).await;
    drop(source.machine);
    until_gone(&source.slot).await;
    for (fork, mut client) in forks {
        counted(&mut client, &stage).await;
        drop(fork.machine);
        until_gone(&fork.slot).await;
    }
}

async fn refused(stage: Stage) {
    if stage.subject.backend.forks().is_none() {
        return;
    }
    let template = template(&stage).await;
    let mut source = fork(&stage, &template, None).await;
    let mut client = Client::connect(&mut *source.machine, 2).await;
    client.prepare(&stage.subject).await;
    let disk = source.scratch.with_extension("branch");
    for (fault, asked) in [
        (Fault::Freeze, &["freeze"][..]),
        (Fault::Copy, &["freeze", "thaw", "copy"]),
        (Fault::Freeze, &["freeze"]),
    ] {
        let (from, copy) = (&source.scratch, &disk);
        let mut guest =
            Linked { client: &mut client, disk: from, copy, fault: Some(fault), asked: Vec::new() };
        let saved = source.machine.save(&mut guest).await;
        assert!(saved.is_err(), "{fault:?} was not seen");
        assert_eq!(guest.asked, asked);
        said(&mut client, &stage, &format!("echo {fault:?} >> /root/file; sync; cat /root/file")).await;
    }
    assert_eq!(said(&mut client, &stage, "cat /root/file").await, "Freeze\nCopy\nFreeze");
    let branch = save(&mut source, &mut client, &disk).await;
    let mut fork = fork(&stage, &branch, Some(&disk)).await;
    let mut forked = Client::connect(&mut *fork.machine, 100).await;
    forked.bind("fork").await;
    assert_eq!(said(&mut forked, &stage, "cat /root/file").await, "Freeze\nCopy\nFreeze");
    for fork in [source, fork] {
        drop(fork.machine);
        until_gone(&fork.slot).await;
    }

    // and one whose memory is its own
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    assert!(matches!(machine.save(&mut Nobody).await, Err(Error::Unsupported(_))));
    client.ping().await;
    drop(machine);
    until_gone(&slot).await;
}

async fn parked(stage: Stage) {
    if stage.subject.backend.forks().is_none() {
        return;
    }
    let template = template(&stage).await;
    let mut fork = fork(&stage, &template, None).await;
    let mut client = Client::connect(&mut *fork.machine, 2).await;
    client.prepare(&stage.subject).await;
    for _ in 0..2 {
        fork.machine.park().await.expect("it stops");
        fork.machine.park().await.expect("it stands still already");
        assert!(timeout(SILENCE, client.ping()).await.is_err(), "a parked machine answers");
        assert!(fork.machine.exited().borrow().is_none());
        fork.machine.unpark().await.expect("it goes on");
        fork.machine.unpark().await.expect("it runs already");
        client.ping().await;
    }
    // saved while it stands still, it stands still after that
    fork.machine.park().await.expect("it stops");
    let saved = fork.machine.save(&mut Nobody).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(timeout(SILENCE, client.ping()).await.is_err(), "saving unparked it");
    fork.machine.unpark().await.expect("it goes on");
    client.ping().await;
    drop(sealed(saved));
    drop(fork.machine);
    until_gone(&fork.slot).await;
}

/// One that stood by was made before it was known what for.
async fn kept(stage: Stage) {
    if stage.subject.backend.forks().is_none() || !stage.subject.backend.capabilities().adopt {
        return;
    }
    let template = template(&stage).await;
    let Fork { slot, mut machine, .. } = fork(&stage, &template, None).await;
    let mut client = Client::connect(&mut *machine, 2).await;
    client.prepare(&stage.subject).await;
    let now = std::time::SystemTime::now();
    machine.keep(now + PATIENCE).await.unwrap_or_else(|error| panic!("keep: {}", chain(&error)));
    client.run(&stage.subject, "echo mine >/tmp/kept").await;
    drop((client, machine));
    let mut machine = stage.adopt(&slot).await;
    let mut client = Client::connect(&mut *machine, 3).await;
    assert_eq!(client.run(&stage.subject, "cat /tmp/kept").await.output, b"mine\n");
    machine.keep(now).await.unwrap_or_else(|error| panic!("keep: {}", chain(&error)));
    drop((client, machine));
    until_gone(&slot).await;
}
