//! A VM that is a task: a backend in memory whose guest speaks the real protocol, well or badly.

use std::{
    collections::HashMap,
    num::NonZeroU8,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sandbox::{
    Account, Bind, Directory, Engine, EngineConfig, ExecRequest, LeaseSpec, OutputMode, Patience, Root, Stdin,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::watch,
    task::JoinHandle,
};
use vm::{Backend, BootSpec, Boundary, Capabilities, Exit, Link, Machine, Mebibytes, OwnerLoss, Slot};
use wire::{
    Code, Direction, Event, ExecId, Guest, Mux, StreamId,
    message::{Answer, Body, Copied, Exited, Failure, FailureKind, Open, Pong, Prepared, Reply, Request},
    message::{Prepare, Started, ToGuest, ToHost},
};

/// How a guest behaves from its first moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Good,
    /// Never says a word.
    Mute,
    /// Says a word only on the second opening of the link.
    LateDriver,
    /// Sends these bytes instead of Hello.
    Rude(&'static [u8]),
    /// Speaks version 0 of the protocol.
    Old,
    /// Ends in place of saying Hello.
    Stillborn,
    /// Answers no ping.
    Hung,
    /// Refuses to be prepared, and to get a name.
    Unwilling,
    /// Never answers that it is prepared.
    Stuck,
    /// Never answers that it is frozen.
    Restless,
}

/// What a test can see of all guests of a backend.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) boots: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) prepared: Mutex<Vec<Prepare>>,
    pub(crate) specs: Mutex<Vec<BootSpec>>,
    pub(crate) killed: Mutex<Vec<ExecId>>,
    pub(crate) reset: Mutex<Vec<StreamId>>,
    /// Bytes that a guest could send on a stream before credit ran out.
    pub(crate) sent: Mutex<HashMap<StreamId, usize>>,
    pub(crate) received: Mutex<Vec<u8>>,
    /// Identities, freezes and thaws, in order.
    pub(crate) asked: Mutex<Vec<Body>>,
    /// Written to the disk of a machine when it is saved, as its guest would.
    pub(crate) written: Mutex<Option<&'static str>>,
    /// A machine is being saved: nobody may say anything to its guest.
    pub(crate) still: AtomicBool,
    /// Somebody did.
    pub(crate) disturbed: AtomicBool,
}

/// A backend whose n-th boot behaves as the n-th manner says, and later ones as the last.
pub(crate) struct Memory {
    manners: Vec<Manner>,
    capabilities: Capabilities,
    pub(crate) seen: Arc<Seen>,
}

impl Memory {
    pub(crate) fn new(manners: &[Manner]) -> Arc<Self> {
        Arc::new(Self {
            manners: manners.to_vec(),
            capabilities: Capabilities {
                version: "1".into(),
                accelerator: "none".into(),
                boundary: Boundary::None,
                no_card: None,
                adopt: false,
                lacking: Vec::new(),
            },
            seen: Arc::default(),
        })
    }
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        assert!(slot.dir.join("slot.json").exists(), "the slot is journalled before the backend is called");
        let boot = self.seen.boots.fetch_add(1, Ordering::SeqCst);
        self.seen.running.fetch_add(1, Ordering::SeqCst);
        self.seen.specs.lock().unwrap().push(spec.clone());
        let manner = self.manners[boot.min(self.manners.len() - 1)];
        std::fs::write(slot.dir.join("console.log"), "Booting\nKernel panic - not syncing").unwrap();
        let (exit, exited) = watch::channel(None);
        Ok(Box::new(MemoryMachine {
            manner,
            seen: Arc::clone(&self.seen),
            exit: Arc::new(exit),
            exited,
            links: 0,
            guest: None,
        }))
    }
    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Gone(slot.id))
    }
}

struct MemoryMachine {
    manner: Manner,
    seen: Arc<Seen>,
    exit: Arc<watch::Sender<Option<Exit>>>,
    exited: watch::Receiver<Option<Exit>>,
    links: usize,
    guest: Option<JoinHandle<()>>,
}

#[async_trait]
impl Machine for MemoryMachine {
    async fn link(&mut self) -> vm::Result<Link> {
        if let Some(guest) = self.guest.take() {
            guest.abort();
        }
        self.links += 1;
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let mut manner = self.manner;
        if manner == Manner::LateDriver {
            manner = if self.links == 1 { Manner::Mute } else { Manner::Good };
        }
        let (from, to) = tokio::io::split(theirs);
        let agent = Agent {
            from,
            to,
            mux: Mux::guest("1.2.3"),
            manner,
            seen: Arc::clone(&self.seen),
            exit: Arc::clone(&self.exit),
            execs: HashMap::new(),
            copies: HashMap::new(),
        };
        self.guest = Some(tokio::spawn(agent.run()));
        Ok(Box::new(ours))
    }
    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exited.clone()
    }
}

