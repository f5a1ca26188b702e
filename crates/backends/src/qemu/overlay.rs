//! Overlays that hold drives still while their images are copied.
//!
//! ```text
//!   make ──▶ ready ── the VM stands still: laid ──▶ image rests, writes go to the overlay ── merge ──▶ as before
//!              └──────────────── not needed after all: dropped ─────────────────────────────────────▶
//! ```
//! Owner: one saving of a VM. An overlay is a file without a name, so that it goes with the VM whatever happens.
//!
//! Invariant: a drive has at most one overlay. One that could not be merged (the host's disk was full) stays in
//! use, the VM goes on with it, and the next saving merges it first.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::UnixStream, time::Instant};
use vm::{Error, Result};

use super::qmp::Qmp;

/// The first set of descriptors; those of the command line are below.
const FIRST_SET: u32 = 1001;
/// Before the name of a drive: its overlay.
const OVERLAY: &str = "over-";
/// Before the name of an overlay: its file.
const FILE: &str = "file-";
/// Between two looks at a job of QEMU, which doubles up to the second.
const LOOKS: [Duration; 2] = [Duration::from_micros(500), Duration::from_millis(20)];
/// How long an overlay may take to be merged: it has what the guest wrote while its disk was copied.
const MERGE_LIMIT: Duration = Duration::from_secs(600);

/// The overlays of a VM's drives.
#[derive(Debug, Default)]
pub(super) struct Overlays(Vec<Overlay>);

/// The overlay of one drive.
#[derive(Debug)]
struct Overlay {
    /// The name of what it lies on.
    drive: String,
    set: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Laid,
}

/// One drive as `query-block` tells it.
#[derive(Debug, Deserialize)]
struct Block {
    inserted: Option<Inserted>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inserted {
    node_name: String,
    ro: bool,
    image: Image,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    virtual_size: u64,
}

/// One job as `query-jobs` tells it.
#[derive(Debug, Deserialize)]
struct Job {
    id: String,
    status: String,
    error: Option<String>,
}

impl Overlays {
    /// Makes one for each drive that may be written; their files lie in `dir`. Merges first what was left.
    pub(super) async fn make(qmp: &mut Qmp<UnixStream>, dir: &Path) -> Result<Self> {
        let blocks: Vec<Block> = qmp.execute("query-block", None).await?;
        let drives = blocks.into_iter().filter_map(|block| block.inserted).filter(|drive| !drive.ro);
        let mut overlays = Self::default();
        for (set, drive) in (FIRST_SET..).zip(drives) {
            let Inserted { node_name, image, .. } = drive;
            let left = node_name.strip_prefix(OVERLAY);
            let drive = left.unwrap_or(&node_name).to_owned();
            let overlay = Overlay { drive, set, state: State::Laid };
            let made = match left {
                Some(_) => overlay.merge(qmp).await,
                None => Ok(()),
            };
            let made = match made {
                Ok(()) => overlay.make(qmp, dir, image.virtual_size).await,
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                overlays.clear(qmp).await;
                return Err(error);
            }
            overlays.0.push(Overlay { state: State::Ready, ..overlay });
        }
        Ok(overlays)
    }

    /// Sends everything that is written from now on to the overlays. The VM stands still.
    pub(super) async fn lay(&mut self, qmp: &mut Qmp<UnixStream>) -> Result<()> {
        for overlay in &mut self.0 {
            let arguments = json!({ "node": overlay.drive, "overlay": overlay.name() });
            qmp.execute::<Value>("blockdev-snapshot", Some(arguments)).await?;
            overlay.state = State::Laid;
        }
        Ok(())
    }

    /// Merges those that are laid with what they lie on and removes all.
    pub(super) async fn clear(self, qmp: &mut Qmp<UnixStream>) {
        for overlay in self.0 {
            let cleared = match overlay.state {
                State::Ready => overlay.remove(qmp).await,
                State::Laid => overlay.merge(qmp).await,
            };
            if let Err(error) = cleared {
                tracing::warn!(%error, drive = overlay.drive, "a VM goes on with an overlay on its disk");
            }
        }
    }
}

impl Overlay {
    fn name(&self) -> String {
        format!("{OVERLAY}{}", self.drive)
    }

    fn file(&self) -> String {
        format!("{FILE}{}", self.name())
    }

