//! Whether KVM works here: by booting the kernel that is to run, once per kernel and start of the host.
//!
//! A /dev/kvm proves nothing: on some hosts that are VMs themselves a kernel hangs early in its boot, and
//! `accel=kvm:tcg` does not notice. What proves it is the agent's first byte.
//!
//! ```text
//!   no /dev/kvm, or no access ─▶ Absent, Forbidden, RootOnly    remembered for this kernel and boot ─▶ as it was
//!   otherwise boot under a time limit: first byte ─▶ Works, end ─▶ Fails, silence ─▶ Hangs;  remember
//! ```

use std::{
    fs::{self, OpenOptions},
    num::NonZeroU8,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::getuid;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt, time::timeout};
use vm::{BootSpec, Ids, Machine, Mebibytes, Memory, OwnerLoss, Slot, SlotId};

use super::{
    Qemu, boot,
    kvm::{DEVICE, KvmAccess},
    places,
};

/// What a probe boots.
#[derive(Clone, Debug)]
pub struct Kvm {
    /// The kernel that is to run.
    pub kernel: PathBuf,
    /// An initramfs whose agent says Hello before anything is mounted.
    pub initramfs: PathBuf,
    /// How long it may take: a boot under KVM takes half a second.
    pub limit: Duration,
}

/// What is known of KVM on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A VM booted.
    Works,
    /// There is no /dev/kvm.
    Absent,
    /// This user may not open /dev/kvm.
    Forbidden,
    /// Only root may open /dev/kvm, and a VM is not root.
    RootOnly,
    /// A VM did not get to its agent in time.
    Hangs,
    /// A VM ended at once.
    Fails,
    /// There was nothing to boot.
    Untried,
}

impl Verdict {
    /// Why KVM is not used; nothing where it works or was not tried.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::Works | Self::Untried => return None,
            Self::Absent => "this host has no /dev/kvm",
            Self::Forbidden => "this user may not open /dev/kvm (the group `kvm` may)",
            Self::RootOnly => {
                "only root may open /dev/kvm, and VMs have users of their own (`ampoule doctor` tells what mends it)"
            }
            Self::Hangs => "a VM hangs under this host's KVM",
            Self::Fails => "a VM does not start under this host's KVM",
        })
    }

    /// The same for the user, with what is done instead.
    #[must_use]
    pub fn note(self) -> Option<String> {
        let why = self.reason()?;
        Some(format!("{why}: software emulation is used, which is ten to twenty times slower"))
    }
}

/// One remembered probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: Key,
    verdict: Verdict,
}

/// What a probe's result depends on. No times of the file: a store may touch what it hands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    host_boot: String,
    qemu: String,
    kernel: PathBuf,
    size: u64,
    inode: u64,
}

/// Whom a probe of root runs as.
const NOBODY: Ids = Ids { uid: 65_534, gid: 65_534 };
const MEMORY: &str = "kvm.json";
/// Entries that are kept.
const MOST: usize = 32;

/// What stands before any boot.
pub(super) fn hindrance() -> Option<Verdict> {
    if !Path::new(DEVICE).exists() {
        return Some(Verdict::Absent);
    }
    if OpenOptions::new().read(true).write(true).open(DEVICE).is_err() {
        return Some(Verdict::Forbidden);
    }
    let root_only = getuid().is_root() && matches!(KvmAccess::here(), Ok(KvmAccess::Root));
    root_only.then_some(Verdict::RootOnly)
}

/// What is known, from memory or by a boot.
pub(super) async fn kvm(qemu: &Qemu, probe: Option<&Kvm>) -> Verdict {
    if let Some(verdict) = hindrance() {
        return verdict;
    }
    let Some(probe) = probe else { return Verdict::Untried };
    let memory = places::runtime_dir().map(|dir| dir.join(MEMORY)).ok();
    let key = key(qemu, probe);
    if let (Some(memory), Some(key)) = (&memory, &key)
        && let Some(entry) = recall(memory).into_iter().find(|entry| entry.key == *key)
    {
        return entry.verdict;
    }
    let verdict = try_boot(qemu, probe).await;
    tracing::info!(?verdict, "probed KVM");
    if let (Some(memory), Some(key)) = (&memory, key) {
        remember(memory, Entry { key, verdict });
    }
    verdict
}

