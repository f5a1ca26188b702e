//! Two ends and a link between them that delivers in pieces, stalls, breaks and forks.

mod violations;

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use wire::{
    CREDIT, Code, Direction, Event, ExecId, Guest, Host, MAX_STREAMS, Mux, ProtocolError, Role, StartError,
    StreamId,
    message::{Account, Body, Exec, Note, Open, Request, ToGuest, ToHost},
};

/// The byte at an offset of a stream.
fn pattern(stream: StreamId, offset: u64) -> u8 {
    let mixed = (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) ^ u64::from(stream.0);
    u8::try_from(mixed & 0xff).expect("a byte")
}

fn frame(kind: u8, stream: u32, epoch: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("short").to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(stream.to_le_bytes());
    bytes.extend(epoch.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &42_u64.to_le_bytes(), bytes].concat()
}

/// One end and what it has seen.
struct End<R: Role> {
    mux: Mux<R>,
    /// Bytes under way to this end.
    under_way: VecDeque<u8>,
    received: BTreeMap<StreamId, u64>,
    unconsumed: BTreeMap<StreamId, usize>,
    fins: BTreeMap<StreamId, u32>,
    resets: Vec<(StreamId, Code)>,
    messages: Vec<R::In>,
    sent: BTreeMap<StreamId, u64>,
    started: Vec<bool>,
}

impl<R: Role> End<R> {
    fn new(mux: Mux<R>) -> Self {
        Self {
            mux,
            under_way: VecDeque::new(),
            received: BTreeMap::new(),
            unconsumed: BTreeMap::new(),
            fins: BTreeMap::new(),
            resets: Vec::new(),
            messages: Vec::new(),
            sent: BTreeMap::new(),
            started: Vec::new(),
        }
    }

    fn events(&mut self) -> bool {
        let mut hello = false;
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Hello(_) => hello = true,
                Event::Started { resumed, .. } => self.started.push(resumed),
                Event::Message(message) => self.messages.push(message),
                Event::Data { stream, offset, bytes, time_ns } => {
                    let at = self.received.entry(stream).or_default();
                    assert_eq!(offset, *at, "a byte is lost or came twice");
                    assert_eq!(time_ns, 42);
                    for (offset, byte) in (offset..).zip(&bytes) {
                        assert_eq!(*byte, pattern(stream, offset));
                    }
                    *at += bytes.len() as u64;
                    *self.unconsumed.entry(stream).or_default() += bytes.len();
                }
                Event::Fin { stream } => *self.fins.entry(stream).or_default() += 1,
                Event::Reset { stream, code } => self.resets.push((stream, code)),
                Event::Credit { .. } | Event::Closed { .. } => {}
            }
        }
        hello
    }

    fn send(&mut self, stream: StreamId, most: u64) {
        let at = self.sent.entry(stream).or_default();
        let bytes: Vec<u8> = (*at..*at + most).map(|offset| pattern(stream, offset)).collect();
        *at += self.mux.send(stream, &bytes, 42) as u64;
    }

    fn consume(&mut self, stream: StreamId, most: usize) {
        if let Some(held) = self.unconsumed.get_mut(&stream) {
            let count = most.min(*held);
            *held -= count;
            self.mux.consume(stream, count);
        }
    }

    fn deliver(&mut self, most: usize) -> bool {
        let count = most.min(self.under_way.len());
        let bytes: Vec<u8> = self.under_way.drain(..count).collect();
        self.mux.receive(&bytes).expect("an end broke the protocol");
        self.events()
    }
}

struct Pair {
    host: End<Host>,
    guest: End<Guest>,
}

/// Streams of the test: host sends, guest sends, both.
const IN: StreamId = StreamId(1);
const OUT: StreamId = StreamId(3);
const BOTH: StreamId = StreamId(5);

