//! The pool: forks that wait for their lease.
//!
//! Purpose: a lease is ready in a few milliseconds. A standby was forked, got an identity and ran a command (all of
//! which an emulator then has translated) and was stopped; a lease lets it go on and gives it an identity of its own.
//! Owner: the engine; one task fills, trims, and at the end destroys.
//!
//! ```text
//!            host idle, room           command ran        lease: goes on, Bind
//!  (wanted) ─────────────────▶ fork ─────────────▶ stopped ───────────────────▶ (an owner task's)
//!                               │ fails             │ too many, its template too old, room needed, it died
//!                               ▼                   ▼
//!                           torn down           torn down
//! ```
//!
//! How many: as many as were asked for at once within the last minutes, when the host is idle; at least what the
//! engine was told to keep ready ([`crate::Engine::keep_ready`]); at most what [`PoolLimits`] allow.
//!
//! Invariant: a standby belongs to nobody and holds nothing of a lease: what it was exercised with is ours.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use vm::{Mebibytes, OwnerLoss};
use wire::message::Account;

use crate::{
    Bind, Error, ExecRequest, LeaseSpec, OutputMode, Policy, Result, Start, Stdin,
    admission::{Admission, needed},
    boot::{Booted, From, Identity},
    clock::Clock,
    connection::Connection,
    journal::Held,
    local::Inner,
    network,
    owner::{attempt, tear_down},
    snapshots::{self, Template},
};

/// How long a demand is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Leases within this time count as asked for at once: about as long as it takes to fill one place.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Demands that are remembered.
const MOST_REMEMBERED: usize = 4096;
/// Between two looks whether something is to be done.
const LOOK: Duration = Duration::from_secs(1);
/// How long a fork may take to run one command.
const EXERCISE: Duration = Duration::from_secs(20);
/// After a lease nothing is made ready for so long: whoever got a VM uses it now, and others may come for theirs.
const REST: Duration = Duration::from_millis(500);
/// Since the first lease that was not followed by a rest.
const MOST_REST: Duration = Duration::from_secs(2);
/// The same on a host whose processors all have something to do, most likely in those VMs.
const MOST_CROWDED: Duration = Duration::from_secs(10);
/// Between two looks whether they still have.
const LOOK_CROWDED: Duration = Duration::from_millis(100);
/// After a fill that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// A host on which more than this part of the time somebody waits for a processor is not idle, in percent.
const BUSY: f64 = 60.0;

/// How large the pool may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Standbys at most; 0: there is no pool.
    pub most: usize,
    /// What they may need together at most.
    pub memory: Mebibytes,
}

impl PoolLimits {
    /// No pool.
    pub const NONE: Self = Self { most: 0, memory: Mebibytes(0) };

    /// `most`, and a quarter of this host's memory.
    #[must_use]
    pub fn of_this_host(most: usize) -> Self {
        let total = rustix::system::sysinfo();
        let bytes = total.totalram.saturating_mul(u64::from(total.mem_unit));
        Self { most, memory: Mebibytes(u32::try_from((bytes / 4) >> 20).unwrap_or(u32::MAX)) }
    }
}

/// How much a standby is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// The engine was told to keep it ready.
    Promised,
    /// It was asked for before: worth having where the host has nothing else to do.
    Likely,
}

/// A VM that waits for its lease.
pub(crate) struct Standby {
    pub(crate) held: Held,
    pub(crate) booted: Booted,
    pub(crate) clock: Arc<Clock>,
    pub(crate) admission: Admission,
    template: Arc<Template>,
}

struct Kind {
    spec: LeaseSpec,
    ready: VecDeque<Standby>,
    /// When leases were asked for, the oldest first.
    asked: VecDeque<Instant>,
    /// What is kept ready whatever was asked for.
    floor: usize,
}

#[derive(Default)]
struct State {
    /// By the key of their template.
    kinds: HashMap<String, Kind>,
    /// The first and the last lease since the last rest.
    asked: Option<(Instant, Instant)>,
}

