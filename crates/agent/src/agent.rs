//! The loop.
//!
//! Purpose: one turn after the other: take what came, move what can be moved, write, wait.
//! Owner: the process.
//!
//! Invariants
//! - What is read from a link is bounded per turn, so a busy host does not starve the pipes.
//! - While frozen nothing is written but a Hello, until a Thaw or a Start comes.
//! - A new epoch forgets what the old one asked for: its executions run on, their output is dropped.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use wire::{
    Code, Event, ExecId, Guest, Mux, StreamId,
    message::{Answer, Copied, Failure, Reply, ToGuest, ToHost},
};

use crate::{
    cgroup::Cgroups,
    copy::{Incoming, News, Outgoing, Reports},
    exec::Exec,
    failure::failure,
    hosted::Hosted,
    life::{Life, Silence, Stage},
    link::{Change, Link, Taken},
    poller::{Interest, Poller, Token},
    prepare::Disks,
    system,
    ways::Ways,
};

/// Read from the link at a time; also the buffer for pipes.
const BUFFER: usize = 256 * 1024;
/// How often a link that is not open is looked at, should its wake-up get lost.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long the answer to a Shutdown may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the agent stands on.
#[derive(Debug)]
pub(crate) enum Ground {
    /// It is PID 1 of a machine.
    Machine,
    /// It stands in for one below a directory.
    Hosted(Hosted),
}

/// What a pipe's token means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pipe {
    Input(u64),
    Output(u64, usize),
    /// A forward's listening socket.
    Listener,
    /// A connection over a forward.
    Connection,
    /// One of the resolver's sockets.
    Names,
}

/// What a stream belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    Input(u64),
    Output(u64, usize),
    CopyIn,
    CopyOut,
    /// A connection over a forward.
    Forward,
    /// The host's resolver.
    Names,
}

/// The agent.
pub(crate) struct Agent {
    pub(crate) ground: Ground,
    pub(crate) disks: Disks,
    pub(crate) life: Life,
    pub(crate) silence: Silence,
    pub(crate) mux: Mux<Guest>,
    pub(crate) poller: Poller,
    pub(crate) cgroups: Cgroups,
    /// A command has ended, and the group that is made ahead may be gone.
    pub(crate) refill: bool,
    link: Link,
    link_readable: bool,
    /// Whole frames that are not written yet.
    out: Vec<u8>,
    written: usize,
    signals: OwnedFd,
    pub(crate) reports: Reports,
    /// The epoch before this one.
    pub(crate) before: u32,
    pub(crate) buffer: Vec<u8>,
    pub(crate) next_token: u64,
    pub(crate) next_exec: u64,
    pub(crate) pipes: HashMap<Token, Pipe>,
    pub(crate) streams: HashMap<StreamId, User>,
    /// By an own number, because ids begin anew in each epoch.
    pub(crate) execs: BTreeMap<u64, Exec>,
    pub(crate) by_id: HashMap<ExecId, u64>,
    pub(crate) by_pid: HashMap<Pid, u64>,
    pub(crate) incoming: HashMap<StreamId, Incoming>,
    pub(crate) outgoing: HashMap<StreamId, Outgoing>,
    pub(crate) ways: Ways,
}

impl Agent {
    /// `signals` reports SIGCHLD and SIGTERM.
    pub(crate) fn new(ground: Ground, poller: Poller, link: Link, signals: OwnedFd) -> io::Result<Self> {
        let reports = Reports::new()?;
        poller.add(&signals, Token::SIGNALS, Interest::Read)?;
        poller.add(reports.bell(), Token::WORKERS, Interest::Read)?;
        Ok(Self {
            ground,
            disks: Disks::default(),
            life: Life::Fresh,
            silence: Silence::No,
            mux: Mux::guest(crate::VERSION),
            poller,
            cgroups: Cgroups::default(),
            refill: false,
            link,
            link_readable: false,
            out: Vec::with_capacity(BUFFER),
            written: 0,
            signals,
            reports,
            before: 0,
            buffer: vec![0; BUFFER],
            next_token: Token::FIRST_PIPE,
            next_exec: 0,
            pipes: HashMap::new(),
            streams: HashMap::new(),
            execs: BTreeMap::new(),
            by_id: HashMap::new(),
            by_pid: HashMap::new(),
            incoming: HashMap::new(),
            outgoing: HashMap::new(),
            ways: Ways::default(),
        })
    }