fn open_request(id: u64, epoch: u32) -> ToGuest {
    ToGuest::Request(Request {
        id,
        epoch,
        body: Body::Exec(Exec {
            exec: ExecId(1),
            argv: vec!["x".repeat(100_000)],
            env: vec![],
            cwd: "/".into(),
            user: Account::ROOT,
            stdin: Some(IN),
            stdout: OUT,
            stderr: BOTH,
            timeout_ms: None,
            terminal: None,
        }),
    })
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { host: End::new(Mux::host()), guest: End::new(Mux::guest("test")) };
        pair.connect();
        pair
    }

    /// A link that is open anew: nothing that was under way arrives.
    fn connect(&mut self) {
        self.host.under_way.clear();
        self.guest.under_way.clear();
        self.host.mux.attach();
        self.guest.mux.attach();
    }

    /// Moves what the ends have to say onto the link.
    fn pump(&mut self) {
        let mut bytes = Vec::new();
        while self.host.mux.transmit(&mut bytes) {}
        self.guest.under_way.extend(bytes.drain(..));
        while self.guest.mux.transmit(&mut bytes) {}
        self.host.under_way.extend(bytes.drain(..));
    }

    fn step(&mut self, to_host: usize, to_guest: usize) {
        self.pump();
        if self.host.deliver(to_host) {
            let epoch = if self.host.mux.can_resume() { self.host.mux.epoch() } else { 1 };
            self.host.mux.start(epoch).expect("a Hello was there");
            self.host.events();
        }
        let before = self.guest.messages.len();
        self.guest.deliver(to_guest);
        for message in self.guest.messages.split_off(before) {
            let ToGuest::Request(request) = &message;
            if let Body::Exec(exec) = &request.body {
                self.guest.mux.accept(exec.stdin.expect("a stream"), Direction::Receive).expect("it is new");
                self.guest.mux.accept(exec.stdout, Direction::Send).expect("it is new");
                self.guest.mux.accept(exec.stderr, Direction::Both).expect("it is new");
            }
            self.guest.messages.push(message);
        }
    }

    /// Everything arrives and is consumed, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.step(usize::MAX, usize::MAX);
            for stream in [IN, OUT, BOTH] {
                self.host.consume(stream, usize::MAX);
                self.guest.consume(stream, usize::MAX);
            }
            self.pump();
            if self.host.under_way.is_empty() && self.guest.under_way.is_empty() {
                return;
            }
        }
        panic!("the link never comes to rest");
    }

    fn open(&mut self) {
        for (id, direction) in [(IN, Direction::Send), (OUT, Direction::Receive), (BOTH, Direction::Both)] {
            assert_eq!(self.host.mux.open(direction), Ok(id));
        }
        let epoch = self.host.mux.epoch();
        self.host.mux.send_message(&open_request(1, epoch)).expect("it fits");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize, usize),
    Send(u64),
    Consume(usize),
    Message,
    /// One half of a stream ends.
    Finish(u8),
    /// The link breaks after that many more bytes in each direction.
    Cut(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let some = prop_oneof![0..64_usize, 0..300_000_usize];
    prop_oneof![
        4 => (some.clone(), some.clone()).prop_map(|(a, b)| Step::Deliver(a, b)),
        3 => (0..200_000_u64).prop_map(Step::Send),
        3 => (0..300_000_usize).prop_map(Step::Consume),
        1 => Just(Step::Message),
        1 => (0..4_u8).prop_map(Step::Finish),
        1 => (some.clone(), some).prop_map(|(a, b)| Step::Cut(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Stalls, pieces and breaks at arbitrary places lose and double no byte, no message and no end.
    #[test]
    fn nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 0..60)) {
        let mut pair = Pair::new();
        pair.settle();
        pair.open();
        let mut notes = 0;
        for step in steps {
            match step {
                Step::Deliver(to_host, to_guest) => pair.step(to_host, to_guest),
                Step::Send(count) => {
                    pair.host.send(IN, count);
                    pair.host.send(BOTH, count / 3);
                    pair.guest.send(OUT, count);
                    pair.guest.send(BOTH, count / 2);
                }
                Step::Consume(count) => {
                    for stream in [IN, OUT, BOTH] {
                        pair.host.consume(stream, count);
                        pair.guest.consume(stream, count / 2);
                    }
                }
                Step::Message => {
                    if pair.guest.mux.epoch() != 0 {
                        notes += 1;
                        let text = notes.to_string().repeat(1000);
                        pair.guest.mux.send_message(&ToHost::Note(Note { text })).unwrap();
                    }
                }
                Step::Finish(0) => pair.host.mux.finish(IN),
                Step::Finish(1) => pair.host.mux.finish(BOTH),
                Step::Finish(2) => pair.guest.mux.finish(OUT),
                Step::Finish(_) => pair.guest.mux.finish(BOTH),
                Step::Cut(to_host, to_guest) => {
                    pair.step(to_host, to_guest);
                    pair.connect();
                }
            }
            for end in [&pair.host.unconsumed, &pair.guest.unconsumed] {
                prop_assert!(end.values().all(|held| *held as u64 <= CREDIT));
            }
        }
        pair.settle();
        pair.host.send(IN, 10);
        pair.host.mux.finish(IN);
        pair.host.mux.finish(BOTH);
        pair.guest.mux.finish(OUT);
        pair.guest.mux.finish(BOTH);
        pair.settle();
        for (sent, received) in
            [(&pair.host.sent, &pair.guest.received), (&pair.guest.sent, &pair.host.received)]
        {
            for (stream, count) in sent {
                prop_assert_eq!(received.get(stream).copied().unwrap_or(0), *count);
            }
        }
        prop_assert_eq!(&pair.host.fins, &BTreeMap::from([(OUT, 1), (BOTH, 1)]));
        prop_assert_eq!(&pair.guest.fins, &BTreeMap::from([(IN, 1), (BOTH, 1)]));
        prop_assert!(pair.host.resets.is_empty() && pair.guest.resets.is_empty());
        prop_assert_eq!(pair.guest.messages.len(), 1);
        let texts: Vec<String> = (1..=notes).map(|n: i32| n.to_string().repeat(1000)).collect();
        let heard: Vec<String> = pair.host.messages.iter().map(|message| match message {
            ToHost::Note(note) => note.text.clone(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(heard, texts);
        for stream in [IN, OUT, BOTH] {
            prop_assert!(!pair.host.mux.is_open(stream) && !pair.guest.mux.is_open(stream));
        }
        prop_assert!(pair.host.started[1..].iter().all(|resumed| *resumed));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        wire::fuzz_targets::frames(&bytes);
        wire::fuzz_targets::messages(&bytes);
    }

    /// A valid conversation with some bytes changed is an error or is understood; never more than that.
    #[test]
    fn a_garbled_conversation_never_panics(
        flips in prop::collection::vec((0..400_000_usize, any::<u8>()), 1..8), piece in 1..5000_usize,
    ) {
        let mut pair = Pair::new();
        pair.settle();
        pair.open();
        pair.settle();
        pair.guest.send(OUT, 100_000);
        pair.guest.mux.send_message(&ToHost::Note(Note { text: "n".repeat(5000) })).unwrap();
        pair.pump();
        let mut bytes: Vec<u8> = pair.host.under_way.drain(..).collect();
        for (at, value) in flips {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        for piece in bytes.chunks(piece) {
            if pair.host.mux.receive(piece).is_err() {
                break;
            }
        }
        while pair.host.mux.poll_event().is_some() {}
    }
}

#[test]
fn a_stalled_stream_stops_no_other() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, 10 * CREDIT);
    assert_eq!(pair.guest.sent[&OUT], CREDIT);
    for _ in 0..50 {
        pair.guest.send(BOTH, 100_000);
        pair.step(usize::MAX, usize::MAX);
        pair.host.consume(BOTH, usize::MAX);
        pair.step(usize::MAX, usize::MAX);
    }
    assert_eq!(pair.host.received[&OUT], CREDIT);
    assert!(pair.host.received[&BOTH] > 40 * 100_000);
    assert_eq!(pair.guest.mux.capacity(OUT), 0);
    pair.host.consume(OUT, usize::MAX);
    pair.settle();
    assert_eq!(pair.guest.mux.capacity(OUT) as u64, CREDIT);
}

#[test]
fn streams_take_turns() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, CREDIT);
    pair.guest.send(BOTH, 1);
    let mut bytes = Vec::new();
    pair.guest.mux.transmit(&mut bytes);
    pair.guest.mux.transmit(&mut bytes);
    assert!(bytes.len() < 200_000, "the short one waited for all of the long one");
    pair.host.under_way.extend(bytes);
    pair.host.deliver(usize::MAX);
    assert_eq!(pair.host.received.get(&BOTH), Some(&1));
}

#[test]
fn a_fork_resets_everything() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, 1000);
    pair.host.send(IN, 1000);
    // Half a frame of the old host has arrived, and the guest has said half of one, when it is cut.
    pair.pump();
    pair.guest.deliver(30);
    let old: Vec<u8> = pair.guest.under_way.drain(..).collect();
    let mut fork = Pair { host: End::new(Mux::host()), guest: pair.guest };
    fork.connect();
    fork.pump();
    let hello = fork.host.deliver(usize::MAX);
    assert!(hello && !fork.host.mux.can_resume());
    assert_eq!(fork.host.mux.start(1), Err(StartError::NotResumable(1)));
    assert_eq!(fork.host.mux.start(0), Err(StartError::Zero));
    fork.host.mux.start(2).unwrap();
    fork.settle();
    let gone = vec![(IN, Code::GONE), (OUT, Code::GONE), (BOTH, Code::GONE)];
    assert_eq!(fork.guest.resets, gone);
    assert_eq!(fork.guest.started.last(), Some(&false));
    assert_eq!(fork.guest.mux.epoch(), 2);
    // What the old one said is not for this one, even where it is whole.
    let mut late = frame(2, 1, 1, &data(0, b"old"));
    late.extend(frame(5, 1, 1, &[0; 4]));
    fork.guest.mux.receive(&late).unwrap();
    assert!(!old.is_empty());
    // Names begin anew.
    (fork.host.received, fork.host.sent) = Default::default();
    (fork.guest.received, fork.guest.sent) = Default::default();
    (fork.guest.messages, fork.guest.unconsumed) = Default::default();
    fork.open();
    fork.host.send(IN, 5000);
    fork.settle();
    assert_eq!(fork.guest.received[&IN], 5000);
}

