//! A host made of blocking calls: one link, one mux, everything that came so far.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{fd::AsFd, io::FdFlags, process::Pid};
use tempfile::TempDir;
use wire::{
    Code, Direction, Event, ExecId, Mux, StreamId,
    message::{
        Account, Answer, Bind, Body, Directory, Entropy, Exec, Exited, Failure, Hooks, Inherited, Prepare,
        Request, Root, ToGuest, ToHost,
    },
};

/// After this long without an answer a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came on one stream.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fin: bool,
    pub(crate) reset: Option<Code>,
    /// Bytes of credit that are not given back.
    pub(crate) held: usize,
}

pub(crate) struct Host {
    agent: Child,
    socket: PathBuf,
    pub(crate) dir: TempDir,
    link: UnixStream,
    out: Vec<u8>,
    pub(crate) mux: Mux<wire::Host>,
    pub(crate) streams: BTreeMap<StreamId, Received>,
    /// Streams whose bytes are not consumed.
    pub(crate) stalled: Vec<StreamId>,
    pub(crate) replies: BTreeMap<u64, Result<Answer, Failure>>,
    pub(crate) exited: BTreeMap<ExecId, Exited>,
    pub(crate) resumed: Vec<bool>,
    /// Streams that the agent asked for, and the service.
    pub(crate) opened: Vec<(StreamId, String)>,
    next: u64,
    pub(crate) prefix: String,
}

/// A command and where its output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) exec: ExecId,
    pub(crate) stdin: StreamId,
    pub(crate) stdout: StreamId,
    pub(crate) stderr: StreamId,
}

impl Host {
    /// A prepared agent.
    pub(crate) fn prepared() -> Self {
        let mut host = Self::fresh();
        let prepare = host.prepare_request();
        match host.ask(prepare) {
            Ok(Answer::Prepared(prepared)) => host.prefix = prepared.root_prefix,
            other => panic!("not prepared: {other:?}"),
        }
        host
    }

