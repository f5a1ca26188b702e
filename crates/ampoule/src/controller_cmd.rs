//! `ampoule controller`: sandboxes for clients of forkd, each a VM of ours.
//!
//! ```text
//!  token, address ─▶ images ─▶ engine ─▶ serve ──first signal──▶ every sandbox destroyed ─▶ end
//!                                          └──second signal──▶ end at once; VMs end with their owner
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: what the options alone make wrong is said before an engine is
//! opened; images are found anew for each request, so that one that was built meanwhile is there.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use controller::{Access, Boots, Config, Images, ImagesError, Size, Snapshot, Tag, Token, TokenError};
use image::Image;
use jiff::Timestamp;
use sandbox::{Engine, PoolLimits, Root};
use store::{Hold, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent_binary,
    class::{Class, Classed, End},
    cli::{
        args::ControllerArgs,
        units::{MAX_MEMORY, MIN_MEMORY},
    },
    exec::{
        machine::{self, CPUS, MEMORY, MachineError, SCRATCH},
        warn,
    },
    image_cmd, limits,
    registry::{self, Needs, Registry},
    signals::{Signals, Wish},
    sink::Look,
    state_dir::{self, NoStateDir},
};

/// Why the controller could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ControllerCmdError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no place for state.
    #[error(transparent)]
    StateDir(#[from] NoStateDir),
    /// VMs cannot be made here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// As given.
        address: std::net::SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It could not go on.
    #[error(transparent)]
    Serve(#[from] controller::Error),
    /// The system gives no threads or signals.
    #[error("the system gives no threads or signals")]
    Runtime(#[source] io::Error),
}

impl Classed for ControllerCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Token(error) => error.class(),
            Self::StateDir(error) => error.class(),
            Self::Machine(error) => error.class(),
            Self::Bind { .. } | Self::Runtime(_) => Class::Infrastructure,
            Self::Serve(error) => error.class(),
        }
    }
}

/// Serves until a signal.
pub fn run(args: &ControllerArgs, registry: &Registry) -> Result<End, ControllerCmdError> {
    let look = Look::of(&io::stderr());
    let needs = registry.needs(&args.machine.backend).map_err(MachineError::from)?;
    let access = match &args.token_file {
        Some(path) => Access::Token(Token::read(path)?),
        None => Access::Loopback,
    };
    access.check(args.listen)?;
    limits::raise_files();
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ControllerCmdError::Runtime)?;
    let end = runtime.block_on(async {
        let signals = Signals::listen().map_err(ControllerCmdError::Runtime)?;
        let mut wish = signals.wish();
        let failed = |source| ControllerCmdError::Bind { address: args.listen, source };
        let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
        let begun = begin(args, registry, needs, &state_dir, look);
        let begun = tokio::select! {
            begun = begun => begun?,
            () = wished(&mut wish, |wish| *wish != Wish::Run) => return Ok(End::Cancelled),
        };
        announce(&listener, &begun.engine, look).map_err(failed)?;
        let shutdown = CancellationToken::new();
        let Begun { engine, images, _hold } = begun;
        let served = controller::serve(config(access), engine, images, listener, shutdown.clone());
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => return served.map(|()| End::Success).map_err(Into::into),
            () = wished(&mut wish, |wish| *wish != Wish::Run) => shutdown.cancel(),
        }
        tokio::select! {
            served = &mut served => served.map(|()| End::Success).map_err(Into::into),
            () = wished(&mut wish, |wish| matches!(wish, Wish::EndNow(_))) => Ok(End::Cancelled),
        }
    });
    // a build of an initramfs may be under way on a thread
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

