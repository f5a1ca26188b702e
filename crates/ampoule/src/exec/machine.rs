//! What jobs run on: a backend, an engine in the state directory, and the image that boots.
//!
//! Owner: one per command. Invariant: nothing is built here; an image that is not there is an error that
//! names the command that makes it.

use std::{ffi::OsString, num::NonZeroU8, path::Path};

use job::{JobImage, Machinery, Size};
use sandbox::{Engine, EngineConfig, FilesOfVm, NetLimits, Patience, Policy, PoolLimits, Root, files_in_use};
use store::{Hold, Store};
use vm::Mebibytes;

use super::warn;
use crate::{
    agent_binary,
    class::{Class, Classed},
    cli::args::{ExecArgs, MachineArgs, OwnEngineArgs},
    engine_cmd::{self, EngineCmdError},
    image_cmd,
    network::{self, Router},
    registry::{BackendRequest, Boots, Made, Needs, Registry, RegistryError},
    sink::Look,
};

/// Virtual processors of a VM.
pub(crate) const CPUS: NonZeroU8 = NonZeroU8::new(2).unwrap();
/// Memory of a VM.
pub(crate) const MEMORY: Mebibytes = Mebibytes(2048);
/// Logical size of a scratch disk; it is sparse on the host.
pub(crate) const SCRATCH: u64 = 16 << 30;

/// What jobs run on.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) image: JobImage,
    /// Parts of the jail that this host cannot give.
    pub(crate) missing: Vec<String>,
    /// Blobs that boot are not removed while this lives.
    pub(crate) hold: Option<Hold>,
    /// What its VMs may reach.
    pub(crate) network: Policy,
    /// What each may use of that.
    pub(crate) limits: NetLimits,
}

impl Machine {
    /// What a job is run with.
    pub(crate) fn machinery(&self) -> Machinery<'_> {
        let size = Size { cpus: CPUS, memory: MEMORY, scratch_bytes: SCRATCH };
        let (image, missing, network) = (&self.image, &self.missing, &self.network);
        Machinery { engine: &self.engine, image, size, missing, network, limits: self.limits }
    }
}

/// Why VMs cannot be made here.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// There is no such backend, or it cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The agent's binary was not found.
    #[error(transparent)]
    Agent(#[from] agent_binary::NotFound),
    /// There is no root image.
    #[error("there is no root image yet; make it with `ampoule setup`, or `ampoule image build`")]
    NoImage,
    /// There is no root image of this name.
    #[error(
        "there is no root image `{name}`: `ampoule image ls` lists those that there are, \
         `ampoule image build RECIPE` makes another"
    )]
    UnknownImage {
        /// As given.
        name: String,
    },
    /// An image cannot be used.
    #[error("the root image cannot be used")]
    Image(#[from] image::Error),
    /// The store cannot be used.
    #[error("the store of images cannot be used")]
    Store(#[from] store::Error),
    /// VMs were to reach what cannot be reached here.
    #[error(
        "the VMs cannot have the network that is asked for: {why}; `ampoule doctor` says what lacks here"
    )]
    NoNetwork {
        /// Why not.
        why: String,
    },
    /// Limits of a network that there is not to be.
    #[error(
        "--bandwidth limits a network card, and with --network none there is none; leave one of them out"
    )]
    NothingToLimit,
    /// No engine process can be used, and one is asked for.
    #[error(transparent)]
    Warm(Box<EngineCmdError>),
    /// The engine could not be opened.
    #[error("the state directory cannot be used")]
    Engine(#[source] sandbox::Error),
}

impl Classed for MachineError {
    fn class(&self) -> Class {
        match self {
            Self::Registry(error) => error.class(),
            Self::Agent(_) | Self::NoImage | Self::NoNetwork { .. } => Class::Infrastructure,
            Self::UnknownImage { .. } | Self::NothingToLimit => Class::User,
            Self::Image(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Warm(error) => error.class(),
            Self::Engine(error) => error.class(),
        }
    }
}

/// How the shim is called: this program, by a name that an upgrade under way does not change.
pub(crate) fn shim() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), "vm-shim".into()]
}

