//! The contract of a backend without a VM: the agent in its hosted mode, started through the real shim.
//!
//! Purpose: what is above a VM is tested in milliseconds, with the same agent, wire and shim.
//! Owner: a test harness, which is shim and agent itself: its `main` calls [`dispatch`] first.
//!
//! What is different from a VM: the root of the guest is the directory [`ROOT`] below the slot's, commands
//! are processes of this host, and nothing keeps them from its files. Kernel and initramfs of a [`BootSpec`]
//! are ignored; its drives are opened, so that a wrong one is an error here too, and not used. An identity of
//! the slot is not used either: the agent runs as whoever runs the test.

use std::{
    env,
    ffi::OsString,
    fs::File,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use backends::{
    of_jail,
    shimmed::{AGENT_SOCKET, Shimmed, SlotDir},
};
use jail::{Inherit, Launch, Level, Log, Program};
use tokio::sync::watch;
use vm::{
    Backend, BackendKey, BootSpec, Boundary, Capabilities, DriveMode, Error, Exit, Forks, Guest, Link,
    Machine, Memory, OwnerLoss, Ram, Result, Saved, Slot, Snapshot,
};

/// Name of the guest's root below the slot's directory.
pub const ROOT: &str = "root";
/// The first argument of a harness that is to be the shim.
pub const SHIM: &str = "vm-shim";
/// The first argument of a harness that is to be the agent.
pub const AGENT: &str = "fake-agent";
/// The log of the agent's error output.
const ERRORS: &str = "agent.log";
/// The harness, for whoever runs it.
const SELF: &str = "/proc/self/exe";
/// Number of the agent's listening socket.
const LISTEN: i32 = 3;
const LOG_CAP: u64 = 64 << 10;

/// Becomes the shim or the agent where this process was started as one; a harness calls it before anything
/// else and returns what it gives.
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let first = args.next()?;
    if first == SHIM {
        Some(jail::shim::main(args))
    } else if first == AGENT {
        Some(agent::hosted::main(args))
    } else {
        None
    }
}

/// The fake backend of a harness whose `main` calls [`dispatch`].
#[must_use]
pub fn backend() -> Arc<dyn Backend> {
    Arc::new(Fake::new())
}

/// The fake backend with snapshots, for tests of what is above them: a fork is one more agent, which knows nothing
/// of its parent, and a memory has one written page.
#[must_use]
pub fn forking() -> Arc<dyn Backend> {
    Arc::new(Fake { key: Some(BackendKey("fake".to_owned())), ..Fake::new() })
}

/// The fake backend.
#[derive(Debug)]
pub struct Fake {
    capabilities: Capabilities,
    /// Where it forks.
    key: Option<BackendKey>,
}

