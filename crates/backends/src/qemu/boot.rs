//! Starting a VM in a slot, and taking one over.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    time::Duration,
};

use jail::{Inherit, Launch, Log, Program, Shim};
use vm::{BootSpec, DriveMode, Error, Memory, OwnerLoss, Ram, Result, Slot};

use super::{
    CONSOLE, ERRORS, Qemu, START_LIMIT,
    argv::{self, Accelerator, DriveFds, Fds, MemoryFd, Shape, Share, Start},
    kvm::{self, KvmAccess},
    machine::{MachineRam, QemuMachine},
    places,
    qmp::Qmp,
};
use crate::{
    of_jail,
    shimmed::{AGENT_SOCKET, Shimmed, SlotDir},
};

/// QEMU's control channel.
pub(super) const CONTROL_SOCKET: &str = "qmp.sock";
/// What is kept of the console and of QEMU's errors, in bytes.
const LOG_CAP: u64 = 256 << 10;
/// The first number of a descriptor in QEMU.
const FIRST_FD: i32 = 3;

/// Starts a VM and returns when QEMU runs it.
pub(super) async fn boot(qemu: &Qemu, spec: &BootSpec, slot: &Slot) -> Result<QemuMachine> {
    let (shim, dir) = start(qemu, From::Kernel, spec, slot).await?;
    let shimmed = running(shim, dir, "it was started").await?;
    Ok(match &spec.memory {
        Memory::Own(_) => QemuMachine::new(shimmed, MachineRam::Own),
        Memory::Shared(ram) => QemuMachine::new(shimmed, MachineRam::Shared(ram.clone())),
    })
}

/// What a VM is started from.
#[derive(Clone, Copy, Debug)]
pub(super) enum From<'a> {
    /// The kernel of its specification.
    Kernel,
    /// A saved one's memory, and its devices: the numbers of the inherited descriptors are
    /// [`STATE_FD`].
    Snapshot { ram: &'a Ram, state: &'a OwnedFd },
}

/// The number of the descriptor that a fork reads the state of its devices from.
pub(super) const STATE_FD: i32 = FIRST_FD;

/// Starts QEMU.
pub(super) async fn start(
    qemu: &Qemu,
    from: From<'_>,
    spec: &BootSpec,
    slot: &Slot,
) -> Result<(Shim, SlotDir)> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::Unsupported("only x86_64 hosts run x86_64 guests".to_owned()));
    }
    let dir = SlotDir::claim(&slot.dir)?;
    let mut given = Given::default();
    let others = slot.ids.is_some();
    let (start, memory) = match from {
        From::Kernel => {
            let kernel = given.read(&spec.kernel, others)?;
            let initramfs = given.read(&spec.initramfs, others)?;
            let memory = match &spec.memory {
                Memory::Own(_) => None,
                Memory::Shared(ram) => Some(MemoryFd { fd: given.add(duplicate(ram)?), share: Share::All }),
            };
            (Start::Kernel { kernel, initramfs }, memory)
        }
        From::Snapshot { ram, state } => {
            // first, so that it has the number that it is loaded by
            given.add(reopened(state)?);
            (Start::Load, Some(MemoryFd { fd: given.add(duplicate(ram)?), share: Share::Private }))
        }
    };
    let sockets = (given.add(dir.listen(AGENT_SOCKET)?), given.add(dir.listen(CONTROL_SOCKET)?));
    let mut drives = Vec::new();
    for drive in &spec.drives {
        let mut fds = vec![given.open(&drive.image, DriveMode::ReadOnly)?];
        if drive.mode == DriveMode::ReadWrite {
            fds.push(given.open(&drive.image, DriveMode::ReadWrite)?);
        }
        drives.push(DriveFds { id: drive.id, mode: drive.mode, fds });
    }
    let tap = match (&spec.tap, &qemu.capabilities.no_card) {
        (Some(_), Some(why)) => {
            return Err(Error::Unsupported(format!("a VM with a network card: {why}")));
        }
        (Some(tap), None) => Some(given.add(duplicate(tap)?)),
        (None, _) => None,
    };
    let console = given.number();
    // one that leads nowhere is the shim's to make
    let downed = (qemu.card && tap.is_none()).then_some(console + 1);
    let card = tap.or(downed);
    let fds = Fds { agent: sockets.0, control: sockets.1, console, start, memory, drives, card };
    let shape = Shape {
        cpus: spec.cpus.get(),
        memory: spec.memory.size(),
        accelerator: qemu.accel,
        kernel_args: &spec.kernel_args,
    };
    let launch = Launch {
        shim: qemu.shim.clone(),
        dir: slot.dir.clone(),
        ids: slot.ids.map(|ids| jail::Ids { uid: ids.uid, gid: ids.gid }),
        groups: groups(qemu.accel),
        level: qemu.level,
        on_owner_loss: match slot.on_owner_loss {
            OwnerLoss::Kill => jail::OwnerLoss::Kill,
            OwnerLoss::Keep { until } => jail::OwnerLoss::Keep { until },
        },
        program: Program {
            path: qemu.program.clone(),
            args: argv::build(&shape, &fds).into_iter().map(Into::into).collect(),
            env: Vec::new(),
        },
        view: Some(places::view(&qemu.program, devices_of(qemu.accel))),
        filter: Some(qemu.filter.clone()),
        tap: downed,
        inherit: given.fds,
        logs: vec![
            Log { name: CONSOLE.to_owned(), target: console, cap: LOG_CAP },
            Log { name: ERRORS.to_owned(), target: 2, cap: LOG_CAP },
        ],
    };
    let shim = jail::launch(launch).await.map_err(of_jail)?;
    Ok((shim, dir))
}