impl Drop for MemoryMachine {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(1, Ordering::SeqCst);
        if let Some(guest) = self.guest.take() {
            guest.abort();
        }
    }
}

/// A command of the guest: what it still prints, on which streams in turn.
struct Command {
    streams: Vec<StreamId>,
    stdin: Option<StreamId>,
    left: usize,
    printed: usize,
    time_ns: u64,
    runs_on: bool,
}

struct Agent {
    from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    mux: Mux<Guest>,
    manner: Manner,
    seen: Arc<Seen>,
    exit: Arc<watch::Sender<Option<Exit>>>,
    execs: HashMap<ExecId, Command>,
    copies: HashMap<StreamId, (u64, usize)>,
}

/// The byte at `n` of everything that is printed.
pub(crate) fn pattern(n: usize) -> u8 {
    u8::try_from((n / 7 + n % 251) % 256).unwrap()
}

impl Agent {
    async fn run(mut self) {
        match self.manner {
            Manner::Mute => std::future::pending().await,
            Manner::Rude(bytes) => {
                let _ = self.to.write_all(bytes).await;
                std::future::pending().await
            }
            Manner::Stillborn => self.die(),
            Manner::Old => {
                let hello = br#"{"version":0,"epoch":0,"agent":"0","streams":[]}"#;
                let mut frame = vec![0; 16];
                frame[0] = u8::try_from(hello.len()).unwrap();
                frame.extend_from_slice(hello);
                let _ = self.to.write_all(&frame).await;
                std::future::pending().await
            }
            _ => {}
        }
        self.mux.attach();
        let mut read = vec![0; 64 << 10];
        let (mut write, mut written) = (Vec::new(), 0);
        loop {
            if written == write.len() {
                (write, written) = (Vec::new(), 0);
                self.mux.transmit(&mut write);
            }
            tokio::select! {
                count = self.from.read(&mut read) => {
                    let Ok(count @ 1..) = count else { return };
                    if self.seen.still.load(Ordering::SeqCst) {
                        self.seen.disturbed.store(true, Ordering::SeqCst);
                    }
                    self.mux.receive(&read[..count]).expect("the host keeps the protocol");
                }
                count = self.to.write(&write[written..]), if written < write.len() => {
                    let Ok(count) = count else { return };
                    written += count;
                }
            }
            while let Some(event) = self.mux.poll_event() {
                if !self.event(event).await {
                    return;
                }
            }
            self.print();
        }
    }

    fn die(&self) {
        let exit = Exit { code: Some(7), signal: None, stderr: "the guest died".into() };
        self.exit.send_replace(Some(exit));
    }

    fn say(&mut self, message: ToHost) {
        self.mux.send_message(&message).unwrap();
    }

    fn reply(&mut self, id: u64, result: Result<Answer, Failure>) {
        self.say(ToHost::Reply(Reply { id, result }));
    }

    /// `false`: the guest is no more.
    async fn event(&mut self, event: Event<ToGuest>) -> bool {
        match event {
            Event::Message(ToGuest::Request(Request { id, body, .. })) => {
                return self.request(id, body).await;
            }
            Event::Data { stream, bytes, .. } => {
                self.mux.consume(stream, bytes.len());
                self.seen.received.lock().unwrap().extend_from_slice(&bytes);
                let echo = self.execs.values().find(|command| command.stdin == Some(stream));
                if let Some(stdout) = echo.map(|command| command.streams[0]) {
                    assert_eq!(self.mux.send(stdout, &bytes, 0), bytes.len(), "tests echo little");
                }
            }
            Event::Fin { stream } => {
                if let Some((id, bytes)) = self.copies.remove(&stream) {
                    self.reply(id, Ok(Answer::Copied(Copied { entries: 1, bytes: bytes as u64 })));
                }
                let cat = self.execs.iter().find(|(_, command)| command.stdin == Some(stream));
                if let Some((&exec, _)) = cat {
                    self.end(exec, Some(0), None);
                }
            }
            Event::Reset { stream, .. } => self.seen.reset.lock().unwrap().push(stream),
            Event::Hello(_) | Event::Started { .. } | Event::Credit { .. } | Event::Closed { .. } => {}
        }
        true
    }