/// Opens what `exec` asks for.
pub(super) async fn open(
    args: &ExecArgs,
    registry: &Registry,
    state_dir: &Path,
    look: Look,
) -> Result<Machine, MachineError> {
    let name = image_name(args, look);
    let from = if args.warm { Use::Warm } else { Use::of(args.engine) };
    let make = Make { pool: PoolLimits::NONE, from, router: Router::of(args.network.network.as_ref()) };
    let mut machine = open_image(&args.machine, name, registry, state_dir, make, look).await?;
    args.network.settle(&mut machine, look)?;
    Ok(machine)
}

/// How an engine is come by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Make {
    /// Of one of this process: the VMs that stand by.
    pub(crate) pool: PoolLimits,
    /// Whose it is.
    pub(crate) from: Use,
    /// Of one of this process: whether it makes networks.
    pub(crate) router: Router,
}

/// Opens everything, and removes what dead processes left. Its VMs reach nothing, unless whoever opens it says more.
pub(crate) async fn open_image(
    args: &MachineArgs,
    name: &str,
    registry: &Registry,
    state_dir: &Path,
    make: Make,
    look: Look,
) -> Result<Machine, MachineError> {
    let (image, boots, hold) = match registry.needs(&args.backend)? {
        Needs::Nothing => (nothing(), None, None),
        Needs::Image => {
            let agent = agent_binary::find()?;
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            let hold = store.hold()?;
            let (image, boots) = bootable(&store, &agent, name, look)?;
            (image, Some(boots), Some(hold))
        }
    };
    let (engine, missing) = engine(args, registry, state_dir, boots, make, look).await?;
    Ok(Machine { engine, image, missing, hold, network: Policy::none(), limits: NetLimits::default() })
}

/// Whose engine makes the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// This process's.
    Own,
    /// The one that runs in the state directory, where it is fit; else this process's.
    Running,
    /// The one that runs; where none does, one that is started.
    Warm,
}

impl Use {
    pub(crate) fn of(args: OwnEngineArgs) -> Self {
        if args.own_engine { Self::Own } else { Self::Running }
    }
}

/// An engine on the backend that is asked for, and the parts of the jail that this host cannot give. One of this
/// process has removed what dead processes left.
pub(crate) async fn engine(
    args: &MachineArgs,
    registry: &Registry,
    state_dir: &Path,
    boots: Option<Boots>,
    make: Make,
    look: Look,
) -> Result<(Engine, Vec<String>), MachineError> {
    let running = match make.from {
        Use::Own => None,
        Use::Running => engine_cmd::running(args, state_dir).await,
        Use::Warm => {
            let started = engine_cmd::connect_or_start(args, state_dir).await;
            Some(started.map_err(|error| MachineError::Warm(Box::new(error)))?)
        }
    };
    if let Some(engine) = running {
        let missing = engine.capabilities().lacking.clone();
        return Ok((engine, missing));
    }
    let request = BackendRequest { accel: args.accel, shim: shim(), boots };
    let made = registry.make(&args.backend, request).await?;
    if let Some(note) = &made.note {
        warn(look, note);
    }
    let missing = made.backend.capabilities().lacking.clone();
    let network = network::networking(make.router, make.pool.most, made.backend.capabilities()).await;
    let config = EngineConfig {
        state_dir: state_dir.to_owned(),
        backend: made.backend,
        patience: Patience::default(),
        pool: make.pool,
        reserve: sandbox::Reserve::default(),
        network,
    };
    let (engine, swept) = Engine::open(config).await.map_err(MachineError::Engine)?;
    network::tell(&engine, look);
    if !swept.removed.is_empty() {
        tracing::info!(slots = ?swept.removed, "removed what dead processes left");
    }
    for (slot, error) in &swept.failed {
        warn(look, &format!("what a dead process left in slot {slot} cannot be removed: {error}"));
    }
    Ok((engine, missing))
}

