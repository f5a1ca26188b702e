//! Saving a VM: the state of its devices by QEMU, its memory by us, its disks by whoever asked.
//!
//! ```text
//!   overlays made, room made ─▶ guest frozen ─▶ stop ─▶ devices, pages, overlays laid ─▶ cont ─▶ guest thawed
//!                                               └────────────── pause ───────────────┘             │
//!                          overlays merged ◀── disks copied, parent's memory + those pages ◀───────┘
//! ```
//!
//! QEMU's own migration would stream all of the memory during the pause. The pages that a fork has written
//! are private to its process, and the kernel says which they are. Nothing may write to the memory from the
//! moment at which the VM stands still: that is also why the other end of its link has to be silent by then.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::Duration,
};

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use serde_json::{Value, json};
use tokio::{net::UnixStream, task::spawn_blocking, time::Instant};
use vm::{Error, Guest, Ram, Result, Saved};

use super::{
    boot::CONTROL_SOCKET,
    machine::MachineRam,
    overlay::Overlays,
    pages::{Process, Written},
    qmp::Qmp,
    state::{self, Linked},
};
use crate::shimmed::SlotDir;

/// The set of descriptors that the state is written to; those of the command line are below.
const STATE_SET: u32 = 1000;
/// The state of a microvm's devices is below 1 MiB; whatever has more was taken over.
const MOST_STATE: u64 = 64 << 20;
const BUFFER: usize = 1 << 20;

/// Whether it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Yes,
    No,
}

/// Saves the VM of a slot.
pub(super) async fn save(
    dir: &SlotDir,
    ram: &MachineRam,
    again: Again,
    guest: &mut dyn Guest,
) -> Result<Saved> {
    let parent = match ram {
        MachineRam::Own => {
            return Err(Error::Unsupported("save a VM that was not booted for it".to_owned()));
        }
        MachineRam::Shared(ram) => return for_good(dir, ram).await,
        MachineRam::Private(ram) => Some(ram.clone()),
        MachineRam::Unknown => None,
    };
    let process = Process::of(dir.path())?;
    let parent = match parent {
        Some(parent) => parent,
        None => process.memory()?,
    };
    Live { dir, process, parent, again }.save(guest).await
}

async fn control(dir: &SlotDir) -> Result<Qmp<UnixStream>> {
    Qmp::open(dir.connect(CONTROL_SOCKET).await?).await
}

/// Saves a VM that stands still after that: its memory is the snapshot's.
async fn for_good(dir: &SlotDir, ram: &Ram) -> Result<Saved> {
    let mut state = memory_file("ampoule-state")?;
    let mut qmp = control(dir).await?;
    let began = Instant::now();
    qmp.execute::<Value>("stop", None).await?;
    devices(&mut qmp, &state).await?;
    let state = state::pack(Linked::No, &read(&mut state)?);
    Ok(Saved { ram: ram.clone(), state, pause: began.elapsed() })
}

/// A VM that goes on.
struct Live<'a> {
    dir: &'a SlotDir,
    process: Process,
    parent: Ram,
    again: Again,
}

/// What the pause gave, and how long it was.
struct Paused {
    saved: Result<(Written, Vec<u8>)>,
    gone_on: Result<()>,
    pause: Duration,
}