    async fn request(&mut self, id: u64, body: Body) -> bool {
        match body {
            Body::Prepare(prepare) => {
                self.seen.prepared.lock().unwrap().push(prepare);
                if self.manner == Manner::Stuck {
                    return true;
                }
                if self.manner == Manner::Unwilling {
                    let message = "no disk\x1b[2J here".into();
                    self.reply(id, Err(Failure { kind: FailureKind::NotFound, message }));
                } else {
                    let prepared =
                        Prepared { root_prefix: String::new(), kernel: "6.12\x1b".into(), boot_ms: 1 };
                    self.reply(id, Ok(Answer::Prepared(prepared)));
                }
            }
            Body::Ping if self.manner == Manner::Hung => {}
            Body::Ping => self.reply(id, Ok(Answer::Pong(Pong { time_ns: 0 }))),
            Body::Exec(exec) => return self.exec(id, exec).await,
            Body::Kill(kill) => {
                self.seen.killed.lock().unwrap().push(kill.exec);
                self.reply(id, Ok(Answer::Done));
                self.end(kill.exec, None, Some(9));
            }
            Body::Signal(signal) => {
                self.reply(id, Ok(Answer::Done));
                self.end(signal.exec, None, Some(signal.signal));
            }
            Body::CopyIn(copy) if copy.dest == "/full" => {
                let message = "no space for `big`".into();
                self.reply(id, Err(Failure { kind: FailureKind::NoSpace, message }));
            }
            Body::CopyIn(copy) => {
                self.mux.accept(copy.stream, Direction::Receive).unwrap();
                self.copies.insert(copy.stream, (id, 0));
            }
            Body::CopyOut(copy) if copy.path == "/none" => {
                let message = "no such path".into();
                self.reply(id, Err(Failure { kind: FailureKind::NotFound, message }));
            }
            Body::CopyOut(copy) => {
                self.mux.accept(copy.stream, Direction::Send).unwrap();
                match copy.path.as_str() {
                    "/endless" => return true,
                    "/cut" => self.mux.reset(copy.stream, Code::FAILED),
                    _ => {
                        assert_eq!(self.mux.send(copy.stream, b"a tree", 0), 6);
                        self.mux.finish(copy.stream);
                    }
                }
                self.reply(id, Ok(Answer::Copied(Copied { entries: 1, bytes: 6 })));
            }
            Body::Freeze(freeze) => {
                self.seen.asked.lock().unwrap().push(Body::Freeze(freeze));
                if self.manner != Manner::Restless {
                    self.reply(id, Ok(Answer::Frozen));
                }
            }
            body @ (Body::Bind(_) | Body::Thaw) => {
                let refused = self.manner == Manner::Unwilling && matches!(body, Body::Bind(_));
                self.seen.asked.lock().unwrap().push(body);
                let message = "the hook /h failed".into();
                let failure = Failure { kind: FailureKind::Io, message };
                self.reply(id, if refused { Err(failure) } else { Ok(Answer::Done) });
            }
            Body::Warm(_) | Body::Resize(_) | Body::Shutdown | Body::Accept(_) => {
                self.reply(id, Ok(Answer::Done));
            }
        }
        true
    }

