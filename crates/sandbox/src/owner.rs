//! The owner task: one per VM. Everyone else holds a handle and sends it commands.
//!
//! ```text
//!              slot, disks      fork or boot, Hello, Prepare         destroy, exit, silence, a broken link
//!  lease() ──▶ journalled ────────▶ coming up ─────────────▶ serving ──────────────┐
//!                 ▲                    │ no fork, no Hello      │ commands become   ▼
//!                 └──── torn down ◀────┤                        │ operations     torn down ──▶ ended
//!                                      └── failed, cancelled ───┴───────────────────┘
//! ```
//!
//! Invariants
//! - It never waits for an operation: those run in its JoinSet, so that the end is seen at once. Only the
//!   making of the slot and of its disks, which cannot be stopped half-way, and the teardown are waited for.
//! - The VM's end is told once, with one reason, to everything that was under way and to whoever comes later.
//! - It ends after nothing of the slot is left, or with the reason why something is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use vm::{Machine, OwnerLoss, Slot, SlotId};
use wire::message::{Answer as Reply, Body};

use crate::{
    Branch, Error, Gone, LeaseSpec, Patience, Result, Sandbox, Start,
    admission::Admission,
    adopt::{adopted, keep},
    boot::{self, Boot, Booted, From, Identity, Parent},
    branch::{Errand, Lending, Source},
    clock::Clock,
    command::{Answer, Command},
    connection::{Connection, Cut, Opened},
    handle::Shared,
    holding::{Holding, Place},
    journal::Held,
    kept,
    local::Inner,
    network::VmNetwork,
    operations,
    snapshots::{self, Template},
    wake,
};

/// Boots until one says Hello.
const TRIES: u32 = 2;
/// Commands that wait for the task.
const COMMANDS: usize = 64;
/// Operations at a time.
const MAX_OPERATIONS: usize = 1024;
/// How long a link may outlive its VMM, and the other way round, until one of them is believed.
const AFTERGLOW: Duration = Duration::from_secs(2);
/// How long an errand may take when the VM is left to the next engine.
const ERRAND: Duration = Duration::from_secs(15);

/// What an owner task is started with.
pub(crate) struct Owner {
    pub(crate) engine: Arc<Inner>,
    pub(crate) begin: Begin,
    /// Ends the VM, whatever it is doing.
    pub(crate) destroy: CancellationToken,
    /// Told when the guest is ready; an error after nothing is left.
    pub(crate) ready: oneshot::Sender<Result<Sandbox>>,
    /// Told when nothing is left of a VM that was ready.
    pub(crate) ended: oneshot::Sender<Result<()>>,
}

/// Where a VM comes from.
pub(crate) enum Begin {
    /// It is made.
    Lease {
        spec: Box<LeaseSpec>,
        /// What it is a fork of, where that is no template.
        parent: Option<Parent>,
    },
    /// It runs, and nobody owns it. The engine holds it first, with what tells its end.
    Adopt { id: SlotId, ended: oneshot::Receiver<Result<()>> },
}

