//! What is measured: engines on QEMU, with one template, and how a VM of theirs is leased.

use std::{error::Error, num::NonZeroU8, path::Path, sync::Arc, time::Duration};

use ampoule::{agent_binary, image_cmd, state_dir};
use backends::qemu::{Accel, Config, Kvm, PROGRAM, Qemu};
use sandbox::{
    Account, Bind, Branch, Engine, EngineConfig, ExecRequest, ForkSpec, Inherited, Lease, LeaseSpec, Origin,
    OutputMode, Patience, PoolLimits, Reserve, Root, Sandbox, Start, Stdin,
};
use store::{Hold, Store};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vm::{Backend, Mebibytes, OwnerLoss};

use crate::{
    machine::{Moments, Watched},
    shim,
};

/// Memory of a VM.
const MEMORY: Mebibytes = Mebibytes(256);
/// Logical size of a disk: what jobs have.
const SCRATCH: u64 = 16 << 30;
/// Of the pool's memory: what is measured fits, or the host refuses it.
const NO_LIMIT: Mebibytes = Mebibytes(1 << 20);
/// How long a probe boot may take.
const PROBE: Duration = Duration::from_secs(10);

/// Anything that is no figure.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing: what users get.
    Product,
    /// The jail.
    Unjailed,
    /// The reseed of the guest's random generator.
    Unseeded,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Product, Self::Unjailed, Self::Unseeded];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Product => "with jail and reseed",
            Self::Unjailed => "without the jail",
            Self::Unseeded => "without the reseed",
        }
    }

    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Unjailed => "without_jail",
            Self::Unseeded => "without_reseed",
        }
    }
}

/// A variant, with a state directory of its own.
pub(crate) struct Subject {
    watched: Arc<Watched>,
    spec: LeaseSpec,
    state: TempDir,
    _hold: Hold,
}

/// An engine, and what is leased from it.
pub(crate) struct Host<'a> {
    pub(crate) subject: &'a Subject,
    engine: Engine,
}

impl Subject {
    /// Opens it and makes its template.
    pub(crate) async fn open(variant: Variant, agent: Option<&Path>, accel: Accel) -> Result<Self, Failure> {
        let store = Store::open(image_cmd::store_dir(&state_dir::resolve(None)?))?;
        let hold = store.hold()?;
        let image = image::find(image_cmd::STANDARD, &store)?;
        let image = image.ok_or("there is no image: `ampoule setup` makes it")?;
        let agent = match agent {
            Some(agent) => agent.to_owned(),
            None => agent_binary::find()?,
        };
        let initramfs = image::initramfs(&image, &agent, &store)?;
        let qemu = Qemu::open(Config {
            program: PROGRAM.into(),
            shim: shim::words(variant != Variant::Unjailed),
            level: jail::Level::Available,
            accel,
            probe: Some(Kvm { kernel: image.kernel.clone(), initramfs: initramfs.clone(), limit: PROBE }),
        });
        let watched = Arc::new(Watched::new(Arc::new(qemu.await?)));
        let lacking = &watched.capabilities().lacking;
        // the figures of a jail that is not there are those of another variant
        if lacking.is_empty() == (variant == Variant::Unjailed) {
            let lacking = lacking.join(", ");
            return Err(format!("the jail is not as it should be here; it lacks: {lacking}").into());
        }
        let spec = LeaseSpec {
            kernel: image.kernel,
            initramfs,
            root: Root::Image(image.root),
            cpus: NonZeroU8::MIN,
            memory: MEMORY,
            scratch_bytes: SCRATCH,
            bind: controller::guest::bind(),
            on_owner_loss: OwnerLoss::Kill,
            mark: None,
            start: Start::Fork,
            when_full: sandbox::WhenFull::Wait,
        };
        let state = tempfile::Builder::new().prefix("ampoule-bench-").tempdir()?;
        let subject = Self { watched, spec, state, _hold: hold };
        subject.host(0).await?.close().await;
        Ok(subject)
    }

    pub(crate) fn describe(&self) -> String {
        let capabilities = self.watched.capabilities();
        format!("{} {} ({})", self.watched.name(), capabilities.version, capabilities.accelerator)
    }

    /// An engine in whose pool so many are ready.
    pub(crate) async fn host(&self, ready: usize) -> Result<Host<'_>, Failure> {
        let config = EngineConfig {
            state_dir: self.state.path().to_owned(),
            backend: self.watched.clone(),
            patience: Patience::default(),
            pool: PoolLimits { most: ready, memory: NO_LIMIT },
            reserve: Reserve::default(),
        };
        let (engine, _) = Engine::open(config).await?;
        engine.template(&self.spec).await?.ok_or("this backend cannot fork")?;
        if ready > 0 {
            engine.keep_ready(&self.spec, ready).await?;
        }
        let host = Host { subject: self, engine };
        host.filled(ready).await;
        Ok(host)
    }

    /// What was seen of a fork.
    pub(crate) fn moments(&self, sandbox: &Sandbox) -> Moments {
        self.watched.moments(sandbox.id())
    }

    /// The process of its QEMU.
    pub(crate) fn vmm(&self, sandbox: &Sandbox) -> Result<u32, Failure> {
        let dir = self.state.path().join("slots").join(sandbox.id().to_string());
        Ok(u32::try_from(jail::program_pid(&dir)?)?)
    }
}

impl Host<'_> {
    /// Leases one, which has to begin like this.
    pub(crate) async fn lease(&self, origin: Origin) -> Result<Lease, Failure> {
        let lease = self.engine.lease(self.subject.spec.clone(), &CancellationToken::new()).await?;
        let found = lease.sandbox().info().origin;
        if found == origin {
            return Ok(lease);
        }
        lease.destroy().await?;
        Err(format!("a VM that should be {origin:?} was {found:?}").into())
    }

    /// Waits until so many are ready.
    pub(crate) async fn filled(&self, ready: usize) {
        while self.engine.ready() < ready {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Forks a branch of a VM that ran.
    pub(crate) async fn lease_of(&self, branch: &Branch) -> Result<Lease, Failure> {
        let spec = ForkSpec {
            bind: Bind { hostname: "branched".to_owned(), ..Bind::default() },
            on_owner_loss: OwnerLoss::Kill,
            inherited: Inherited::GoOn,
        };
        Ok(self.engine.lease_branch(branch, spec, &CancellationToken::new()).await?)
    }

    pub(crate) async fn close(self) {
        self.engine.close().await;
    }
}

/// Runs a command that does nothing.
pub(crate) async fn exec(sandbox: &Sandbox) -> Result<(), Failure> {
    let request = ExecRequest {
        argv: vec!["/bin/true".to_owned()],
        env: controller::guest::environment(sandbox.info()),
        cwd: controller::guest::DIRECTORY.to_owned(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Separate,
        timeout: None,
    };
    let done = sandbox.exec(request).await?.collect(1 << 10).await?;
    if done.exited.success() { Ok(()) } else { Err(format!("/bin/true ended with {:?}", done.exited).into()) }
}