    async fn exec(&mut self, id: u64, exec: wire::message::Exec) -> bool {
        let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
        let mut streams = vec![exec.stdout];
        if exec.stderr != exec.stdout {
            streams.push(exec.stderr);
        }
        let mut command = Command {
            streams: streams.clone(),
            stdin: exec.stdin,
            left: 0,
            printed: 0,
            time_ns: 0,
            runs_on: false,
        };
        match words.as_slice() {
            ["print", count] => command.left = count.parse().unwrap(),
            ["future", count] => (command.left, command.time_ns) = (count.parse().unwrap(), u64::MAX),
            ["sleep"] | ["cat"] => command.runs_on = true,
            ["die"] => {
                self.die();
                return false;
            }
            ["hang up"] => return false,
            ["raw", what] => {
                let bytes: &[u8] = match *what {
                    "garbage" => b"GET / HTTP/1.1\r\n\r\n______________",
                    // len = 0xffff_ffff, kind Data, stream 0
                    _ => &[0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
                };
                let _ = self.to.write_all(bytes).await;
                return true;
            }
            ["answer nobody"] => {
                self.reply(id + 1000, Ok(Answer::Done));
                return true;
            }
            ["end nothing"] => {
                let exec = ExecId(4711);
                self.say(ToHost::Exited(Exited {
                    exec,
                    code: Some(0),
                    signal: None,
                    timed_out: false,
                    time_ns: 0,
                }));
                return true;
            }
            ["open", service, count] => {
                for _ in 0..count.parse().unwrap() {
                    let stream = self.mux.open(Direction::Both).unwrap();
                    self.say(ToHost::Open(Open { stream, service: (*service).into() }));
                    assert_eq!(self.mux.send(stream, b"hello", 0), 5);
                    self.mux.finish(stream);
                }
            }
            // as much on each as it has credit for
            ["fill", service, count] => {
                for _ in 0..count.parse().unwrap() {
                    let stream = self.mux.open(Direction::Both).unwrap();
                    self.say(ToHost::Open(Open { stream, service: (*service).into() }));
                    let bytes = vec![0; self.mux.capacity(stream)];
                    assert_eq!(self.mux.send(stream, &bytes, 0), bytes.len());
                }
            }
            ["open many"] => {
                for n in 1..=6000 {
                    self.say(ToHost::Open(Open { stream: StreamId(2 * n), service: "x".into() }));
                }
                // And does not read the refusals.
                let mut write = Vec::new();
                while self.mux.transmit(&mut write) {}
                let _ = self.to.write_all(&write).await;
                std::future::pending::<()>().await;
            }
            _ => {
                let message = format!("no program {words:?}");
                self.reply(id, Err(Failure { kind: FailureKind::NotFound, message }));
                return true;
            }
        }
        for &stream in &streams {
            self.mux.accept(stream, Direction::Send).unwrap();
        }
        if let Some(stdin) = exec.stdin {
            self.mux.accept(stdin, Direction::Receive).unwrap();
        }
        self.reply(id, Ok(Answer::Started(Started { pid: 1, time_ns: 0, terminal: false })));
        self.execs.insert(exec.exec, command);
        true
    }

    /// Prints as far as there is credit.
    fn print(&mut self) {
        let mut done = Vec::new();
        for (&exec, command) in &mut self.execs {
            while command.left > 0 {
                // An odd size, so that pieces and frames do not fall together.
                let turn = command.printed / 1000 % command.streams.len();
                let stream = command.streams[turn];
                let count = command.left.min(1000 - command.printed % 1000);
                if self.mux.capacity(stream) < count {
                    break;
                }
                let bytes: Vec<u8> = (command.printed..command.printed + count).map(pattern).collect();
                assert_eq!(self.mux.send(stream, &bytes, command.time_ns), count);
                *self.seen.sent.lock().unwrap().entry(stream).or_default() += count;
                command.printed += count;
                command.left -= count;
            }
            if command.left == 0 && !command.runs_on {
                done.push(exec);
            }
        }
        for exec in done {
            self.end(exec, Some(0), None);
        }
    }

    fn end(&mut self, exec: ExecId, code: Option<i32>, signal: Option<i32>) {
        if let Some(command) = self.execs.remove(&exec) {
            for stream in command.streams {
                self.mux.finish(stream);
            }
            let time_ns = command.time_ns;
            self.say(ToHost::Exited(Exited { exec, code, signal, timed_out: false, time_ns }));
        }
    }
}

/// Longer than any test, but for the pings.
pub(crate) fn patience() -> Patience {
    Patience {
        boot: Duration::from_secs(3600),
        prepare: Duration::from_secs(60),
        ping_every: Duration::from_millis(5),
        silence: Duration::from_secs(60),
        teardown: Duration::from_secs(10),
    }
}

pub(crate) async fn engine(dir: &Path, backend: &Arc<Memory>) -> Engine {
    engine_with(dir, backend, patience()).await
}

pub(crate) async fn engine_with(dir: &Path, backend: &Arc<Memory>, patience: Patience) -> Engine {
    engine_of(dir, Arc::<Memory>::clone(backend), patience).await
}

pub(crate) async fn engine_of(dir: &Path, backend: Arc<dyn Backend>, patience: Patience) -> Engine {
    let config = EngineConfig {
        state_dir: dir.to_owned(),
        backend,
        patience,
        pool: sandbox::PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.unwrap().0
}

pub(crate) fn hosted() -> LeaseSpec {
    LeaseSpec {
        kernel: "/kernel".into(),
        initramfs: "/initramfs".into(),
        root: Root::Hosted,
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(64),
        scratch_bytes: 0,
        bind: Bind {
            hostname: "guest".into(),
            directories: vec![Directory {
                path: "/workspace".into(),
                owner: Account::Ids { uid: 1, gid: 1 },
                mode: 0o755,
            }],
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: sandbox::Start::Fork,
        when_full: sandbox::WhenFull::Wait,
    }
}

pub(crate) fn run(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("TOKEN".into(), "hunter2".into())],
        cwd: "/".into(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Merged,
        timeout: None,
    }
}

/// Names of what is in the journal.
pub(crate) fn slots(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir.join("slots")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Waits until `yes` is true: the other side of a channel is a task of its own.
pub(crate) async fn until(mut yes: impl FnMut() -> bool) {
    while !yes() {
        tokio::task::yield_now().await;
    }
}
