//! The resolver of the guest's processes.
//!
//! Purpose: names of forwards are answered here; for all others the host is asked, or there are none.
//! Owner: the loop.
//!
//! ```text
//!   question (UDP, TCP) ──▶ a forward's name ──▶ its address
//!                      └──▶ another ──▶ Nobody: no such name
//!                                  └──▶ Host: one stream for all, by an id of ours ──▶ answer, by the asker's id
//!                                             └── time is up, too many, the host says no ──▶ failed
//! ```
//!
//! Invariants
//! - Every question that can be read gets one answer, within [`PATIENCE`].
//! - At most [`MOST_ASKED`] questions wait for the host and at most [`MOST_CLIENTS`] connections are open; each of them
//!   holds no more than a few messages.
//! - An id of ours is not used again before all others were.

mod client;
pub(crate) mod fuzz;
mod message;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, recvfrom, sendto,
        socket_with,
    },
};
use wire::{
    Code, StreamId,
    message::{Names, Open, Others},
};

use self::{
    client::Client,
    message::{MOST, Question, parse},
};
use crate::{
    agent::{Pipe, User},
    forwards::{Io, listen_at},
    poller::{Interest, Token},
    system::now_ns,
};

const PORT: u16 = 53;
/// How long the host may take for an answer. Resolvers ask again after five seconds, and give up after two more of that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions that wait for the host.
const MOST_ASKED: usize = 512;
/// Connections to the resolver.
const MOST_CLIENTS: usize = 128;
const BACKLOG: i32 = 128;
/// Datagrams and connections that are taken in a turn.
const A_TURN: usize = 64;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Datagram(SocketAddrV4),
    Client(Token),
}

/// A question that the host was asked.
struct Asked {
    question: Question,
    asker: Asker,
    until: Instant,
}

/// Where it listens.
struct Open4 {
    names: Names,
    datagrams: (OwnedFd, Token),
    connections: (OwnedFd, Token),
}

/// The resolver.
#[derive(Default)]
pub(crate) struct Stub {
    open: Option<Open4>,
    forwards: HashMap<String, Ipv4Addr>,
    clients: HashMap<Token, Client>,
    asked: HashMap<u16, Asked>,
    next: u16,
    /// The stream to the host's resolver.
    stream: Option<StreamId>,
    /// What came of an answer so far.
    inbox: Vec<u8>,
}

impl Stub {
    /// Listens as `names` has it, and knows the names of `forwards`.
    pub(crate) fn set(
        &mut self,
        names: Option<Names>,
        forwards: HashMap<String, Ipv4Addr>,
        io: &mut Io<'_>,
    ) -> io::Result<()> {
        self.forwards = forwards;
        if self.open.as_ref().map(|open| open.names) == names {
            return Ok(());
        }
        let before = self.open.as_ref().map(|open| open.names.address);
        if let (Some(names), Some(open)) = (names, &mut self.open)
            && before == Some(names.address)
        {
            open.names = names;
            return Ok(());
        }
        self.close(io);
        self.open = names.map(|names| open(names, io)).transpose()?;
        Ok(())
    }

    fn close(&mut self, io: &mut Io<'_>) {
        let clients: Vec<Token> = self.clients.keys().copied().collect();
        for token in clients {
            self.hang_up(token, io);
        }
        self.asked.clear();
        if let Some(Open4 { datagrams, connections, .. }) = self.open.take() {
            for (socket, token) in [datagrams, connections] {
                io.poller.remove(&socket);
                io.pipes.remove(&token);
            }
        }
    }

    /// One of its sockets is ready.
    pub(crate) fn ready(&mut self, token: Token, io: &mut Io<'_>) {
        match &self.open {
            Some(open) if open.datagrams.1 == token => self.datagrams(io),
            Some(open) if open.connections.1 == token => self.connections(io),
            _ => self.serve(token, io),
        }
    }

    fn datagrams(&mut self, io: &mut Io<'_>) {
        let mut message = [0; MOST + 1];
        for _ in 0..A_TURN {
            let Some(open) = &self.open else { return };
            let (length, from) = match recvfrom(&open.datagrams.0, &mut message, RecvFlags::empty()) {
                Ok((_, length, from)) => (length, from),
                Err(Errno::AGAIN) => return,
                // what a datagram of ours met
                Err(_) => continue,
            };
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            if let Some(SocketAddr::V4(from)) = from {
                self.question(message.get(..length).unwrap_or_default(), Asker::Datagram(from), io);
            }
        }
    }