/// Takes over the VM of a slot whose owner is gone.
pub(super) async fn adopt(slot: &Slot) -> Result<QemuMachine> {
    let dir = SlotDir::open(&slot.dir).map_err(|_| Error::Gone(slot.id))?;
    let shim = jail::attach(&slot.dir).await.map_err(|error| match error {
        jail::Error::Gone(_) => Error::Gone(slot.id),
        other => of_jail(other),
    })?;
    let shimmed = running(shim, dir, "it was adopted").await?;
    Ok(QemuMachine::new(shimmed, MachineRam::Unknown))
}

/// Waits until QEMU answers and says that the VM runs.
async fn running(shim: Shim, dir: SlotDir, during: &'static str) -> Result<Shimmed> {
    asked(shim, dir, during, async |dir| {
        let mut qmp = Qmp::open(dir.connect(CONTROL_SOCKET).await?).await?;
        let status = qmp.status().await?;
        if status.running || status.status == PARKED {
            return Ok(());
        }
        Err(Error::Control(format!("says that the VM is {:?}, not running", status.status)))
    })
    .await
}

/// What QEMU calls the state of a VM that stands still because it was told to.
pub(super) const PARKED: &str = "paused";

/// Waits for `question`, which talks to QEMU's control channel, or for the end of QEMU.
pub(super) async fn asked(
    mut shim: Shim,
    dir: SlotDir,
    during: &'static str,
    question: impl AsyncFnOnce(&SlotDir) -> Result<()>,
) -> Result<Shimmed> {
    let answer = tokio::select! {
        biased;
        answer = tokio::time::timeout(START_LIMIT, question(&dir)) => answer,
        record = shim.exited() => return Err(ended(dir.path(), record.ok(), during)),
    };
    match answer {
        Ok(Ok(())) => Ok(Shimmed::new(shim, dir, ERRORS)),
        Ok(Err(error)) => {
            // A QEMU that refuses its arguments closes the channel a moment before its end is seen.
            match tokio::time::timeout(SETTLE, shim.exited()).await {
                Ok(record) => Err(ended(dir.path(), record.ok(), during)),
                Err(_) => Err(error),
            }
        }
        Err(_) => Err(Error::TimedOut { what: "the start of QEMU", limit: START_LIMIT }),
    }
}

/// How long the end of a QEMU whose control channel broke is waited for.
const SETTLE: Duration = Duration::from_secs(2);

fn ended(path: &Path, record: Option<jail::ExitRecord>, during: &'static str) -> Error {
    let how = match record.map(|record| (record.code, record.signal)) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((_, Some(libc::SIGSYS))) => "by a system call that is forbidden to it".to_owned(),
        Some((_, Some(signal))) => format!("signal {signal}"),
        _ => "for an unknown reason".to_owned(),
    };
    let errors = jail::log_tail(path, ERRORS, 2000);
    Error::Ended {
        during,
        detail: format!("{how}; {}", errors.trim()).trim_end_matches([';', ' ']).to_owned(),
    }
}

fn devices_of(accelerator: Accelerator) -> &'static [&'static str] {
    match accelerator {
        Accelerator::Kvm => &[kvm::DEVICE],
        Accelerator::Tcg { .. } => &[],
    }
}

/// The groups of a QEMU that has none of ours.
fn groups(accelerator: Accelerator) -> Vec<u32> {
    match (accelerator, KvmAccess::here()) {
        (Accelerator::Kvm, Ok(KvmAccess::Group(group))) => vec![group],
        _ => Vec::new(),
    }
}

/// The descriptors that QEMU gets, numbered in the order in which they were made.
#[derive(Debug, Default)]
struct Given {
    fds: Vec<Inherit>,
}

impl Given {
    /// The next free number.
    fn number(&self) -> i32 {
        i32::try_from(self.fds.len()).map_or(i32::MAX, |count| FIRST_FD + count)
    }

    fn add(&mut self, fd: OwnedFd) -> i32 {
        let target = self.number();
        self.fds.push(Inherit { fd, target });
        target
    }

    /// A file that QEMU opens again by its descriptor: that takes the permission to read it.
    fn read(&mut self, path: &Path, others: bool) -> Result<i32> {
        let file = open(path, DriveMode::ReadOnly)?;
        let mode = file.metadata().map_err(Error::io(format!("look at {}", path.display())))?.mode();
        if others && mode & 0o004 == 0 {
            let path = path.display();
            return Err(Error::Unsupported(format!(
                "{path} is not readable by the VM's own user (chmod o+r)"
            )));
        }
        Ok(self.add(file.into()))
    }

    fn open(&mut self, path: &Path, mode: DriveMode) -> Result<i32> {
        let file = open(path, mode)?;
        Ok(self.add(file.into()))
    }
}

fn duplicate(file: &impl AsFd) -> Result<OwnedFd> {
    file.as_fd().try_clone_to_owned().map_err(Error::io("pass a file on"))
}

/// The same file with a position of its own.
fn reopened(file: &OwnedFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(path).map(Into::into).map_err(Error::io("open the state of a saved VM"))
}

fn open(path: &Path, mode: DriveMode) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(mode == DriveMode::ReadWrite);
    let file = options.open(path).map_err(Error::io(format!("open {}", path.display())))?;
    let found = file.metadata().map_err(Error::io(format!("look at {}", path.display())))?;
    if found.is_file() {
        return Ok(file);
    }
    Err(Error::Unsupported(format!("{} is not a file", path.display())))
}
