//! From a slot to a guest that is ready for commands.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use net::Policy;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use vm::{Backend, BootSpec, Drive, DriveId, DriveMode, Exit, Machine, Memory, Ram, Slot};
use wire::message::{self, Answer, Body, Entropy, Hooks, Prepare, RootFs, Warm};

use crate::{
    Bind, Error, Gone, GuestInfo, Inherited, LeaseSpec, Origin, Patience, Result, Root,
    branch::Copy,
    clock::Clock,
    connection::{self, Cut, Opened},
    journal::Held,
    local::Inner,
    network::{self, VmNetwork},
    scratch,
    snapshots::{Guest, Template},
    text::printable,
    ways::Ways,
};

/// How often a silent guest's link is opened anew within the time for its boot: an opening that fell into
/// the moment in which the guest's driver came up can be lost.
const OPENINGS: u32 = 4;
/// A fork answers at once, or never on this opening: its parent may have been saved before it saw its own
/// link's end. Doubled each time.
const FORK_PATIENCE: Duration = Duration::from_millis(500);
/// Between two openings of a link that closed at once.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes for the guest's random generator.
const ENTROPY: usize = 256;
/// How much of the console an error shows, in bytes.
const CONSOLE_TAIL: usize = 2000;
/// The console's log below the slot's directory, where the backend writes one.
const CONSOLE: &str = "console.log";
const MAX_TEXT: usize = 256;

/// The disks of a VM, ready to be used.
pub(crate) struct Disks {
    /// None: hosted.
    pub(crate) root: Option<(PathBuf, RootFs)>,
    pub(crate) scratch: Option<PathBuf>,
}

/// A guest that is ready.
pub(crate) struct Booted {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) opened: Opened,
    pub(crate) info: GuestInfo,
}

/// What a machine starts from.
pub(crate) enum From {
    /// The kernel.
    Kernel,
    /// The kernel, on a memory that is saved later.
    Memory(Ram),
    /// A saved machine.
    Template(Arc<Template>, Identity),
    /// A branch of a VM that ran.
    Branch(Parent),
    /// Nothing: it runs, and its owner is gone. With what was known of its guest.
    Running(GuestInfo),
}

/// What a fork of a branch begins with.
#[derive(Clone)]
pub(crate) struct Parent {
    pub(crate) branch: Arc<Copy>,
    pub(crate) inherited: Inherited,
}

/// Whose disk a fork gets.
#[derive(Clone)]
enum Parental {
    Branch(Arc<Copy>),
    Template(Arc<Template>),
}

impl From {
    /// What it is a fork of, where its disk is another one's.
    fn parental(&self) -> Option<Parental> {
        match self {
            Self::Branch(parent) => Some(Parental::Branch(Arc::clone(&parent.branch))),
            Self::Template(template, _) => Some(Parental::Template(Arc::clone(template))),
            Self::Kernel | Self::Memory(_) | Self::Running(_) => None,
        }
    }
}

impl Parental {
    /// `None`: a new one is as good.
    fn disk(&self) -> Result<Option<File>> {
        match self {
            Self::Branch(branch) => branch.disk(),
            Self::Template(template) => template.guest.as_ref().map(Guest::disk).transpose(),
        }
    }
}

/// When a guest gets its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// With its preparation.
    Now,
    /// By a Bind when it is leased.
    Later,
}

impl Identity {
    fn hooks(self) -> Hooks {
        match self {
            Self::Now => Hooks::Now,
            Self::Later => Hooks::Later,
        }
    }
}

/// What a boot needs; one attempt's.
pub(crate) struct Boot {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) patience: Patience,
    pub(crate) spec: LeaseSpec,
    pub(crate) slot: Slot,
    pub(crate) disks: Disks,
    /// Where its card leads.
    pub(crate) network: Option<Arc<VmNetwork>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) from: From,
    /// Which attempt this is, from 1.
    pub(crate) tries: u32,
}

impl Boot {
    /// Boots or forks, waits for Hello, prepares. Dropping the future ends the VM.
    pub(crate) async fn run(self) -> Result<Booted> {
        // one that gets its name later gets its policy then
        let named = !matches!(self.from, From::Template(_, Identity::Later) | From::Running(_));
        let network = self.network.clone();
        let bind = self.spec.bind.clone();
        let applied = async { if named { network::apply(network.as_ref(), &bind).await } else { Ok(()) } };
        let (booted, ()) = tokio::try_join!(self.guest(), applied)?;
        Ok(booted)
    }

