//! Frames: a header of 16 bytes and at most 64 KiB of payload.
//!
//! Purpose: cut a byte stream into frames and back; no knowledge of streams.
//! Owner: one [`Decoder`] per opening of a link.
//!
//! ```text
//!   0        4      5       6          8        12       16
//!   | len:u32 | kind | flags | reserved | stream | epoch  | payload (len bytes)
//!   |         |  u8  |  u8   |   u16    |  u32   |  u32   |          little endian
//! ```
//!
//! Invariants
//! - A header is judged as soon as its 16 bytes are there; before that at most 15 bytes are kept, after it
//!   at most one frame.
//! - A frame that lies whole in the input is not copied.

use crate::{error::ProtocolError, message::StreamId};

/// Bytes of a header.
pub const HEADER: usize = 16;
/// Largest payload of a frame in bytes.
pub const MAX_PAYLOAD: u32 = 65_536;
/// Flag of a Hello or Start whose JSON goes on in the next frame.
pub(crate) const MORE: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 0,
    Start = 1,
    Data = 2,
    Ack = 3,
    Fin = 4,
    Reset = 5,
}

impl Kind {
    fn parse(byte: u8) -> Result<Self, ProtocolError> {
        Ok(match byte {
            0 => Self::Hello,
            1 => Self::Start,
            2 => Self::Data,
            3 => Self::Ack,
            4 => Self::Fin,
            5 => Self::Reset,
            other => return Err(ProtocolError::UnknownKind(other)),
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Start => "start",
            Self::Data => "data",
            Self::Ack => "ack",
            Self::Fin => "fin",
            Self::Reset => "reset",
        }
    }
}

/// A header that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: StreamId,
    pub(crate) epoch: u32,
}

/// One frame, borrowed from the input or from the decoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn wrong_payload(&self) -> ProtocolError {
        ProtocolError::Payload { kind: self.header.kind.name(), len: self.payload.len() }
    }

    /// The payload of an Ack or Fin.
    pub(crate) fn offset(&self) -> Result<u64, ProtocolError> {
        Ok(u64::from_le_bytes(self.payload.try_into().map_err(|_| self.wrong_payload())?))
    }

    /// The payload of a Reset.
    pub(crate) fn code(&self) -> Result<u32, ProtocolError> {
        Ok(u32::from_le_bytes(self.payload.try_into().map_err(|_| self.wrong_payload())?))
    }

    /// Offset, time and bytes of a Data frame; at least one byte.
    pub(crate) fn data(&self) -> Result<(u64, u64, &[u8]), ProtocolError> {
        let (offset, rest) = self.payload.split_first_chunk().ok_or_else(|| self.wrong_payload())?;
        let (time, bytes) = rest.split_first_chunk().ok_or_else(|| self.wrong_payload())?;
        if bytes.is_empty() {
            return Err(self.wrong_payload());
        }
        Ok((u64::from_le_bytes(*offset), u64::from_le_bytes(*time), bytes))
    }
}

fn parse_header(bytes: &[u8; HEADER]) -> Result<Header, ProtocolError> {
    let [l0, l1, l2, l3, kind, flags, r0, r1, s0, s1, s2, s3, e0, e1, e2, e3] = *bytes;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let kind = Kind::parse(kind)?;
    let reserved = u16::from_le_bytes([r0, r1]);
    let allowed = match kind {
        Kind::Hello | Kind::Start => MORE,
        Kind::Data | Kind::Ack | Kind::Fin | Kind::Reset => 0,
    };
    if flags & !allowed != 0 || reserved != 0 {
        return Err(ProtocolError::Reserved { flags, reserved });
    }
    if len > MAX_PAYLOAD {
        return Err(ProtocolError::FrameTooLong { len });
    }
    Ok(Header {
        len,
        kind,
        flags,
        stream: StreamId(u32::from_le_bytes([s0, s1, s2, s3])),
        epoch: u32::from_le_bytes([e0, e1, e2, e3]),
    })
}

/// Appends one frame. The parts together are at most [`MAX_PAYLOAD`] bytes.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    kind: Kind,
    flags: u8,
    stream: StreamId,
    epoch: u32,
    parts: &[&[u8]],
) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(len <= MAX_PAYLOAD as usize, "the caller cuts payloads");
    out.reserve(HEADER + len);
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[kind as u8, flags, 0, 0]);
    out.extend_from_slice(&stream.0.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The part of a frame that came so far; a whole frame only until the next call.
    partial: Vec<u8>,
    /// The header of `partial`, once it is whole.
    header: Option<Header>,
    /// Whether `partial` was given out.
    given: bool,
}