/// Waits until the user wishes that; for ever when nobody can wish any more.
async fn wished(wish: &mut tokio::sync::watch::Receiver<Wish>, that: impl FnMut(&Wish) -> bool) {
    if wish.wait_for(that).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn config(access: Access) -> Config {
    let size = Size {
        cpus: CPUS,
        memory: MEMORY,
        min_memory: MIN_MEMORY,
        max_memory: MAX_MEMORY,
        scratch_bytes: SCRATCH,
    };
    Config::new(access, size)
}

fn announce(listener: &TcpListener, engine: &Engine, look: Look) -> io::Result<()> {
    let (backend, address) = (engine.backend(), listener.local_addr()?);
    let capabilities = backend.capabilities();
    if !capabilities.lacking.is_empty() {
        warn(
            look,
            &format!("this host cannot give every part of the jail: {}", capabilities.lacking.join(", ")),
        );
    }
    // nobody may be reading
    let _ = writeln!(
        io::stderr(),
        "{} http://{address}, backend {} {}, boundary {}",
        look.bold("controller:"),
        backend.name(),
        capabilities.version,
        capabilities.boundary.label()
    );
    Ok(())
}

/// VMs at most that wait for their sandbox.
const STANDBYS: usize = 64;

struct Begun {
    engine: Engine,
    images: Images,
    /// Blobs that boot are not removed while this lives.
    _hold: Option<Hold>,
}

async fn begin(
    args: &ControllerArgs,
    registry: &Registry,
    needs: Needs,
    state_dir: &Path,
    look: Look,
) -> Result<Begun, MachineError> {
    let (images, boots, hold) = match needs {
        Needs::Nothing => (hosted(), None, None),
        Needs::Image => {
            let agent = agent_binary::find()?;
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            let hold = store.hold()?;
            let image = match image_cmd::standard(&store)? {
                Some(image) => image,
                None => image::ls(&store)?.into_iter().next().ok_or(MachineError::NoImage)?,
            };
            let initramfs = image::initramfs(&image, &agent, &store)?;
            let boots = registry::Boots { kernel: image.kernel, initramfs };
            (stored(store, agent), Some(boots), Some(hold))
        }
    };
    let pool = PoolLimits::of_this_host(STANDBYS);
    let (engine, _) = machine::engine(&args.machine, registry, state_dir, boots, pool, look).await?;
    Ok(Begun { engine, images, _hold: hold })
}

/// The images of the store.
fn stored(store: Store, agent: PathBuf) -> Images {
    let store = Arc::new(store);
    let (listed, removed) = (Arc::clone(&store), Arc::clone(&store));
    Images::new(
        move || Ok(image::ls(&listed).map_err(failed)?.iter().filter_map(snapshot).collect()),
        move |tag| {
            let Some(image) = image::find(tag.as_str(), &store).map_err(failed)? else { return Ok(None) };
            let initramfs = image::initramfs(&image, &agent, &store).map_err(failed)?;
            Ok(Some(Boots { kernel: image.kernel, initramfs, root: Root::Image(image.root) }))
        },
        move |tag| match image::rm(tag.as_str(), &removed) {
            Ok(()) => Ok(true),
            Err(image::Error::Unknown { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        },
    )
}

fn failed(error: image::Error) -> ImagesError {
    ImagesError::Store(Box::new(error))
}

fn snapshot(image: &Image) -> Option<Snapshot> {
    let tag: Tag = image.name.parse().ok()?;
    let needed_by = (tag.as_str() == image_cmd::STANDARD).then_some("the jobs of this host");
    Some(Snapshot {
        tag,
        dir: image.root.clone(),
        created: image.created,
        root_bytes: image.root_bytes,
        needed_by,
    })
}

/// For backends that boot nothing: one snapshot with the name of the standard image.
fn hosted() -> Images {
    let of_host = |tag: &Tag| tag.as_str() == image_cmd::STANDARD;
    Images::new(
        || {
            let one = |tag| Snapshot {
                tag,
                dir: PathBuf::from("/"),
                created: Timestamp::UNIX_EPOCH,
                root_bytes: 0,
                needed_by: None,
            };
            Ok(image_cmd::STANDARD.parse().ok().map(one).into_iter().collect())
        },
        move |tag| {
            let nothing = || Boots { kernel: "/".into(), initramfs: "/".into(), root: Root::Hosted };
            Ok(of_host(tag).then(nothing))
        },
        move |tag| {
            if of_host(tag) { Err(ImagesError::Fixed("the backend boots no image")) } else { Ok(false) }
        },
    )
}