    async fn guest(self) -> Result<Booted> {
        let began = Instant::now();
        let (machine, opened, agent) = self.up(began).await?;
        let names = network::names(self.network.as_ref(), &self.spec.bind.network);
        opened.connection.ways(Ways::of(&self.spec.bind, names)).await?;
        let prepared = match &self.from {
            From::Branch(parent) => self.go_on(parent, machine.exited(), &opened).await?,
            From::Template(template, identity) => match &template.guest {
                Some(guest) => self.take_name(guest, *identity, machine.exited(), &opened).await?,
                None => self.prepare(machine.exited(), &opened).await?,
            },
            From::Kernel | From::Memory(_) => self.prepare(machine.exited(), &opened).await?,
            From::Running(info) => {
                // its owner may have died in the middle of a branch
                self.ask(machine.exited(), &opened, Body::Thaw).await?;
                self.ask(machine.exited(), &opened, Body::Ping).await?;
                return Ok(Booted { machine, opened, info: GuestInfo { agent, ..info.clone() } });
            }
        };
        let info = GuestInfo {
            root_prefix: prepared.root_prefix,
            kernel: printable(&prepared.kernel, MAX_TEXT),
            agent,
            origin: match self.from {
                From::Kernel | From::Memory(_) => Origin::Booted,
                From::Template(..) => Origin::Forked,
                From::Branch(_) => Origin::Branched,
                From::Running(info) => info.origin,
            },
            boot: began.elapsed(),
            tries: self.tries,
        };
        Ok(Booted { machine, opened, info })
    }

    /// Boots, waits for Hello, and lets the guest do ahead what all forks would do alike: where it has disks of its
    /// own, it is made ready but for its name.
    pub(crate) async fn template(self) -> Result<(Box<dyn Machine>, Opened, Option<message::Prepared>)> {
        let (machine, opened, _) = self.up(Instant::now()).await?;
        let Some((_, fs)) = &self.disks.root else { return Ok((machine, opened, None)) };
        let warm = Warm { root: DriveId::Root.serial().to_owned(), fs: *fs };
        self.ask(machine.exited(), &opened, Body::Warm(warm)).await?;
        let prepared = self.prepare(machine.exited(), &opened).await?;
        Ok((machine, opened, Some(prepared)))
    }

    /// A machine whose agent has said Hello; with the agent's version.
    async fn up(&self, began: Instant) -> Result<(Box<dyn Machine>, Opened, String)> {
        let deadline = began + self.patience.boot;
        let spec = self.boot_spec();
        let start = async {
            match &self.from {
                From::Kernel | From::Memory(_) => self.backend.boot(&spec, &self.slot).await,
                From::Template(template, _) => self.fork(&template.snapshot, &spec).await,
                From::Branch(parent) => self.fork(&parent.branch.snapshot, &spec).await,
                From::Running(_) => self.adopt().await,
            }
        };
        let mut machine = match timeout_at(deadline, start).await {
            Ok(machine) => machine?,
            Err(_) => return Err(self.no_hello()),
        };
        let (opened, agent) = self.hello(&mut *machine, deadline).await?;
        Ok((machine, opened, agent))
    }

    async fn fork(&self, from: &vm::Snapshot, spec: &BootSpec) -> vm::Result<Box<dyn Machine>> {
        match self.backend.forks() {
            Some(forks) => forks.fork(from, spec, &self.slot).await,
            None => Err(vm::Error::Unsupported("it cannot fork".to_owned())),
        }
    }

    /// Takes over the VM of the slot, whose owner is gone.
    async fn adopt(&self) -> vm::Result<Box<dyn Machine>> {
        let mut machine = loop {
            match self.backend.adopt(&self.slot).await {
                // the shim learns of its owner's end in the same moment as we, or a little later
                Err(vm::Error::Gone(_)) if jail::is_running(&self.slot.dir).unwrap_or(false) => {
                    sleep(PAUSE).await;
                }
                adopted => break adopted?,
            }
        };
        // its owner may have died while it stood still
        match machine.unpark().await {
            Ok(()) | Err(vm::Error::Unsupported(_)) => Ok(machine),
            Err(error) => Err(error),
        }
    }

