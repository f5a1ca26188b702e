//! Admission: no VM begins for which this host has no room.
//!
//! Purpose: memory that is really free, room on the disk, and processors for those that come up. Owner: the
//! engine; every VM holds its [`Admission`] until nothing of it is left.
//!
//! ```text
//!   lease ──▶ queue, first come first served ──▶ is there room? ── yes ──▶ comes up (some at a time) ──▶ runs
//!                                                  │    ▲
//!                                               no │    │ a VM of ours ended, or a look later
//!                                                  ▼    │
//!                                                waits, with a reason; an error if no VM of ours could end
//! ```
//!
//! A guest's memory is used as the guest touches it, so what is free says little of what was promised a moment
//! ago: a VM that began less than [`SETTLING`] ago counts in full, an older one as what it has taken.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};
use vm::Mebibytes;

use crate::{Error, Reserve, Result, WhenFull};

/// What a VMM takes beside its guest's memory: an emulator's buffer for translated code grows to 256 MiB.
const OVERHEAD: u64 = 96 << 20;
/// The part of a guest's memory that has to be free when it begins.
const PART: u64 = 4;
/// How long a VM takes until it has touched what it needs to begin with.
const SETTLING: Duration = Duration::from_secs(10);
/// Between two looks at the host.
const LOOK: Duration = Duration::from_millis(500);
/// VMs that come up at the same time, for each processor.
const STARTS: usize = 2;

/// What is free on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
}

type Measure = dyn Fn() -> io::Result<Free> + Send + Sync;

/// Lets VMs begin.
pub(crate) struct Gate {
    measure: Box<Measure>,
    /// The host's memory, in bytes.
    total: u64,
    reserve: Reserve,
    starts: Arc<Semaphore>,
    most_starts: usize,
    /// Whose turn it is; fair.
    turn: Turn<()>,
    admitted: Arc<Mutex<Admitted>>,
    ended: Arc<Notify>,
    /// Why the first of the queue waits.
    waiting: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Admitted {
    next: u64,
    /// When each began, and what it counts as.
    vms: Vec<(u64, Instant, u64)>,
}

/// A VM's place on this host.
#[derive(Debug)]
pub(crate) struct Admission {
    id: u64,
    admitted: Arc<Mutex<Admitted>>,
    ended: Arc<Notify>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        locked(&self.admitted).vms.retain(|(id, ..)| *id != self.id);
        self.ended.notify_one();
    }
}

fn locked(admitted: &Mutex<Admitted>) -> MutexGuard<'_, Admitted> {
    // nothing panics while it is held
    admitted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({} VMs)", locked(&self.admitted).vms.len())
    }
}

/// What a VM with this memory has to find free.
pub(crate) fn needed(memory: Mebibytes) -> u64 {
    memory.bytes() / PART + OVERHEAD
}

impl Gate {
    /// For VMs whose files are in `state_dir`.
    pub(crate) fn new(state_dir: &Path, reserve: Reserve) -> Self {
        let dir = state_dir.to_owned();
        Self::measuring(Box::new(move || free(&dir)), reserve)
    }

