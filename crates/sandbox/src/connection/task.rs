//! The task that owns the link and the mux.
//!
//! ```text
//!          Hello, Start              link ends, protocol broken          verdict
//!   open ──────────────▶ running ───────────────────────────────▶ cut ───────────▶ everyone is told
//!     └──────────────────────┴──────────────── verdict ─────────────────────────────▲
//! ```
//!
//! ```text
//!              Freeze                all is said: Freeze sent             Thaw
//!   speaking ──────────▶ finishing ──────────────────────────▶ holding ──────────▶ speaking
//! ```
//!
//! Invariants
//! - While it holds, the guest has every byte that was sent, and nothing is sent to it: not even an
//!   acknowledgement, which would change a memory that is being saved.
//! - It never waits for a consumer, nor for the guest to read before it reads itself: bytes that nobody took
//!   keep their credit, and what waits to be written is bounded by credit and by the caps below.
//! - Whatever the guest sends ends in an event, in [`Cut::Protocol`], or in nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
};
use vm::Link;
use wire::{
    Code, Direction, Event, ExecId, Host, Mux, OpenError, ProtocolError, StreamId,
    message::{
        Account, Body, CopyIn, CopyOut, Exec, Freeze, Hello, Reply, Request, ToGuest, ToHost, WriteBack,
    },
};

use super::{
    BegunCopyIn, BegunCopyOut, BegunExec, Connection, Cut, Order, ReplyTo, Urgent, forwards::Forwards,
};
use crate::{
    Error, ExecRequest, Exited, Gone, OutputMode, Result, Stdin,
    clock::Clock,
    delivery::{Consumer, Part, Producer, Taken, delivery},
    text::printable,
};

const READ: usize = 64 << 10;
/// Requests that may wait for an answer at a time.
const MAX_REQUESTS: usize = 1024;
/// Bytes of messages that a guest may leave unread.
const MAX_BACKLOG: usize = 16 << 20;
/// Longest text of the guest that is shown, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// Notes of a guest that are logged.
const MAX_NOTES: usize = 100;

/// A request under way, and what to give up when it fails.
pub(super) struct Waiting {
    pub(super) reply: ReplyTo,
    pub(super) exec: Option<ExecId>,
    pub(super) streams: Vec<StreamId>,
}

/// A stream to the guest.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Bytes, how many of them went, whom to tell.
    parts: VecDeque<(Vec<u8>, usize, oneshot::Sender<bool>)>,
    finish: bool,
}

/// Whether the guest is spoken to.
enum Speech {
    Speaking,
    /// What was ordered before is said, then it is asked to freeze, with this one waiting for the answer.
    Finishing(ReplyTo),
    Holding,
}

pub(super) struct Task {
    pub(super) mux: Mux<Host>,
    clock: Arc<Clock>,
    speech: Speech,
    inbox: mpsc::Receiver<Order>,
    urgent: mpsc::Receiver<Urgent>,
    hello: Option<oneshot::Sender<Hello>>,
    taken: mpsc::UnboundedReceiver<Taken>,
    pub(super) taken_to: mpsc::UnboundedSender<Taken>,
    requests: HashMap<u64, Waiting>,
    next_request: u64,
    execs: HashMap<ExecId, oneshot::Sender<Result<Exited>>>,
    next_exec: u64,
    pub(super) incoming: HashMap<StreamId, Arc<Producer>>,
    pub(super) outgoing: HashMap<StreamId, Outgoing>,
    pub(super) forwards: Forwards,
    notes: usize,
}

impl Task {
    pub(super) fn new(
        inbox: mpsc::Receiver<Order>,
        urgent: mpsc::Receiver<Urgent>,
        hello: oneshot::Sender<Hello>,
        clock: Arc<Clock>,
        connection: Connection,
    ) -> Self {
        let (taken_to, taken) = mpsc::unbounded_channel();
        Self {
            mux: Mux::host(),
            clock,
            speech: Speech::Speaking,
            inbox,
            urgent,
            hello: Some(hello),
            taken,
            taken_to,
            requests: HashMap::new(),
            next_request: 1,
            execs: HashMap::new(),
            next_exec: 1,
            incoming: HashMap::new(),
            outgoing: HashMap::new(),
            forwards: Forwards::new(connection),
            notes: 0,
        }
    }