    fn boot_spec(&self) -> BootSpec {
        let root = self.disks.root.as_ref().map(|(image, _)| Drive {
            id: DriveId::Root,
            image: image.clone(),
            mode: DriveMode::ReadOnly,
        });
        let scratch = self.disks.scratch.as_ref().map(|image| Drive {
            id: DriveId::Scratch,
            image: image.clone(),
            mode: DriveMode::ReadWrite,
        });
        BootSpec {
            kernel: self.spec.kernel.clone(),
            initramfs: self.spec.initramfs.clone(),
            kernel_args: Vec::new(),
            cpus: self.spec.cpus,
            memory: match &self.from {
                From::Memory(ram) => Memory::Shared(ram.clone()),
                From::Kernel | From::Template(..) | From::Branch(_) | From::Running(_) => {
                    Memory::Own(self.spec.memory)
                }
            },
            drives: root.into_iter().chain(scratch).collect(),
            tap: self.network.as_ref().map(|network| Arc::clone(network.tap())),
        }
    }

    /// Opens the link until the agent says Hello on it; with the agent's version.
    async fn hello(&self, machine: &mut dyn Machine, deadline: Instant) -> Result<(Opened, String)> {
        let mut exited = machine.exited();
        let mut patience = match self.from {
            From::Kernel | From::Memory(_) => self.patience.boot / OPENINGS,
            From::Template(..) | From::Branch(_) | From::Running(_) => FORK_PATIENCE,
        };
        loop {
            let link = match timeout_at(deadline, machine.link()).await {
                Ok(Ok(link)) => link,
                Ok(Err(error)) => {
                    let exit = exited.borrow().clone();
                    return Err(exit.map_or(Error::Backend(error), |exit| self.lost(Gone::Exited(exit))));
                }
                Err(_) => return Err(self.no_hello()),
            };
            let mut opened = connection::open(link, Arc::clone(&self.clock));
            let again = (Instant::now() + patience).min(deadline);
            patience *= 2;
            tokio::select! {
                biased;
                Ok(hello) = &mut opened.hello => {
                    return Ok((opened, printable(&hello.agent, MAX_TEXT)));
                }
                gone = end_of(&mut exited) => return Err(self.lost(gone)),
                Ok(cut) = &mut opened.cut => match cut {
                    Cut::Protocol(text) => return Err(self.lost(Gone::Protocol(text))),
                    Cut::Version(theirs) => return Err(Error::Version { theirs, ours: wire::VERSION }),
                    // It may have ended, which is known in a moment, or the other end was not there yet.
                    Cut::Link(_) => sleep(PAUSE).await,
                },
                () = sleep_until(again) => {}
            }
            if Instant::now() >= deadline {
                return Err(self.no_hello());
            }
        }
    }

    async fn prepare(
        &self,
        exited: watch::Receiver<Option<Exit>>,
        opened: &Opened,
    ) -> Result<message::Prepared> {
        match self.ask(exited, opened, Body::Prepare(self.preparation()?)).await? {
            Answer::Prepared(prepared) => Ok(prepared),
            _ => Err(self.lost(Gone::Protocol("another answer than to a preparation".to_owned()))),
        }
    }

    /// Gives a fork of a guest that was made ready a name of its own.
    async fn take_name(
        &self,
        guest: &Guest,
        name: Identity,
        exited: watch::Receiver<Option<Exit>>,
        opened: &Opened,
    ) -> Result<message::Prepared> {
        let mut bind = message::Bind { hooks: name.hooks(), ..identity(&self.spec.bind)? };
        if name == Identity::Later && self.spec.bind.network != Policy::none() {
            // its card stays as the template's is; of one that is not wanted for a network it is cut ahead
            bind.network = None;
        }
        self.ask(exited, opened, Body::Bind(bind)).await?;
        Ok(message::Prepared { root_prefix: String::new(), kernel: guest.kernel.clone(), boot_ms: 0 })
    }

    /// Makes a fork of a guest that was frozen one of its own, and only then lets it go on.
    async fn go_on(
        &self,
        parent: &Parent,
        exited: watch::Receiver<Option<Exit>>,
        opened: &Opened,
    ) -> Result<message::Prepared> {
        let bind = message::Bind { inherited: parent.inherited.clone(), ..identity(&self.spec.bind)? };
        self.ask(exited.clone(), opened, Body::Bind(bind)).await?;
        self.ask(exited, opened, Body::Thaw).await?;
        let GuestInfo { root_prefix, kernel, .. } = parent.branch.info.clone();
        Ok(message::Prepared { root_prefix, kernel, boot_ms: 0 })
    }

