//! Names that lead to the host: listening sockets, and a stream for each connection.
//!
//! Purpose: what a process of the guest says to a forward's address travels over the link, and back.
//! Owner: the loop.
//!
//! ```text
//!   connected ──▶ Open said ── Accept ──▶ bytes in both directions, each end by itself ──▶ both ended: closed
//!                    └── reset by either side, the table changed, a new epoch ──▶ reset (RST)
//! ```
//!
//! Invariants
//! - Nothing is read of a connection before the host accepted it, nor more than its stream has credit for: what waits,
//!   waits in the kernel.
//! - No connection stops another: each moves one bufferful a turn, and one without credit moves nothing.
//! - There are at most [`MOST`] connections; one more is reset.

mod connection;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
        sockopt::{
            set_socket_keepalive, set_socket_reuseaddr, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
        },
    },
};
use wire::{
    CREDIT, Code, Direction, Guest, Mux, StreamId,
    message::{Open, ToHost},
};

use self::connection::{Connection, Flow, abort};
use crate::{
    agent::{Pipe, User},
    poller::{Interest, Poller, Token},
};

/// Connections at a time: half of what a link can have of streams, so that commands always find some.
pub(crate) const MOST: usize = 2048;
/// Connections that the kernel holds for one listening socket until they are taken.
pub(crate) const BACKLOG: i32 = 1024;
/// Connections that are taken of one listening socket in a turn.
const A_TURN: usize = 64;
/// Bytes of messages that may wait for the host before connections are reset instead.
const MOST_SAID: usize = 64 * 1024;
/// Bytes that all connections together may have under way to the host, where each has as many as it has to.
const BUDGET: u64 = 32 << 20;
/// As many a stream has to have: its reader acknowledges no earlier.
const FEWEST: u64 = CREDIT / 4;

/// When a silent process is first asked whether it is there, and how often then. A kernel knows of a socket that was
/// closed for a minute.
const IDLE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_secs(15);

/// What the parts of the loop share.
pub(crate) struct Io<'a> {
    pub(crate) mux: &'a mut Mux<Guest>,
    pub(crate) poller: &'a Poller,
    pub(crate) pipes: &'a mut HashMap<Token, Pipe>,
    pub(crate) streams: &'a mut HashMap<StreamId, User>,
    pub(crate) next_token: &'a mut u64,
    pub(crate) buffer: &'a mut [u8],
}

impl Io<'_> {
    pub(crate) fn token(&mut self) -> Token {
        *self.next_token += 1;
        Token(*self.next_token)
    }

    /// Opens a stream to a service of the host; `None`: there are too many.
    pub(crate) fn open(&mut self, service: &str, user: User) -> Option<StreamId> {
        if self.mux.backlog() > MOST_SAID {
            return None;
        }
        let stream = self.mux.open(Direction::Both).ok()?;
        // it is shorter than any message may be
        let said = self.mux.send_message(&ToHost::Open(Open { stream, service: service.to_owned() }));
        if said.is_err() {
            self.mux.reset(stream, Code::CANCELLED);
            return None;
        }
        self.streams.insert(stream, user);
        Some(stream)
    }
}

/// A listening socket at an address. It waits for nobody.
pub(crate) fn listen_at(at: SocketAddrV4, backlog: i32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    // Connections have it of the socket that they came by. One whose process is gone has only ended its own direction as
    // far as we are told; asked, the kernel that had it answers with a reset.
    set_socket_keepalive(&socket, true)?;
    set_tcp_keepidle(&socket, IDLE)?;
    set_tcp_keepintvl(&socket, BETWEEN)?;
    bind(&socket, &at)?;
    listen(&socket, backlog)?;
    Ok(socket)
}

struct Listener {
    socket: OwnedFd,
    at: SocketAddrV4,
    service: String,
    /// Not while there was no descriptor for one more connection.
    polled: bool,
}

/// Once, however much of it has changed.
fn queue(turns: &mut VecDeque<Token>, token: Token, connection: &mut Connection) {
    if !std::mem::replace(&mut connection.queued, true) {
        turns.push_back(token);
    }
}

/// All forwards of the guest.
#[derive(Default)]
pub(crate) struct Forwards {
    listeners: BTreeMap<Token, Listener>,
    connections: HashMap<Token, Connection>,
    by_stream: HashMap<StreamId, Token>,
    /// Connections that may have something to move.
    turns: VecDeque<Token>,
}

impl Forwards {
    /// Makes `wanted` (where, and the service behind it) the whole table. Connections to what is still in it go on.
    pub(crate) fn set(&mut self, wanted: &[(SocketAddrV4, String)], io: &mut Io<'_>) -> io::Result<()> {
        let over: Vec<Token> = self
            .listeners
            .iter()
            .filter(|(_, listener)| {
                !wanted.iter().any(|(at, to)| *at == listener.at && *to == listener.service)
            })
            .map(|(token, _)| *token)
            .collect();
        for token in over {
            io.pipes.remove(&token);
            if let Some(listener) = self.listeners.remove(&token) {
                io.poller.remove(&listener.socket);
                let to_it = |connection: &&Connection| connection.listener == token;
                let streams: Vec<StreamId> =
                    self.connections.values().filter(to_it).map(|connection| connection.stream).collect();
                for stream in streams {
                    self.give_up(stream, io);
                }
            }
        }
        for (at, service) in wanted {
            if self.listeners.values().any(|listener| listener.at == *at) {
                continue;
            }
            let socket = listen_at(*at, BACKLOG)
                .map_err(|error| io::Error::new(error.kind(), format!("{at}: {error}")))?;
            let token = io.token();
            io.poller.add(&socket, token, Interest::Read)?;
            io.pipes.insert(token, Pipe::Listener);
            self.listeners
                .insert(token, Listener { socket, at: *at, service: service.clone(), polled: true });
        }
        Ok(())
    }