    /// Runs until the verdict and then tells it to everyone who waits.
    pub(super) async fn run(
        mut self,
        link: Link,
        cut_to: oneshot::Sender<Cut>,
        mut verdict: oneshot::Receiver<Gone>,
    ) {
        // Without a verdict the owner itself is gone, and so is everything else of this VM.
        let gone = tokio::select! {
            gone = &mut verdict => gone.unwrap_or(Gone::Destroyed),
            cut = self.pump(link) => {
                let _ = cut_to.send(cut);
                verdict.await.unwrap_or(Gone::Destroyed)
            }
        };
        self.fail_all(&gone);
    }

    /// Moves bytes between the link and the mux until one of them is at its end.
    async fn pump(&mut self, link: Link) -> Cut {
        let (mut from, mut to) = tokio::io::split(link);
        let mut read = vec![0; READ];
        let (mut write, mut written) = (Vec::with_capacity(READ), 0);
        self.mux.attach();
        loop {
            if written == write.len() {
                write.clear();
                written = 0;
                self.speak(&mut write);
            }
            // In random order, so that neither a guest that never stops nor a busy consumer starves the rest.
            tokio::select! {
                count = from.read(&mut read) => match count {
                    Ok(0) => return Cut::Link("it was closed".to_owned()),
                    Ok(count) => if let Err(cut) = self.received(&read[..count]) { return cut },
                    Err(error) => return Cut::Link(error.to_string()),
                },
                count = to.write(&write[written..]), if written < write.len() => match count {
                    Ok(0) => return Cut::Link("it takes no more bytes".to_owned()),
                    Ok(count) => written += count,
                    Err(error) => return Cut::Link(error.to_string()),
                },
                Some(urgent) = self.urgent.recv() => self.urgent(urgent),
                Some(order) = self.inbox.recv(), if matches!(self.speech, Speech::Speaking) => self.order(order),
                Some(taken) = self.taken.recv() => {
                    self.took(taken);
                    while let Ok(taken) = self.taken.try_recv() {
                        self.took(taken);
                    }
                }
                (stream, code) = self.forwards.next_lost() => self.lost(stream, code),
            }
        }
    }

    fn took(&mut self, taken: Taken) {
        self.mux.consume(taken.stream, taken.bytes);
        self.forwards.taken(taken.stream, taken.bytes);
    }

    /// Nobody has a stream of the guest any more.
    fn lost(&mut self, stream: StreamId, code: Code) {
        if self.forwards.has(stream) {
            self.reset(stream, code);
        }
    }

    /// Appends what is to be written next.
    fn speak(&mut self, write: &mut Vec<u8>) {
        if matches!(self.speech, Speech::Holding) || self.mux.transmit(write) {
            return;
        }
        match std::mem::replace(&mut self.speech, Speech::Speaking) {
            Speech::Finishing(reply) => {
                let body = Body::Freeze(Freeze { disks: WriteBack::None });
                match self.ask(body, Waiting { reply, exec: None, streams: vec![] }) {
                    // nothing can have come between that would have to be said too
                    Ok(()) => {
                        while self.mux.transmit(write) {}
                        self.speech = Speech::Holding;
                    }
                    Err((error, waiting)) => drop(waiting.reply.send(Err(error))),
                }
            }
            speech @ (Speech::Speaking | Speech::Holding) => self.speech = speech,
        }
    }

    fn urgent(&mut self, urgent: Urgent) {
        let given_up = match (urgent, std::mem::replace(&mut self.speech, Speech::Speaking)) {
            (Urgent::Freeze { reply }, Speech::Speaking) => {
                self.speech = Speech::Finishing(reply);
                return;
            }
            (Urgent::Freeze { reply }, speech) => {
                self.speech = speech;
                reply
            }
            (Urgent::Thaw { reply }, speech) => {
                if let Err((error, waiting)) =
                    self.ask(Body::Thaw, Waiting { reply, exec: None, streams: vec![] })
                {
                    let _ = waiting.reply.send(Err(error));
                }
                match speech {
                    Speech::Finishing(reply) => reply,
                    Speech::Speaking | Speech::Holding => return,
                }
            }
        };
        let _ =
            given_up.send(Err(Error::Request("the VM is to stand still for another reason, or to go on")));
    }