/// The pool of an engine.
pub(crate) struct Pool {
    limits: PoolLimits,
    state: Mutex<State>,
    /// Something may be to do.
    changed: Notify,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} ready)", self.count())
    }
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { limits, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it is held
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are ready.
    pub(crate) fn count(&self) -> usize {
        self.state().kinds.values().map(|kind| kind.ready.len()).sum()
    }

    /// One for `spec`, where there is one; that it was wanted is remembered.
    pub(crate) fn take(&self, template: &str, spec: &LeaseSpec) -> Option<Standby> {
        if self.limits.most == 0 {
            return None;
        }
        let mut state = self.state();
        let now = Instant::now();
        state.asked = Some((state.asked.map_or(now, |(first, _)| first), now));
        let kind = state.kind(template, spec);
        kind.asked.push_back(now);
        if kind.asked.len() > MOST_REMEMBERED {
            kind.asked.pop_front();
        }
        // what does not serve this one may serve another, or is seen to later
        let at = kind.ready.iter().position(|standby| standby.is_usable(&spec.bind.network));
        let found = at.and_then(|at| kind.ready.remove(at));
        drop(state);
        self.changed.notify_one();
        found
    }

    /// Keeps `count` ready for `spec`.
    pub(crate) fn keep(&self, template: &str, spec: &LeaseSpec, count: usize) {
        self.state().kind(template, spec).floor = count;
        self.changed.notify_one();
    }

    /// Gives one up, so that there is room; `None`: there is none.
    pub(crate) fn spare(&self) -> Option<Standby> {
        let mut state = self.state();
        let largest = state.kinds.values_mut().max_by_key(|kind| kind.ready.len())?;
        largest.ready.pop_back()
    }

    fn room_for(&self, state: &State, memory: Mebibytes) -> bool {
        let (count, bytes) = state.kinds.values().fold((0, 0), |(count, bytes), kind| {
            (count + kind.ready.len(), bytes + kind.ready.len() as u64 * needed(kind.spec.memory))
        });
        count < self.limits.most && bytes + needed(memory) <= self.limits.memory.bytes()
    }

    /// What is wanted next, and which are not wanted any more.
    fn look(&self) -> (Option<(Need, LeaseSpec)>, Vec<Standby>) {
        let mut state = self.state();
        let mut surplus = Vec::new();
        for kind in state.kinds.values_mut() {
            let target = kind.target();
            while kind.ready.len() > target {
                surplus.extend(kind.ready.pop_front());
            }
            // one without the network that such VMs are wanted with by now makes room for one that has it
            let network = &kind.spec.bind.network;
            let (usable, old): (Vec<_>, Vec<_>) =
                kind.ready.drain(..).partition(|standby| standby.is_usable(network));
            kind.ready = usable.into();
            surplus.extend(old);
        }
        state.kinds.retain(|_, kind| !kind.asked.is_empty() || kind.floor > 0);
        let short = |kind: &mut Kind| {
            let need = match kind.ready.len() {
                ready if ready < kind.floor => Need::Promised,
                ready if ready < kind.target() => Need::Likely,
                _ => return None,
            };
            Some((need, kind.ready.len(), kind.spec.clone()))
        };
        let wanted =
            state.kinds.values_mut().filter_map(short).min_by_key(|(need, ready, _)| (*need, *ready));
        let wanted = wanted.map(|(need, _, spec)| (need, spec));
        let wanted = wanted.filter(|(_, spec)| self.room_for(&state, spec.memory));
        (wanted, surplus)
    }

    /// How long nothing is to be made ready.
    fn rest(&self) -> Option<Duration> {
        let mut state = self.state();
        let (first, last) = state.asked?;
        let left = (last + REST).min(first + MOST_REST).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        if first.elapsed() < MOST_CROWDED && is_crowded() {
            return Some(LOOK_CROWDED);
        }
        state.asked = None;
        None
    }

    fn put(&self, template: &str, standby: Standby, spec: &LeaseSpec) {
        self.state().kind(template, spec).ready.push_back(standby);
    }

    fn drain(&self) -> Vec<Standby> {
        let State { kinds, .. } = std::mem::take(&mut *self.state());
        kinds.into_values().flat_map(|kind| kind.ready).collect()
    }
}