fn key(qemu: &Qemu, probe: &Kvm) -> Option<Key> {
    let kernel = fs::canonicalize(&probe.kernel).ok()?;
    let found = fs::metadata(&kernel).ok()?;
    Some(Key {
        host_boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned(),
        qemu: qemu.capabilities.version.clone(),
        size: found.len(),
        inode: found.ino(),
        kernel,
    })
}

/// Entries of this start of the host and of others; empty where there is nothing readable.
fn recall(memory: &Path) -> Vec<Entry> {
    fs::read(memory).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Best effort: without it the next start probes again.
fn remember(memory: &Path, entry: Entry) {
    let mut entries = recall(memory);
    entries.retain(|old| old.key.host_boot == entry.key.host_boot && old.key != entry.key);
    entries.push(entry);
    let surplus = entries.len().saturating_sub(MOST);
    entries.drain(..surplus);
    let beside = memory.with_extension(format!("{}.new", std::process::id()));
    let written = serde_json::to_vec(&entries).map_err(Into::into).and_then(|text| fs::write(&beside, text));
    if written.and_then(|()| fs::rename(&beside, memory)).is_err() {
        let _ = fs::remove_file(&beside);
    }
}

async fn try_boot(qemu: &Qemu, probe: &Kvm) -> Verdict {
    let Ok(dir) = places::Scratch::new("probe") else { return Verdict::Fails };
    let slot = Slot {
        id: SlotId::new(),
        dir: dir.path().to_owned(),
        // As little as the VMs that follow may do.
        ids: getuid().is_root().then_some(NOBODY),
        on_owner_loss: OwnerLoss::Kill,
    };
    let spec = BootSpec {
        kernel: probe.kernel.clone(),
        initramfs: probe.initramfs.clone(),
        kernel_args: Vec::new(),
        cpus: NonZeroU8::MIN,
        memory: Memory::Own(Mebibytes(512)),
        drives: Vec::new(),
        tap: None,
    };
    let attempt = async {
        let mut machine = boot::boot(qemu, &spec, &slot).await?;
        let mut link = machine.link().await?;
        let mut exited = machine.exited();
        let mut first = [0];
        let spoke = tokio::select! {
            read = link.read(&mut first) => matches!(read, Ok(1)),
            _ = exited.wait_for(Option::is_some) => false,
        };
        Ok::<bool, vm::Error>(spoke)
    };
    match timeout(probe.limit, attempt).await {
        Ok(Ok(true)) => Verdict::Works,
        Ok(Ok(false) | Err(_)) => Verdict::Fails,
        Err(_) => Verdict::Hangs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host_boot: &str, inode: u64) -> Entry {
        let key = Key {
            host_boot: host_boot.to_owned(),
            qemu: "7.2.0".to_owned(),
            kernel: PathBuf::from("/k"),
            size: 1,
            inode,
        };
        Entry { key, verdict: Verdict::Works }
    }

    #[test]
    fn probes_are_remembered_until_the_host_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join(MEMORY);
        assert_eq!(recall(&memory), []);
        remember(&memory, entry("a", 1));
        remember(&memory, entry("a", 2));
        let again = Entry { verdict: Verdict::Hangs, ..entry("a", 1) };
        remember(&memory, again.clone());
        assert_eq!(recall(&memory), [entry("a", 2), again]);
        remember(&memory, entry("b", 1));
        assert_eq!(recall(&memory), [entry("b", 1)]);
        for number in 0..100 {
            remember(&memory, entry("b", number));
        }
        assert_eq!(recall(&memory).len(), MOST);
        fs::write(&memory, "nonsense").unwrap();
        assert_eq!(recall(&memory), []);
    }

    #[test]
    fn every_reason_for_emulation_is_told() {
        for verdict in
            [Verdict::Absent, Verdict::Forbidden, Verdict::RootOnly, Verdict::Hangs, Verdict::Fails]
        {
            assert!(verdict.note().unwrap().contains("emulation"));
        }
        assert_eq!(Verdict::Works.note(), None);
    }
}
