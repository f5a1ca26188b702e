//! The handshake: Hello of the guest, Start of the host, and what becomes of the streams.
//!
//! Purpose: attach, start, resume, reset.
//! Owner: the [`Mux`]; a part of it.
//!
//! Invariants
//! - A handshake is checked whole before anything of it takes effect.
//! - Nothing but a Hello leaves the guest before a Start came, nothing at all leaves the host before a Hello.

use std::collections::BTreeMap;

use super::{Code, Event, Guest, Host, MAX_STREAMS, Mux, Phase, Role, Stream, role::sealed::Greets};
use crate::{
    VERSION,
    error::{ProtocolError, StartError},
    frame::{self, Decoder, Frame, Kind, MAX_PAYLOAD, MORE},
    message::{Hello, HelloStream, ResumeStream, Start, StreamId},
};

/// Largest JSON of a handshake: every stream that a link can have, at its longest.
const MAX_HANDSHAKE: usize = 512 * 1024;

impl Mux<Guest> {
    /// The guest's end. `agent` is the version of the agent program.
    #[must_use]
    pub fn guest(agent: impl Into<String>) -> Self {
        Self::new(Guest { agent: agent.into() })
    }

    /// The link was opened: drops what is left of the one before and says Hello.
    pub fn attach(&mut self) {
        self.opened(Phase::AwaitStart);
        let streams = self
            .streams
            .iter()
            .map(|(&id, stream)| HelloStream {
                id,
                sent: stream.sender.as_ref().map_or(0, super::Sender::sent),
                received: stream.receiver.as_ref().map_or(0, super::Receiver::received),
            })
            .collect();
        let hello = Hello { version: VERSION, epoch: self.epoch, agent: self.role.agent.clone(), streams };
        let epoch = self.epoch;
        self.greeting_of(Kind::Hello, epoch, &hello);
    }

    fn started(&mut self, start: &Start) -> Result<(), ProtocolError> {
        if start.version != VERSION {
            return Err(ProtocolError::Version { theirs: start.version });
        }
        if start.epoch == 0 {
            return Err(ProtocolError::Handshake("epoch 0 cannot be started"));
        }
        let mut listed = BTreeMap::new();
        for stream in &start.resume {
            if listed.insert(stream.id, stream.received).is_some() {
                return Err(ProtocolError::Handshake("a stream is named twice"));
            }
        }
        let resumed = start.epoch == self.epoch;
        if resumed {
            if !listed.contains_key(&StreamId::CONTROL) {
                return Err(ProtocolError::Handshake("the control stream is not resumed"));
            }
            self.resume(&listed)?;
        } else {
            self.fresh(start.epoch);
        }
        self.phase = Phase::Running;
        self.events.push_back(Event::Started { epoch: self.epoch, resumed });
        Ok(())
    }

    fn resume(&mut self, listed: &BTreeMap<StreamId, u64>) -> Result<(), ProtocolError> {
        for (id, stream) in &self.streams {
            if let Some(&received) = listed.get(id) {
                stream.check_received(received)?;
            }
        }
        let known: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in known {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if let Some(&received) = listed.get(&id) {
                stream.resume(received);
            } else if !(id.is_guests() && stream.unanswered()) {
                let event = stream.gone(id);
                self.streams.remove(&id);
                self.events.push_back(event);
            }
        }
        for &id in listed.keys() {
            // A higher id of the host is one whose message comes again now.
            if !self.streams.contains_key(&id) && (id.is_guests() || id.0 <= self.highest_theirs) {
                self.resets.push_back((id, Code::GONE));
            }
        }
        self.wake_all();
        Ok(())
    }
}

impl Default for Mux<Host> {
    fn default() -> Self {
        Self::host()
    }
}

impl Mux<Host> {
    /// The host's end.
    #[must_use]
    pub fn host() -> Self {
        Self::new(Host { _private: () })
    }

    /// The link was opened: drops what is left of the one before and waits for a Hello.
    pub fn attach(&mut self) {
        self.opened(Phase::AwaitHello);
    }

    /// Whether the guest that said Hello is in the epoch of this end, so that
    /// [`start`](Self::start) with that epoch loses nothing.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        match &self.phase {
            Phase::Answering(hello) => self.epoch != 0 && hello.epoch == self.epoch,
            Phase::Down | Phase::AwaitHello | Phase::AwaitStart | Phase::Running => false,
        }
    }

    /// Answers a Hello. With the epoch that both ends are in, streams go on; with another one, which the
    /// guest must not have been in before, everything is reset.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub fn start(&mut self, epoch: u32) -> Result<(), StartError> {
        let Phase::Answering(hello) = &self.phase else { return Err(StartError::NoHello) };
        if epoch == 0 {
            return Err(StartError::Zero);
        }
        let resumed = hello.epoch == epoch;
        if resumed && !self.can_resume() {
            return Err(StartError::NotResumable(epoch));
        }
        let listed: BTreeMap<StreamId, u64> =
            hello.streams.iter().map(|stream| (stream.id, stream.received)).collect();
        let mut resume = Vec::new();
        if resumed {
            for (&id, stream) in &mut self.streams {
                if let Some(&received) = listed.get(&id) {
                    stream.resume(received); // checked when the Hello came
                }
                let received = stream.receiver.as_ref().map_or(0, super::Receiver::received);
                resume.push(ResumeStream { id, received });
            }
            for &id in listed.keys() {
                // One that was refused, and the guest may not have heard it.
                if !self.streams.contains_key(&id) && id.is_guests() && id.0 <= self.highest_theirs {
                    self.resets.push_back((id, Code::REFUSED));
                }
            }
        } else {
            self.fresh(epoch);
        }
        self.greeting_of(Kind::Start, epoch, &Start { version: VERSION, epoch, resume });
        self.phase = Phase::Running;
        self.wake_all();
        self.events.push_back(Event::Started { epoch, resumed });
        Ok(())
    }

    fn hello(&mut self, hello: Hello) -> Result<(), ProtocolError> {
        if hello.version < VERSION {
            return Err(ProtocolError::Version { theirs: hello.version });
        }
        if hello.streams.len() > MAX_STREAMS {
            return Err(ProtocolError::TooManyStreams);
        }
        let mut before = None;
        for stream in &hello.streams {
            if before.is_some_and(|before| stream.id <= before) {
                return Err(ProtocolError::Handshake("the streams are not in order"));
            }
            before = Some(stream.id);
        }
        if hello.epoch == self.epoch && self.epoch != 0 {
            if hello.streams.first().is_none_or(|stream| stream.id != StreamId::CONTROL) {
                return Err(ProtocolError::Handshake("the control stream is missing"));
            }
            for theirs in &hello.streams {
                if let Some(stream) = self.streams.get(&theirs.id) {
                    stream.check(theirs)?;
                }
            }
        }
        self.greeting.clear();
        self.turns.clear();
        self.resets.clear();
        for stream in self.streams.values_mut() {
            stream.queued = false;
        }
        self.phase = Phase::Answering(hello.clone());
        self.events.push_back(Event::Hello(hello));
        Ok(())
    }
}