impl State {
    fn kind(&mut self, template: &str, spec: &LeaseSpec) -> &mut Kind {
        let kind = self.kinds.entry(template.to_owned()).or_insert_with(|| Kind {
            spec: standby_spec(spec),
            ready: VecDeque::new(),
            asked: VecDeque::new(),
            floor: 0,
        });
        if spec.bind.network != Policy::none() {
            // from now on they have a namespace, for whichever policy
            kind.spec.bind.network = spec.bind.network.clone();
        }
        kind
    }
}

/// `spec` without anything of its lease.
fn standby_spec(spec: &LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        bind: Bind {
            hostname: "standby".to_owned(),
            directories: spec.bind.common(),
            network: spec.bind.network.clone(),
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: crate::WhenFull::Wait,
        ..spec.clone()
    }
}

impl Kind {
    /// How many should be ready: the largest number of leases within [`AT_ONCE`] that is remembered.
    fn target(&mut self) -> usize {
        while self.asked.front().is_some_and(|asked| asked.elapsed() > MEMORY) {
            self.asked.pop_front();
        }
        let mut most = 0;
        let mut from = 0;
        for (to, asked) in self.asked.iter().enumerate() {
            while self.asked.get(from).is_some_and(|first| asked.duration_since(*first) > AT_ONCE) {
                from += 1;
            }
            most = most.max(to + 1 - from);
        }
        most.max(self.floor)
    }
}

impl Standby {
    /// Whether it can be the VM of a lease with this policy.
    fn is_usable(&self, policy: &Policy) -> bool {
        self.template.is_fresh()
            && self.booted.machine.exited().borrow().is_none()
            && network::serves(self.held.network(), policy)
    }

    /// Ends it.
    pub(crate) async fn destroy(self, engine: &Arc<Inner>) {
        let Self { held, booted, admission, .. } = self;
        drop(booted);
        // what is left is told there, and swept later
        let _ = tear_down(engine, held).await;
        drop(admission);
    }
}

/// Fills and trims the pool until the engine closes, then destroys what is in it.
pub(crate) async fn tend(engine: Arc<Inner>) {
    loop {
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => break,
            () = engine.pool.changed.notified() => {}
            () = sleep(LOOK) => {}
        }
        while !engine.closing.is_cancelled() {
            let (wanted, surplus) = engine.pool.look();
            for standby in surplus {
                standby.destroy(&engine).await;
            }
            let Some((need, spec)) = wanted else { break };
            if let Some(rest) = engine.pool.rest() {
                tokio::select! {
                    biased;
                    () = engine.closing.cancelled() => {}
                    () = sleep(rest) => {}
                }
                continue;
            }
            let time = need == Need::Promised || is_idle();
            if !time || engine.gate.is_busy() || !engine.gate.has_room(spec.memory) {
                break;
            }
            let admission = engine.gate.admit(spec.memory);
            if let Err(error) = fill(&engine, spec, admission).await {
                if !engine.closing.is_cancelled() {
                    tracing::warn!(%error, "no VM could be made ready ahead");
                    sleep(PAUSE).await;
                }
                break;
            }
        }
    }
    for standby in engine.pool.drain() {
        standby.destroy(&engine).await;
    }
}

async fn fill(engine: &Arc<Inner>, spec: LeaseSpec, admission: Admission) -> Result<()> {
    let Some((key, template)) = snapshots::template(engine, &spec).await? else { return Ok(()) };
    let from = From::Template(Arc::clone(&template), Identity::Later);
    let (held, mut booted, clock) = attempt(engine, &spec, from, &engine.closing, 1).await?;
    let connection = booted.opened.connection.clone();
    let made = async {
        exercise(&connection).await?;
        booted.machine.park().await.map_err(Error::from)
    };
    match timeout(EXERCISE, made).await.unwrap_or(Err(Error::Lost)) {
        Ok(()) => {
            engine.pool.put(&key, Standby { held, booted, clock, admission, template }, &spec);
            Ok(())
        }
        Err(error) => {
            drop(booted);
            let _ = tear_down(engine, held).await;
            Err(error)
        }
    }
}

