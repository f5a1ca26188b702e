//! A controller on a socket of its own, and a client that is as plain as HTTP is.

use std::{
    fs,
    num::NonZeroU8,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use controller::{Access, Boots, Config, Images, Keeping, Size, Snapshot, Token};
use jiff::Timestamp;
use sandbox::{Engine, EngineConfig, Patience, Root};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use vm::{Backend, BootSpec, Capabilities, Machine, Mebibytes, Slot};

pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// The fake backend, with a will of its own.
pub(crate) struct Wayward {
    inner: Arc<dyn Backend>,
    /// Boots so far.
    pub(crate) boots: AtomicUsize,
    /// The boot, counted from 1, that fails.
    pub(crate) fails_at: usize,
    /// How long each boot takes longer.
    pub(crate) delay: Duration,
}

impl Wayward {
    pub(crate) fn new(fails_at: usize, delay: Duration) -> Arc<Self> {
        Arc::new(Self { inner: testkit::fake::backend(), boots: AtomicUsize::new(0), fails_at, delay })
    }
}

#[async_trait]
impl Backend for Wayward {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        let count = self.boots.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(self.delay).await;
        if count == self.fails_at {
            return Err(vm::Error::Control("this boot fails".to_owned()));
        }
        self.inner.boot(spec, slot).await
    }
    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        self.inner.adopt(slot).await
    }
}

/// A controller that runs.
pub(crate) struct Service {
    pub(crate) address: String,
    pub(crate) shutdown: CancellationToken,
    served: JoinHandle<controller::Result<()>>,
    state: Arc<tempfile::TempDir>,
    leave: Option<CancellationToken>,
}

