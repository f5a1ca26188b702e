//! `ampoule daemon` and `ampoule one-job`: a runner of a forge, on the engine.
//!
//! ```text
//!  config, .runner ─▶ image ─▶ engine ─▶ declare, poll ──first signal──▶ drain ──second──▶ cancel ──third──▶ destroy
//! ```
//! Owner: `cli` calls [`daemon`] or [`one_job`] once. Invariant: whatever happens the engine is closed before the
//! end, so that nothing of a VM is left.

mod error;
mod files;
mod register;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use controller::Token;
use job::Size;
use runner::{
    Config, ConfigError, Machines, OneJob, Registration, Runner, Stop, Wait,
    config::{Accel, Controller},
};
use sandbox::{Forward, PoolLimits, Services};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use vm::Mebibytes;

pub use self::{
    error::RunnerCmdError,
    register::{config, register},
};
use crate::{
    class::{Class, End},
    cli::args::{AccelArg, DaemonArgs, MachineArgs, OneJobArgs},
    controller_cmd::Inside,
    exec::{
        dotenv,
        machine::{self, Make, Use},
        show, warn,
    },
    network::{self, Router},
    registry::Registry,
    signals::{Signals, Wish},
    sink::Look,
    state_dir,
};

/// Serves until it is asked to end, and its jobs have.
pub fn daemon(args: &DaemonArgs, registry: &Registry) -> Result<End, RunnerCmdError> {
    let Some(config) = configured(args.config.as_deref())? else { return Ok(Class::User.into()) };
    trace(&config);
    let from = Use::of(args.engine);
    with_runner(config, args.state.state_dir.as_deref(), from, registry, async |runner, stop| {
        runner::daemon(runner, stop).await?;
        Ok(End::Success)
    })
}

/// Runs one job, or says that there is none.
pub fn one_job(args: &OneJobArgs, registry: &Registry) -> Result<End, RunnerCmdError> {
    let Some(config) = configured(args.config.as_deref())? else { return Ok(Class::User.into()) };
    trace(&config);
    let wait = if args.wait { Wait::ForWork } else { Wait::No };
    with_runner(
        config,
        args.state.state_dir.as_deref(),
        Use::of(args.engine),
        registry,
        async |runner, stop| match runner::one_job(runner, args.handle.as_deref(), wait, stop).await? {
            OneJob::Ran => Ok(End::Success),
            OneJob::NoWork => {
                tracing::info!("there is no job for this runner");
                Ok(Class::User.into())
            }
        },
    )
}

/// The configuration; nothing if it is bad: then it was told what is wrong with it.
fn configured(path: Option<&Path>) -> Result<Option<Config>, RunnerCmdError> {
    match Config::find(path) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::Diagnostics(found)) => {
            show(Look::of(&io::stderr()), &found);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// `[log] level`, unless `$AMPOULE_LOG` says more precisely what is wanted.
fn trace(config: &Config) {
    let level = config.log.name();
    let filter = EnvFilter::try_from_env("AMPOULE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_writer(io::stderr)
        .finish();
    // a test harness may have one already
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn with_runner(
    config: Config,
    state_dir: Option<&Path>,
    from: Use,
    registry: &Registry,
    body: impl AsyncFnOnce(Arc<Runner>, watch::Receiver<Stop>) -> Result<End, RunnerCmdError>,
) -> Result<End, RunnerCmdError> {
    let look = Look::of(&io::stderr());
    let needs = registry.needs(&config.vm.backend).map_err(machine::MachineError::from)?;
    let registration = Registration::read(&config.runner.file)?;
    let env = match &config.runner.env_file {
        Some(path) => dotenv::read(path)?.into_iter().map(|pair| (pair.key, pair.value)).collect(),
        None => Vec::new(),
    };
    let token = config.controller.token_file.as_deref().map(Token::read).transpose()?;
    let idle = files::idle_ca_file(&config.connection, &registration.address);
    for text in idle.into_iter().chain(files::open_token(&config)) {
        tracing::warn!("{text}");
    }
    let state_dir = state_dir::resolve(state_dir.or(config.state_dir.as_deref()))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunnerCmdError::Runtime)?;
    let end = runtime.block_on(async {
        // before anything is made that would have to be removed
        let signals = Signals::listen().map_err(RunnerCmdError::Runtime)?;
        let mut wish = signals.wish();
        let opened = machines(&config, registry, &state_dir, from, look);
        let (mut machines, _hold) = tokio::select! {
            opened = opened => opened?,
            _ = wish.wait_for(|wish| *wish != Wish::Run) => return Ok(End::Cancelled),
        };
        let inside = match token {
            Some(token) => {
                let engine = Arc::clone(&machines.engine);
                let inside = Inside::start(token, engine, needs, &state_dir)?;
                machines.services = machines.services.with(Controller::SERVICE, inside.service());
                let Forward { name, port, .. } = &config.controller.address;
                tracing::info!("jobs have a controller at http://{name}:{port}");
                Some(inside)
            }
            None => None,
        };
        let repositories = state_dir.join("repositories");
        let runner = Arc::new(Runner::new(
            config,
            registration,
            machines,
            env,
            repositories,
            env!("CARGO_PKG_VERSION"),
        )?);
        for text in runner.unlike() {
            tracing::warn!("{text}");
        }
        let (stopper, stop) = watch::channel(Stop::No);
        let body = body(runner, stop);
        tokio::pin!(body);
        let end = loop {
            tokio::select! {
                end = &mut body => break end,
                Ok(()) = wish.changed() => {
                    let _ = wish.borrow_and_update();
                    // each further signal asks for more
                    let harder = match *stopper.borrow() {
                        Stop::No => Stop::Drain,
                        Stop::Drain => Stop::Cancel,
                        Stop::Cancel | Stop::Now => Stop::Now,
                    };
                    tracing::info!(wish = ?harder, "was asked to end");
                    stopper.send_replace(harder);
                }
            }
        };
        if let Some(inside) = inside {
            inside.end().await;
        }
        end
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

/// What jobs run on, and what keeps their image in the store.
async fn machines(
    config: &Config,
    registry: &Registry,
    state_dir: &Path,
    from: Use,
    look: Look,
) -> Result<(Machines, Option<store::Hold>), machine::MachineError> {
    let accel = match config.vm.accel {
        Accel::Auto => AccelArg::Auto,
        Accel::Kvm => AccelArg::Kvm,
        Accel::Tcg => AccelArg::Tcg,
    };
    let args = MachineArgs { backend: config.vm.backend.clone(), accel };
    let pool = PoolLimits::of_this_host(usize::from(config.runner.capacity));
    let asked = config.vm.network.as_ref();
    let make = Make { pool, from, router: Router::of(asked) };
    let opened = machine::open_image(&args, &config.vm.image, registry, state_dir, make, look).await?;
    let limits = config.vm.limits;
    let network = network::settled(asked, limits, &opened.engine, look)?;
    let size = Size {
        cpus: config.vm.cpus,
        memory: Mebibytes(config.vm.memory_mib),
        scratch_bytes: u64::from(config.vm.scratch_gib) << 30,
    };
    for part in &opened.missing {
        warn(look, &format!("this host cannot give the jail: {part}"));
    }
    let machine::Machine { engine, image, missing, hold, .. } = opened;
    let (engine, services) = (Arc::new(engine), Services::default());
    Ok((Machines { engine, image, size, missing, network, limits, services }, hold))
}

/// The registration of a configuration.
pub(super) fn registration_file(config: &Config) -> PathBuf {
    config.runner.file.clone()
}