    fn fail_all(&mut self, gone: &Gone) {
        self.inbox.close();
        self.urgent.close();
        if let Speech::Finishing(reply) = std::mem::replace(&mut self.speech, Speech::Speaking) {
            let _ = reply.send(Err(gone.clone().into()));
        }
        while let Ok(Urgent::Freeze { reply } | Urgent::Thaw { reply }) = self.urgent.try_recv() {
            let _ = reply.send(Err(gone.clone().into()));
        }
        for (_, waiting) in self.requests.drain() {
            let _ = waiting.reply.send(Err(gone.clone().into()));
        }
        for (_, exited) in self.execs.drain() {
            let _ = exited.send(Err(gone.clone().into()));
        }
        for (_, producer) in self.incoming.drain() {
            producer.fail(gone);
        }
        while let Ok(order) = self.inbox.try_recv() {
            refuse(order, gone);
        }
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let outcome = self.mux.receive(bytes);
        while let Some(event) = self.mux.poll_event() {
            self.event(event)?;
        }
        outcome.map_err(|error| match error {
            ProtocolError::Version { theirs } => Cut::Version(theirs),
            other => Cut::Protocol(printable(&other.to_string(), MAX_TEXT)),
        })
    }

    fn event(&mut self, event: Event<ToHost>) -> Result<(), Cut> {
        match event {
            Event::Hello(hello) => self.start(hello)?,
            Event::Started { .. } => {}
            Event::Message(message) => self.message(message)?,
            Event::Data { stream, time_ns, bytes, .. } => {
                let count = bytes.len();
                if !self.forwards.came(stream, count) {
                    self.reset(stream, Code::FAILED);
                    return Ok(());
                }
                let part = Part { stream, time: self.clock.guest_row(time_ns), bytes };
                if !self.incoming.get(&stream).is_some_and(|producer| producer.push(part)) {
                    self.mux.consume(stream, count);
                }
            }
            Event::Fin { stream } => self.incoming_ended(stream, Producer::finish_one),
            Event::Reset { stream, .. } => {
                self.incoming_ended(stream, Producer::cut_one);
                self.outgoing.remove(&stream);
                self.forwards.cut(stream);
            }
            Event::Credit { stream } => self.send_on(stream),
            Event::Closed { stream } => {
                self.outgoing.remove(&stream);
                self.forwards.over(stream);
            }
        }
        Ok(())
    }

    fn incoming_ended(&mut self, stream: StreamId, how: fn(&Producer)) {
        if let Some(producer) = self.incoming.remove(&stream) {
            how(&producer);
        }
    }

    /// Answers a Hello. A second one of the same agent is fine; one of another life of it is not: all that
    /// was under way in the first is lost.
    fn start(&mut self, hello: Hello) -> Result<(), Cut> {
        let epoch = if self.hello.is_some() {
            hello.epoch.checked_add(1).unwrap_or(1)
        } else if self.mux.can_resume() {
            self.mux.epoch()
        } else {
            return Err(Cut::Protocol("the agent started anew".to_owned()));
        };
        self.mux.start(epoch).map_err(|error| Cut::Protocol(error.to_string()))?;
        if let Some(to) = self.hello.take() {
            let _ = to.send(hello);
        }
        Ok(())
    }

    fn message(&mut self, message: ToHost) -> Result<(), Cut> {
        match message {
            ToHost::Reply(reply) => self.replied(reply)?,
            ToHost::Exited(exited) => {
                let to = self.execs.remove(&exited.exec).ok_or_else(|| {
                    Cut::Protocol(format!("the end of execution {}, which does not run", exited.exec))
                })?;
                tracing::debug!(exec = exited.exec.0, "exited");
                let time = self.clock.guest_row(exited.time_ns);
                let wire::message::Exited { code, signal, timed_out, .. } = exited;
                let _ = to.send(Ok(Exited { code, signal, timed_out, time }));
            }
            ToHost::Open(open) => self.opened(&open),
            ToHost::Note(note) => {
                self.notes += 1;
                if self.notes <= MAX_NOTES {
                    tracing::info!(text = %printable(&note.text, MAX_TEXT), "note of the agent");
                }
            }
        }
        Ok(())
    }

    fn replied(&mut self, reply: Reply) -> Result<(), Cut> {
        let Some(waiting) = self.requests.remove(&reply.id) else {
            return Err(Cut::Protocol(format!("an answer to request {}, which does not wait", reply.id)));
        };
        tracing::debug!(request = reply.id, failed = reply.result.is_err(), "answered");
        let result = reply.result.map_err(|failure| {
            self.give_up(waiting.exec, &waiting.streams);
            Error::Guest { kind: failure.kind, message: printable(&failure.message, MAX_TEXT) }
        });
        let _ = waiting.reply.send(result);
        Ok(())
    }