    fn measuring(measure: Box<Measure>, reserve: Reserve) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let host = rustix::system::sysinfo();
        Self {
            measure,
            total: host.totalram.saturating_mul(u64::from(host.mem_unit)),
            reserve,
            starts: Arc::new(Semaphore::new(cpus * STARTS)),
            most_starts: cpus * STARTS,
            turn: Turn::new(()),
            admitted: Arc::default(),
            ended: Arc::default(),
            waiting: watch::Sender::new(None),
        }
    }

    /// Why the first of those that wait does; `None` while nobody does.
    pub(crate) fn waiting(&self) -> watch::Receiver<Option<String>> {
        self.waiting.subscribe()
    }

    /// Waits until there is room for a VM with `memory`. `make_room` is asked to give up something that can be
    /// spared before anybody waits; `false`: there is nothing.
    pub(crate) async fn enter<F: Future<Output = bool>>(
        &self,
        memory: Mebibytes,
        when_full: WhenFull,
        make_room: impl Fn() -> F,
    ) -> Result<Admission> {
        self.check_size(memory)?;
        let _turn = self.turn.lock().await;
        let _quiet = Quiet(&self.waiting);
        loop {
            let lack = match self.lack(memory) {
                Ok(None) => return Ok(self.admit(memory)),
                Ok(Some(lack)) => lack,
                // a host that does not say what is free is not refused for it
                Err(error) => {
                    tracing::warn!(%error, "it is not known what is free on this host");
                    return Ok(self.admit(memory));
                }
            };
            if make_room().await {
                continue;
            }
            if when_full == WhenFull::Refuse || locked(&self.admitted).vms.is_empty() {
                return Err(Error::NoRoom { lack });
            }
            if self.waiting.borrow().as_deref() != Some(lack.as_str()) {
                tracing::info!("a VM waits: {lack}");
                self.waiting.send_replace(Some(lack));
            }
            tokio::select! {
                () = self.ended.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Refuses what no end of other VMs makes room for.
    pub(crate) fn check_size(&self, memory: Mebibytes) -> Result<()> {
        let total = Mebibytes(u32::try_from(self.total >> 20).unwrap_or(u32::MAX));
        if memory <= total {
            return Ok(());
        }
        Err(Error::NoRoom { lack: format!("it has {memory} of memory, this host has {total}") })
    }

    /// A place among those that come up; to be given back when the VM is there.
    pub(crate) async fn start(&self) -> Option<OwnedSemaphorePermit> {
        // it is never closed
        Arc::clone(&self.starts).acquire_owned().await.ok()
    }

    /// Whether somebody comes up, or waits to.
    pub(crate) fn is_busy(&self) -> bool {
        self.starts.available_permits() < self.most_starts || self.turn.try_lock().is_err()
    }

    /// Whether there is room for one more that nobody waits for.
    pub(crate) fn has_room(&self, memory: Mebibytes) -> bool {
        self.turn.try_lock().is_ok() && matches!(self.lack(memory), Ok(None))
    }

    /// A place for one that has room.
    pub(crate) fn admit(&self, memory: Mebibytes) -> Admission {
        self.admit_since(memory, Instant::now())
    }

    /// A place for one that runs already, and has taken what it needs.
    pub(crate) fn admit_running(&self, memory: Mebibytes) -> Admission {
        let now = Instant::now();
        self.admit_since(memory, now.checked_sub(SETTLING).unwrap_or(now))
    }

    fn admit_since(&self, memory: Mebibytes, began: Instant) -> Admission {
        let mut admitted = locked(&self.admitted);
        admitted.next += 1;
        let id = admitted.next;
        admitted.vms.push((id, began, needed(memory)));
        Admission { id, admitted: Arc::clone(&self.admitted), ended: Arc::clone(&self.ended) }
    }

    /// What there is too little of.
    fn lack(&self, memory: Mebibytes) -> io::Result<Option<String>> {
        let promised: u64 = {
            let admitted = locked(&self.admitted);
            admitted
                .vms
                .iter()
                .filter(|(_, began, _)| began.elapsed() < SETTLING)
                .map(|(.., needs)| needs)
                .sum()
        };
        let Free { memory: free, disk } = (self.measure)()?;
        let wanted = needed(memory) + promised + self.reserve.memory;
        if free < wanted {
            let (free, wanted) = (free >> 20, wanted >> 20);
            return Ok(Some(format!("{free} MiB of memory are free, {wanted} MiB are needed")));
        }
        if disk < self.reserve.disk {
            let (disk, wanted) = (disk >> 20, self.reserve.disk >> 20);
            return Ok(Some(format!(
                "no space left on the disk of the state directory: {disk} MiB are free, {wanted} MiB are needed"
            )));
        }
        Ok(None)
    }
}

/// Nobody waits any more, also where the future was dropped.
struct Quiet<'a>(&'a watch::Sender<Option<String>>);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|reason| reason.take().is_some());
    }
}