impl Owner {
    /// The whole life of the VM.
    pub(crate) async fn run(self) {
        let Self { engine, begin, destroy, ready, ended } = self;
        let (up, left) = match begin {
            Begin::Lease { spec, parent } => (leased(&engine, *spec, parent, &destroy).await, None),
            Begin::Adopt { id, ended } => (adopted(&engine, id, &destroy).await, Some(ended)),
        };
        let (up, spec, record) = match up {
            Ok(up) => up,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let Up { held, booted, clock, admission, binding } = up;
        let (commands_to, commands) = mpsc::channel(COMMANDS);
        let (gone_to, gone) = watch::channel(None);
        let slot = held.slot().id;
        let shared = Shared { slot, info: booted.info, commands: commands_to, gone, clock };
        let sandbox = Sandbox { shared: Arc::new(shared) };
        let mut place = Holding::put(&engine, &sandbox, &destroy, record, left);
        // Whoever waited for it and went has cancelled `destroy`.
        let _ = ready.send(Ok(sandbox.clone()));

        let Opened { connection, mut cut, verdict, task, .. } = booted.opened;
        let exited = booted.machine.exited();
        let mut serving = Serving {
            engine: Arc::clone(&engine),
            spec,
            slot: held.slot().clone(),
            connection,
            sandbox,
            machine: Lending::new(booted.machine),
            network: held.network().cloned(),
            commands,
            operations: JoinSet::new(),
        };
        if let Some(binding) = binding {
            let bound = bound(binding, engine.patience);
            serving.operations.spawn(async { bound.await.into() });
        }
        // Operations end with the task: see `JoinSet::shutdown` below. Their tokens end before that.
        let token = CancellationToken::new();
        let end_operations = token.clone().drop_guard();
        let why = serving.run(&destroy, &token, exited, &mut cut, &mut place).await;
        tracing::debug!(%slot, %why, "the VM ends");
        let goes_on = why == Gone::Left;
        // First the reason, so that whoever finds a closed channel finds it.
        gone_to.send_replace(Some(why.clone()));
        if goes_on {
            // before their tokens, which would have them kill what goes on
            serving.finish_errands().await;
            serving.operations.shutdown().await;
        }
        drop(end_operations);
        let _ = verdict.send(why);
        let _ = task.await;
        serving.operations.shutdown().await;
        drop(serving);
        let removed = if goes_on {
            tracing::info!(%slot, "the VM is left to the next engine");
            drop(held);
            Ok(())
        } else {
            tear_down(&engine, held).await
        };
        // whoever waits for room gets it before the end is told
        drop(admission);
        drop(place);
        let _ = ended.send(removed);
    }
}

/// A VM that is made and, where it is to be kept, written down and told so. After an error nothing is left.
async fn leased(
    engine: &Arc<Inner>,
    spec: LeaseSpec,
    parent: Option<Parent>,
    destroy: &CancellationToken,
) -> Result<(Up, LeaseSpec, Option<kept::Record>)> {
    let mut up = match parent {
        None => come_up(engine, &spec, destroy).await?,
        Some(parent) => come_up_of(engine, &spec, parent, destroy).await?,
    };
    let OwnerLoss::Keep { until } = spec.on_owner_loss else { return Ok((up, spec, None)) };
    let record = kept::Record::new(&spec, &up.booted.info, until);
    match keep(engine, up.held.slot(), &mut *up.booted.machine, record.clone()).await {
        Ok(()) => Ok((up, spec, Some(record))),
        Err(error) => {
            let Up { held, booted, .. } = up;
            drop(booted);
            // What failed first is what the caller needs; what is left is swept later.
            let _ = tear_down(engine, held).await;
            Err(error)
        }
    }
}

/// A VM that is ready.
pub(crate) struct Up {
    pub(crate) held: Held,
    pub(crate) booted: Booted,
    pub(crate) clock: Arc<Clock>,
    pub(crate) admission: Admission,
    /// The answer to the Bind of one that stood by: commands may follow before it has come, for the agent takes
    /// one request after the other.
    pub(crate) binding: Option<oneshot::Receiver<Result<Reply>>>,
}

/// Ends the VM where its guest has no identity.
async fn bound(binding: oneshot::Receiver<Result<Reply>>, patience: Patience) -> Option<Gone> {
    match timeout(patience.prepare, binding).await {
        Ok(Ok(Ok(_))) => None,
        Ok(Ok(Err(Error::Guest { message, .. }))) => Some(Gone::Nameless(message)),
        // the VM is gone, and its owner knows why
        Ok(Ok(Err(_)) | Err(_)) => None,
        Err(_) => Some(Gone::Silent(patience.prepare)),
    }
}

/// A VM that is ready: one that stood by, else a fork where there can be one, else one that is booted. After an
/// error nothing is left.
async fn come_up(engine: &Arc<Inner>, spec: &LeaseSpec, destroy: &CancellationToken) -> Result<Up> {
    let began = Instant::now();
    engine.gate.check_size(spec.memory)?;
    let template = match spec.start {
        Start::Boot => None,
        Start::Fork => until(destroy, snapshots::template(engine, spec)).await?,
    };
    if let Some((key, _)) = &template
        && let Some(standby) = engine.pool.take(key, spec)
    {
        match wake::wake(engine, standby, spec, began).await {
            Ok(up) => return Ok(up),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a VM that stood by does not go on; another is made");
            }
        }
    }
    let (admission, _start) = admitted(engine, spec, destroy).await?;
    let mut tries = 1;
    loop {
        let from = match &template {
            Some((_, template)) if tries == 1 => From::Template(Arc::clone(template), Identity::Now),
            _ => From::Kernel,
        };
        let forked = matches!(from, From::Template(..));
        match attempt(engine, spec, from, destroy, tries).await {
            Ok((held, booted, clock)) => return Ok(Up { held, booted, clock, admission, binding: None }),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // its guest came up and answered that it cannot be what the lease asks for: nor can another
            Err(error @ Error::Prepare { .. }) if is_ready(template.as_ref(), forked) => return Err(error),
            Err(error) if tries < TRIES && !destroy.is_cancelled() && (forked || is_silence(&error)) => {
                if let (true, Some((key, _))) = (forked, &template) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "a fork of the VM's template did not come up; the VM is booted instead"
                    );
                    engine.snapshots.discard(key);
                } else {
                    tracing::warn!("the VM's agent did not answer; it is booted once more");
                }
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for room on this host, and for a place among the VMs that come up.
async fn admitted(
    engine: &Arc<Inner>,
    spec: &LeaseSpec,
    destroy: &CancellationToken,
) -> Result<(Admission, Option<OwnedSemaphorePermit>)> {
    let make_room = || {
        let engine = Arc::clone(engine);
        async move {
            let Some(standby) = engine.pool.spare() else { return false };
            standby.destroy(&engine).await;
            true
        }
    };
    let admission = until(destroy, engine.gate.enter(spec.memory, spec.when_full, make_room)).await?;
    let start = until(destroy, async { Ok(engine.gate.start().await) }).await?;
    Ok((admission, start))
}

/// A fork of a branch that is ready; nothing else can stand in for one. After an error nothing is left.
async fn come_up_of(
    engine: &Arc<Inner>,
    spec: &LeaseSpec,
    parent: Parent,
    destroy: &CancellationToken,
) -> Result<Up> {
    let (admission, _start) = admitted(engine, spec, destroy).await?;
    let mut tries = 1;
    loop {
        match attempt(engine, spec, From::Branch(parent.clone()), destroy, tries).await {
            Ok((held, booted, clock)) => return Ok(Up { held, booted, clock, admission, binding: None }),
            Err(error) if tries < TRIES && !destroy.is_cancelled() && is_silence(&error) => {
                tracing::warn!(%error, "a fork of a branch did not answer; another is made");
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What leaves nothing when it is dropped, until the VM is not wanted any more.
async fn until<T>(destroy: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = destroy.cancelled() => Err(Error::Cancelled),
        done = work => done,
    }
}

/// Whether a fork has nothing but its name to get.
fn is_ready(template: Option<&(String, Arc<Template>)>, forked: bool) -> bool {
    forked && template.is_some_and(|(_, template)| template.guest.is_some())
}

/// Nothing of a user's has run in it: an emulated guest hangs now and then while it boots.
fn is_silence(error: &Error) -> bool {
    matches!(error, Error::NoHello { .. } | Error::Boot { why: Gone::Silent(_), .. })
}

/// One slot and one boot in it. After an error nothing is left.
pub(crate) async fn attempt(
    engine: &Arc<Inner>,
    spec: &LeaseSpec,
    from: From,
    destroy: &CancellationToken,
    tries: u32,
) -> Result<(Held, Booted, Arc<Clock>)> {
    if destroy.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let network = until(destroy, engine.networks.namespace(&spec.bind.network));
    let (placed, network) = tokio::join!(boot::place(engine, spec, &from), network);
    let (mut held, disks) = placed?;
    let clock = Arc::new(Clock::starting_now());
    let up = match disks.and_then(|disks| Ok((disks, network?))) {
        Err(error) => Err(error),
        Ok((disks, network)) => {
            held.connect(network.clone());
            let boot = Boot {
                backend: Arc::clone(&engine.backend),
                patience: engine.patience,
                spec: spec.clone(),
                slot: held.slot().clone(),
                disks,
                network,
                clock: Arc::clone(&clock),
                from,
                tries,
            };
            carried_out(boot, destroy).await
        }
    };
    match up {
        Ok(booted) => Ok((held, booted, clock)),
        Err(error) => {
            // What failed first is what the caller needs; what is left is swept later.
            let _ = tear_down(engine, held).await;
            Err(error)
        }
    }
}

/// A boot in a task of its own, so that a panic in a backend does not skip the teardown.
pub(crate) async fn carried_out(boot: Boot, destroy: &CancellationToken) -> Result<Booted> {
    let mut boots = JoinSet::new();
    boots.spawn(boot.run());
    let up = tokio::select! {
        biased;
        () = destroy.cancelled() => Err(Error::Cancelled),
        up = boots.join_next() => match up {
            Some(Ok(up)) => up,
            Some(Err(_)) | None => Err(Error::Lost),
        },
    };
    boots.shutdown().await;
    up
}

/// Ends what still runs of the slot and removes it.
pub(crate) async fn tear_down(engine: &Arc<Inner>, held: Held) -> Result<()> {
    let engine = Arc::clone(engine);
    let result = spawn_blocking(move || engine.journal.remove(held)).await.unwrap_or(Err(Error::Lost));
    if let Err(error) = &result {
        tracing::error!(%error, "something of a VM is left, for the next sweep");
    }
    result
}

/// A VM that is ready.
struct Serving {
    engine: Arc<Inner>,
    spec: LeaseSpec,
    slot: Slot,
    connection: Connection,
    sandbox: Sandbox,
    machine: Lending,
    /// Where its card leads.
    network: Option<Arc<VmNetwork>>,
    commands: mpsc::Receiver<Command>,
    operations: JoinSet<Done>,
}

/// What an operation leaves to its owner task.
enum Done {
    Nothing,
    /// The VM has to end.
    Gone(Gone),
    /// The machine that was lent to it.
    Machine(Box<dyn Machine>),
}

impl std::convert::From<Option<Gone>> for Done {
    fn from(gone: Option<Gone>) -> Self {
        gone.map_or(Self::Nothing, Self::Gone)
    }
}

impl Serving {
    /// Serves commands until the VM is gone or has to go.
    async fn run(
        &mut self,
        destroy: &CancellationToken,
        token: &CancellationToken,
        mut exited: watch::Receiver<Option<vm::Exit>>,
        cut: &mut oneshot::Receiver<Cut>,
        place: &mut Place,
    ) -> Gone {
        let alive = keep_alive(self.connection.clone(), self.engine.patience);
        self.operations.spawn(async { alive.await.into() });
        loop {
            tokio::select! {
                biased;
                () = destroy.cancelled() => return place.verdict(),
                () = place.time_is_up() => return Gone::Expired,
                gone = boot::end_of(&mut exited) => {
                    // What it said last is still on its way through the link.
                    tokio::select! {
                        () = destroy.cancelled() => {}
                        _ = timeout(AFTERGLOW, cut) => {}
                    }
                    return gone;
                }
                broken = &mut *cut => return match broken {
                    Ok(Cut::Protocol(text)) => Gone::Protocol(text),
                    Ok(Cut::Version(theirs)) => {
                        Gone::Protocol(format!("it now speaks version {theirs}"))
                    }
                    Ok(Cut::Link(text)) => {
                        tokio::select! {
                            () = destroy.cancelled() => Gone::Destroyed,
                            gone = timeout(AFTERGLOW, boot::end_of(&mut exited)) => {
                                gone.unwrap_or(Gone::LinkLost(text))
                            }
                        }
                    }
                    Err(_) => Gone::LinkLost("its task ended".to_owned()),
                },
                Some(done) = self.operations.join_next() => match done {
                    Ok(Done::Gone(gone)) => return gone,
                    Ok(Done::Machine(machine)) => self.returned(machine),
                    Ok(Done::Nothing) => {}
                    Err(error) => tracing::error!(%error, "an operation of a VM panicked"),
                },
                Some(command) = self.commands.recv() => self.start(command, token),
            }
        }
    }

    fn start(&mut self, command: Command, token: &CancellationToken) {
        if self.operations.len() >= MAX_OPERATIONS {
            return command.refuse(Error::Request("too many operations at once"));
        }
        let command = match command {
            Command::Branch { answer } => {
                self.machine.wanted(Errand::Branch(answer));
                return self.lend();
            }
            Command::Keep { until, answer } => {
                self.machine.wanted(Errand::Keep(until, answer));
                return self.lend();
            }
            Command::Refused { answer } => {
                let network = self.network.clone();
                self.operations.spawn(async move {
                    let refused = match network {
                        Some(network) => network.refused().await,
                        None => Ok(crate::Refusals::default()),
                    };
                    let _ = answer.send(refused);
                    Done::Nothing
                });
                return;
            }
            command => command,
        };
        let (connection, sandbox) = (self.connection.clone(), self.sandbox.clone());
        let operation = operations::carry_out(command, connection, sandbox, token.child_token());
        self.operations.spawn(async move {
            operation.await;
            Done::Nothing
        });
    }

    fn returned(&mut self, machine: Box<dyn Machine>) {
        self.machine.returned(machine);
        self.lend();
    }

    /// Lets those errands end that are under way: a machine that is dropped in the middle of one is of no use.
    async fn finish_errands(&mut self) {
        let end = async {
            while self.machine.is_lent()
                && let Some(done) = self.operations.join_next().await
            {
                if let Ok(Done::Machine(machine)) = done {
                    self.machine.returned(machine);
                }
            }
        };
        if timeout(ERRAND, end).await.is_err() {
            tracing::warn!(slot = %self.slot.id, "a VM is left to the next engine in the middle of a branch");
        }
    }

    /// Begins the next errand, where one is wanted and none is under way.
    fn lend(&mut self) {
        let Some((machine, errand)) = self.machine.next() else { return };
        match errand {
            Errand::Branch(answer) => self.branch(machine, answer),
            Errand::Keep(until, answer) => self.keep(machine, until, answer),
        }
    }

    fn keep(&mut self, mut machine: Box<dyn Machine>, until: SystemTime, answer: Answer<()>) {
        let Some(mut record) = self.engine.holding.record(self.slot.id) else {
            let _ = answer.send(Err(Error::NotToKeep));
            return self.returned(machine);
        };
        record.until = until;
        let (engine, slot) = (Arc::clone(&self.engine), self.slot.clone());
        self.operations.spawn(async move {
            let kept = keep(&engine, &slot, &mut *machine, record).await;
            if kept.is_ok() {
                engine.holding.moved(slot.id, until);
            }
            let _ = answer.send(kept);
            Done::Machine(machine)
        });
    }

    fn branch(&mut self, mut machine: Box<dyn Machine>, answer: Answer<Branch>) {
        let source = Source {
            engine: Arc::clone(&self.engine),
            spec: self.spec.clone(),
            dir: self.slot.dir.clone(),
            sandbox: self.sandbox.clone(),
            connection: self.connection.clone(),
        };
        self.operations.spawn(async move {
            // to its end, also when nobody waits for it any more: the VM has to go on
            let branch = source.branch(&mut *machine).await;
            let _ = answer.send(branch);
            Done::Machine(machine)
        });
    }
}

/// Asks the agent again and again whether it is there.
async fn keep_alive(connection: Connection, patience: Patience) -> Option<Gone> {
    loop {
        sleep(patience.ping_every).await;
        match timeout(patience.silence, connection.request(Body::Ping)).await {
            Ok(Ok(_)) => {}
            // The VM is gone, and its owner knows why; or too many requests are under way to ask.
            Ok(Err(Error::Request(_))) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Gone::Silent(patience.silence)),
        }
    }
}