    async fn make(&self, qmp: &mut Qmp<UnixStream>, dir: &Path, size: u64) -> Result<()> {
        let made = self.try_make(qmp, dir, size).await;
        if made.is_err() {
            // as far as it came
            let _ = self.remove(qmp).await;
        }
        made
    }

    async fn try_make(&self, qmp: &mut Qmp<UnixStream>, dir: &Path, size: u64) -> Result<()> {
        let (overlay, file) = (self.name(), self.file());
        let set = Some(json!({ "fdset-id": self.set }));
        for fd in nameless(dir).map_err(Error::io("make an overlay for the disk of a VM"))? {
            qmp.execute_with::<Value>("add-fd", set.clone(), fd.as_fd()).await?;
        }
        let cache = json!({ "no-flush": true });
        let arguments = json!({
            "driver": "file", "node-name": file, "filename": format!("/dev/fdset/{}", self.set),
            "locking": "off", "cache": cache,
        });
        qmp.execute::<Value>("blockdev-add", Some(arguments)).await?;
        let job = format!("make-{overlay}");
        let options = json!({ "driver": "qcow2", "file": file, "size": size });
        qmp.execute::<Value>("blockdev-create", Some(json!({ "job-id": job, "options": options }))).await?;
        finished(qmp, &job).await?;
        let arguments = json!({
            "driver": "qcow2", "node-name": overlay, "file": file, "backing": Value::Null, "cache": cache,
            "discard": "unmap", "detect-zeroes": "unmap",
        });
        qmp.execute::<Value>("blockdev-add", Some(arguments)).await.map(drop)
    }

    async fn merge(&self, qmp: &mut Qmp<UnixStream>) -> Result<()> {
        let overlay = self.name();
        let job = format!("merge-{overlay}");
        let arguments = json!({ "job-id": job, "device": overlay, "auto-dismiss": false });
        qmp.execute::<Value>("block-commit", Some(arguments)).await?;
        finished(qmp, &job).await?;
        self.remove(qmp).await
    }

    /// Removes what is there of one that nothing uses.
    async fn remove(&self, qmp: &mut Qmp<UnixStream>) -> Result<()> {
        let mut outcome = Ok(());
        for node in [self.name(), self.file()] {
            let removed = qmp.execute::<Value>("blockdev-del", Some(json!({ "node-name": node }))).await;
            outcome = outcome.and(removed.map(drop));
        }
        let removed = qmp.execute::<Value>("remove-fd", Some(json!({ "fdset-id": self.set }))).await;
        outcome.and(removed.map(drop))
    }
}

/// Waits for the end of a job, which waits for its own dismissal, and lets one that is ready complete.
async fn finished(qmp: &mut Qmp<UnixStream>, job: &str) -> Result<()> {
    let end = Instant::now() + MERGE_LIMIT;
    let [mut look, longest] = LOOKS;
    let ask = |id: &str| Some(json!({ "id": id }));
    let mut completing = false;
    loop {
        let jobs: Vec<Job> = qmp.execute("query-jobs", None).await?;
        let Some(found) = jobs.into_iter().find(|found| found.id == job) else {
            return Err(Error::Control(format!("forgot its job {job}")));
        };
        match found.status.as_str() {
            "concluded" => {
                qmp.execute::<Value>("job-dismiss", ask(job)).await?;
                return match found.error {
                    None => Ok(()),
                    Some(text) => Err(Error::Control(format!("could not finish its job {job}: {text}"))),
                };
            }
            "ready" if !completing => {
                qmp.execute::<Value>("job-complete", ask(job)).await?;
                completing = true;
            }
            _ if Instant::now() >= end => {
                return Err(Error::TimedOut { what: "a job of QEMU", limit: MERGE_LIMIT });
            }
            _ => {
                tokio::time::sleep(look).await;
                look = (look * 2).min(longest);
            }
        }
    }
}

/// A file without a name, open in the modes that QEMU asks for.
fn nameless(dir: &Path) -> io::Result<[OwnedFd; 2]> {
    let mode = Mode::RUSR | Mode::WUSR;
    let file = match rustix::fs::open(dir, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
        Ok(file) => File::from(file),
        // a file system that does not know such files
        Err(_) => {
            let path = dir.join("overlay");
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            file
        }
    };
    let read = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok([read.into(), file.into()])
}