impl Live<'_> {
    async fn save(self, guest: &mut dyn Guest) -> Result<Saved> {
        let mut qmp = control(self.dir).await?;
        let mut overlays = Overlays::make(&mut qmp, self.dir.path()).await?;
        let ready = async {
            let room = self.of_process(|process, parent| process.room(parent)).await?;
            guest.freeze().await.map(|()| room)
        };
        let room = match ready.await {
            Ok(room) => room,
            Err(error) => {
                overlays.clear(&mut qmp).await;
                return Err(error);
            }
        };
        let (qmp, Paused { saved, gone_on, pause }) = self.pause(qmp, &mut overlays, room).await;
        guest.thaw().await;
        // where there is none, QEMU answers nothing any more
        let Some(mut qmp) = qmp else { return Err(saved.err().or(gone_on.err()).unwrap_or_else(lost)) };
        let finished = match (saved, gone_on) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok((written, state)), Ok(())) => {
                tracing::debug!(?pause, written = written.length(), "a VM stood still to be saved");
                let parent = self.parent.clone();
                let ram = spawn_blocking(move || patched(&parent, &written));
                let (copied, ram) = tokio::join!(guest.copy_disks(), ram);
                let ram = ram.unwrap_or_else(|error| Err(io::Error::other(error)));
                copied.and_then(|()| {
                    let ram = ram.map_err(Error::io("copy the memory of a VM"))?;
                    Ok(Saved { ram, state: state::pack(Linked::Yes, &state), pause })
                })
            }
        };
        overlays.clear(&mut qmp).await;
        finished
    }

    /// The pause. Whatever comes of it, the VM was told to run again where it ran.
    async fn pause(
        &self,
        mut qmp: Qmp<UnixStream>,
        overlays: &mut Overlays,
        room: Written,
    ) -> (Option<Qmp<UnixStream>>, Paused) {
        let began = Instant::now();
        let saved = self.still(&mut qmp, overlays, room).await;
        let mut gone_on = match self.again {
            Again::Yes => go_on(&mut qmp).await,
            Again::No => Ok(()),
        };
        let mut qmp = Some(qmp);
        if gone_on.is_err() {
            // the channel may be in the middle of an answer, and QEMU takes one client at a time
            drop(qmp.take());
            gone_on = async {
                let mut again = control(self.dir).await?;
                go_on(&mut again).await?;
                qmp = Some(again);
                Ok(())
            }
            .await;
        }
        (qmp, Paused { saved, gone_on, pause: began.elapsed() })
    }

    /// What is done while the VM stands still.
    async fn still(
        &self,
        qmp: &mut Qmp<UnixStream>,
        overlays: &mut Overlays,
        room: Written,
    ) -> Result<(Written, Vec<u8>)> {
        qmp.execute::<Value>("stop", None).await?;
        let pages = self.of_process(move |process, parent| process.written(parent, room));
        let rest = async {
            let mut state = memory_file("ampoule-state")?;
            devices(qmp, &state).await?;
            overlays.lay(qmp).await?;
            read(&mut state)
        };
        // both to their end: the VM must not run while its pages are read
        let (pages, state) = tokio::join!(pages, rest);
        Ok((pages?, state?))
    }

    /// Asks /proc for something about the VM's process.
    async fn of_process<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Process, &Ram) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (process, parent) = (self.process, self.parent.clone());
        let asked = spawn_blocking(move || ask(&process, &parent));
        asked.await.unwrap_or_else(|error| Err(Error::io("read the memory of a VM")(io::Error::other(error))))
    }
}

fn lost() -> Error {
    Error::Control("was lost".to_owned())
}

async fn go_on(qmp: &mut Qmp<UnixStream>) -> Result<()> {
    qmp.execute::<Value>("cont", None).await.map(drop)
}

/// Lets QEMU write the state of its devices.
async fn devices(qmp: &mut Qmp<UnixStream>, state: &File) -> Result<()> {
    // QEMU takes a descriptor of exactly the mode that it would open the file in
    let path = format!("/proc/self/fd/{}", state.as_raw_fd());
    let only_write = File::options().write(true).open(path).map_err(Error::io("open the state of a VM"))?;
    qmp.execute_with::<Value>("add-fd", Some(json!({ "fdset-id": STATE_SET })), only_write.as_fd()).await?;
    let arguments = json!({ "filename": format!("/dev/fdset/{STATE_SET}"), "live": false });
    let saved = qmp.execute::<Value>("xen-save-devices-state", Some(arguments)).await;
    qmp.execute::<Value>("remove-fd", Some(json!({ "fdset-id": STATE_SET }))).await?;
    saved.map(drop)
}

fn memory_file(name: &str) -> Result<File> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    file.map(File::from).map_err(|error| Error::io("make a file in memory")(error.into()))
}

fn read(state: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let taken = state.rewind().and_then(|()| state.take(MOST_STATE).read_to_end(&mut bytes));
    let taken = taken.map_err(Error::io("read the state of a VM"))? as u64;
    match taken {
        0 => Err(Error::Control("wrote no state of its devices".to_owned())),
        MOST_STATE => Err(Error::Control("wrote more state of its devices than it can have".to_owned())),
        _ => Ok(bytes),
    }
}

/// The parent's memory with the pages that were written.
fn patched(parent: &Ram, written: &Written) -> io::Result<Ram> {
    let file = memfd_create(Ram::NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let file = File::from(file);
    let length = parent.size().bytes();
    file.set_len(length)?;
    let from = File::from(parent.as_fd().try_clone_to_owned()?);
    // a position of its own: others look for data in the same file
    let from = File::open(format!("/proc/self/fd/{}", from.as_raw_fd()))?;
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < length {
        let start = match seek(&from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let part = buffer.get_mut(..room).unwrap_or_default();
            from.read_exact_at(part, at)?;
            file.write_all_at(part, at)?;
            at += room as u64;
        }
    }
    for (offset, bytes) in written.runs() {
        file.write_all_at(bytes, offset)?;
    }
    Ok(Ram::new(OwnedFd::from(file), parent.size()))
}