impl Fake {
    /// One for a harness whose `main` calls [`dispatch`].
    #[must_use]
    pub fn new() -> Self {
        let capabilities = Capabilities {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            accelerator: "none".to_owned(),
            boundary: Boundary::None,
            lacking: Vec::new(),
            no_card: Some("there is no guest".to_owned()),
            adopt: true,
        };
        Self { capabilities, key: None }
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Backend for Fake {
    fn name(&self) -> &'static str {
        if self.key.is_some() { "fake-forks" } else { "fake" }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        check(spec)?;
        let dir = SlotDir::claim(&slot.dir)?;
        let root = slot.dir.join(ROOT);
        std::fs::create_dir_all(&root).map_err(Error::io(format!("make {}", root.display())))?;
        let socket = dir.listen(AGENT_SOCKET)?;
        let args =
            [AGENT.into(), "--hosted".into(), root.into(), "--listen-fd".into(), LISTEN.to_string().into()];
        let launch = Launch {
            shim: vec![SELF.into(), SHIM.into()],
            dir: slot.dir.clone(),
            ids: None,
            groups: Vec::new(),
            level: Level::Available,
            on_owner_loss: match slot.on_owner_loss {
                OwnerLoss::Kill => jail::OwnerLoss::Kill,
                OwnerLoss::Keep { until } => jail::OwnerLoss::Keep { until },
            },
            program: Program { path: SELF.into(), args: args.into(), env: environment() },
            view: None,
            filter: None,
            tap: None,
            inherit: vec![Inherit { fd: socket, target: LISTEN }],
            logs: vec![Log { name: ERRORS.to_owned(), target: 2, cap: LOG_CAP }],
        };
        let shim = jail::launch(launch).await.map_err(of_jail)?;
        let shimmed = Shimmed::new(shim, dir, ERRORS);
        Ok(match &spec.memory {
            Memory::Own(_) => Box::new(shimmed),
            Memory::Shared(ram) => Box::new(Template { shimmed, ram: ram.clone() }),
        })
    }

    fn forks(&self) -> Option<&dyn Forks> {
        self.key.is_some().then_some(self as &dyn Forks)
    }

    async fn adopt(&self, slot: &Slot) -> Result<Box<dyn Machine>> {
        let dir = SlotDir::open(&slot.dir).map_err(|_| Error::Gone(slot.id))?;
        let shim = jail::attach(&slot.dir).await.map_err(|error| match error {
            jail::Error::Gone(_) => Error::Gone(slot.id),
            other => of_jail(other),
        })?;
        Ok(Box::new(Shimmed::new(shim, dir, ERRORS)))
    }
}

#[async_trait]
impl Forks for Fake {
    fn key(&self) -> &BackendKey {
        const NONE: &BackendKey = &BackendKey(String::new());
        self.key.as_ref().unwrap_or(NONE)
    }

    fn is_stale(&self, key: &BackendKey) -> bool {
        self.key.as_ref().is_some_and(|ours| ours.backend() == key.backend() && ours != key)
    }

    async fn fork(&self, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        let page = std::fs::read(format!("/proc/self/fd/{}", from.ram.as_fd().as_raw_fd()));
        let page = page.map_err(Error::io("read a memory"))?;
        if *from.state != *STATE || !page.starts_with(PAGE) {
            return Err(Error::Control("this is no snapshot of its own".to_owned()));
        }
        Ok(Box::new(Fork(self.boot(spec, slot).await?)))
    }
}

const STATE: &[u8] = b"state of a fake";
const PAGE: &[u8] = b"memory of a fake";

/// One that is there to be saved.
struct Template {
    shimmed: Shimmed,
    ram: Ram,
}

#[async_trait]
impl Machine for Template {
    async fn link(&mut self) -> Result<Link> {
        self.shimmed.link().await
    }

    async fn save(&mut self, _: &mut dyn Guest) -> Result<Saved> {
        let path = format!("/proc/self/fd/{}", self.ram.as_fd().as_raw_fd());
        let written = File::options().write(true).open(path).and_then(|file| file.write_all_at(PAGE, 0));
        written.map_err(Error::io("write a memory"))?;
        Ok(Saved { ram: self.ram.clone(), state: STATE.to_vec(), pause: Duration::ZERO })
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.shimmed.exited()
    }
}

/// One that can stand still: it has nothing that would have to.
struct Fork(Box<dyn Machine>);

#[async_trait]
impl Machine for Fork {
    async fn link(&mut self) -> Result<Link> {
        self.0.link().await
    }

    async fn park(&mut self) -> Result<()> {
        Ok(())
    }

    async fn unpark(&mut self) -> Result<()> {
        Ok(())
    }

    async fn keep(&mut self, until: SystemTime) -> Result<()> {
        self.0.keep(until).await
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.0.exited()
    }
}

/// The agent's own environment; commands get theirs from their requests.
fn environment() -> Vec<(OsString, OsString)> {
    env::var_os("RUST_BACKTRACE").map(|value| ("RUST_BACKTRACE".into(), value)).into_iter().collect()
}

/// An image that cannot be opened is an error of every backend.
fn check(spec: &BootSpec) -> Result<()> {
    for drive in &spec.drives {
        let mut options = File::options();
        options.read(true).write(drive.mode == DriveMode::ReadWrite);
        options.open(&drive.image).map_err(Error::io(format!("open {}", drive.image.display())))?;
    }
    Ok(())
}