    /// Runs until the host or a SIGTERM ends it.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.look_at_link()?;
        loop {
            self.read_link()?;
            while let Some(event) = self.mux.poll_event() {
                self.event(event);
            }
            self.settle();
            self.with_ways(|ways, io| ways.forwards.turn(io));
            self.write_link()?;
            if std::mem::take(&mut self.refill) {
                self.refill();
            }
            if let Life::Ending(by) = self.life
                && (self.out.is_empty() || !self.link.is_open() || Instant::now() >= by)
            {
                return Ok(());
            }
            for token in self.poller.wait(self.timeout())? {
                self.ready(token)?;
            }
            if !self.link.is_open() {
                self.look_at_link()?;
            }
            self.deadlines();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.link_readable || self.ways.forwards.is_busy() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let ending = match self.life {
            Life::Ending(by) => Some(by),
            Life::Fresh | Life::Warm | Life::Prepared | Life::Freezing(..) | Life::Frozen => None,
        };
        let names = self.ways.names.deadline();
        let next = self.execs.values().filter_map(|exec| exec.deadline).chain(ending).chain(names).min();
        let next = next.map(|deadline| deadline.saturating_duration_since(now));
        let look = (!self.link.is_open() || self.ways.forwards.is_paused()).then_some(LOOK_AGAIN);
        next.into_iter().chain(look).min()
    }

    fn look_at_link(&mut self) -> io::Result<()> {
        if self.link.ready(&self.poller)? == Change::Opened {
            self.out.clear();
            self.written = 0;
            self.mux.attach();
            self.link_readable = true;
        }
        Ok(())
    }

    fn lost_link(&mut self) -> io::Result<()> {
        self.out.clear();
        self.written = 0;
        self.link_readable = false;
        self.link.close(&self.poller)
    }

    fn ready(&mut self, token: Token) -> io::Result<()> {
        match token {
            Token::LISTENER => self.look_at_link()?,
            Token::LINK => {
                if self.link.is_open() {
                    self.link_readable = true;
                } else {
                    self.look_at_link()?;
                }
            }
            Token::SIGNALS => {
                while let Some(signal) = system::next_signal(&self.signals) {
                    if signal == Signal::TERM.as_raw() {
                        self.life = Life::Ending(Instant::now());
                    }
                }
                self.reap();
            }
            Token::WORKERS => {
                self.reports.silence();
                while let Some(news) = self.reports.next() {
                    self.news(news);
                }
            }
            token => match self.pipes.get(&token).copied() {
                Some(Pipe::Input(exec)) => self.pump_input(exec),
                Some(Pipe::Output(exec, index)) => self.pump_output(exec, index),
                Some(Pipe::Listener) => self.with_ways(|ways, io| ways.forwards.accept(token, io)),
                Some(Pipe::Connection) => self.ways.forwards.ready(token),
                Some(Pipe::Names) => self.with_ways(|ways, io| ways.names.ready(token, io)),
                None => {}
            },
        }
        Ok(())
    }

    fn read_link(&mut self) -> io::Result<()> {
        if !self.link_readable {
            return Ok(());
        }
        let mut taken = 0;
        while taken < BUFFER {
            match self.link.read(&mut self.buffer)? {
                Taken::Bytes(count) => {
                    taken += count;
                    let bytes = self.buffer.get(..count).unwrap_or_default();
                    if self.mux.receive(bytes).is_err() {
                        // The host has gone mad, or this is what it said to a fork's parent: from the start.
                        return self.lost_link();
                    }
                }
                Taken::Nothing => {
                    self.link_readable = false;
                    return Ok(());
                }
                Taken::Gone => return self.lost_link(),
            }
        }
        Ok(())
    }

