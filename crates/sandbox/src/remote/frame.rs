//! Frames of an engine's socket: one byte of kind, the length, the payload.
//!
//! Purpose: cut a byte stream into frames and back; pure, and without knowledge of what is in a message.
//! Owner: one [`Decoder`] per connection.
//!
//! ```text
//!   0      1            5
//!   | kind | len:u32 LE | payload (len bytes)
//!   message: JSON      output, errors: time:i64 LE, 1 to 64 KiB      bytes: 1 to 64 KiB      end: nothing
//! ```
//!
//! Invariants
//! - A header is judged as soon as it is there, so that no more than one frame of the largest size is kept.
//! - Nothing is reserved for what a header promises: memory grows as bytes come.

use crate::Stream;

/// Bytes of a header.
pub(crate) const HEADER: usize = 5;
/// Largest message in bytes of JSON: a guest's largest request, and what is around it.
pub(crate) const MAX_MESSAGE: usize = wire::message::MAX_MESSAGE + (64 << 10);
/// Most bytes of a stream in one frame.
pub(crate) const MAX_BYTES: usize = 64 << 10;
const TIME: usize = size_of::<i64>();

const MESSAGE: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;
const BYTES: u8 = 4;
const END: u8 = 5;

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// JSON.
    Message(Vec<u8>),
    /// What a command printed.
    Output { stream: Stream, time: i64, bytes: Vec<u8> },
    /// Some of what a command reads, or of a tree.
    Bytes(Vec<u8>),
    /// Nothing follows of that.
    End,
}

/// What is not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoFrame {
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("a frame of kind {kind} with {len} bytes")]
    Length { kind: u8, len: u32 },
}

/// Cuts a stream into frames.
#[derive(Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// What of it was taken.
    at: usize,
}

impl Decoder {
    /// Where the next bytes of the stream are to be appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        &mut self.buffer
    }

    /// The next frame, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, NoFrame> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let len = u32::from_le_bytes(length);
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        let fits = match kind {
            MESSAGE => size <= MAX_MESSAGE,
            STDOUT | STDERR => (TIME + 1..=TIME + MAX_BYTES).contains(&size),
            BYTES => (1..=MAX_BYTES).contains(&size),
            END => size == 0,
            other => return Err(NoFrame::Kind(other)),
        };
        if !fits {
            return Err(NoFrame::Length { kind, len });
        }
        let Some(payload) = rest.get(..size) else { return Ok(None) };
        let frame = match kind {
            MESSAGE => Frame::Message(payload.to_vec()),
            STDOUT | STDERR => {
                let Some((time, bytes)) = payload.split_first_chunk::<TIME>() else {
                    return Err(NoFrame::Length { kind, len });
                };
                let stream = if kind == STDOUT { Stream::Stdout } else { Stream::Stderr };
                Frame::Output { stream, time: i64::from_le_bytes(*time), bytes: bytes.to_vec() }
            }
            BYTES => Frame::Bytes(payload.to_vec()),
            _ => Frame::End,
        };
        self.at += HEADER + size;
        Ok(Some(frame))
    }
}

/// Whether this many bytes are a message that can be sent.
pub(crate) fn is_message(json: &[u8]) -> bool {
    json.len() <= MAX_MESSAGE
}

fn put(out: &mut Vec<u8>, kind: u8, parts: [&[u8]; 2]) {
    let size = parts[0].len() + parts[1].len();
    debug_assert!(size <= MAX_MESSAGE, "whoever sends cuts first");
    out.push(kind);
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(parts[0]);
    out.extend_from_slice(parts[1]);
}

/// Appends a message.
pub(crate) fn put_message(out: &mut Vec<u8>, json: &[u8]) {
    put(out, MESSAGE, [json, &[]]);
}

/// Appends output, in as many frames as it takes.
pub(crate) fn put_output(out: &mut Vec<u8>, stream: Stream, time: i64, bytes: &[u8]) {
    let kind = match stream {
        Stream::Stdout => STDOUT,
        Stream::Stderr => STDERR,
    };
    for bytes in bytes.chunks(MAX_BYTES) {
        put(out, kind, [&time.to_le_bytes(), bytes]);
    }
}

/// Appends bytes, in as many frames as it takes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for bytes in bytes.chunks(MAX_BYTES) {
        put(out, BYTES, [bytes, &[]]);
    }
}

/// Appends the end of them.
pub(crate) fn put_end(out: &mut Vec<u8>) {
    put(out, END, [&[], &[]]);
}

impl std::fmt::Debug for Frame {
    /// Without what may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(json) => write!(f, "Message({} bytes)", json.len()),
            Self::Output { stream, time, bytes } => {
                write!(f, "Output({stream:?}, {time}, {} bytes)", bytes.len())
            }
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::End => f.write_str("End"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_bytes() {
        let mut out = Vec::new();
        put_message(&mut out, b"{}");
        put_output(&mut out, Stream::Stdout, 1, b"o");
        put_output(&mut out, Stream::Stderr, -1, b"e");
        put_bytes(&mut out, b"tar");
        put_end(&mut out);
        let golden: &[&[u8]] = &[
            &[1, 2, 0, 0, 0, b'{', b'}'],
            &[2, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'o'],
            &[3, 9, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, b'e'],
            &[4, 3, 0, 0, 0, b't', b'a', b'r'],
            &[5, 0, 0, 0, 0],
        ];
        assert_eq!(out, golden.concat());
    }

    #[test]
    fn what_is_long_is_cut_and_what_is_too_long_is_refused_by_its_header() {
        let mut out = Vec::new();
        let long = vec![b'x'; MAX_BYTES + 1];
        put_output(&mut out, Stream::Stdout, 7, &long);
        put_bytes(&mut out, &long);
        put_bytes(&mut out, b"");
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&out);
        let mut lengths = Vec::new();
        while let Some(frame) = decoder.next().unwrap() {
            lengths.push(match frame {
                Frame::Output { bytes, .. } | Frame::Bytes(bytes) => bytes.len(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(lengths, [MAX_BYTES, 1, MAX_BYTES, 1]);
        for (kind, most) in
            [(1, MAX_MESSAGE), (2, TIME + MAX_BYTES), (3, TIME + MAX_BYTES), (4, MAX_BYTES), (5, 0)]
        {
            for (length, fits) in [(most, true), (most + 1, false)] {
                let mut decoder = Decoder::default();
                decoder.buffer().push(kind);
                decoder.buffer().extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
                let end = decoder.next();
                assert_eq!(end.is_ok(), fits, "kind {kind} with {length}");
            }
        }
        let least = [(2, TIME), (4, 0)];
        for (kind, length) in least {
            let mut decoder = Decoder::default();
            decoder.buffer().push(kind);
            decoder.buffer().extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
            assert!(decoder.next().is_err(), "kind {kind} with {length}");
        }
    }
}
