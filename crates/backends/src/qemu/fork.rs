//! Starting a VM from a saved one.
//!
//! ```text
//!   QEMU starts, stands still ── migrate-incoming ──▶ loads devices ──▶ disk sizes told ── cont ──▶ runs
//! ```
//!
//! One that was saved with its link open has it from the beginning, and what is sent there first is nothing that a
//! host says, so that its agent starts anew at once.
//!
//! Its memory is a private mapping of the snapshot's file: nothing is copied until it is written.

use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::UnixStream};
use vm::{BootSpec, DriveMode, Error, Result, Slot, Snapshot};

use super::{
    Qemu,
    argv::AGENT,
    boot::{self, CONTROL_SOCKET, From, PARKED, STATE_FD},
    machine::{MachineRam, QemuMachine},
    qmp::Qmp,
    state::{self, Linked},
};
use crate::shimmed::{AGENT_SOCKET, SlotDir};

/// Between two looks whether the devices are loaded.
const LOOK: Duration = Duration::from_micros(500);
/// How often `cont` is tried: right after the load QEMU may say that it is not finished yet.
const CONTINUES: u32 = 100;

pub(super) async fn fork(qemu: &Qemu, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> Result<QemuMachine> {
    if spec.memory.size() != from.ram.size() {
        let (wanted, saved) = (spec.memory.size(), from.ram.size());
        return Err(Error::Unsupported(format!("a fork with {wanted} of a VM with {saved}")));
    }
    let state = memfd_create("ampoule-state", MemfdFlags::CLOEXEC)
        .map_err(|error| Error::io("make a file for the state of a VM")(error.into()))?;
    // a file of its own, and not the snapshot's: QEMU may not read it to its end
    let (linked, devices) = state::unpack(&from.state)?;
    write_all(&state, devices).map_err(Error::io("write the state of a VM"))?;
    let (shim, dir) = boot::start(qemu, From::Snapshot { ram: &from.ram, state: &state }, spec, slot).await?;
    let mut early = None;
    let shimmed = boot::asked(shim, dir, "it was forked", async |dir| {
        let mut qmp = Qmp::open(dir.connect(CONTROL_SOCKET).await?).await?;
        let link = match linked {
            Linked::Yes => Some(connected(&mut qmp, dir).await?),
            Linked::No => None,
        };
        let uri = format!("fd:{STATE_FD}");
        qmp.execute::<Value>("migrate-incoming", Some(json!({ "uri": uri }))).await?;
        loaded(&mut qmp).await?;
        // before it runs, so that the guest knows the size when it first asks; a QEMU that has not taken the disks
        // over by then (10) lets that be only after
        match sizes(&mut qmp, spec).await {
            Err(Error::Control(text)) if text.contains("inactive") => {
                go_on(&mut qmp).await?;
                sizes(&mut qmp, spec).await?;
            }
            Ok(()) => go_on(&mut qmp).await?,
            failed => return failed,
        }
        if let Some(mut link) = link {
            link.write_all(&vm::NO_FRAME).await.map_err(Error::io("write to the link of a fork"))?;
            early = Some(link);
        }
        Ok(())
    })
    .await?;
    let shimmed = match early {
        Some(link) => shimmed.with_link(link),
        None => shimmed,
    };
    Ok(QemuMachine::new(shimmed, MachineRam::Private(from.ram.clone())))
}

/// Tells the guest how large its writable disks are.
async fn sizes(qmp: &mut Qmp<UnixStream>, spec: &BootSpec) -> Result<()> {
    for drive in spec.drives.iter().filter(|drive| drive.mode == DriveMode::ReadWrite) {
        let path = &drive.image;
        let size = std::fs::metadata(path).map_err(Error::io(format!("look at {}", path.display())))?.len();
        let arguments = json!({ "node-name": drive.id.serial(), "size": size });
        qmp.execute::<Value>("block_resize", Some(arguments)).await?;
    }
    Ok(())
}

fn write_all(file: &std::os::fd::OwnedFd, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::from(file.try_clone()?).write_all(bytes)
}

/// Opens the link of a fork before its devices are loaded. A guest that was saved with its link open then sees
/// neither an end nor a beginning: one of each, right behind each other, it could take for nothing at all.
async fn connected(qmp: &mut Qmp<UnixStream>, dir: &SlotDir) -> Result<UnixStream> {
    #[derive(Deserialize)]
    struct Channel {
        label: String,
        filename: String,
    }
    let link = dir.connect(AGENT_SOCKET).await?;
    loop {
        let channels: Vec<Channel> = qmp.execute("query-chardev", None).await?;
        match channels.iter().find(|channel| channel.label == AGENT) {
            None => return Err(Error::Control("has no channel to the agent".to_owned())),
            Some(channel) if channel.filename.starts_with("disconnected") => tokio::time::sleep(LOOK).await,
            Some(_) => return Ok(link),
        }
    }
}

/// Waits until the devices are as they were saved. A QEMU that cannot load them ends, which is seen elsewhere.
async fn loaded(qmp: &mut Qmp<UnixStream>) -> Result<()> {
    loop {
        let status = qmp.status().await?;
        match status.status.as_str() {
            "inmigrate" | "prelaunch" => tokio::time::sleep(LOOK).await,
            PARKED => return Ok(()),
            other => return Err(Error::Control(format!("says that the VM is {other:?} after its load"))),
        }
    }
}

async fn go_on(qmp: &mut Qmp<UnixStream>) -> Result<()> {
    let mut tries = 0;
    loop {
        match qmp.execute::<Value>("cont", None).await {
            Ok(_) => return Ok(()),
            Err(Error::Control(text)) if text.contains("not finalized") && tries < CONTINUES => {
                tries += 1;
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
}
