//! One execution: its process, pipes and streams.
//!
//! Purpose: moves bytes between pipes and streams, as far as credit goes.
//! Owner: the loop. Everything here is called when a pipe is ready, a stream has credit, or the process
//! ended; nothing waits.
//!
//! ```text
//!   Running ── main process reaped ──▶ Ending ── what the pipes held then was  ──▶ Reported
//!                                               sent and acknowledged: Exited
//! ```
//!
//! Invariants
//! - A pipe is registered with the poller only while its stream has credit (or is being drained).
//! - After the main process ended, exactly the bytes that its pipes held then are sent; what background
//!   processes write later is read and dropped, so that they neither block nor die of a broken pipe.

use std::{collections::VecDeque, os::fd::OwnedFd, time::Instant};

use rustix::{io::Errno, process::Pid};
use wire::{Code, ExecId, Guest, Mux, StreamId};

use crate::{
    cgroup::Cgroup,
    poller::{Interest, Poller, Token},
    system::now_ns,
};

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) time_ns: u64,
}

/// One execution.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: ExecId,
    pub(crate) pid: Pid,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) stdin: Option<Input>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timed_out: bool,
    pub(crate) ended: Option<Ended>,
    /// Whether the host knows that it ended, or will not ask any more.
    pub(crate) reported: bool,
}

impl Exec {
    /// Whether all of its output is with the host.
    pub(crate) fn is_settled(&self, mux: &Mux<Guest>) -> bool {
        self.ended.is_some()
            && self.outputs.iter().all(|output| output.state != State::Sending && !mux.is_open(output.stream))
    }
}

/// What is done with the bytes of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They are sent.
    Sending,
    /// They are dropped.
    Draining,
    /// There are no more: it is closed.
    Closed,
}

/// Standard output or error.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stream: StreamId,
    pub(crate) token: Token,
    pipe: Option<OwnedFd>,
    polled: bool,
    state: State,
    /// How much more is sent, once the main process has ended.
    left: Option<u64>,
}

impl Output {
    pub(crate) fn new(stream: StreamId, token: Token, pipe: OwnedFd) -> Self {
        Self { stream, token, pipe: Some(pipe), polled: false, state: State::Sending, left: None }
    }

    /// Registers or forgets the pipe, as credit has it.
    pub(crate) fn poll(&mut self, mux: &Mux<Guest>, poller: &Poller) {
        let Some(pipe) = &self.pipe else { return };
        let wanted = self.state == State::Draining || mux.capacity(self.stream) > 0;
        if wanted && !self.polled {
            self.polled = poller.add(pipe, self.token, Interest::Read).is_ok();
        } else if !wanted && self.polled {
            poller.remove(pipe);
            self.polled = false;
        }
    }

    /// The pipe may have bytes: moves one bufferful.
    pub(crate) fn pump(&mut self, mux: &mut Mux<Guest>, poller: &Poller, buffer: &mut [u8]) {
        self.step(mux, buffer);
        // The rest of an ended process is small and known: no need to be told of it.
        while self.left.is_some() && self.state == State::Sending && mux.capacity(self.stream) > 0 {
            self.step(mux, buffer);
        }
        self.poll(mux, poller);
    }

    fn step(&mut self, mux: &mut Mux<Guest>, buffer: &mut [u8]) {
        let Some(pipe) = &self.pipe else { return };
        let most = match self.state {
            State::Closed => return,
            State::Draining => buffer.len(),
            State::Sending => {
                let left = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
                if left == 0 {
                    self.finish(mux, State::Draining);
                    return;
                }
                let most = buffer.len().min(mux.capacity(self.stream)).min(left);
                if most == 0 {
                    return;
                }
                most
            }
        };
        let Some(buffer) = buffer.get_mut(..most) else { return };
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => self.end(mux),
            Ok(count) if self.state == State::Sending => {
                mux.send(self.stream, buffer.get(..count).unwrap_or_default(), now_ns());
                self.left = self.left.map(|left| left.saturating_sub(count as u64));
                if self.left == Some(0) {
                    self.finish(mux, State::Draining);
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if self.left.is_none() || self.state == State::Draining => {}
            // Somebody else reads this pipe too: what was left is not ours any more.
            Err(Errno::AGAIN) => self.finish(mux, State::Draining),
            Err(_) => self.end(mux),
        }
    }

    fn end(&mut self, mux: &mut Mux<Guest>) {
        self.finish(mux, State::Closed);
        // Closing it makes the poller forget it.
        self.pipe = None;
        self.polled = false;
    }

    fn finish(&mut self, mux: &mut Mux<Guest>, next: State) {
        if self.state == State::Sending {
            mux.finish(self.stream);
        }
        self.state = next;
    }

    /// Whether nobody can write to it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The host wants no more of it.
    pub(crate) fn drain(&mut self, mux: &Mux<Guest>, poller: &Poller) {
        if self.state == State::Sending {
            self.state = State::Draining;
        }
        self.poll(mux, poller);
    }

    /// The main process ended: what the pipe holds now is the last that is sent.
    pub(crate) fn last(&mut self, mux: &mut Mux<Guest>, poller: &Poller, buffer: &mut [u8]) {
        let Some(pipe) = &self.pipe else { return };
        self.left = Some(rustix::io::ioctl_fionread(pipe).unwrap_or(0));
        self.pump(mux, poller, buffer);
    }
}

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) stream: StreamId,
    pub(crate) token: Token,
    pipe: OwnedFd,
    polled: bool,
    queue: VecDeque<Vec<u8>>,
    /// How much of the first in the queue is written.
    written: usize,
    fin: bool,
}

/// Whether an [`Input`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    On,
    /// It is to be dropped.
    Over,
}

impl Input {
    pub(crate) fn new(stream: StreamId, token: Token, pipe: OwnedFd) -> Self {
        Self { stream, token, pipe, polled: false, queue: VecDeque::new(), written: 0, fin: false }
    }

    /// Bytes of the host; there are never more than the credit of the stream.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        self.queue.push_back(bytes);
    }

    /// No more will come.
    pub(crate) fn finish(&mut self) {
        self.fin = true;
    }

    /// Writes what the pipe takes.
    pub(crate) fn pump(&mut self, mux: &mut Mux<Guest>, poller: &Poller) -> Flow {
        while let Some(bytes) = self.queue.front() {
            match rustix::io::write(&self.pipe, bytes.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    mux.consume(self.stream, count);
                    self.written += count;
                    if self.written >= bytes.len() {
                        self.queue.pop_front();
                        self.written = 0;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.polled {
                        self.polled = poller.add(&self.pipe, self.token, Interest::Write).is_ok();
                    }
                    return Flow::On;
                }
                Err(_) => {
                    // Nobody reads it any more.
                    mux.reset(self.stream, Code::CANCELLED);
                    return Flow::Over;
                }
            }
        }
        if self.polled {
            poller.remove(&self.pipe);
            self.polled = false;
        }
        if self.fin { Flow::Over } else { Flow::On }
    }
}