    /// A listening socket has connections.
    pub(crate) fn accept(&mut self, token: Token, io: &mut Io<'_>) {
        for _ in 0..A_TURN {
            let Some(listener) = self.listeners.get_mut(&token) else { return };
            match accept_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) if self.connections.len() >= MOST => abort(socket),
                Ok(socket) => {
                    let service = listener.service.clone();
                    self.take(socket, token, &service, io);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                // no descriptor or no memory for it: asked again when one was closed, or a moment later
                Err(_) => {
                    io.poller.remove(&listener.socket);
                    listener.polled = false;
                    return;
                }
            }
        }
    }

    fn take(&mut self, socket: OwnedFd, listener: Token, service: &str, io: &mut Io<'_>) {
        let token = io.token();
        // what is late for want of it comes all the same
        let _ = set_tcp_nodelay(&socket, true);
        if io.poller.add(&socket, token, Interest::Edges).is_err() {
            return abort(socket);
        }
        let Some(stream) = io.open(service, User::Forward) else { return abort(socket) };
        io.pipes.insert(token, Pipe::Connection);
        self.by_stream.insert(stream, token);
        self.connections.insert(token, Connection::new(socket, stream, listener));
    }

    /// The host has connected it. `false`: it is none of ours, or gone.
    pub(crate) fn accepted(&mut self, stream: StreamId) -> bool {
        let Some(token) = self.by_stream.get(&stream) else { return false };
        if let Some(connection) = self.connections.get_mut(token) {
            connection.accepted();
            queue(&mut self.turns, *token, connection);
        }
        true
    }

    /// Something about a socket has changed.
    pub(crate) fn ready(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.ready();
            queue(&mut self.turns, token, connection);
        }
    }

    /// The host sent bytes.
    pub(crate) fn data(&mut self, stream: StreamId, bytes: Vec<u8>) {
        self.of(stream, |connection| connection.push(bytes));
    }

    /// The host sends no more.
    pub(crate) fn fin(&mut self, stream: StreamId) {
        self.of(stream, Connection::fin);
    }

    /// The host took bytes.
    pub(crate) fn credit(&mut self, stream: StreamId) {
        self.of(stream, |_| {});
    }

    fn of(&mut self, stream: StreamId, change: impl FnOnce(&mut Connection)) {
        if let Some(token) = self.by_stream.get(&stream)
            && let Some(connection) = self.connections.get_mut(token)
        {
            change(connection);
            queue(&mut self.turns, *token, connection);
        }
    }

    /// The stream is over, in both directions.
    pub(crate) fn closed(&mut self, stream: StreamId, io: &mut Io<'_>) {
        drop(self.remove(stream, io));
    }

    /// The stream was reset by the host.
    pub(crate) fn reset(&mut self, stream: StreamId, io: &mut Io<'_>) {
        if let Some(connection) = self.remove(stream, io) {
            abort(connection.into_socket());
        }
    }

    /// Resets both sides.
    fn give_up(&mut self, stream: StreamId, io: &mut Io<'_>) {
        io.mux.reset(stream, Code::FAILED);
        io.streams.remove(&stream);
        self.reset(stream, io);
    }

    /// A new epoch: the host knows nothing of what there was.
    pub(crate) fn forget(&mut self, io: &mut Io<'_>) {
        let streams: Vec<StreamId> = self.by_stream.keys().copied().collect();
        for stream in streams {
            self.reset(stream, io);
        }
    }

    fn remove(&mut self, stream: StreamId, io: &mut Io<'_>) -> Option<Connection> {
        let token = self.by_stream.remove(&stream)?;
        io.pipes.remove(&token);
        let connection = self.connections.remove(&token)?;
        // before it is closed: see `Poller`
        io.poller.remove(connection.socket());
        self.resume(io);
        Some(connection)
    }

    /// Whether there is something to do without being told.
    pub(crate) fn is_busy(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether a listening socket waits for a descriptor.
    pub(crate) fn is_paused(&self) -> bool {
        self.listeners.values().any(|listener| !listener.polled)
    }

    /// Asks again for what there was no descriptor for.
    pub(crate) fn resume(&mut self, io: &mut Io<'_>) {
        for (token, listener) in &mut self.listeners {
            if !listener.polled {
                listener.polled = io.poller.add(&listener.socket, *token, Interest::Read).is_ok();
            }
        }
    }

    /// Moves what can be moved: one turn of each that may have something.
    pub(crate) fn turn(&mut self, io: &mut Io<'_>) {
        let share = BUDGET / (self.connections.len() as u64).max(1);
        let window = share.clamp(FEWEST, CREDIT);
        for _ in 0..self.turns.len() {
            let Some(token) = self.turns.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            connection.queued = false;
            match connection.pump(io.mux, io.buffer, window) {
                Flow::Waits => {}
                Flow::Again => queue(&mut self.turns, token, connection),
                Flow::Broken => {
                    let stream = connection.stream;
                    self.give_up(stream, io);
                }
            }
        }
    }
}