    fn write_link(&mut self) -> io::Result<()> {
        if !self.link.is_open() {
            return Ok(());
        }
        loop {
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                // A Hello goes out even then.
                if self.silence == Silence::Yes && self.mux.is_running() {
                    return Ok(());
                }
                if !self.mux.transmit(&mut self.out) && !self.last_words() {
                    return Ok(());
                }
                // A link that takes everything is used in large writes.
                while self.out.len() < BUFFER / 2 && self.mux.transmit(&mut self.out) {}
            }
            match self.link.write(self.out.get(self.written..).unwrap_or_default())? {
                Taken::Bytes(count) => self.written += count,
                Taken::Nothing => return Ok(()),
                Taken::Gone => return self.lost_link(),
            }
        }
    }

    /// All that was said is written. Where only Frozen is left to say it is put into the buffer, so that whoever
    /// hears it knows that nothing more is under way.
    fn last_words(&mut self) -> bool {
        let Life::Freezing(request, Stage::LastWords) = self.life else { return false };
        if self.mux.backlog() > 0 || !self.mux.is_running() {
            return false;
        }
        self.life = Life::Frozen;
        self.reply(request, Ok(Answer::Frozen));
        while self.mux.transmit(&mut self.out) {}
        self.silence = Silence::Yes;
        true
    }

    fn event(&mut self, event: Event<ToGuest>) {
        match event {
            Event::Hello(_) => {}
            Event::Started { resumed, .. } => {
                self.silence = Silence::No;
                if !resumed {
                    self.forget();
                }
            }
            Event::Message(ToGuest::Request(request)) => self.request(request),
            Event::Data { stream, bytes, .. } => match self.streams.get(&stream).copied() {
                Some(User::Input(exec)) => {
                    if let Some(input) = self.execs.get_mut(&exec).and_then(|exec| exec.stdin.as_mut()) {
                        input.push(bytes);
                        self.pump_input(exec);
                    } else {
                        self.mux.reset(stream, Code::CANCELLED);
                    }
                }
                Some(User::CopyIn) => {
                    if let Some(copy) = self.incoming.get(&stream) {
                        copy.push(bytes);
                    }
                }
                Some(User::Forward) => self.ways.forwards.data(stream, bytes),
                Some(User::Names) => self.with_ways(|ways, io| ways.names.data(stream, &bytes, io)),
                Some(User::Output(..) | User::CopyOut) | None => self.mux.reset(stream, Code::CANCELLED),
            },
            Event::Fin { stream } => match self.streams.get(&stream).copied() {
                Some(User::Input(exec)) => {
                    if let Some(input) = self.execs.get_mut(&exec).and_then(|exec| exec.stdin.as_mut()) {
                        input.finish();
                        self.pump_input(exec);
                    }
                }
                Some(User::CopyIn) => {
                    if let Some(copy) = self.incoming.get(&stream) {
                        copy.finish();
                    }
                }
                Some(User::Forward) => self.ways.forwards.fin(stream),
                Some(User::Names) => self.with_ways(|ways, io| ways.names.gone(stream, io)),
                Some(User::Output(..) | User::CopyOut) | None => {}
            },
            Event::Credit { stream } => match self.streams.get(&stream).copied() {
                Some(User::Output(exec, index)) => self.credit_output(exec, index),
                Some(User::CopyOut) => self.pump_copy(stream),
                Some(User::Forward) => self.ways.forwards.credit(stream),
                Some(User::Input(_) | User::CopyIn | User::Names) | None => {}
            },
            Event::Reset { stream, .. } => self.stream_gone(stream),
            Event::Closed { stream } => {
                if let Some(User::Forward) = self.streams.remove(&stream) {
                    self.with_ways(|ways, io| ways.forwards.closed(stream, io));
                }
            }
        }
    }

    /// A stream was reset by the host.
    fn stream_gone(&mut self, stream: StreamId) {
        match self.streams.remove(&stream) {
            Some(User::Input(exec)) => self.close_input(exec),
            Some(User::Output(exec, index)) => self.abandon_output(exec, index),
            // The thread notices that nobody talks to it any more; how it ends is still answered.
            Some(User::CopyIn) => {
                if let Some(copy) = self.incoming.get_mut(&stream) {
                    copy.cut();
                }
            }
            Some(User::CopyOut) => {
                if let Some(copy) = self.outgoing.get_mut(&stream) {
                    copy.cut();
                }
            }
            Some(User::Forward) => self.with_ways(|ways, io| ways.forwards.reset(stream, io)),
            Some(User::Names) => self.with_ways(|ways, io| ways.names.gone(stream, io)),
            None => {}
        }
    }

    /// A new epoch has begun.
    fn forget(&mut self) {
        self.before = self.reports.begin(self.mux.epoch());
        // whoever asked for it is gone; that the job has stopped stays true
        if let Life::Freezing(..) = self.life {
            self.life = Life::Frozen;
        }
        self.by_id.clear();
        self.streams.clear();
        self.with_ways(|ways, io| {
            ways.forwards.forget(io);
            ways.names.forget(io);
        });
        self.incoming.clear();
        self.outgoing.clear();
        let execs: Vec<(u64, usize)> =
            self.execs.iter().map(|(number, exec)| (*number, exec.outputs.len())).collect();
        for (number, outputs) in execs {
            if let Some(exec) = self.execs.get_mut(&number) {
                exec.reported = true;
            }
            self.close_input(number);
            (0..outputs).for_each(|index| self.abandon_output(number, index));
        }
    }

    pub(crate) fn pump_copy(&mut self, stream: StreamId) {
        let Some(copy) = self.outgoing.get_mut(&stream) else { return };
        if copy.pump(&mut self.mux, stream) {
            match &copy.outcome {
                Some(Ok(_)) => self.mux.finish(stream),
                Some(Err(_)) => self.mux.reset(stream, Code::FAILED),
                None => {}
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Consumed(stream, count) => self.mux.consume(stream, count),
            News::Piece(stream) => self.pump_copy(stream),
            News::Copied(stream, outcome) => {
                if let Some(copy) = self.incoming.remove(&stream) {
                    if self.streams.remove(&stream).is_some() && outcome.is_err() {
                        self.mux.reset(stream, Code::FAILED);
                    }
                    self.reply(copy.request, outcome.map(copied));
                } else if let Some(copy) = self.outgoing.get_mut(&stream) {
                    copy.outcome = Some(outcome);
                    self.pump_copy(stream);
                }
            }
            News::Synced(request) => {
                if self.life == Life::Freezing(request, Stage::Writing) {
                    self.life = Life::Freezing(request, Stage::LastWords);
                }
            }
        }
    }

    /// Makes ahead what the next command needs.
    pub(crate) fn refill(&mut self) {
        if let Ground::Machine = self.ground {
            self.cgroups.refill();
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(crate) fn reply(&mut self, id: u64, result: Result<Answer, Failure>) {
        self.say(&ToHost::Reply(Reply { id, result }));
    }

    pub(crate) fn say(&mut self, message: &ToHost) {
        if self.mux.send_message(message).is_err() {
            // Only a reply could be too long, and none is: texts are cut.
            let text = failure(wire::message::FailureKind::Io, "a message of the agent is too long").message;
            let _ = self.mux.send_message(&ToHost::Note(wire::message::Note { text }));
        }
    }

    /// Ends as soon as what was said is written.
    pub(crate) fn end(&mut self) {
        self.life = Life::Ending(Instant::now() + LAST_WORDS);
    }
}

pub(crate) fn copied(copied: tree::Copied) -> Answer {
    Answer::Copied(Copied { entries: copied.entries, bytes: copied.bytes })
}
