//! One connection of a process of the guest, and its stream.
//!
//! Owner: [`Forwards`](super::Forwards). Nothing here waits: `pump` is called whenever the socket or the stream changed.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        Shutdown, shutdown,
        sockopt::{set_socket_linger, socket_error},
    },
};
use wire::{CREDIT, Guest, Mux, StreamId};

use crate::{poller::Token, system::now_ns};

/// Bytes that are read of a connection in a turn.
const PIECE: usize = 64 * 1024;

/// Closes a connection so that the other side sees a reset.
pub(super) fn abort(socket: OwnedFd) {
    // one that is gone already is reset as well
    let _ = set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

/// Whether a connection has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Not before it is told.
    Waits,
    /// Yes.
    Again,
    /// Its socket failed.
    Broken,
}

pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) stream: StreamId,
    pub(super) listener: Token,
    accepted: bool,
    /// The socket may have bytes, or their end.
    readable: bool,
    /// The socket may have room.
    writable: bool,
    /// All that the process sent was read.
    ended: bool,
    /// From the host.
    queue: VecDeque<Vec<u8>>,
    /// How much of the first in the queue is written.
    written: usize,
    fin: bool,
    shut: bool,
    /// The socket has said something that may be an error.
    suspect: bool,
    /// Whether it has a turn to come.
    pub(super) queued: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, stream: StreamId, listener: Token) -> Self {
        Self {
            socket,
            stream,
            listener,
            accepted: false,
            readable: false,
            writable: true,
            ended: false,
            queue: VecDeque::new(),
            written: 0,
            fin: false,
            shut: false,
            suspect: false,
            queued: false,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    pub(super) fn accepted(&mut self) {
        self.accepted = true;
        self.readable = true;
    }

    pub(super) fn ready(&mut self) {
        self.readable = true;
        self.writable = true;
        self.suspect = true;
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        self.queue.push_back(bytes);
    }

    pub(super) fn fin(&mut self) {
        self.fin = true;
    }

    pub(super) fn pump(&mut self, mux: &mut Mux<Guest>, buffer: &mut [u8], window: u64) -> Flow {
        // a reset is seen also where nothing is read or written
        if std::mem::take(&mut self.suspect) && !matches!(socket_error(&self.socket), Ok(Ok(()))) {
            return Flow::Broken;
        }
        match self.write(mux).and_then(|()| self.read(mux, buffer, window)) {
            Ok(flow) => flow,
            Err(_) => Flow::Broken,
        }
    }

    /// Writes what the host sent; bounded by its credit.
    fn write(&mut self, mux: &mut Mux<Guest>) -> Result<(), Errno> {
        while self.writable
            && let Some(bytes) = self.queue.front()
        {
            match rustix::io::write(&self.socket, bytes.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    self.written += count;
                    mux.consume(self.stream, count);
                    if self.written == bytes.len() {
                        self.queue.pop_front();
                        self.written = 0;
                    }
                }
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.fin && !self.shut && self.queue.is_empty() {
            self.shut = true;
            shutdown(&self.socket, Shutdown::Write)?;
        }
        Ok(())
    }

    /// Reads one piece, as far as credit goes.
    fn read(&mut self, mux: &mut Mux<Guest>, buffer: &mut [u8], window: u64) -> Result<Flow, Errno> {
        if !self.accepted || self.ended || !self.readable {
            return Ok(Flow::Waits);
        }
        let kept = usize::try_from(CREDIT - window).unwrap_or(0);
        let most = mux.capacity(self.stream).saturating_sub(kept).min(PIECE);
        if most == 0 {
            return Ok(Flow::Waits);
        }
        let Some(buffer) = buffer.get_mut(..most) else { return Ok(Flow::Waits) };
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => {
                self.ended = true;
                mux.finish(self.stream);
                Ok(Flow::Waits)
            }
            Ok(count) => {
                mux.send(self.stream, buffer.get(..count).unwrap_or_default(), now_ns());
                Ok(Flow::Again)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(Flow::Waits)
            }
            Err(Errno::INTR) => Ok(Flow::Again),
            Err(errno) => Err(errno),
        }
    }
}