    /// Asks for a part of the guest's preparation.
    async fn ask(
        &self,
        mut exited: watch::Receiver<Option<Exit>>,
        opened: &Opened,
        body: Body,
    ) -> Result<Answer> {
        let answer = tokio::select! {
            answer = timeout(self.patience.prepare, opened.connection.request(body)) => match answer {
                Ok(answer) => answer,
                Err(_) => return Err(self.lost(Gone::Silent(self.patience.prepare))),
            },
            gone = end_of(&mut exited) => return Err(self.lost(gone)),
        };
        match answer {
            Err(Error::Guest { message, .. }) => Err(Error::Prepare { message, console: self.console() }),
            answer => answer,
        }
    }

    fn preparation(&self) -> Result<Prepare> {
        let root = match &self.disks.root {
            Some((_, fs)) => message::Root::Disks {
                root: DriveId::Root.serial().to_owned(),
                fs: *fs,
                scratch: DriveId::Scratch.serial().to_owned(),
            },
            None => message::Root::Hosted,
        };
        let message::Bind { hostname, machine_id, clock_ns, entropy, directories, .. } =
            identity(&self.spec.bind)?;
        let hooks = match self.from {
            From::Template(_, name) => name.hooks(),
            // it is a template's, whose forks have names of their own
            From::Memory(_) => Hooks::Later,
            From::Kernel | From::Branch(_) | From::Running(_) => Hooks::Now,
        };
        let network = match self.from {
            From::Memory(_) => network::of_template(self.backend.capabilities()),
            _ => network::of_guest(&self.spec.bind),
        };
        let network = Some(network);
        Ok(Prepare { root, hostname, machine_id, clock_ns, entropy, directories, hooks, network })
    }

    fn console(&self) -> String {
        jail::log_tail(&self.slot.dir, CONSOLE, CONSOLE_TAIL)
    }

    fn no_hello(&self) -> Error {
        Error::NoHello { limit: self.patience.boot, tries: self.tries, console: self.console() }
    }

    fn lost(&self, why: Gone) -> Error {
        Error::Boot { why, console: self.console() }
    }
}

/// Waits for the end of a machine.
pub(crate) async fn end_of(exited: &mut watch::Receiver<Option<Exit>>) -> Gone {
    let exit = exited.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
    Gone::Exited(exit.unwrap_or(Exit { code: None, signal: None, stderr: String::new() }))
}

/// A new identity for a guest, as of now.
pub(crate) fn identity(bind: &Bind) -> Result<message::Bind> {
    let mut entropy = vec![0; ENTROPY];
    let mut machine_id = [0; 16];
    for bytes in [&mut entropy[..], &mut machine_id[..]] {
        getrandom::fill(bytes)
            .map_err(|error| Error::state("read", "/dev/urandom")(std::io::Error::other(error)))?;
    }
    Ok(message::Bind {
        hostname: bind.hostname.clone(),
        machine_id: machine_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        clock_ns: u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0),
        entropy: Entropy(entropy),
        directories: bind.directories.clone(),
        inherited: Inherited::GoOn,
        hooks: Hooks::Now,
        network: Some(network::of_guest(bind)),
    })
}

/// A slot with the disks that the lease asks for, or that what it is a fork of has. What is wrong with those is told
/// beside the slot, which has to be torn down all the same.
pub(crate) async fn place(
    engine: &Arc<Inner>,
    spec: &LeaseSpec,
    from: &From,
) -> Result<(Held, Result<Disks>)> {
    let (engine, spec, parental) = (Arc::clone(engine), spec.clone(), from.parental());
    let made = spawn_blocking(move || {
        let held = engine.journal.create(engine.backend.name())?;
        let disks = disks(engine.journal.state_dir(), held.slot(), &spec, parental.as_ref());
        Ok((held, disks))
    });
    made.await.unwrap_or(Err(Error::Lost))
}

/// What disks the lease asks for, with the scratch disk made. Blocks.
fn disks(state_dir: &Path, slot: &Slot, spec: &LeaseSpec, parental: Option<&Parental>) -> Result<Disks> {
    match &spec.root {
        Root::Hosted => Ok(Disks { root: None, scratch: None }),
        Root::Image(image) => {
            let fs = crate::rootfs::probe(image)?;
            let copied = parental.map(Parental::disk).transpose()?.flatten();
            let scratch = match copied {
                Some(disk) => scratch::make_copy(&disk, slot)?,
                None => scratch::make(state_dir, slot, spec.scratch_bytes)?,
            };
            Ok(Disks { root: Some((image.clone(), fs)), scratch: Some(scratch) })
        }
    }
}
