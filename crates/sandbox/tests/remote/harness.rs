//! An engine process, what is asked of it, and what is left.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant, SystemTime},
};

use sandbox::{
    Collected, Engine, EngineConfig, Lease, LeaseSpec, Listening, Patience, PoolLimits, Reserve, Sandbox,
    Served,
};
use tokio_util::sync::CancellationToken;
use vm::{Mebibytes, OwnerLoss};

use crate::support;
pub(crate) use crate::support::sh;

/// First argument of an engine process.
const ENGINE: &str = "engine";
/// First argument of a client that leases, says so, and waits to be killed.
const VICTIM: &str = "victim";
/// Its second: what it leases is to be kept.
const KEEP: &str = "keep";
/// First argument of one who says to an engine what a client of this build says, and tells what came of it.
const ASKER: &str = "asker";
/// First argument of one who listens in the place of an engine, and tells what its first client said.
const LISTENER: &str = "listener";
/// A user who is neither us nor root.
pub(crate) const STRANGER: u32 = 65534;
/// How long anything may take that does not hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Becomes the engine or the victim where this process was started as one.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(ENGINE) => {
            let idle = args[3].parse().ok().map(Duration::from_millis);
            block_on(serve(Path::new(&args[2]), idle, args[4].parse().unwrap()));
        }
        Some(ASKER) => asker(Path::new(&args[2])),
        Some(LISTENER) => listener(Path::new(&args[2])),
        Some(VICTIM) => block_on(victim(Path::new(&args[2]), args[3] == KEEP)),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

async fn serve(state: &Path, idle: Option<Duration>, standbys: usize) {
    let listening = match Listening::at(&socket(state)) {
        Ok(listening) => listening,
        Err(error) => return println!("error: {error}"),
    };
    let config = EngineConfig {
        state_dir: state.to_owned(),
        backend: testkit::fake::forking(),
        patience: Patience::default(),
        pool: PoolLimits { most: standbys, memory: Mebibytes(1 << 20) },
        reserve: Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    let (engine, _) = Engine::open(config).await.unwrap();
    for kept in engine.kept().await.unwrap() {
        engine.attach(kept.id).await.unwrap();
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopper.cancel();
    });
    println!("ready");
    match sandbox::serve(engine, &listening, idle, stop).await.unwrap() {
        Served::Idle => println!("idle"),
        Served::Stopped => println!("stopped"),
    }
}

async fn victim(state: &Path, keep: bool) {
    let engine = connect(state).await;
    let spec = if keep { kept_for(LIMIT) } else { spec() };
    let lease = engine.lease(spec, &CancellationToken::new()).await.unwrap();
    let _running = lease.sandbox().exec(sh("sleep 1000")).await.unwrap();
    println!("{}", lease.sandbox().id());
    std::future::pending::<()>().await;
}

/// Says how many bytes the engine answered, and how a client of the library fares.
fn asker(state: &Path) {
    let mut stream = UnixStream::connect(socket(state)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // the greeting comes without a question
    let mut answer = [0; 1];
    println!("{} bytes", stream.read(&mut answer).unwrap());
    match block_on(Engine::connect(&socket(state))) {
        Ok(_) => println!("served"),
        Err(error) => println!("{error}"),
    }
}

/// Says how many bytes it was told.
fn listener(state: &Path) {
    let listener = UnixListener::bind(socket(state)).unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    println!("{} bytes", told.len());
}

pub(crate) fn socket(state: &Path) -> PathBuf {
    state.join("engine.sock")
}

/// A process of this program that says lines, and is killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new("/proc/self/exe").args(args))
    }

    /// One who asks the engine of `state`, as another user where that is said.
    pub(crate) fn asker(state: &Path, user: Option<u32>) -> Self {
        let mut call = Command::new("/proc/self/exe");
        call.arg(ASKER).arg(state).current_dir("/");
        if let Some(user) = user {
            call.uid(user).gid(user);
        }
        Self::spawn(&mut call)
    }

    /// One who listens in `state` as another user.
    pub(crate) fn listener(state: &Path, user: u32) -> Self {
        let mut call = Command::new("/proc/self/exe");
        call.arg(LISTENER).arg(state).current_dir("/").uid(user).gid(user);
        let mut listener = Self::spawn(&mut call);
        assert_eq!(listener.line(), "ready");
        listener
    }

    fn spawn(call: &mut Command) -> Self {
        let mut child = call.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// An engine in `state`; its first line is read already.
    pub(crate) fn engine(state: &Path, idle: Option<Duration>) -> Self {
        let mut engine = Self::engine_at_once(state, idle, 0);
        assert_eq!(engine.line(), "ready");
        engine
    }

    /// One that keeps VMs ready.
    pub(crate) fn pooling(state: &Path, standbys: usize) -> Self {
        let mut engine = Self::engine_at_once(state, None, standbys);
        assert_eq!(engine.line(), "ready");
        engine
    }

    pub(crate) fn engine_at_once(state: &Path, idle: Option<Duration>, standbys: usize) -> Self {
        let idle = idle.map_or("never".to_owned(), |idle| idle.as_millis().to_string());
        Self::start(&[ENGINE, state.to_str().unwrap(), &idle, &standbys.to_string()])
    }

    pub(crate) fn victim(state: &Path, keep: bool) -> Self {
        Self::start(&[VICTIM, state.to_str().unwrap(), if keep { KEEP } else { "end" }])
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it did.
    pub(crate) fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A state directory with a name that nothing else has.
pub(crate) fn state() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("remote-test-").tempdir().unwrap()
}

pub(crate) async fn connect(state: &Path) -> Engine {
    Engine::connect(&socket(state)).await.unwrap()
}

pub(crate) fn spec() -> LeaseSpec {
    support::spec("guest")
}

pub(crate) fn kept_for(time: Duration) -> LeaseSpec {
    LeaseSpec { on_owner_loss: OwnerLoss::Keep { until: SystemTime::now() + time }, ..spec() }
}

pub(crate) async fn lease(engine: &Engine) -> Lease {
    engine.lease(spec(), &CancellationToken::new()).await.unwrap()
}

pub(crate) async fn collected(sandbox: &Sandbox, script: &str) -> Collected {
    sandbox.exec(sh(script)).await.unwrap().collect(1 << 20).await.unwrap()
}

/// Processes and slots that have to do with `state`, but for the engine's own.
pub(crate) fn left(state: &Path) -> Vec<String> {
    let name = state.to_str().unwrap();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let own = entry.file_name() == std::process::id().to_string().as_str()
            || command.contains(&format!("{ENGINE} {name}"));
        if !own && (command.contains(name) || cwd.starts_with(state)) {
            left.push(format!("process {:?}: {command}", entry.file_name()));
        }
    }
    let slots = fs::read_dir(state.join("slots")).into_iter().flatten().flatten();
    left.extend(slots.map(|slot| format!("slot {}", slot.path().display())));
    left
}

/// Waits until nothing is left.
pub(crate) async fn nothing_left(state: &Path) {
    let until = Instant::now() + LIMIT;
    loop {
        let left = left(state);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What has to come within a time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it hangs")
}