/// What boots in the VMs that are kept, for whoever has no image and is there to reach those: then an engine is needed
/// and nothing has to boot.
pub(crate) fn boots_of_kept(state_dir: &Path) -> Result<Boots, MachineError> {
    let vms = files_in_use(state_dir).map_err(MachineError::Engine)?.vms;
    let FilesOfVm { kernel, initramfs, .. } = vms.into_iter().next_back().ok_or(MachineError::NoImage)?;
    Ok(Boots { kernel, initramfs })
}

/// The backend alone, for those who only ask it what it can do. No image is no error then.
pub(crate) async fn backend(
    args: &MachineArgs,
    registry: &Registry,
    state_dir: &Path,
) -> Result<Made, MachineError> {
    let agent = agent_binary::find().unwrap_or_default();
    let boots = match registry.needs(&args.backend)? {
        Needs::Image if agent.is_file() && image_cmd::store_dir(state_dir).is_dir() => {
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            match image_cmd::standard(&store) {
                Ok(Some(image)) => Some(Boots {
                    kernel: image.kernel.clone(),
                    initramfs: image::initramfs(&image, &agent, &store)?,
                }),
                Ok(None) | Err(_) => None,
            }
        }
        Needs::Image | Needs::Nothing => None,
    };
    let request = BackendRequest { accel: args.accel, shim: shim(), boots };
    Ok(registry.make(&args.backend, request).await?)
}

/// The root image that is asked for. What can only be a container image's reference, as the official `exec`
/// takes it, gets a warning.
fn image_name(args: &ExecArgs, look: Look) -> &str {
    match args.image.as_deref() {
        Some(reference) if is_container_image(reference) => {
            let text = format!(
                "--image {reference} names a container image, which jobs do not run in: all labels run on the \
                 root image `{}`",
                image_cmd::STANDARD
            );
            warn(look, &text);
            image_cmd::STANDARD
        }
        Some(name) => name,
        None => image_cmd::STANDARD,
    }
}

/// Whether this is the reference of a container image, and neither a name of ours nor a path.
fn is_container_image(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts && !text.contains("..") && text.contains(['/', ':', '@'])
}

/// Refuses a root image that is not there, before anything is looked for in it.
pub(super) fn check_image(args: &ExecArgs, state_dir: &Path) -> Result<(), MachineError> {
    let Some(name) = args.image.as_deref().filter(|name| !is_container_image(name)) else { return Ok(()) };
    let dir = image_cmd::store_dir(state_dir);
    // a directory that is not there is not made for a look
    if dir.is_dir() && image::find(name, &Store::open(dir)?)?.is_some() {
        return Ok(());
    }
    Err(MachineError::UnknownImage { name: name.to_owned() })
}

fn bootable(store: &Store, agent: &Path, name: &str, look: Look) -> Result<(JobImage, Boots), MachineError> {
    let image = match image::find(name, store)? {
        Some(image) => image,
        None if name == image_cmd::STANDARD => return Err(MachineError::NoImage),
        None => return Err(MachineError::UnknownImage { name: name.to_owned() }),
    };
    if let Some(warning) = image.age_warning() {
        warn(look, &warning.to_string());
    }
    let initramfs = image::initramfs(&image, agent, store)?;
    let boots = Boots { kernel: image.kernel.clone(), initramfs: initramfs.clone() };
    let image = JobImage {
        description: image_cmd::describe(&image),
        os: "debian13".to_owned(),
        kernel: image.kernel,
        initramfs,
        root: Root::Image(image.root),
    };
    Ok((image, boots))
}

/// For backends that boot nothing.
pub(crate) fn nothing() -> JobImage {
    JobImage {
        description: "none".to_owned(),
        os: "host".to_owned(),
        kernel: Path::new("/").to_owned(),
        initramfs: Path::new("/").to_owned(),
        root: Root::Hosted,
    }
}
