//! The multiplexer: one end of a link.
//!
//! Purpose: streams over frames, each with credit, so that a stalled one never stops another; the
//! handshake of every opening of the link; messages on the control stream.
//! Owner: whoever owns the link. It calls [`Mux::attach`] when the link is opened, [`Mux::receive`] with
//! what it read, then [`Mux::poll_event`] until there is none, and writes what [`Mux::transmit`] gives.
//!
//! ```text
//!            attach                    Hello came            start
//!   Down ───────────▶ host: AwaitHello ──────────▶ Answering ──────▶ Running ─┐ Hello came
//!    ▲                                                 ▲──────────────────────┘
//!    │       attach (sends Hello)       Start came
//!   Down ───────────▶ guest: AwaitStart ──────────▶ Running
//!    ▲                     │                            │
//!    └─────────────────────┴──── protocol error, or the owner's next attach
//! ```
//!
//! Invariants
//! - Streams live through attachments of one epoch: what was not acknowledged is sent again from where the
//!   other side is, so no byte is lost and none comes twice. A new epoch resets every stream.
//! - Ids are opened in ascending order and named by a message at once; so an unknown id is either over
//!   (its frames are dropped) or was never opened (an error).
//! - The opener of a stream sends nothing on it before the other side has acknowledged offset 0.

use std::collections::{BTreeMap, VecDeque};

mod handshake;
mod role;
mod stream;

use crate::{
    error::{OpenError, Oversized, ProtocolError},
    frame::{self, Decoder, Frame, Kind},
    message::{Hello, StreamId},
};
pub use role::{Guest, Host, Role};
pub use stream::CREDIT;
use stream::{Receiver, Sender};

/// Streams that a link can have at a time, the control stream included.
pub const MAX_STREAMS: usize = 4096;
/// [`Mux::transmit`] stops when it has given this many bytes.
const BATCH: usize = 64 * 1024;

/// Which halves a stream has, seen from this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This end sends.
    Send,
    /// This end receives.
    Receive,
    /// Both.
    Both,
}

/// Why a stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Its user wants no more of it.
    pub const CANCELLED: Self = Self(0);
    /// It was never accepted.
    pub const REFUSED: Self = Self(1);
    /// The other side does not have it any more, as a new link showed: a new epoch, or a reset that was
    /// lost.
    pub const GONE: Self = Self(2);
    /// Its reader or writer failed.
    pub const FAILED: Self = Self(3);
}

/// What came from the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<M> {
    /// The guest waits for [`Mux::start`]. Only at the host.
    Hello(Hello),
    /// Frames flow. Not resumed: a new epoch, all streams and messages of the one before are gone.
    Started {
        /// The epoch.
        epoch: u32,
        /// Whether the streams of this end went on.
        resumed: bool,
    },
    /// A message of the control stream.
    Message(M),
    /// Bytes of a stream; [`Mux::consume`] them.
    Data {
        /// The stream.
        stream: StreamId,
        /// Offset of the first one.
        offset: u64,
        /// When the sender got them: nanoseconds since 1970 by its clock.
        time_ns: u64,
        /// At least one.
        bytes: Vec<u8>,
    },
    /// The other side sends no more on this stream.
    Fin {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is gone, in both directions.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: Code,
    },
    /// The other side acknowledged bytes: [`Mux::capacity`] grew.
    Credit {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is over: every half ended and was acknowledged.
    Closed {
        /// The stream.
        stream: StreamId,
    },
}

#[derive(Debug)]
struct Stream {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    /// Whether it is in `turns`.
    queued: bool,
}

impl Stream {
    /// `mine`: opened by this end, so the other one speaks first.
    fn new(direction: Direction, mine: bool) -> Self {
        Self {
            sender: (direction != Direction::Receive).then(|| Sender::new(!mine)),
            receiver: (direction != Direction::Send).then(|| Receiver::new(!mine)),
            queued: false,
        }
    }

    fn control() -> Self {
        Self { sender: Some(Sender::new(true)), receiver: Some(Receiver::new(false)), queued: false }
    }

    fn pending(&self) -> bool {
        self.sender.as_ref().is_some_and(Sender::pending)
            || self.receiver.as_ref().is_some_and(Receiver::pending)
    }

    fn done(&self) -> bool {
        self.sender.as_ref().is_none_or(Sender::done) && self.receiver.as_ref().is_none_or(Receiver::done)
    }

