//! What a peer may not do, and what comes of it.

use super::*;

/// A pair with open streams; the host gets the frames.
fn told(frames: &[Vec<u8>]) -> Result<(), ProtocolError> {
    let mut pair = Pair::new();
    pair.settle();
    pair.open();
    pair.settle();
    for frame in frames {
        let outcome = pair.host.mux.receive(frame);
        if outcome.is_err() {
            assert_eq!(pair.host.mux.receive(b""), Err(ProtocolError::Dead));
            assert!(!pair.host.mux.transmit(&mut Vec::new()), "a dead link was written to");
            return outcome;
        }
    }
    Ok(())
}

#[test]
fn every_violation_is_an_error_with_its_name() {
    let full = vec![0; 65_520];
    let mut flood: Vec<Vec<u8>> = (0..4).map(|n| frame(2, 3, 1, &data(n * 65_520, &full))).collect();
    flood.push(frame(2, 3, 1, &data(4 * 65_520, &[0; 65])));
    let (data_of, fin) = (|offset, bytes: &[u8]| frame(2, 3, 1, &data(offset, bytes)), 4);
    let cases: Vec<(Vec<Vec<u8>>, ProtocolError)> = vec![
        (flood, ProtocolError::Credit { stream: OUT, excess: 1 }),
        (vec![data_of(1, b"x")], ProtocolError::Offset { stream: OUT, expected: 0, got: 1 }),
        (
            vec![data_of(0, b"x"), data_of(0, b"x")],
            ProtocolError::Offset { stream: OUT, expected: 1, got: 0 },
        ),
        (vec![data_of(0, b"")], ProtocolError::Payload { kind: "data", len: 16 }),
        (vec![frame(2, 3, 1, b"short")], ProtocolError::Payload { kind: "data", len: 5 }),
        (vec![frame(fin, 3, 1, &[0; 8]), data_of(0, b"x")], ProtocolError::AfterFin { stream: OUT }),
        (
            vec![frame(fin, 3, 1, &7_u64.to_le_bytes())],
            ProtocolError::Offset { stream: OUT, expected: 0, got: 7 },
        ),
        (vec![frame(fin, 0, 1, &[0; 8])], ProtocolError::Misplaced { kind: "fin", stream: StreamId(0) }),
        (vec![frame(5, 0, 1, &[0; 4])], ProtocolError::Misplaced { kind: "reset", stream: StreamId(0) }),
        (vec![frame(2, 1, 1, &data(0, b"x"))], ProtocolError::Misplaced { kind: "data", stream: IN }),
        (vec![frame(3, 3, 1, &[0; 8])], ProtocolError::Misplaced { kind: "ack", stream: OUT }),
        (
            vec![frame(3, 1, 1, &9_u64.to_le_bytes())],
            ProtocolError::Ack { stream: IN, got: 9, acked: 0, sent: 0 },
        ),
        (
            vec![frame(2, 7, 1, &data(0, b"x"))],
            ProtocolError::UnknownStream { kind: "data", stream: StreamId(7) },
        ),
        (
            vec![frame(2, 2, 1, &data(0, b"x"))],
            ProtocolError::UnknownStream { kind: "data", stream: StreamId(2) },
        ),
        (vec![frame(1, 0, 1, b"{}")], ProtocolError::Misplaced { kind: "start", stream: StreamId(0) }),
        (
            vec![frame(2, 0, 1, &data(0, &u32::MAX.to_le_bytes()))],
            ProtocolError::MessageTooLong { what: "message", len: u32::MAX as usize, max: 256 * 1024 },
        ),
        (
            vec![frame(0, 0, 1, br#"{"version":0,"epoch":1,"agent":"","streams":[]}"#)],
            ProtocolError::Version { theirs: 0 },
        ),
        (
            vec![frame(0, 0, 1, br#"{"version":1,"epoch":1,"agent":"","streams":[]}"#)],
            ProtocolError::Handshake("the control stream is missing"),
        ),
        (
            vec![frame(
                0,
                0,
                1,
                br#"{"version":1,"epoch":1,"agent":"","streams":[{"id":0,"sent":0,"received":999999}]}"#,
            )],
            ProtocolError::Handshake("a stream is to go on where nothing is held"),
        ),
    ];
    for (frames, wanted) in cases {
        assert_eq!(told(&frames), Err(wanted));
    }
    for garbage in [&b"{"[..], b"[]", b"{\"type\":\"request\"}"] {
        let mut message = u32::try_from(garbage.len()).unwrap().to_le_bytes().to_vec();
        message.extend(garbage);
        let outcome = told(&[frame(2, 0, 1, &data(0, &message))]);
        assert!(matches!(outcome, Err(ProtocolError::Unreadable { what: "message", .. })), "{outcome:?}");
    }
    assert_eq!(told(&[frame(2, 3, 9, &data(77, b"of another epoch"))]), Ok(()));
}

/// A guest that asks for streams without end while nothing that it is told is taken from this end.
#[test]
fn refusals_do_not_pile_up_without_end() {
    let mut pair = Pair::new();
    pair.settle();
    let mut offset = 0;
    for number in 1.. {
        let json = format!(r#"{{"type":"open","stream":{},"service":"x"}}"#, 2 * number);
        let mut message = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
        message.extend(json.bytes());
        let outcome = pair.host.mux.receive(&frame(2, 0, 1, &data(offset, &message)));
        offset += message.len() as u64;
        if number <= MAX_STREAMS {
            outcome.unwrap();
        } else {
            assert_eq!(outcome, Err(ProtocolError::TooManyStreams));
            return;
        }
        while let Some(event) = pair.host.mux.poll_event() {
            if let Event::Message(ToHost::Open(open)) = event {
                pair.host.mux.reset(open.stream, Code::REFUSED);
            }
        }
    }
}
