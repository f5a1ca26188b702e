//! `ampoule controller`: sandboxes for clients of forkd, each a VM of ours.
//!
//! ```text
//!  token, address, name ─▶ images ─▶ engine ─▶ serve ──SIGTERM──▶ sandboxes left to the next one ─▶ end
//!                                               ├─ Ctrl-C, the terminal closed ─▶ every sandbox destroyed ─▶ end
//!                                               └─ second signal ─▶ end at once; what was to be destroyed is
//! ```
//! Whoever manages services restarts them by SIGTERM, and expects that clients find what they had; whoever sits at a
//! terminal expects that nothing is left behind.
//! Owner: `cli` calls [`run`] once. Invariants: what the options alone make wrong is said before an engine is
//! opened; a name is one controller's at a time, told by a lock.

mod images;
mod inside;

use std::{
    fs::DirBuilder,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use controller::{Access, Config, Images, Keeping, Size, Token, TokenError};
use jail::lock::Lock;
use sandbox::{Engine, PoolLimits};
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
        machine::{self, CPUS, MEMORY, MachineError, Make, SCRATCH, Use},
        warn,
    },
    image_cmd, limits,
    network::Router,
    registry::{self, Needs, Registry},
    signals::{Signal, Signals, Wish},
    sink::Look,
    state_dir::{self, NoStateDir},
};

pub(crate) use self::inside::Inside;

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
    /// The name cannot be one.
    #[error("{0:?} is no name of a controller: letters, digits, `-`, `_` and `.` are, up to 64 of them")]
    Name(String),
    /// The name is taken.
    #[error(
        "a controller with the name {name:?} runs already in {}; give one of them another --name",
        state_dir.display()
    )]
    Taken {
        /// As given, or by its port.
        name: String,
        /// Where both have their state.
        state_dir: PathBuf,
    },
    /// Its directory cannot be had.
    #[error("cannot make or lock {}", dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
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
            Self::Name(_) | Self::Taken { .. } => Class::User,
            Self::Bind { .. } | Self::Dir { .. } | Self::Runtime(_) => Class::Infrastructure,
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
    let name = args.name.clone().unwrap_or_else(|| args.listen.port().to_string());
    if !is_name(&name) {
        return Err(ControllerCmdError::Name(name));
    }
    limits::raise_files();
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let own = Own::take(&state_dir, name)?;
    let runtime = crate::runtime::new().map_err(ControllerCmdError::Runtime)?;
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
        let keeping = Keeping { dir: own.dir.clone(), mark: own.mark(), leave: CancellationToken::new() };
        let leave = keeping.leave.clone();
        let served =
            controller::serve(config(access, Some(keeping)), engine, images, listener, shutdown.clone());
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => return served.map(|()| End::Success).map_err(Into::into),
            () = wished(&mut wish, |wish| *wish != Wish::Run) => {}
        }
        let wished_for = *wish.borrow();
        match wished_for {
            Wish::End(Signal::Terminate) | Wish::EndNow(Signal::Terminate) => leave.cancel(),
            Wish::Run | Wish::End(_) | Wish::EndNow(_) => shutdown.cancel(),
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

/// What a controller has for itself in a state directory.
struct Own {
    name: String,
    dir: PathBuf,
    _lock: Lock,
}

impl Own {
    fn take(state_dir: &Path, name: String) -> Result<Self, ControllerCmdError> {
        let dir = state_dir.join("controllers").join(&name);
        let failed = |source| ControllerCmdError::Dir { dir: dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let lock = Lock::try_take(&dir.join("lock")).map_err(|error| failed(io::Error::other(error)))?;
        match lock {
            Some(lock) => Ok(Self { name, dir, _lock: lock }),
            None => Err(ControllerCmdError::Taken { name, state_dir: state_dir.to_owned() }),
        }
    }

    /// What its VMs have as their mark.
    fn mark(&self) -> String {
        format!("controller {}", self.name)
    }
}

/// Whether it is the name of a file, and one that says something.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&name.len()) && name.chars().all(fine) && !name.starts_with('.')
}

/// `keeping`: how its sandboxes outlive it.
fn config(access: Access, keeping: Option<Keeping>) -> Config {
    let size = Size {
        cpus: CPUS,
        memory: MEMORY,
        min_memory: MIN_MEMORY,
        max_memory: MAX_MEMORY,
        scratch_bytes: SCRATCH,
    };
    Config { keeping, ..Config::new(access, size) }
}

fn announce(listener: &TcpListener, engine: &Engine, look: Look) -> io::Result<()> {
    let address = listener.local_addr()?;
    let capabilities = engine.capabilities();
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
        engine.backend_name(),
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
    let images = images::of(needs, state_dir)?;
    let (boots, hold) = match needs {
        Needs::Nothing => (None, None),
        Needs::Image => {
            let agent = agent_binary::find()?;
            let store = Store::open(image_cmd::store_dir(state_dir))?;
            let hold = store.hold()?;
            let image = match image_cmd::standard(&store)? {
                Some(image) => Some(image),
                None => image::ls(&store)?.into_iter().next(),
            };
            let boots = match image {
                Some(image) => {
                    let initramfs = image::initramfs(&image, &agent, &store)?;
                    registry::Boots { kernel: image.kernel, initramfs }
                }
                None => machine::boots_of_kept(state_dir)?,
            };
            (Some(boots), Some(hold))
        }
    };
    let pool = PoolLimits::of_this_host(STANDBYS);
    // its sandboxes reach nothing
    let make = Make { pool, from: Use::of(args.engine), router: Router::Needless };
    let (engine, _) = machine::engine(&args.machine, registry, state_dir, boots, make, look).await?;
    Ok(Begun { engine, images, _hold: hold })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_controllers_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let take = |name: &str| Own::take(dir.path(), name.to_owned());
        let first = take("8889").unwrap();
        assert!(matches!(take("8889"), Err(ControllerCmdError::Taken { .. })));
        let other = take("build").unwrap();
        assert_ne!((&first.dir, first.mark()), (&other.dir, other.mark()));
        drop(first);
        take("8889").unwrap();
    }

    #[test]
    fn a_name_is_that_of_a_file_and_nothing_else() {
        for good in ["0", "8889", "a-b_c.d", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "\u{e4}", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