    /// What it means that the other side does not have it any more: over, if there was nothing left to do
    /// but to hear of the last acknowledgement, which got lost with its link.
    fn gone<M>(&self, stream: StreamId) -> Event<M> {
        let over = self.sender.as_ref().is_none_or(Sender::all_sent)
            && self.receiver.as_ref().is_none_or(Receiver::ended);
        if over { Event::Closed { stream } } else { Event::Reset { stream, code: Code::GONE } }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    AwaitHello,
    Answering(Hello),
    AwaitStart,
    Running,
}

/// One end of a link; `R` is [`Host`] or [`Guest`].
#[derive(Debug)]
pub struct Mux<R: Role> {
    role: R,
    phase: Phase,
    epoch: u32,
    decoder: Decoder,
    streams: BTreeMap<StreamId, Stream>,
    highest_mine: u32,
    highest_theirs: u32,
    /// Streams that have something to send, each once.
    turns: VecDeque<StreamId>,
    resets: VecDeque<(StreamId, Code)>,
    /// Frames of this end's handshake, not sent yet.
    greeting: Vec<u8>,
    /// JSON of the other side's handshake so far.
    handshake: Vec<u8>,
    /// Control bytes that wait for credit.
    outbox: VecDeque<Vec<u8>>,
    /// The part of a message that came so far.
    inbox: Vec<u8>,
    events: VecDeque<Event<R::In>>,
}

impl<R: Role> Mux<R> {
    fn new(role: R) -> Self {
        Self {
            role,
            phase: Phase::Down,
            epoch: 0,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            highest_mine: 0,
            highest_theirs: 0,
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            greeting: Vec::new(),
            handshake: Vec::new(),
            outbox: VecDeque::new(),
            inbox: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// The epoch of this end; 0 before the first handshake was done.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the handshake of this opening of the link is done.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// The next thing that came.
    pub fn poll_event(&mut self) -> Option<Event<R::In>> {
        self.events.pop_front()
    }

    /// Takes what was read from the link. After an error the link is dead: nothing more is sent or taken
    /// until the next [`Mux::attach`]; events from before the error are still there.
    ///
    /// # Errors
    /// [`ProtocolError`] when the other side broke the protocol.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        if self.phase == Phase::Down {
            return Err(ProtocolError::Dead);
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        let outcome = loop {
            match decoder.next(&mut bytes) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.frame(&frame) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(()) => self.decoder = decoder,
            Err(_) => self.phase = Phase::Down,
        }
        outcome
    }

    /// Appends what is to be written next, whole frames only, about 64 KiB at most; `false`: nothing.
    /// What was taken counts as sent; if the link breaks before it was written, the next handshake repairs
    /// that.
    pub fn transmit(&mut self, into: &mut Vec<u8>) -> bool {
        let before = into.len();
        if self.phase == Phase::Down {
            return false;
        }
        into.append(&mut self.greeting);
        while self.phase == Phase::Running && into.len() - before < BATCH {
            if let Some((id, Code(code))) = self.resets.pop_front() {
                frame::encode(into, Kind::Reset, 0, id, self.epoch, &[&code.to_le_bytes()]);
            } else if let Some(id) = self.turns.pop_front() {
                self.turn(id, into);
            } else {
                break;
            }
        }
        into.len() > before
    }

    /// One turn of one stream: at most one frame of each kind.
    fn turn(&mut self, id: StreamId, into: &mut Vec<u8>) {
        let epoch = self.epoch;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.queued = false;
        if let Some(offset) = stream.receiver.as_mut().and_then(Receiver::pop_ack) {
            frame::encode(into, Kind::Ack, 0, id, epoch, &[&offset.to_le_bytes()]);
        }
        if let Some(sender) = &mut stream.sender {
            if let Some((offset, time_ns, bytes)) = sender.pop() {
                let parts = [&offset.to_le_bytes()[..], &time_ns.to_le_bytes()[..], bytes];
                frame::encode(into, Kind::Data, 0, id, epoch, &parts);
            }
            if let Some(offset) = sender.pop_fin() {
                frame::encode(into, Kind::Fin, 0, id, epoch, &[&offset.to_le_bytes()]);
            }
        }
        self.wake(id);
        self.close_if_done(id);
    }

    fn wake(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.queued
            && stream.pending()
        {
            stream.queued = true;
            self.turns.push_back(id);
        }
    }

    fn close_if_done(&mut self, id: StreamId) {
        if id != StreamId::CONTROL && self.streams.get(&id).is_some_and(Stream::done) {
            self.streams.remove(&id);
            self.events.push_back(Event::Closed { stream: id });
        }
    }

    fn is_mine(&self, id: StreamId) -> bool {
        if R::IS_HOST { id.is_hosts() } else { id.is_guests() }
    }

    /// Opens a stream; its id is to be named in a message before another stream is opened for a later one.
    ///
    /// # Errors
    /// [`OpenError::TooMany`].
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, OpenError> {
        let step = if R::IS_HOST && self.highest_mine == 0 { 1 } else { 2 };
        let next = self.highest_mine.checked_add(step).ok_or(OpenError::TooMany)?;
        if self.streams.len() >= MAX_STREAMS {
            return Err(OpenError::TooMany);
        }
        self.highest_mine = next;
        self.streams.insert(StreamId(next), Stream::new(direction, true));
        Ok(StreamId(next))
    }

    /// Accepts a stream that a message of the other side named.
    ///
    /// # Errors
    /// [`OpenError::TooMany`]; [`OpenError::Id`] when no message named it or it is open already.
    pub fn accept(&mut self, id: StreamId, direction: Direction) -> Result<(), OpenError> {
        if id == StreamId::CONTROL
            || self.is_mine(id)
            || id.0 > self.highest_theirs
            || self.streams.contains_key(&id)
        {
            return Err(OpenError::Id(id));
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(OpenError::TooMany);
        }
        self.streams.insert(id, Stream::new(direction, false));
        self.wake(id);
        Ok(())
    }

    /// Whether the stream is open.
    #[must_use]
    pub fn is_open(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// Bytes that [`Mux::send`] would take now: 0 for a stream that is over or was finished.
    #[must_use]
    pub fn capacity(&self, id: StreamId) -> usize {
        self.streams.get(&id).and_then(|stream| stream.sender.as_ref()).map_or(0, Sender::capacity)
    }

    /// Takes the front of `bytes` for sending, as much as the stream has credit for; how much is returned.
    /// `time_ns` is now, in nanoseconds since 1970.
    pub fn send(&mut self, id: StreamId, bytes: &[u8], time_ns: u64) -> usize {
        if id == StreamId::CONTROL {
            return 0;
        }
        let Some(sender) = self.streams.get_mut(&id).and_then(|stream| stream.sender.as_mut()) else {
            return 0;
        };
        let taken = sender.push(bytes, time_ns);
        self.wake(id);
        taken
    }

    /// Ends this end's half of a stream behind what was sent.
    pub fn finish(&mut self, id: StreamId) {
        if id == StreamId::CONTROL {
            return;
        }
        if let Some(sender) = self.streams.get_mut(&id).and_then(|stream| stream.sender.as_mut()) {
            sender.finish();
        }
        self.wake(id);
    }

    /// Gives the other side credit for bytes of [`Event::Data`] that are done with.
    pub fn consume(&mut self, id: StreamId, bytes: usize) {
        if let Some(receiver) = self.streams.get_mut(&id).and_then(|stream| stream.receiver.as_mut()) {
            receiver.consume(bytes as u64);
        }
        self.wake(id);
    }

    /// Drops a stream, in both directions, and tells the other side; also refuses one that a message named.
    /// No event follows.
    pub fn reset(&mut self, id: StreamId, code: Code) {
        if id == StreamId::CONTROL {
            return;
        }
        let known = self.streams.remove(&id).is_some();
        if known || (!self.is_mine(id) && id.0 <= self.highest_theirs) {
            self.resets.push_back((id, code));
        }
    }

    /// Sends a message. Messages that the other side has not read yet are kept here, so how many there can
    /// be is up to the caller.
    ///
    /// # Errors
    /// [`Oversized`] when the other side would not read it.
    pub fn send_message(&mut self, message: &R::Out) -> Result<(), Oversized> {
        let mut bytes = vec![0; 4];
        let written = serde_json::to_writer(&mut bytes, message).is_ok();
        let len = bytes.len() - 4;
        if !written || len > R::MAX_OUT {
            return Err(Oversized { len, max: R::MAX_OUT });
        }
        if let (Some(head), Ok(len)) = (bytes.first_chunk_mut::<4>(), u32::try_from(len)) {
            *head = len.to_le_bytes();
        }
        self.outbox.push_back(bytes);
        self.pump_control();
        Ok(())
    }

    /// Bytes of messages that wait for the other side to read those before them.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outbox.iter().map(Vec::len).sum()
    }

    fn pump_control(&mut self) {
        let Some(sender) = self.streams.get_mut(&StreamId::CONTROL).and_then(|s| s.sender.as_mut()) else {
            return;
        };
        while let Some(bytes) = self.outbox.front_mut() {
            let taken = sender.push(bytes, 0);
            if taken < bytes.len() {
                bytes.drain(..taken);
                break;
            }
            self.outbox.pop_front();
        }
        self.wake(StreamId::CONTROL);
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let header = frame.header;
        match header.kind {
            Kind::Hello | Kind::Start => return self.greet(frame),
            Kind::Data | Kind::Ack | Kind::Fin | Kind::Reset => {}
        }
        // Left over from an earlier opening, or from the life before a fork.
        if self.phase != Phase::Running || header.epoch != self.epoch {
            return Ok(());
        }
        let id = header.stream;
        let kind = header.kind.name();
        let misplaced = ProtocolError::Misplaced { kind, stream: id };
        let Some(stream) = self.streams.get_mut(&id) else {
            let highest = if self.is_mine(id) { self.highest_mine } else { self.highest_theirs };
            // One that is over, or was refused while this was under way.
            return if id.0 <= highest || header.kind == Kind::Reset {
                Ok(())
            } else {
                Err(ProtocolError::UnknownStream { kind, stream: id })
            };
        };
        match header.kind {
            Kind::Data => {
                let (offset, time_ns, bytes) = frame.data()?;
                stream.receiver.as_mut().ok_or(misplaced)?.data(id, offset, bytes.len())?;
                if id == StreamId::CONTROL {
                    self.control(bytes)?;
                    self.consume(id, bytes.len());
                } else {
                    self.events.push_back(Event::Data { stream: id, offset, time_ns, bytes: bytes.to_vec() });
                }
            }
            Kind::Ack => {
                stream.sender.as_mut().ok_or(misplaced)?.ack(id, frame.offset()?)?;
                if id == StreamId::CONTROL {
                    self.pump_control();
                } else {
                    self.events.push_back(Event::Credit { stream: id });
                    self.wake(id);
                    self.close_if_done(id);
                }
            }
            Kind::Fin => {
                let receiver = stream.receiver.as_mut().ok_or(misplaced.clone())?;
                if id == StreamId::CONTROL {
                    return Err(misplaced);
                }
                receiver.finish(id, frame.offset()?)?;
                self.events.push_back(Event::Fin { stream: id });
                self.wake(id);
            }
            Kind::Reset => {
                if id == StreamId::CONTROL {
                    return Err(misplaced);
                }
                let code = Code(frame.code()?);
                let event =
                    if code == Code::GONE { stream.gone(id) } else { Event::Reset { stream: id, code } };
                self.streams.remove(&id);
                self.events.push_back(event);
            }
            Kind::Hello | Kind::Start => {}
        }
        Ok(())
    }

    /// Bytes of the control stream.
    fn control(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let len = u32::from_le_bytes(*head) as usize;
            if len > R::MAX_IN {
                return Err(ProtocolError::MessageTooLong { what: "message", len, max: R::MAX_IN });
            }
            let Some((json, after)) = after.split_at_checked(len) else { break };
            let message = serde_json::from_slice::<R::In>(json)
                .map_err(|error| ProtocolError::Unreadable { what: "message", reason: error.to_string() })?;
            self.name_streams(&message)?;
            self.events.push_back(Event::Message(message));
            rest = after;
        }
        // Kept as it is while it holds one unfinished message: no copy per frame.
        let keep = rest.len();
        self.inbox = inbox;
        self.inbox.drain(..self.inbox.len() - keep);
        Ok(())
    }

    /// Notes the streams that a message opens.
    fn name_streams(&mut self, message: &R::In) -> Result<(), ProtocolError> {
        for id in R::named(message) {
            if id == StreamId::CONTROL || self.is_mine(id) || (R::IS_HOST && id.0 <= self.highest_theirs) {
                return Err(ProtocolError::Misplaced { kind: "message", stream: id });
            }
            if self.resets.len() >= MAX_STREAMS {
                return Err(ProtocolError::TooManyStreams);
            }
            self.highest_theirs = self.highest_theirs.max(id.0);
        }
        Ok(())
    }
}