#[test]
fn a_request_that_was_lost_comes_again_and_its_streams_wait_for_it() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.host.send(IN, 1000);
    pair.pump();
    pair.connect();
    pair.settle();
    assert_eq!(pair.guest.received[&IN], 1000);
    assert!(pair.host.resets.is_empty() && pair.guest.resets.is_empty());
}

#[test]
fn an_end_that_has_come_does_not_come_again() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, 1000);
    pair.guest.mux.finish(OUT);
    // It is there, but not consumed, when the link breaks.
    pair.step(usize::MAX, usize::MAX);
    assert_eq!(pair.host.fins.get(&OUT), Some(&1));
    pair.connect();
    for _ in 0..4 {
        pair.step(usize::MAX, usize::MAX);
    }
    pair.settle();
    assert_eq!(pair.host.fins.get(&OUT), Some(&1));
    assert!(!pair.host.mux.is_open(OUT) && !pair.guest.mux.is_open(OUT));
}

/// Both ends have acknowledged the other's end, and both acknowledgements were lost.
#[test]
fn lost_acknowledgements_of_ends_are_said_again_before_a_stream_is_over() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.host.mux.finish(BOTH);
    pair.guest.mux.finish(BOTH);
    pair.step(usize::MAX, usize::MAX);
    assert_eq!((pair.host.fins.get(&BOTH), pair.guest.fins.get(&BOTH)), (Some(&1), Some(&1)));
    pair.pump();
    assert!(!pair.host.under_way.is_empty() && !pair.guest.under_way.is_empty());
    pair.connect();
    pair.settle();
    assert!(!pair.host.mux.is_open(BOTH) && !pair.guest.mux.is_open(BOTH));
}