impl Decoder {
    /// Takes the next frame from the front of `input`; with none, all of `input` was taken.
    pub(crate) fn next<'f, 'i: 'f>(
        &'f mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'f>>, ProtocolError> {
        if self.given {
            self.partial.clear();
            self.header = None;
            self.given = false;
        }
        if self.partial.is_empty()
            && let Some((head, rest)) = input.split_first_chunk::<HEADER>()
        {
            let header = parse_header(head)?;
            if let Some((payload, rest)) = rest.split_at_checked(header.len as usize) {
                *input = rest;
                return Ok(Some(Frame { header, payload }));
            }
        }
        let header = match self.header {
            Some(header) => header,
            None => {
                self.take(input, HEADER);
                let Some(head) = self.partial.first_chunk::<HEADER>() else { return Ok(None) };
                let header = parse_header(head)?;
                self.header = Some(header);
                header
            }
        };
        let whole = HEADER + header.len as usize;
        self.take(input, whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        self.given = true;
        Ok(Some(Frame { header, payload: self.partial.get(HEADER..).unwrap_or_default() }))
    }

    /// Moves bytes from `input` until `partial` has `len`.
    fn take(&mut self, input: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: Kind, stream: u32, epoch: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, kind, 0, StreamId(stream), epoch, &[payload]);
        out
    }

    #[test]
    fn every_kind_has_its_bytes() {
        let cases: [(Kind, &[u8], &[u8]); 6] = [
            (Kind::Hello, b"{}", b"\x02\0\0\0\x00\0\0\0\x04\x03\x02\x01\x07\0\0\0{}"),
            (Kind::Start, b"{}", b"\x02\0\0\0\x01\0\0\0\x04\x03\x02\x01\x07\0\0\0{}"),
            (Kind::Data, b"x", b"\x01\0\0\0\x02\0\0\0\x04\x03\x02\x01\x07\0\0\0x"),
            (Kind::Ack, b"\x01", b"\x01\0\0\0\x03\0\0\0\x04\x03\x02\x01\x07\0\0\0\x01"),
            (Kind::Fin, b"\x01", b"\x01\0\0\0\x04\0\0\0\x04\x03\x02\x01\x07\0\0\0\x01"),
            (Kind::Reset, b"", b"\0\0\0\0\x05\0\0\0\x04\x03\x02\x01\x07\0\0\0"),
        ];
        for (kind, payload, golden) in cases {
            assert_eq!(frame(kind, 0x0102_0304, 7, payload), golden, "{}", kind.name());
        }
    }

    #[test]
    fn a_frame_of_4_gb_is_refused_by_its_header_alone() {
        let mut decoder = Decoder::default();
        let mut input: &[u8] = b"\xff\xff\xff\xff\x02\0\0\0\x01\0\0\0\x01\0\0\0";
        assert_eq!(decoder.next(&mut input), Err(ProtocolError::FrameTooLong { len: u32::MAX }));
        assert_eq!(decoder.partial.capacity(), 0);
    }

    #[test]
    fn what_a_header_may_not_say() {
        for (bytes, wanted) in [
            (b"\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0", ProtocolError::UnknownKind(6)),
            (b"\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0", ProtocolError::Reserved { flags: 1, reserved: 0 }),
            (b"\0\0\0\0\x00\x02\0\0\0\0\0\0\0\0\0\0", ProtocolError::Reserved { flags: 2, reserved: 0 }),
            (b"\0\0\0\0\x02\0\0\x01\0\0\0\0\0\0\0\0", ProtocolError::Reserved { flags: 0, reserved: 256 }),
            (b"\x01\0\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0", ProtocolError::FrameTooLong { len: 65_537 }),
        ] {
            assert_eq!(Decoder::default().next(&mut &bytes[..]), Err(wanted));
        }
    }

    fn all(decoder: &mut Decoder, mut input: &[u8]) -> Vec<(Kind, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            frames.push((frame.header.kind, frame.header.stream.0, frame.payload.to_vec()));
        }
        assert!(input.is_empty());
        frames
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1_usize..200, 0..60),
        ) {
            let mut bytes = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                bytes.extend(frame(Kind::Data, u32::try_from(index).unwrap(), 1, payload));
            }
            let whole = all(&mut Decoder::default(), &bytes);
            prop_assert_eq!(whole.len(), payloads.len());
            let mut decoder = Decoder::default();
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.extend(all(&mut decoder, piece));
                rest = after;
            }
            pieces.extend(all(&mut decoder, rest));
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            prop_assert!(decoder.partial.len() <= HEADER + MAX_PAYLOAD as usize);
        }
    }
}
