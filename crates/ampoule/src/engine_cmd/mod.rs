//! `ampoule engine`: the engine as a process of its own, which others of this user share.
//!
//! ```text
//!  socket (ours, or a service manager's) ─▶ image ─▶ engine ─▶ serve ── idle, first signal ──▶ drained ─▶ end
//!                                                                └──second signal──▶ end at once
//! ```
//! Owner: `cli` calls [`run`] once; others call [`connect_or_start`]. Invariants: one engine per socket, told before
//! anything is made; VMs that are kept are adopted at the start and left at the end.

mod error;
mod start;

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use sandbox::{Engine, Listening, PoolLimits, Served};
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) use self::start::running;
pub use self::{
    error::EngineCmdError,
    start::{connect_or_start, socket},
};
use crate::{
    agent_binary,
    class::End,
    cli::args::EngineArgs,
    exec::machine::{self, Machine, MachineError, Make, Use},
    image_cmd, limits,
    network::Router,
    registry::{Boots, Needs, Registry},
    signals::{Signals, Wish},
    sink::Look,
    state_dir,
};

/// VMs at most that wait for their lease.
const STANDBYS: usize = 64;

/// Serves until nobody needs it, or a signal.
pub fn run(args: &EngineArgs, registry: &Registry) -> Result<End, EngineCmdError> {
    registry.needs(&args.machine.backend).map_err(MachineError::from)?;
    if args.background {
        // it fails where this is a leader already, and then it needs none
        let _ = rustix::process::setsid();
    }
    trace();
    limits::raise_files();
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let runtime = crate::runtime::new().map_err(EngineCmdError::Runtime)?;
    let end = runtime.block_on(async {
        let signals = Signals::listen().map_err(EngineCmdError::Runtime)?;
        let mut wish = signals.wish();
        let listening = listen(args, &state_dir)?;
        let opened = open(args, registry, &state_dir);
        let machine = tokio::select! {
            opened = opened => opened?,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => return Ok(End::Cancelled),
        };
        serve(args, machine, &listening, wish).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

async fn serve(
    args: &EngineArgs,
    machine: Machine,
    listening: &Listening,
    mut wish: tokio::sync::watch::Receiver<Wish>,
) -> Result<End, EngineCmdError> {
    adopt(&machine.engine).await?;
    for part in &machine.missing {
        tracing::warn!("this host cannot give the jail: {part}");
    }
    if args.ready > 0 {
        let spec = machine.machinery().any_job();
        machine.engine.keep_ready(&spec, args.ready).await?;
    }
    let capabilities = machine.engine.capabilities();
    tracing::info!(
        socket = %listening.path().display(),
        backend = machine.engine.backend_name(),
        version = capabilities.version,
        accelerator = capabilities.accelerator,
        boundary = capabilities.boundary.label(),
        "the engine is there"
    );
    let stop = CancellationToken::new();
    let idle = (!args.idle.is_zero()).then_some(args.idle);
    // what boots stays in the store while this lives
    let Machine { engine, hold, .. } = machine;
    let served = sandbox::serve(engine, listening, idle, stop.clone());
    tokio::pin!(served);
    let early = tokio::select! {
        served = &mut served => Some(served),
        Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => None,
    };
    let end = match early {
        Some(end) => end,
        None => {
            tracing::info!("was asked to end; every VM that is leased ends");
            stop.cancel();
            tokio::select! {
                served = &mut served => served,
                Ok(_) = wish.wait_for(|wish| matches!(wish, Wish::EndNow(_))) => return Ok(End::Cancelled),
            }
        }
    };
    match end? {
        Served::Idle => tracing::info!("nobody needs the engine; it ends"),
        Served::Stopped => tracing::info!("the engine ends"),
    }
    drop(hold);
    Ok(End::Success)
}

/// The service manager's socket, else one of our own.
fn listen(args: &EngineArgs, state_dir: &Path) -> Result<Listening, EngineCmdError> {
    if args.socket.is_none()
        && let Some(socket) = jail::inherited().map_err(EngineCmdError::Inherited)?
    {
        return Ok(Listening::inherited(socket)?);
    }
    let path = match &args.socket {
        Some(path) => std::path::absolute(path).map_err(EngineCmdError::Start)?,
        None => {
            make(state_dir).map_err(EngineCmdError::Start)?;
            socket(state_dir)
        }
    };
    Ok(Listening::at(&path)?)
}

fn make(state_dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)
}

/// The engine, on the image that jobs have where there is one; VMs that are kept are reached without any.
async fn open(args: &EngineArgs, registry: &Registry, state_dir: &Path) -> Result<Machine, MachineError> {
    let pool = PoolLimits::of_this_host(STANDBYS);
    let look = Look::of(&io::stderr());
    let make = Make { pool, from: Use::Own, router: Router::Wanted };
    let standard = image_cmd::STANDARD;
    match machine::open_image(&args.machine, standard, registry, state_dir, make, look).await {
        // others may have been made, and clients name theirs
        Err(MachineError::NoImage) if args.ready == 0 => {
            let agent = agent_binary::find()?;
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            let hold = store.hold()?;
            let boots = match (registry.needs(&args.machine.backend)?, image::ls(&store)?.into_iter().next())
            {
                (Needs::Image, Some(image)) => {
                    let initramfs = image::initramfs(&image, &agent, &store)?;
                    Some(Boots { kernel: image.kernel, initramfs })
                }
                (Needs::Image, None) => Some(machine::boots_of_kept(state_dir)?),
                (Needs::Nothing, _) => None,
            };
            let (engine, missing) =
                machine::engine(&args.machine, registry, state_dir, boots, make, look).await?;
            let (image, network) = (machine::nothing(), sandbox::Policy::none());
            let limits = sandbox::NetLimits::default();
            Ok(Machine { engine, image, missing, hold: Some(hold), network, limits })
        }
        opened => opened,
    }
}

/// Takes over every VM that an engine before this one left.
async fn adopt(engine: &Engine) -> Result<(), EngineCmdError> {
    for kept in engine.kept().await? {
        match engine.attach(kept.id).await {
            Ok(_) => tracing::info!(id = %kept.id, "a VM that was kept is this engine's now"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(id = %kept.id, error, "a VM that was kept cannot be taken over");
            }
        }
    }
    Ok(())
}

/// `$AMPOULE_LOG` says what is wanted, else what a service's log has.
fn trace() {
    let filter = EnvFilter::try_from_env("AMPOULE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_writer(io::stderr)
        .finish();
    // a test harness may have one already
    let _ = tracing::subscriber::set_global_default(subscriber);
}