/// A directory for controllers that come one after the other, or at once.
pub(crate) fn state() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::Builder::new().prefix("controller-test-").tempdir().unwrap())
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(testkit::fake::backend(), |_| {}).await
    }

    pub(crate) async fn with(backend: Arc<dyn Backend>, change: impl FnOnce(&mut Config)) -> Self {
        Self::at(state(), backend, change).await
    }

    /// The controller with this name in `state`: its sandboxes outlive it.
    pub(crate) async fn named(state: &Arc<tempfile::TempDir>, name: &str) -> Self {
        let dir = state.path().join("controllers").join(name);
        fs::create_dir_all(&dir).unwrap();
        let leave = CancellationToken::new();
        let keeping = Keeping { dir, mark: format!("controller {name}"), leave: leave.clone() };
        let change = |config: &mut Config| config.keeping = Some(keeping);
        let service = Self::at(Arc::clone(state), testkit::fake::backend(), change).await;
        Self { leave: Some(leave), ..service }
    }

    async fn at(
        state: Arc<tempfile::TempDir>,
        backend: Arc<dyn Backend>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let token = state.path().join("token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let mut config = config(Access::Token(Token::read(&token).unwrap()));
        change(&mut config);
        let engine = engine(state.path(), backend).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let served = controller::serve(config, engine, images(), listener, shutdown.clone());
        Self { address, shutdown, served: tokio::spawn(served), state, leave: None }
    }

    /// Sends a request with the token, and a body of JSON where there is one.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let kind = body.map(|_| "Content-Type: application/json\r\n").unwrap_or_default();
        let head = format!("Authorization: Bearer {TOKEN}\r\n{kind}");
        self.raw(method, path, &head, body.unwrap_or_default()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(&body.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    /// Spawns, and gives the ids.
    pub(crate) async fn spawn(&self, n: u64) -> Vec<String> {
        let answer =
            self.post("/v1/sandboxes", serde_json::json!({"snapshot_tag": "standard", "n": n})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let made = answer.json();
        let ids = made.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        ids.collect()
    }

    /// A request with these headers; an answer is read to the end of the connection.
    pub(crate) async fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let host = if head.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
        );
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        // a server that has read enough may answer and close before all is sent
        let _ = socket.write_all(text.as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes).await;
        Answer::parse(&String::from_utf8(bytes).unwrap())
    }

    /// What is left of sandboxes on the host, after a while for it to settle.
    pub(crate) async fn left(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let left = left(self.state.path());
            if left.is_empty() || begun.elapsed() > Duration::from_secs(10) {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as one that is restarted.
    pub(crate) async fn leave(self) {
        self.leave.unwrap().cancel();
        self.served.await.unwrap().unwrap();
    }

    /// Ends it as a signal does; nothing may be left then.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
        let left = left(self.state.path());
        assert!(left.is_empty(), "{left:#?}");
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        Self { status, kind: kind.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}

/// Requests and answers as one text, in which what is different each time has a name instead.
#[derive(Default)]
pub(crate) struct Transcript {
    text: String,
    ids: Vec<String>,
}

impl Transcript {
    pub(crate) async fn send(
        &mut self,
        service: &Service,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Answer {
        let answer = service.send(method, path, body).await;
        self.note(&format!("{method} {path} {}", body.unwrap_or_default()), &answer);
        answer
    }

    pub(crate) fn note(&mut self, request: &str, answer: &Answer) {
        let mut body = answer.body.clone();
        if answer.kind == "application/json" {
            let mut value = answer.json();
            redact(&mut value, &mut self.ids);
            body = format!("{value:#}");
        }
        let mut entry = format!("> {}\n{} {}\n{body}\n\n", request.trim_end(), answer.status, answer.kind);
        for (at, id) in self.ids.iter().enumerate() {
            entry = entry.replace(id, &format!("[id {at}]"));
        }
        self.text.push_str(&entry);
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

fn redact(value: &mut Value, ids: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| redact(one, ids)),
        Value::Object(map) => {
            for (key, one) in map {
                match key.as_str() {
                    "id" => {
                        let id = one.as_str().unwrap().to_owned();
                        if !ids.contains(&id) {
                            ids.push(id);
                        }
                    }
                    "created_at_unix" | "expires_at_unix" | "boot_ms" | "round_trip_us" => {
                        assert!(one.as_i64().is_some_and(|number| number >= 0), "{key}: {one}");
                        *one = "[number]".into();
                    }
                    "kernel" | "agent" | "version" => *one = "[text]".into(),
                    _ => redact(one, ids),
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn config(access: Access) -> Config {
    let size = Size {
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(64),
        min_memory: Mebibytes(64),
        max_memory: Mebibytes(512),
        scratch_bytes: 0,
    };
    Config::new(access, size)
}

pub(crate) async fn engine(state: &Path, backend: Arc<dyn Backend>) -> Engine {
    let config = EngineConfig {
        state_dir: state.to_owned(),
        backend,
        patience: Patience::default(),
        pool: sandbox::PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.unwrap().0
}

/// Two images that are only names: the fake backend boots none.
pub(crate) fn images() -> Images {
    let snapshot = |tag: &str, needed_by| Snapshot {
        tag: tag.parse().unwrap(),
        dir: PathBuf::from("/images").join(tag),
        created: Timestamp::UNIX_EPOCH,
        root_bytes: 1 << 20,
        needed_by,
    };
    let there = vec![snapshot("shared", Some("the jobs of this host")), snapshot("standard", None)];
    let there = Arc::new(Mutex::new(there));
    let (found, removed) = (Arc::clone(&there), Arc::clone(&there));
    Images::new(
        move || Ok(there.lock().unwrap().clone()),
        move |tag| {
            let boots = || Boots { kernel: "/".into(), initramfs: "/".into(), root: Root::Hosted };
            Ok(found.lock().unwrap().iter().any(|one| one.tag == *tag).then(boots))
        },
        move |tag| {
            let mut all = removed.lock().unwrap();
            let before = all.len();
            all.retain(|one| one.tag != *tag);
            Ok(all.len() < before)
        },
    )
}

/// Processes, mounts and slots that have to do with `state`.
fn left(state: &Path) -> Vec<String> {
    let name = state.to_str().unwrap();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name() == std::process::id().to_string().as_str() {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.contains(name) || cwd.starts_with(state) {
            left.push(format!("process {:?}: {command}", entry.file_name()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    let slots = fs::read_dir(state.join("slots")).into_iter().flatten().flatten();
    left.extend(slots.map(|slot| format!("slot {}", slot.path().display())));
    left
}