/// A host may have got the front of a frame's bytes only, though this one never says so.
#[test]
fn sending_goes_on_in_the_middle_of_a_piece() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, 1000);
    pair.pump();
    pair.guest.mux.attach();
    let mut bytes = Vec::new();
    while pair.guest.mux.transmit(&mut bytes) {}
    let control = pair.host.mux.epoch();
    let start = format!(
        r#"{{"version":1,"epoch":{control},"resume":[{{"id":0,"received":0}},{{"id":3,"received":300}}]}}"#
    );
    pair.guest.mux.receive(&frame(1, 0, control, start.as_bytes())).unwrap();
    bytes.clear();
    while pair.guest.mux.transmit(&mut bytes) {}
    let rest: Vec<u8> = (300..1000).map(|offset| pattern(OUT, offset)).collect();
    let wanted = frame(2, 3, control, &data(300, &rest));
    assert!(bytes.windows(wanted.len()).any(|window| window == wanted));
}

#[test]
fn a_reset_that_was_lost_is_told_again() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.mux.reset(IN, Code::FAILED);
    pair.host.mux.reset(OUT, Code::CANCELLED);
    pair.pump();
    pair.connect();
    pair.settle();
    assert_eq!(pair.host.resets, [(IN, Code::GONE)]);
    assert_eq!(pair.guest.resets, [(OUT, Code::GONE)]);
    assert!(pair.host.mux.is_open(BOTH) && pair.guest.mux.is_open(BOTH));
}