impl Stream {
    /// Whether the other side never said that it knows this stream of ours.
    fn unanswered(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.granted())
    }

    /// Goes on after a new handshake that both sides name the stream in; it was checked.
    fn resume(&mut self, received: u64) {
        if let Some(sender) = &mut self.sender {
            sender.resume(received);
        }
        if let Some(receiver) = &mut self.receiver {
            receiver.resume();
        }
    }

    /// Whether the other side can have received that much.
    fn check_received(&self, received: u64) -> Result<(), ProtocolError> {
        match &self.sender {
            Some(sender) => sender.check(received),
            None if received == 0 => Ok(()),
            None => Err(ProtocolError::Handshake("bytes of a stream that only receives")),
        }
    }

    /// Whether what the guest says of a stream can be.
    fn check(&self, theirs: &HelloStream) -> Result<(), ProtocolError> {
        if self.receiver.as_ref().map_or(0, super::Receiver::received) > theirs.sent {
            return Err(ProtocolError::Handshake("a stream has sent less than has come"));
        }
        self.check_received(theirs.received)
    }
}

impl<R: Role> Mux<R> {
    fn opened(&mut self, phase: Phase) {
        self.phase = phase;
        self.decoder = Decoder::default();
        self.handshake.clear();
        self.greeting.clear();
        self.turns.clear();
        self.resets.clear();
        for stream in self.streams.values_mut() {
            stream.queued = false;
        }
    }

    fn wake_all(&mut self) {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.wake(id);
        }
    }

    /// A new epoch: nothing of the old one is left.
    fn fresh(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.events.clear();
        self.turns.clear();
        self.resets.clear();
        self.outbox.clear();
        self.inbox = Vec::new();
        self.highest_mine = 0;
        self.highest_theirs = 0;
        for (stream, _) in std::mem::take(&mut self.streams) {
            if stream != StreamId::CONTROL {
                self.events.push_back(Event::Reset { stream, code: Code::GONE });
            }
        }
        self.streams.insert(StreamId::CONTROL, Stream::control());
    }

    fn greeting_of<T: serde::Serialize>(&mut self, kind: Kind, epoch: u32, value: &T) {
        // A map of integers and strings always has a JSON form.
        let json = serde_json::to_vec(value).unwrap_or_default();
        let mut pieces = json.chunks(MAX_PAYLOAD as usize).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_some() { MORE } else { 0 };
            frame::encode(&mut self.greeting, kind, flags, StreamId::CONTROL, epoch, &[piece]);
        }
    }

    /// A frame of a handshake.
    pub(super) fn greet(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let expected = if R::IS_HOST {
            frame.header.kind == Kind::Hello
        } else {
            frame.header.kind == Kind::Start && self.phase == Phase::AwaitStart
        };
        if !expected {
            return Err(ProtocolError::Misplaced {
                kind: frame.header.kind.name(),
                stream: frame.header.stream,
            });
        }
        let what = frame.header.kind.name();
        let len = self.handshake.len() + frame.payload.len();
        if len > MAX_HANDSHAKE {
            return Err(ProtocolError::MessageTooLong { what, len, max: MAX_HANDSHAKE });
        }
        self.handshake.extend_from_slice(frame.payload);
        if frame.header.flags & MORE != 0 {
            return Ok(());
        }
        let json = std::mem::take(&mut self.handshake);
        R::greeted(self, &json, what)
    }
}

/// Reads the JSON of a handshake.
fn read<T: serde::de::DeserializeOwned>(json: &[u8], what: &'static str) -> Result<T, ProtocolError> {
    serde_json::from_slice(json)
        .map_err(|error| ProtocolError::Unreadable { what, reason: error.to_string() })
}

impl Greets for Host {
    fn greeted(mux: &mut Mux<Self>, json: &[u8], what: &'static str) -> Result<(), ProtocolError> {
        mux.hello(read(json, what)?)
    }
}

impl Greets for Guest {
    fn greeted(mux: &mut Mux<Self>, json: &[u8], what: &'static str) -> Result<(), ProtocolError> {
        let start: Start = read(json, what)?;
        mux.started(&start)
    }
}
