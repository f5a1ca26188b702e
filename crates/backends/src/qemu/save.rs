//! Saving a VM: the state of its devices by QEMU, its memory by us.
//!
//! ```text
//!   stop ──▶ device state into a descriptor ──▶ pages that it wrote ──▶ cont ──▶ parent's memory + those pages
//!            └────────────────────── pause ──────────────────────┘
//! ```
//!
//! QEMU's own migration would stream all of the memory during the pause. The pages that a fork has written
//! are private to its process, and the kernel says which they are.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use serde_json::{Value, json};
use tokio::{net::UnixStream, task::spawn_blocking, time::Instant};
use vm::{Error, Ram, Result, Saved};

use super::{
    boot::CONTROL_SOCKET,
    machine::MachineRam,
    pages::{Process, Run},
    qmp::Qmp,
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
pub(super) async fn save(dir: &SlotDir, ram: &MachineRam, again: Again) -> Result<Saved> {
    let mut state = memory_file("ampoule-state")?;
    let mut qmp = Qmp::open(dir.connect(CONTROL_SOCKET).await?).await?;
    let parent = match ram {
        MachineRam::Own => {
            return Err(Error::Unsupported("save a VM that was not booted for it".to_owned()));
        }
        MachineRam::Shared(ram) => {
            let began = Instant::now();
            qmp.execute::<Value>("stop", None).await?;
            devices(&mut qmp, &state).await?;
            // it stands still for good: its memory is the snapshot's
            let state = read(&mut state)?;
            return Ok(Saved { ram: ram.clone(), state, pause: began.elapsed() });
        }
        MachineRam::Private(ram) => Some(ram.clone()),
        MachineRam::Unknown => None,
    };
    let process = Process::of(dir.path())?;
    let parent = match parent {
        Some(parent) => parent,
        None => process.memory()?,
    };
    let began = Instant::now();
    qmp.execute::<Value>("stop", None).await?;
    let written = match devices(&mut qmp, &state).await {
        Ok(()) => {
            let parent = parent.clone();
            spawn_blocking(move || process.written(&parent))
                .await
                .unwrap_or_else(|error| Err(Error::io("read the memory of a VM")(io::Error::other(error))))
        }
        Err(error) => Err(error),
    };
    let gone_on = match again {
        Again::Yes => qmp.execute::<Value>("cont", None).await.map(drop),
        Again::No => Ok(()),
    };
    let pause = began.elapsed();
    drop(qmp);
    let written = written?;
    gone_on?;
    let state = read(&mut state)?;
    let ram = spawn_blocking(move || patched(&parent, &written));
    let ram = ram.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    Ok(Saved { ram: ram.map_err(Error::io("copy the memory of a VM"))?, state, pause })
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
fn patched(parent: &Ram, written: &[Run]) -> io::Result<Ram> {
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
    for run in written {
        file.write_all_at(&run.bytes, run.offset)?;
    }
    Ok(Ram::new(OwnedFd::from(file), parent.size()))
}