/// Whether a VM with this much memory could begin on this host now, beside what stays free for the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free memory, in bytes: of the host, or what the control group leaves.
    pub free: u64,
    /// What the VM needs of it.
    pub needed: u64,
}

impl Room {
    /// As it is now, for a VM with `memory`.
    ///
    /// # Errors
    /// The kernel does not say what is free.
    pub fn look(memory: Mebibytes, reserve: Reserve) -> io::Result<Self> {
        Ok(Self { free: free_memory()?, needed: needed(memory) + reserve.memory })
    }

    /// Whether it could.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.free >= self.needed
    }
}

fn free(dir: &Path) -> io::Result<Free> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(Free { memory: free_memory()?, disk: disk.f_bavail * disk.f_frsize })
}

fn free_memory() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let host = available(&info).ok_or(io::ErrorKind::InvalidData)?;
    let ours = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| of_group(&text));
    Ok(ours.map_or(host, |ours| ours.min(host)))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the control group (version 2) of this process, and those above it, leave.
fn of_group(cgroup: &str) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut dir = PathBuf::from("/sys/fs/cgroup").join(path);
    let mut least: Option<u64> = None;
    while dir.starts_with("/sys/fs/cgroup") {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
        if let (Some(most), Some(now)) = (read("memory.max"), read("memory.current")) {
            let left = most.saturating_sub(now);
            least = Some(least.map_or(left, |least| least.min(left)));
        }
        if !dir.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const SMALL: Mebibytes = Mebibytes(256);

    fn gate(memory: &Arc<AtomicU64>) -> Gate {
        let memory = Arc::clone(memory);
        let measure = move || Ok(Free { memory: memory.load(Ordering::Relaxed), disk: 100 << 30 });
        Gate::measuring(Box::new(measure), Reserve::default())
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_an_end_with_a_reason() {
        let memory = Arc::new(AtomicU64::new(Reserve::default().memory + needed(SMALL)));
        let gate = Arc::new(gate(&memory));
        let first = gate.enter(SMALL, WhenFull::Wait, || async { false }).await.unwrap();
        assert!(!gate.has_room(SMALL), "what was promised counts");
        let second = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter(SMALL, WhenFull::Wait, || async { false }).await })
        };
        let mut waiting = gate.waiting();
        let reason = waiting.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(reason.contains("MiB of memory are free"), "{reason}");
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
        assert!(gate.waiting().borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn with_no_vm_that_could_end_it_is_an_error() {
        let gate = gate(&Arc::new(AtomicU64::new(1 << 20)));
        let error = gate.enter(SMALL, WhenFull::Wait, || async { false }).await.unwrap_err();
        assert!(error.to_string().contains("1 MiB of memory are free"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_want_to_wait_and_what_never_fits_is_refused() {
        let memory = Arc::new(AtomicU64::new(Reserve::default().memory + needed(SMALL)));
        let gate = gate(&memory);
        let _first = gate.enter(SMALL, WhenFull::Refuse, || async { false }).await.unwrap();
        let full = gate.enter(SMALL, WhenFull::Refuse, || async { false }).await.unwrap_err();
        assert!(matches!(full, Error::NoRoom { .. }), "{full}");
        let huge = gate.enter(Mebibytes(u32::MAX), WhenFull::Wait, || async { true }).await.unwrap_err();
        assert!(huge.to_string().contains("this host has"), "{huge}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_be_spared_goes_before_anybody_waits() {
        let memory = Arc::new(AtomicU64::new(0));
        let gate = gate(&memory);
        gate.enter(SMALL, WhenFull::Wait, || async {
            memory.store(1 << 40, Ordering::Relaxed);
            true
        })
        .await
        .unwrap();
    }

    #[test]
    fn what_the_host_says_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert_eq!(of_group("1:name=x:/\n"), None);
        assert!(free(Path::new("/")).unwrap().memory > 0);
    }
}
