//! A host's end of the wire, no more than the suite needs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use vm::{Link, Machine};
use wire::{
    Direction, Event, ExecId, Host, Mux, StreamId,
    message::{
        Account, Answer, Bind, Body, Entropy, Exec, Exited, Failure, Hello, Hooks, Inherited, Prepare, Reply,
        Request, Root, ToGuest, ToHost, Warm,
    },
};

use crate::Subject;

/// A connection to an agent that answers.
pub(crate) struct Client {
    mux: Mux<Host>,
    link: Link,
    next: u64,
}

/// How long a Hello is waited for before the link is opened again.
const SILENCE: Duration = Duration::from_secs(10);

/// What a command printed on one stream, and how it ended.
pub(crate) struct Ran {
    pub(crate) output: Vec<u8>,
    pub(crate) exited: Exited,
}

impl Client {
    /// Opens the link and takes the agent into `epoch`.
    pub(crate) async fn connect(machine: &mut dyn Machine, epoch: u32) -> Self {
        let (client, _) = Self::greet(machine, epoch).await;
        client
    }

    /// The same, with what the agent said first. As the contract has it: who hears no Hello opens again.
    pub(crate) async fn greet(machine: &mut dyn Machine, epoch: u32) -> (Self, Hello) {
        loop {
            let link = machine.link().await.expect("a link");
            let mut client = Self { mux: Mux::host(), link, next: 0 };
            client.mux.attach();
            match timeout(SILENCE, client.event()).await {
                Ok(Some(Event::Hello(hello))) => {
                    client.mux.start(epoch).expect("a start");
                    return (client, hello);
                }
                Ok(Some(other)) => panic!("{other:?} before Hello"),
                Ok(None) | Err(_) => {}
            }
            let exit = machine.exited().borrow().clone();
            assert!(exit.is_none(), "the machine ended before Hello: {exit:?}");
        }
    }

    /// The next event; `None` at the end of the link.
    pub(crate) async fn event(&mut self) -> Option<Event<ToHost>> {
        loop {
            if let Some(event) = self.mux.poll_event() {
                return Some(event);
            }
            let mut bytes = Vec::new();
            while self.mux.transmit(&mut bytes) {
                self.link.write_all(&bytes).await.ok()?;
                bytes.clear();
            }
            let mut buffer = [0; 16 << 10];
            match self.link.read(&mut buffer).await {
                Ok(length) if length > 0 => {
                    self.mux.receive(&buffer[..length]).expect("the agent keeps the protocol")
                }
                _ => return None,
            }
        }
    }

    /// Bytes that are no frames.
    pub(crate) async fn send_garbage(&mut self) {
        self.link.write_all(&[0xff; 4096]).await.expect("the link takes bytes");
    }

    fn ask(&mut self, body: Body) -> u64 {
        self.next += 1;
        let request = Request { id: self.next, epoch: self.mux.epoch(), body };
        self.mux.send_message(&ToGuest::Request(request)).expect("a message of usual size");
        self.next
    }

    /// Asks and waits for the answer.
    pub(crate) async fn request(&mut self, body: Body) -> Result<Answer, Failure> {
        let asked = self.ask(body);
        loop {
            if let Event::Message(ToHost::Reply(Reply { id, result })) =
                self.event().await.expect("the link holds")
                && id == asked
            {
                return result;
            }
        }
    }

    pub(crate) async fn ping(&mut self) {
        assert!(matches!(self.request(Body::Ping).await, Ok(Answer::Pong(_))));
    }

    /// Makes the guest ready.
    pub(crate) async fn prepare(&mut self, subject: &Subject) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        let prepare = Prepare {
            root: subject.root.clone(),
            hostname: "contract".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            clock_ns: u64::try_from(now.as_nanos()).expect("a clock"),
            entropy: Entropy(vec![7; 64]),
            directories: Vec::new(),
            hooks: Hooks::Now,
            network: None,
        };
        match self.request(Body::Prepare(prepare)).await {
            Ok(Answer::Prepared(_)) => {}
            other => panic!("prepare: {other:?}"),
        }
    }

    /// Lets the guest do ahead what all forks would do alike.
    pub(crate) async fn warm(&mut self, subject: &Subject) {
        if let Root::Disks { root, fs, .. } = &subject.root {
            let warm = Warm { root: root.clone(), fs: *fs };
            assert!(matches!(self.request(Body::Warm(warm)).await, Ok(Answer::Done)));
        }
    }

    /// Makes a fork of a guest that was frozen one of its own, and lets it go on.
    pub(crate) async fn bind(&mut self, name: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        let bind = Bind {
            hostname: name.to_owned(),
            machine_id: "fedcba9876543210fedcba9876543210".to_owned(),
            clock_ns: u64::try_from(now.as_nanos()).expect("a clock"),
            entropy: Entropy(vec![9; 64]),
            directories: Vec::new(),
            inherited: Inherited::GoOn,
            hooks: Hooks::Now,
            network: None,
        };
        for body in [Body::Bind(bind), Body::Thaw] {
            let answer = self.request(body).await;
            assert!(matches!(answer, Ok(Answer::Done)), "{answer:?}");
        }
    }

    /// Runs a script to its end.
    pub(crate) async fn run(&mut self, subject: &Subject, script: &str) -> Ran {
        let stdout = self.mux.open(Direction::Receive).expect("a stream");
        let exec = ExecId(u64::from(stdout.0));
        let asked = self.ask(Body::Exec(command(subject, script, exec, stdout)));
        let mut output = Vec::new();
        loop {
            match self.event().await.expect("the link holds") {
                Event::Message(ToHost::Reply(Reply { id, result })) if id == asked => {
                    result.expect("the command starts");
                }
                Event::Data { stream, bytes, .. } if stream == stdout => {
                    self.mux.consume(stream, bytes.len());
                    output.extend(bytes);
                }
                Event::Message(ToHost::Exited(exited)) if exited.exec == exec => {
                    return Ran { output, exited };
                }
                _ => {}
            }
        }
    }

    /// Starts a script whose end nobody waits for.
    pub(crate) async fn start(&mut self, subject: &Subject, script: &str) {
        let stdout = self.mux.open(Direction::Receive).expect("a stream");
        let exec = ExecId(u64::from(stdout.0));
        let answer = self.request(Body::Exec(command(subject, script, exec, stdout))).await;
        assert!(matches!(answer, Ok(Answer::Started(_))), "{answer:?}");
    }
}

fn command(subject: &Subject, script: &str, exec: ExecId, stdout: StreamId) -> Exec {
    Exec {
        exec,
        argv: vec![subject.shell.to_string_lossy().into_owned(), "-c".to_owned(), script.to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: Account::ROOT,
        stdin: None,
        stdout,
        stderr: stdout,
        timeout_ms: None,
        terminal: None,
    }
}