#[test]
fn a_reset_in_the_middle_leaves_no_error_behind() {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    pair.guest.send(OUT, 200_000);
    pair.guest.mux.finish(OUT);
    pair.pump();
    pair.host.mux.reset(OUT, Code::CANCELLED);
    pair.settle();
    assert_eq!(pair.guest.resets, [(OUT, Code::CANCELLED)]);
    assert!(!pair.host.received.contains_key(&OUT));
}

#[test]
fn a_stream_of_the_guest_is_accepted_or_refused() {
    let mut pair = Pair::new();
    pair.settle();
    for service in ["first", "second"] {
        let stream = pair.guest.mux.open(Direction::Both).unwrap();
        pair.guest.mux.send_message(&ToHost::Open(Open { stream, service: service.into() })).unwrap();
    }
    pair.guest.send(StreamId(2), 100);
    pair.settle();
    assert_eq!(pair.host.messages.len(), 2);
    pair.host.mux.accept(StreamId(2), Direction::Both).unwrap();
    pair.host.mux.reset(StreamId(4), Code::REFUSED);
    pair.settle();
    assert_eq!(pair.host.received[&StreamId(2)], 100);
    assert_eq!(pair.guest.resets, [(StreamId(4), Code::REFUSED)]);
    assert!(pair.host.mux.accept(StreamId(4), Direction::Both).is_ok(), "named and free");
    assert!(pair.host.mux.accept(StreamId(6), Direction::Both).is_err(), "never named");
    assert!(pair.host.mux.accept(StreamId(3), Direction::Both).is_err(), "not the guest's");
}

#[test]
fn a_hello_of_every_stream_that_a_link_can_have_is_read() {
    let mut pair = Pair::new();
    pair.settle();
    let mut opened = 0;
    while pair.host.mux.open(Direction::Send).is_ok() {
        opened += 1;
    }
    assert_eq!(opened, MAX_STREAMS - 1);
    for id in 0..opened {
        let stream = StreamId(u32::try_from(id).unwrap() * 2 + 1);
        let body = Body::CopyIn(wire::message::CopyIn { dest: "/".into(), stream, owner: Account::ROOT });
        pair.host.mux.send_message(&ToGuest::Request(Request { id: 1, epoch: 1, body })).unwrap();
    }
    pair.settle();
    for id in 0..opened {
        pair.guest.mux.accept(StreamId(u32::try_from(id).unwrap() * 2 + 1), Direction::Receive).unwrap();
    }
    pair.connect();
    pair.settle();
    assert_eq!(pair.host.started, [false, true]);
    assert!(pair.host.resets.is_empty());
}
