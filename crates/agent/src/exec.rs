//! One execution: its process, its ends (of pipes, or of its terminal) and streams.
//!
//! Purpose: moves bytes between ends and streams, as far as credit goes.
//! Owner: the loop. Everything here is called when a pipe is ready, a stream has credit, or the process
//! ended; nothing waits.
//!
//! ```text
//!   Running ── main process reaped ──▶ Ending ── what the ends held then was  ──▶ Reported
//!                                               sent and acknowledged: Exited
//! ```
//!
//! Invariants
//! - An end is registered with the poller only while its stream has credit (or is being drained), and is
//!   taken from it before it is closed: the two ends of a terminal are one file to the kernel, which would
//!   go on reporting the one that was closed.
//! - After the main process ended, exactly the bytes that its pipes held then are sent, and of a terminal,
//!   which cannot tell, at most as many as it can hold; what background processes write later is read and
//!   dropped, so that they neither block nor die of a broken pipe.
//! - A terminal whose host is gone hangs up; a pipe's is drained.

use std::{collections::VecDeque, os::fd::OwnedFd, time::Instant};

use rustix::{io::Errno, process::Pid};
use wire::{Code, ExecId, Guest, Mux, StreamId};

use crate::{
    cgroup::Cgroup,
    ends::Kind,
    poller::{Interest, Poller, Token},
    system::now_ns,
};

/// More than a terminal holds of what was written to it.
const TERMINAL: u64 = 64 * 1024;

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
    /// In which it was asked for: another one's has the same name.
    pub(crate) epoch: u32,
    pub(crate) pid: Pid,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) stdin: Option<Input>,
    pub(crate) outputs: Vec<Output>,
    /// Its side of its terminal, while it runs and nobody hung up.
    pub(crate) terminal: Option<OwnedFd>,
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

/// What is done with the bytes of an end.
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
    kind: Kind,
    end: Option<OwnedFd>,
    polled: bool,
    state: State,
    /// How much more is sent, once the main process has ended.
    left: Option<u64>,
}

impl Output {
    pub(crate) fn new(stream: StreamId, token: Token, end: OwnedFd, kind: Kind) -> Self {
        Self { stream, token, kind, end: Some(end), polled: false, state: State::Sending, left: None }
    }

    /// Registers or forgets the end, as credit has it.
    pub(crate) fn poll(&mut self, mux: &Mux<Guest>, poller: &Poller) {
        let Some(end) = &self.end else { return };
        let wanted = self.state == State::Draining || mux.capacity(self.stream) > 0;
        if wanted && !self.polled {
            self.polled = poller.add(end, self.token, Interest::Read).is_ok();
        } else if !wanted && self.polled {
            poller.remove(end);
            self.polled = false;
        }
    }

    /// The end may have bytes: moves one bufferful.
    pub(crate) fn pump(&mut self, mux: &mut Mux<Guest>, poller: &Poller, buffer: &mut [u8]) {
        self.step(mux, poller, buffer);
        // The rest of an ended process is small and known: no need to be told of it.
        while self.left.is_some() && self.state == State::Sending && mux.capacity(self.stream) > 0 {
            self.step(mux, poller, buffer);
        }
        self.poll(mux, poller);
    }

    fn step(&mut self, mux: &mut Mux<Guest>, poller: &Poller, buffer: &mut [u8]) {
        let Some(end) = &self.end else { return };
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
        match rustix::io::read(end, &mut *buffer) {
            Ok(0) => self.close(mux, poller),
            Ok(count) if self.state == State::Sending => {
                mux.send(self.stream, buffer.get(..count).unwrap_or_default(), now_ns());
                self.left = self.left.map(|left| left.saturating_sub(count as u64));
                if self.left == Some(0) {
                    self.finish(mux, State::Draining);
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if self.left.is_none() || self.state == State::Draining => {}
            // A terminal that is empty; or somebody else reads this pipe too: what was left is not ours any
            // more.
            Err(Errno::AGAIN) => self.finish(mux, State::Draining),
            // EIO: nobody has the other side of the terminal any more.
            Err(_) => self.close(mux, poller),
        }
    }

    fn close(&mut self, mux: &mut Mux<Guest>, poller: &Poller) {
        self.finish(mux, State::Closed);
        if let Some(end) = self.end.take()
            && self.polled
        {
            poller.remove(&end);
            self.polled = false;
        }
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

    /// The host wants no more of it: a pipe is drained, a terminal is closed.
    pub(crate) fn abandon(&mut self, mux: &mut Mux<Guest>, poller: &Poller) {
        match self.kind {
            Kind::Terminal => self.close(mux, poller),
            Kind::Pipe => {
                if self.state == State::Sending {
                    self.state = State::Draining;
                }
                self.poll(mux, poller);
            }
        }
    }

    /// The main process ended: what it wrote by now is the last that is sent.
    pub(crate) fn last(&mut self, mux: &mut Mux<Guest>, poller: &Poller, buffer: &mut [u8]) {
        let Some(end) = &self.end else { return };
        self.left = Some(match self.kind {
            Kind::Pipe => rustix::io::ioctl_fionread(end).unwrap_or(0),
            // It counts only part of what it has; a read gets all.
            Kind::Terminal => TERMINAL,
        });
        self.pump(mux, poller, buffer);
    }
}

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) stream: StreamId,
    pub(crate) token: Token,
    end: OwnedFd,
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
    pub(crate) fn new(stream: StreamId, token: Token, end: OwnedFd) -> Self {
        Self { stream, token, end, polled: false, queue: VecDeque::new(), written: 0, fin: false }
    }

    /// Bytes of the host; there are never more than the credit of the stream.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        self.queue.push_back(bytes);
    }

    /// No more will come.
    pub(crate) fn finish(&mut self) {
        self.fin = true;
    }

    /// Takes it from the poller, before it is dropped.
    pub(crate) fn forget(&mut self, poller: &Poller) {
        if self.polled {
            poller.remove(&self.end);
            self.polled = false;
        }
    }

    /// Writes what the end takes.
    pub(crate) fn pump(&mut self, mux: &mut Mux<Guest>, poller: &Poller) -> Flow {
        while let Some(bytes) = self.queue.front() {
            match rustix::io::write(&self.end, bytes.get(self.written..).unwrap_or_default()) {
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
                        self.polled = poller.add(&self.end, self.token, Interest::Write).is_ok();
                    }
                    return Flow::On;
                }
                Err(_) => {
                    // Nobody reads it any more.
                    self.forget(poller);
                    mux.reset(self.stream, Code::CANCELLED);
                    return Flow::Over;
                }
            }
        }
        self.forget(poller);
        if self.fin { Flow::Over } else { Flow::On }
    }
}