    /// An agent that has said Hello and was started.
    pub(crate) fn fresh() -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::create_dir(dir.path().join("root")).expect("a root");
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        rustix::io::fcntl_setfd(listener.as_fd(), FdFlags::empty()).expect("it is inherited");
        let agent = Command::new(env!("CARGO_BIN_EXE_ampoule-agent"))
            .arg("--hosted")
            .arg(dir.path().join("root"))
            .args(["--listen-fd", &listener.as_raw_fd().to_string()])
            .spawn()
            .expect("the agent starts");
        drop(listener);
        let link = UnixStream::connect(&socket).expect("the agent listens");
        let mut host = Self {
            agent,
            socket,
            dir,
            link,
            out: Vec::new(),
            mux: Mux::host(),
            streams: BTreeMap::new(),
            stalled: Vec::new(),
            replies: BTreeMap::new(),
            exited: BTreeMap::new(),
            resumed: Vec::new(),
            opened: Vec::new(),
            next: 0,
            prefix: String::new(),
        };
        host.mux.attach();
        host.until("a handshake", |host| host.resumed.first().copied());
        host
    }

    /// Opens the link anew, with an epoch of choice.
    pub(crate) fn reconnect(&mut self, epoch: u32) {
        self.link = UnixStream::connect(&self.socket).expect("the agent listens");
        self.out.clear();
        self.mux.attach();
        let before = self.resumed.len();
        self.until_with("a handshake", epoch, |host| (host.resumed.len() > before).then_some(()));
    }

    /// Only opens the link, and closes the one before.
    pub(crate) fn reopen(&mut self) -> &mut UnixStream {
        self.link = UnixStream::connect(&self.socket).expect("the agent listens");
        &mut self.link
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn prepare_request(&self) -> Body {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Body::Prepare(Prepare {
            root: Root::Hosted,
            hostname: "test".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            clock_ns: u64::try_from(now.as_nanos()).expect("a clock before 2554"),
            entropy: Entropy(vec![1; 64]),
            directories: vec![Directory { path: "/workspace".into(), owner: Account::ROOT, mode: 0o755 }],
            hooks: Hooks::Now,
            network: None,
        })
    }

    pub(crate) fn bind_request(&self, inherited: Inherited) -> Body {
        match self.prepare_request() {
            Body::Prepare(Prepare { hostname, machine_id, clock_ns, entropy, directories, .. }) => {
                Body::Bind(Bind {
                    hostname,
                    machine_id,
                    clock_ns,
                    entropy,
                    directories,
                    inherited,
                    hooks: Hooks::Now,
                    network: None,
                })
            }
            other => panic!("{other:?} is no preparation"),
        }
    }

    pub(crate) fn send(&mut self, body: Body) -> u64 {
        self.next += 1;
        let request = Request { id: self.next, epoch: self.mux.epoch(), body };
        self.mux.send_message(&ToGuest::Request(request)).expect("a message that fits");
        self.next
    }

    pub(crate) fn ask(&mut self, body: Body) -> Result<Answer, Failure> {
        let id = self.send(body);
        self.until("a reply", |host| host.replies.remove(&id))
    }

    pub(crate) fn exec_request(&mut self, argv: &[&str]) -> (Running, Exec) {
        let stdin = self.mux.open(Direction::Send).expect("a stream");
        let stdout = self.mux.open(Direction::Receive).expect("a stream");
        let stderr = self.mux.open(Direction::Receive).expect("a stream");
        self.next += 1;
        let running = Running { exec: ExecId(self.next), stdin, stdout, stderr };
        let exec = Exec {
            exec: running.exec,
            argv: argv.iter().map(ToString::to_string).collect(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            cwd: "/workspace".into(),
            user: Account::Name("nobody-asks".into()),
            stdin: Some(stdin),
            stdout,
            stderr,
            timeout_ms: None,
            terminal: None,
        };
        (running, exec)
    }

    /// Starts a shell command with an open standard input.
    pub(crate) fn start(&mut self, script: &str) -> Running {
        let (running, exec) = self.exec_request(&["sh", "-c", script]);
        match self.ask(Body::Exec(exec)) {
            Ok(Answer::Started(_)) => running,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Runs a shell command to its end: how it ended, output, error output.
    pub(crate) fn run(&mut self, script: &str) -> (Exited, String, String) {
        let running = self.start(script);
        self.mux.finish(running.stdin);
        self.finish(running)
    }

    pub(crate) fn finish(&mut self, running: Running) -> (Exited, String, String) {
        let exited = self.until("an exit", |host| host.exited.remove(&running.exec));
        (exited, self.text(running.stdout), self.text(running.stderr))
    }

    pub(crate) fn text(&self, stream: StreamId) -> String {
        self.streams.get(&stream).map_or(String::new(), |s| String::from_utf8_lossy(&s.bytes).into_owned())
    }

    /// Writes all of it to a stream.
    pub(crate) fn feed(&mut self, stream: StreamId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.mux.send(stream, bytes, 0);
            bytes = &bytes[taken..];
            self.step(1);
        }
    }

    pub(crate) fn until<T>(&mut self, what: &str, ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        self.until_with(what, 1, ready)
    }

    /// As [`Host::until`], in a later epoch.
    pub(crate) fn until_in<T>(
        &mut self,
        epoch: u32,
        what: &str,
        ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        self.until_with(what, epoch, ready)
    }

    /// What the agent itself has used of a processor.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.agent.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
        // The kernel counts in hundredths of a second, whatever its own ticks are.
        Duration::from_millis(ticks * 10)
    }

    fn until_with<T>(&mut self, what: &str, epoch: u32, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(Instant::now() < end, "no {what} came");
            self.step(epoch);
        }
    }

    /// Lets the connection live for a moment.
    pub(crate) fn step(&mut self, epoch: u32) {
        self.link.set_read_timeout(Some(Duration::from_millis(10))).expect("a time-out can be set");
        self.flush();
        let mut buffer = vec![0; 256 * 1024];
        match self.link.read(&mut buffer) {
            Ok(0) => panic!("the agent hung up"),
            Ok(count) => self.mux.receive(&buffer[..count]).expect("the agent keeps to the protocol"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("the link broke: {error}"),
        }
        while let Some(event) = self.mux.poll_event() {
            self.event(event, epoch);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while self.mux.transmit(&mut self.out) {}
        self.link.set_nonblocking(true).expect("it can");
        while !self.out.is_empty() {
            match self.link.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the link broke: {error}"),
            }
        }
        self.link.set_nonblocking(false).expect("it can");
    }

    fn event(&mut self, event: Event<ToHost>, epoch: u32) {
        match event {
            Event::Hello(_) => self.mux.start(epoch).expect("an epoch that fits"),
            Event::Started { resumed, .. } => self.resumed.push(resumed),
            Event::Message(ToHost::Reply(reply)) => {
                assert!(self.replies.insert(reply.id, reply.result).is_none(), "two replies to one request");
            }
            Event::Message(ToHost::Exited(exited)) => {
                assert!(self.exited.insert(exited.exec, exited).is_none(), "it ended twice");
            }
            Event::Message(ToHost::Open(open)) => self.opened.push((open.stream, open.service)),
            Event::Message(message) => panic!("unexpected: {message:?}"),
            Event::Data { stream, offset, bytes, .. } => {
                let stalled = self.stalled.contains(&stream);
                let received = self.streams.entry(stream).or_default();
                assert_eq!(offset, received.bytes.len() as u64, "bytes are lost or come twice");
                received.bytes.extend_from_slice(&bytes);
                if stalled {
                    received.held += bytes.len();
                } else {
                    self.mux.consume(stream, bytes.len());
                }
            }
            Event::Fin { stream } => self.streams.entry(stream).or_default().fin = true,
            Event::Reset { stream, code } => self.streams.entry(stream).or_default().reset = Some(code),
            Event::Credit { .. } | Event::Closed { .. } => {}
        }
    }

    /// Consumes what was held back.
    pub(crate) fn unstall(&mut self, stream: StreamId) {
        self.stalled.retain(|other| *other != stream);
        if let Some(received) = self.streams.get_mut(&stream) {
            self.mux.consume(stream, std::mem::take(&mut received.held));
        }
    }

    /// Ends the agent and waits for it.
    pub(crate) fn shutdown(mut self) -> std::process::ExitStatus {
        let id = self.send(Body::Shutdown);
        self.until("a reply", |host| host.replies.remove(&id)).expect("it shuts down");
        self.agent.wait().expect("it ends")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Asks it to take its children along; then makes sure.
        if let Some(pid) = i32::try_from(self.agent.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.agent.wait();
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}
