//! What the tests share: an engine, and runners that take jobs from a forge of the test kit.

use std::{
    future::Future,
    num::NonZeroU8,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use forgejo::{Credential, Lifetime, TaskId, TaskResult};
use job::{JobImage, Size};
use libtest_mimic::Trial;
use runner::{Config, Machines, Registration, Runner, Stop};
use sandbox::{Engine, EngineConfig, Patience, Root};
use secrecy::SecretString;
use testkit::forge::Forge;
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

/// Far more than a job of these tests takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A test, on the one runtime.
pub(crate) fn trial<F, Fut>(name: &'static str, test: F) -> Trial
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        world().runtime.block_on(test());
        Ok(())
    })
}

struct World {
    runtime: Runtime,
    dir: tempfile::TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World {
        runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap(),
        dir: tempfile::tempdir().unwrap(),
    })
}

fn state() -> PathBuf {
    world().dir.path().join("state")
}

/// The slots that are left when every runner has ended.
pub(crate) fn close() -> Vec<PathBuf> {
    let Ok(slots) = std::fs::read_dir(state().join("slots")) else { return Vec::new() };
    slots.map(|slot| slot.unwrap().path()).collect()
}

/// A runner that takes jobs of a forge.
pub(crate) struct Bench {
    pub(crate) forge: Forge,
    stop: watch::Sender<Stop>,
    daemon: JoinHandle<Result<(), runner::Error>>,
}

/// A fast configuration.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.runner.fetch_interval = Duration::from_millis(50);
    config.runner.report_interval = Duration::from_millis(50);
    config.runner.capacity = 2;
    config
}

/// A runner of a forge, registered with the labels `debian` and `docker`.
pub(crate) async fn runner(forge: &Forge, config: Config, lifetime: Lifetime) -> Arc<Runner> {
    let credential = forge.add_runner("tester", &["debian", "docker"], lifetime);
    with(forge, config, credential).await
}

/// A runner that a forge does not know.
pub(crate) async fn stranger(forge: &Forge, config: Config) -> Arc<Runner> {
    let uuid = "00000000-0000-0000-0000-000000000000".to_owned();
    with(forge, config, Credential { uuid, token: SecretString::from("f".repeat(40)) }).await
}

async fn with(forge: &Forge, config: Config, credential: Credential) -> Arc<Runner> {
    let registration = Registration {
        id: 1,
        uuid: credential.uuid,
        name: "tester".to_owned(),
        token: credential.token,
        address: format!("{}/", forge.url()),
        labels: runner::parse_all(["debian", "docker:docker://node:22"]).unwrap(),
        other: serde_json::Map::new(),
    };
    let (engine, _) = Engine::open(EngineConfig {
        state_dir: state(),
        backend: testkit::fake::backend(),
        patience: Patience::default(),
        pool: sandbox::PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    })
    .await
    .unwrap();
    let image = JobImage {
        description: "none".to_owned(),
        os: "host".to_owned(),
        kernel: "/".into(),
        initramfs: "/".into(),
        root: Root::Hosted,
    };
    let size = Size { cpus: NonZeroU8::MIN, memory: vm::Mebibytes(64), scratch_bytes: 1 << 20 };
    let machines = Machines {
        engine: Arc::new(engine),
        image,
        size,
        missing: Vec::new(),
        network: sandbox::Policy::none(),
        limits: sandbox::NetLimits::default(),
        services: sandbox::Services::default(),
    };
    let repositories = world().dir.path().join("repositories");
    Arc::new(Runner::new(config, registration, machines, Vec::new(), repositories, "0.0.0").unwrap())
}

impl Bench {
    /// Starts a daemon.
    pub(crate) async fn start() -> Self {
        Self::start_with(Forge::start().await, config()).await
    }

    /// Starts one with another configuration.
    pub(crate) async fn start_with(forge: Forge, config: Config) -> Self {
        let runner = runner(&forge, config, Lifetime::Persistent).await;
        let (stop, stopped) = watch::channel(Stop::No);
        let daemon = tokio::spawn(runner::daemon(runner, stopped));
        Self { forge, stop, daemon }
    }

    /// Asks the daemon to end.
    pub(crate) fn ask(&self, stop: Stop) {
        self.stop.send_replace(stop);
    }

    /// Waits for a task's end, which must be this one.
    pub(crate) async fn ends(&self, task: TaskId, wanted: TaskResult) {
        let result = self.forge.until_final(task, PATIENCE).await;
        let fetched = self.forge.was_fetched(task);
        assert_eq!(result, Some(wanted), "fetched: {fetched}; rows: {:#?}", texts(&self.forge, task));
    }

    /// Waits for the daemon's end by itself, with an error.
    pub(crate) async fn error(self) -> runner::Error {
        let ended = tokio::time::timeout(PATIENCE, self.daemon).await.expect("the daemon ends").unwrap();
        ended.unwrap_err()
    }

    /// Ends the daemon, which must have nothing to complain about.
    pub(crate) async fn end(self) -> Forge {
        self.stop.send_modify(|stop| *stop = (*stop).max(Stop::Drain));
        tokio::time::timeout(PATIENCE, self.daemon).await.expect("the daemon ends").unwrap().unwrap();
        self.forge
    }
}

/// The texts of a task's rows.
pub(crate) fn texts(forge: &Forge, task: TaskId) -> Vec<String> {
    forge.rows(task).into_iter().map(|row| row.content).collect()
}

/// A workflow of one job with these steps, in YAML, indented by nothing.
pub(crate) fn payload(steps: &str) -> String {
    let steps: String = steps.trim().lines().map(|line| format!("      {line}\n")).collect();
    format!("name: test\non: {{push: null}}\njobs:\n  job:\n    runs-on: debian\n    steps:\n{steps}")
}