/// Does what most leases begin with: a shell. What of it is the same in every fork a template has done already. An image without one of the programs is none the
/// worse.
pub(crate) async fn exercise(connection: &Connection) -> Result<()> {
    for argv in [["/bin/sh", "-c", ":"], ["/bin/bash", "-c", ":"]] {
        let request = ExecRequest {
            argv: argv.map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: Account::ROOT,
            stdin: Stdin::Null,
            output: OutputMode::Separate,
            timeout: None,
        };
        let begun = connection.exec(request).await?;
        drop(begun.output);
        match begun.reply.await.unwrap_or(Err(Error::Lost)) {
            Ok(_) => drop(begun.exited.await.unwrap_or(Err(Error::Lost))?),
            Err(Error::Guest { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the host has time for what nobody waits for. A kernel that does not say is taken for idle.
fn is_idle() -> bool {
    let pressure = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    share_of_waiting(&pressure).is_none_or(|share| share < BUSY)
}

/// Whether there is more to run at this moment than there are processors. A kernel that does not say has no more.
fn is_crowded() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // whoever reads it is one of them
    runnable(&load).is_some_and(|count| count > processors + 1)
}

/// `0.00 0.01 0.05 3/789 1234`
fn runnable(load: &str) -> Option<usize> {
    let (running, _) = load.split_ascii_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

/// `some avg10=12.34 …`
fn share_of_waiting(pressure: &str) -> Option<f64> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_target_is_what_was_asked_for_at_once() {
        let spec = LeaseSpec {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            root: crate::Root::Image("/r".into()),
            cpus: std::num::NonZeroU8::MIN,
            memory: Mebibytes(256),
            scratch_bytes: 1 << 30,
            bind: Bind { hostname: "job".to_owned(), ..Bind::default() },
            on_owner_loss: OwnerLoss::Kill,
            mark: None,
            start: Start::Fork,
            when_full: crate::WhenFull::Wait,
        };
        let limits = PoolLimits { most: 4, memory: Mebibytes(1 << 20) };
        let pool = Pool::new(limits);
        let target = || pool.state().kind("t", &spec).target();
        for _ in 0..3 {
            assert!(pool.take("t", &spec).is_none());
        }
        assert_eq!(target(), 3);
        tokio::time::advance(AT_ONCE * 2).await;
        assert!(pool.take("t", &spec).is_none());
        assert_eq!(target(), 3, "the busiest moment counts");
        tokio::time::advance(MEMORY - AT_ONCE).await;
        assert_eq!(target(), 1);
        assert!(pool.look().0.is_some_and(|(_, spec)| spec.bind.hostname == "standby"));
        tokio::time::advance(MEMORY).await;
        assert!(pool.look().0.is_none() && pool.state().kinds.is_empty());
        pool.keep("t", &spec, 2);
        assert_eq!(target(), 2);
        let other = LeaseSpec {
            on_owner_loss: OwnerLoss::Keep { until: std::time::SystemTime::now() },
            ..spec.clone()
        };
        assert!(pool.take("t", &other).is_none());
        assert_eq!(target(), 2, "it could not have been served by the pool");
        let small = Pool::new(PoolLimits { most: 4, memory: Mebibytes(10) });
        small.keep("t", &spec, 2);
        assert!(small.look().0.is_none());
        let none = Pool::new(PoolLimits::NONE);
        none.take("t", &spec);
        assert!(none.look().0.is_none());
    }

    #[test]
    fn a_kernel_says_how_many_want_to_run() {
        assert_eq!(runnable("22.52 7.14 4.58 21/78 2342\n"), Some(21));
        assert_eq!(runnable("22.52 7.14"), None);
        assert!(runnable(&fs::read_to_string("/proc/loadavg").unwrap()).is_some_and(|count| count > 0));
    }

    #[test]
    fn a_kernel_says_how_much_waits() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(share_of_waiting(text), Some(12.5));
        assert_eq!(share_of_waiting(""), None);
    }
}