    fn give_up(&mut self, exec: Option<ExecId>, streams: &[StreamId]) {
        if let Some(exec) = exec {
            self.execs.remove(&exec);
        }
        for &stream in streams {
            self.reset(stream, Code::CANCELLED);
        }
    }

    pub(super) fn reset(&mut self, stream: StreamId, code: Code) {
        self.mux.reset(stream, code);
        self.outgoing.remove(&stream);
        self.forwards.cut(stream);
        self.incoming_ended(stream, Producer::cut_one);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Request { body, reply } => {
                if let Err((error, waiting)) = self.ask(*body, Waiting { reply, exec: None, streams: vec![] })
                {
                    let _ = waiting.reply.send(Err(error));
                }
            }
            Order::Exec { request, begun } => {
                // Nobody waits any more only where the owner is about to end the VM.
                let _ = begun.send(self.exec(*request));
            }
            Order::CopyIn { dest, owner, begun } => {
                let _ = begun.send(self.copy_in(dest, owner));
            }
            Order::CopyOut { path, begun } => {
                let _ = begun.send(self.copy_out(path));
            }
            Order::Ways(ways) => self.forwards.set(ways),
            Order::Accept { stream, begun } => {
                let _ = begun.send(self.accept(stream));
            }
            Order::Send { stream, bytes, taken } => {
                if let Some(outgoing) = self.outgoing.get_mut(&stream) {
                    outgoing.parts.push_back((bytes, 0, taken));
                    self.send_on(stream);
                }
            }
            Order::Finish { stream } => {
                if let Some(outgoing) = self.outgoing.get_mut(&stream) {
                    outgoing.finish = true;
                    self.send_on(stream);
                }
            }
            Order::Reset { stream, code } => self.reset(stream, code),
        }
    }

    /// Sends what the stream has credit for.
    fn send_on(&mut self, stream: StreamId) {
        let Some(outgoing) = self.outgoing.get_mut(&stream) else { return };
        let kept = self.forwards.kept(stream);
        while let Some((bytes, sent, _)) = outgoing.parts.front_mut() {
            let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
            let most = self.mux.capacity(stream).saturating_sub(kept).min(bytes.len() - *sent);
            *sent += self.mux.send(stream, &bytes[*sent..*sent + most], now);
            if *sent < bytes.len() {
                return;
            }
            if let Some((_, _, taken)) = outgoing.parts.pop_front() {
                let _ = taken.send(true);
            }
        }
        if outgoing.finish {
            self.mux.finish(stream);
            self.outgoing.remove(&stream);
        }
    }

    /// Sends a request; when that cannot be, what it had opened is given up.
    pub(super) fn ask(&mut self, body: Body, waiting: Waiting) -> Result<(), (Error, Waiting)> {
        let id = self.next_request;
        let what = name(&body);
        let message = ToGuest::Request(Request { id, epoch: self.mux.epoch(), body });
        let refused = if self.requests.len() >= MAX_REQUESTS + self.forwards.len() {
            Some("too many at once")
        } else if self.mux.backlog() > MAX_BACKLOG {
            Some("the guest does not read those before it")
        } else if self.mux.send_message(&message).is_err() {
            Some("it is longer than 4 MiB")
        } else {
            None
        };
        if let Some(why) = refused {
            self.give_up(waiting.exec, &waiting.streams);
            return Err((Error::Request(why), waiting));
        }
        // `cargo xtask bench exec` reads these two and `exited`: whose turn it was, the host's or the guest's
        tracing::debug!(request = id, what, exec = waiting.exec.map(|exec| exec.0), "asked");
        self.next_request += 1;
        self.requests.insert(id, waiting);
        Ok(())
    }

    fn open_outgoing(&mut self, streams: &mut Vec<StreamId>) -> Result<StreamId> {
        let stream = self.mux.open(Direction::Send).map_err(too_many)?;
        self.outgoing.insert(stream, Outgoing::default());
        streams.push(stream);
        Ok(stream)
    }

    fn open_incoming(&mut self, to: &Arc<Producer>, streams: &mut Vec<StreamId>) -> Result<StreamId> {
        let stream = self.mux.open(Direction::Receive).map_err(too_many)?;
        self.incoming.insert(stream, Arc::clone(to));
        streams.push(stream);
        Ok(stream)
    }

    fn exec(&mut self, request: ExecRequest) -> Result<BegunExec> {
        let mut streams = Vec::new();
        let opened = self.open_exec(&request, &mut streams);
        let (stdin, [stdout, stderr], output) = opened.inspect_err(|_| self.give_up(None, &streams))?;
        let exec = ExecId(self.next_exec);
        self.next_exec += 1;
        let (exited_to, exited) = oneshot::channel();
        self.execs.insert(exec, exited_to);
        let (reply_to, reply) = oneshot::channel();
        let timeout_ms =
            request.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let ExecRequest { argv, env, cwd, user, output: mode, .. } = request;
        let terminal = match mode {
            OutputMode::Terminal(size) => Some(size.into()),
            OutputMode::Merged | OutputMode::Separate => None,
        };
        let body =
            Body::Exec(Exec { exec, argv, env, cwd, user, stdin, stdout, stderr, timeout_ms, terminal });
        let waiting = Waiting { reply: reply_to, exec: Some(exec), streams };
        self.ask(body, waiting).map_err(|(error, _)| error)?;
        Ok(BegunExec { exec, stdin, stderr: (stdout != stderr).then_some(stderr), output, reply, exited })
    }

    /// Opens the streams of a command: its input, its two outputs (one, where they are merged).
    fn open_exec(
        &mut self,
        request: &ExecRequest,
        streams: &mut Vec<StreamId>,
    ) -> Result<(Option<StreamId>, [StreamId; 2], Consumer)> {
        let stdin = match request.stdin {
            Stdin::Null => None,
            Stdin::Bytes(_) | Stdin::Pipe => Some(self.open_outgoing(streams)?),
        };
        let outputs = match request.output {
            OutputMode::Merged | OutputMode::Terminal(_) => 1,
            OutputMode::Separate => 2,
        };
        let (producer, output) = delivery(outputs, self.taken_to.clone());
        let producer = Arc::new(producer);
        let stdout = self.open_incoming(&producer, streams)?;
        let stderr = match request.output {
            OutputMode::Merged | OutputMode::Terminal(_) => stdout,
            OutputMode::Separate => self.open_incoming(&producer, streams)?,
        };
        Ok((stdin, [stdout, stderr], output))
    }

    fn copy_in(&mut self, dest: String, owner: Account) -> Result<BegunCopyIn> {
        let mut streams = Vec::new();
        let stream = self.open_outgoing(&mut streams)?;
        let (reply_to, reply) = oneshot::channel();
        let waiting = Waiting { reply: reply_to, exec: None, streams };
        self.ask(Body::CopyIn(CopyIn { dest, stream, owner }), waiting).map_err(|(error, _)| error)?;
        Ok(BegunCopyIn { stream, reply })
    }

    fn copy_out(&mut self, path: String) -> Result<BegunCopyOut> {
        let mut streams = Vec::new();
        let (producer, content) = delivery(1, self.taken_to.clone());
        let stream = self.open_incoming(&Arc::new(producer), &mut streams)?;
        let (reply_to, reply) = oneshot::channel();
        let waiting = Waiting { reply: reply_to, exec: None, streams };
        self.ask(Body::CopyOut(CopyOut { path, stream }), waiting).map_err(|(error, _)| error)?;
        Ok(BegunCopyOut { stream, content, reply })
    }
}

/// What a request wants, for the log.
fn name(body: &Body) -> &'static str {
    match body {
        Body::Exec(_) => "exec",
        Body::CopyIn(_) => "copy-in",
        Body::CopyOut(_) => "copy-out",
        Body::Ping => "ping",
        Body::Accept(_) => "accept",
        _ => "other",
    }
}

fn too_many(_: OpenError) -> Error {
    Error::Request("too many streams at once")
}

/// Answers an order that came too late.
fn refuse(order: Order, gone: &Gone) {
    let gone = || Error::Gone(gone.clone());
    match order {
        Order::Request { reply, .. } => drop(reply.send(Err(gone()))),
        Order::Exec { begun, .. } => drop(begun.send(Err(gone()))),
        Order::CopyIn { begun, .. } => drop(begun.send(Err(gone()))),
        Order::CopyOut { begun, .. } => drop(begun.send(Err(gone()))),
        Order::Accept { begun, .. } => drop(begun.send(Err(gone()))),
        Order::Send { taken, .. } => drop(taken.send(false)),
        Order::Ways(_) | Order::Finish { .. } | Order::Reset { .. } => {}
    }
}