    fn connections(&mut self, io: &mut Io<'_>) {
        for _ in 0..A_TURN {
            let Some(open) = &self.open else { return };
            match accept_with(&open.connections.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                // one more than there may be hears nothing, and asks again
                Ok(socket) if self.clients.len() >= MOST_CLIENTS => drop(socket),
                Ok(socket) => {
                    let token = io.token();
                    if io.poller.add(&socket, token, Interest::Edges).is_ok() {
                        io.pipes.insert(token, Pipe::Names);
                        self.clients.insert(token, Client::new(socket));
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes what a connection has to ask, and writes what it is to hear.
    fn serve(&mut self, token: Token, io: &mut Io<'_>) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let questions = client.read();
        for question in questions {
            self.question(&question, Asker::Client(token), io);
        }
        if let Some(client) = self.clients.get_mut(&token)
            && client.is_over()
        {
            self.hang_up(token, io);
        }
    }

    fn hang_up(&mut self, token: Token, io: &mut Io<'_>) {
        io.pipes.remove(&token);
        if let Some(client) = self.clients.remove(&token) {
            io.poller.remove(client.socket());
        }
    }

    fn question(&mut self, message: &[u8], asker: Asker, io: &mut Io<'_>) {
        let Some(others) = self.open.as_ref().map(|open| open.names.others) else { return };
        let question = match parse(message) {
            Ok(question) => question,
            Err(unreadable) => {
                if let Some(answer) = unreadable.answer() {
                    self.tell(asker, answer, io);
                }
                return;
            }
        };
        if let Some(address) = self.forwards.get(&question.name) {
            let answer = question.address(*address);
            return self.tell(asker, answer, io);
        }
        match others {
            Others::Nobody => self.tell(asker, question.empty(message::Code::NoSuchName), io),
            Others::Host => self.ask(message, question, asker, io),
        }
    }

    /// Asks the host.
    fn ask(&mut self, message: &[u8], question: Question, asker: Asker, io: &mut Io<'_>) {
        let id = self.next;
        let stream = match self.stream {
            Some(stream) => Some(stream),
            None => io.open(Open::DNS, User::Names),
        };
        self.stream = stream;
        let length = u16::try_from(message.len()).map(u16::to_be_bytes);
        let renamed = message::renamed(message.to_vec(), id);
        let (Some(stream), Ok(length), Some(renamed)) = (stream, length, renamed) else {
            return self.tell(asker, question.failed(), io);
        };
        let framed = [&length[..], &renamed].concat();
        if self.asked.len() >= MOST_ASKED
            || self.asked.contains_key(&id)
            || io.mux.capacity(stream) < framed.len()
        {
            return self.tell(asker, question.failed(), io);
        }
        io.mux.send(stream, &framed, now_ns());
        self.next = self.next.wrapping_add(1);
        self.asked.insert(id, Asked { question, asker, until: Instant::now() + PATIENCE });
    }

    /// The host's resolver has said something.
    pub(crate) fn data(&mut self, stream: StreamId, bytes: &[u8], io: &mut Io<'_>) {
        io.mux.consume(stream, bytes.len());
        if self.stream != Some(stream) {
            return;
        }
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>()
            && let Some((answer, after)) = after.split_at_checked(u16::from_be_bytes(*length).into())
        {
            self.answered(answer, io);
            rest = after;
        }
        self.inbox = rest.to_vec();
    }

    fn answered(&mut self, answer: &[u8], io: &mut Io<'_>) {
        let asked = message::id(answer).and_then(|id| self.asked.remove(&id));
        // late, or to nobody
        let Some(Asked { question, asker, .. }) = asked else { return };
        let answer = message::renamed(answer.to_vec(), question.id()).unwrap_or_else(|| question.failed());
        let short = match asker {
            Asker::Datagram(_) => answer.len() <= question.limit(),
            Asker::Client(_) => true,
        };
        self.tell(asker, if short { answer } else { question.truncated() }, io);
    }

    /// The stream to the host's resolver is over: whoever waits for it hears so, and the next question opens another.
    pub(crate) fn gone(&mut self, stream: StreamId, io: &mut Io<'_>) {
        if self.stream != Some(stream) {
            return;
        }
        io.mux.reset(stream, Code::CANCELLED);
        io.streams.remove(&stream);
        self.forget(io);
    }

    /// A new epoch: what the host was asked it knows nothing of.
    pub(crate) fn forget(&mut self, io: &mut Io<'_>) {
        self.stream = None;
        self.inbox.clear();
        for (_, Asked { question, asker, .. }) in std::mem::take(&mut self.asked) {
            self.tell(asker, question.failed(), io);
        }
    }

    fn tell(&mut self, asker: Asker, answer: Vec<u8>, io: &mut Io<'_>) {
        match asker {
            Asker::Datagram(to) => {
                if let Some(open) = &self.open {
                    // one that is lost is asked for again, as any datagram
                    let _ = sendto(&open.datagrams.0, &answer, SendFlags::empty(), &to);
                }
            }
            Asker::Client(token) => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.write(&answer);
                    if client.is_over() {
                        self.hang_up(token, io);
                    }
                }
            }
        }
    }

    /// When it wants to be asked for deadlines again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.values().map(|asked| asked.until).min();
        let clients = self.clients.values().map(Client::until).min();
        asked.into_iter().chain(clients).min()
    }

    /// Ends what has waited for too long.
    pub(crate) fn deadlines(&mut self, now: Instant, io: &mut Io<'_>) {
        let late: Vec<u16> =
            self.asked.iter().filter(|(_, asked)| asked.until <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(Asked { question, asker, .. }) = self.asked.remove(&id) {
                self.tell(asker, question.failed(), io);
            }
        }
        let idle: Vec<Token> = self
            .clients
            .iter()
            .filter(|(_, client)| client.until() <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in idle {
            self.hang_up(token, io);
        }
    }
}

fn open(names: Names, io: &mut Io<'_>) -> io::Result<Open4> {
    let at = SocketAddrV4::new(names.address, PORT);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let datagrams = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    bind(&datagrams, &at)?;
    let connections = listen_at(at, BACKLOG)?;
    let (first, second) = (io.token(), io.token());
    io.poller.add(&datagrams, first, Interest::Read)?;
    io.poller.add(&connections, second, Interest::Read)?;
    io.pipes.insert(first, Pipe::Names);
    io.pipes.insert(second, Pipe::Names);
    Ok(Open4 { names, datagrams: (datagrams, first), connections: (connections, second) })
}
