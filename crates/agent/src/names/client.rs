//! One connection to the resolver: messages, each behind its length.
//!
//! Owner: the [`Stub`](super::Stub). It is edge-triggered: `read` and `write` go on until there is no more.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::io::Errno;

use super::message::MOST;

/// How long one may be silent.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of answers that one may leave unread.
const MOST_UNREAD: usize = 128 * 1024;
/// Bytes that are read of one in a turn; one that has sent more than that at once is not a resolver.
const A_TURN: usize = 64 * 1024;

pub(super) struct Client {
    socket: OwnedFd,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Questions that it has asked, and answers that it has got.
    waits: usize,
    ended: bool,
    broken: bool,
    until: Instant,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            inbox: Vec::new(),
            outbox: Vec::new(),
            waits: 0,
            ended: false,
            broken: false,
            until: Instant::now() + IDLE,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// The questions that are whole; also writes what could not be written before.
    pub(super) fn read(&mut self) -> Vec<Vec<u8>> {
        self.flush();
        let mut buffer = [0; 4096];
        let mut taken = 0;
        let mut questions = Vec::new();
        while !self.ended && !self.broken {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    taken += count;
                    self.inbox.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    self.cut(&mut questions);
                    self.broken |= taken > A_TURN;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.broken = true,
            }
        }
        if !questions.is_empty() {
            self.until = Instant::now() + IDLE;
            self.waits += questions.len();
        }
        questions
    }

    fn cut(&mut self, questions: &mut Vec<Vec<u8>>) {
        let mut rest = &self.inbox[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MOST {
                self.broken = true;
                break;
            }
            let Some((question, after)) = after.split_at_checked(length) else { break };
            questions.push(question.to_vec());
            rest = after;
        }
        self.inbox = rest.to_vec();
    }

    pub(super) fn write(&mut self, answer: &[u8]) {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.waits = self.waits.saturating_sub(1);
        self.outbox.extend_from_slice(&length.to_be_bytes());
        self.outbox.extend_from_slice(answer);
        self.flush();
        self.broken |= self.outbox.len() > MOST_UNREAD;
    }

    fn flush(&mut self) {
        while !self.outbox.is_empty() && !self.broken {
            match rustix::io::write(&self.socket, &self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.broken = true,
            }
        }
    }

    /// Whether nothing is left to do for it.
    pub(super) fn is_over(&self) -> bool {
        self.broken || (self.ended && self.outbox.is_empty() && self.waits == 0)
    }
}
