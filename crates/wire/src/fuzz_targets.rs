//! Fuzz bodies as plain functions: `cargo test` replays their corpus, the fuzz crate calls them.

use crate::{
    ProtocolError,
    message::{Hello, Start, ToGuest, ToHost},
    mux::{Direction, Event, Guest, Host, Mux, Role},
};

fn drain<R: Role>(mux: &mut Mux<R>) {
    while let Some(event) = mux.poll_event() {
        if let Event::Data { stream, bytes, .. } = event {
            mux.consume(stream, bytes.len());
        }
    }
    let mut out = Vec::new();
    while mux.transmit(&mut out) {
        out.clear();
    }
}

fn feed<R: Role>(mux: &mut Mux<R>, data: &[u8]) {
    // The first byte chooses the chunking.
    let Some((size, rest)) = data.split_first() else { return };
    for chunk in rest.chunks(usize::from(*size).max(1)) {
        let outcome = mux.receive(chunk);
        drain(mux);
        if outcome.is_err() {
            assert_eq!(mux.receive(chunk), Err(ProtocolError::Dead), "a broken link took more");
            return;
        }
    }
}

/// A host and a guest that are in the middle of their lives.
fn pair() -> (Mux<Host>, Mux<Guest>) {
    let (mut host, mut guest) = (Mux::host(), Mux::guest("fuzz"));
    host.attach();
    guest.attach();
    let mut bytes = Vec::new();
    guest.transmit(&mut bytes);
    let greeted = host.receive(&bytes).is_ok() && host.start(1).is_ok();
    bytes.clear();
    host.transmit(&mut bytes);
    assert!(greeted && guest.receive(&bytes).is_ok(), "a plain handshake failed");
    for direction in [Direction::Send, Direction::Receive, Direction::Both] {
        assert!(host.open(direction).is_ok(), "a stream could not be opened");
    }
    (host, guest)
}

/// Arbitrary bytes from the link, at both ends, before and after the handshake.
pub fn frames(data: &[u8]) {
    let (mut host, mut guest) = pair();
    feed(&mut host, data);
    feed(&mut guest, data);
    let (mut host, mut guest) = (Mux::host(), Mux::guest("fuzz"));
    host.attach();
    guest.attach();
    feed(&mut host, data);
    feed(&mut guest, data);
}

/// Arbitrary JSON as every message: what can be read is written and read again as the same.
pub fn messages(data: &[u8]) {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<T>(data) {
            let written = serde_json::to_vec(&value).unwrap_or_default();
            assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(&value));
        }
    }
    again::<Hello>(data);
    again::<Start>(data);
    again::<ToHost>(data);
    again::<ToGuest>(data);
}
