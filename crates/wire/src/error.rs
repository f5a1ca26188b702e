//! What a peer can do wrong.

use crate::message::StreamId;

/// The peer broke the protocol. The link is dead: close it, open a new one, attach again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame announced more than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD); nothing of it was read.
    #[error("a frame announces {len} bytes, {max} are allowed", max = crate::MAX_PAYLOAD)]
    FrameTooLong {
        /// The announced length.
        len: u32,
    },
    /// A kind of frame that does not exist.
    #[error("unknown kind of frame: {0}")]
    UnknownKind(u8),
    /// Bits of a header that must be zero are not.
    #[error("reserved bits of a frame's header are set: flags {flags:#04x}, reserved {reserved:#06x}")]
    Reserved {
        /// The flags.
        flags: u8,
        /// The reserved half-word.
        reserved: u16,
    },
    /// A payload that is too short or too long for its kind of frame.
    #[error("a {kind} frame with {len} bytes of payload")]
    Payload {
        /// Name of the kind.
        kind: &'static str,
        /// Length of the payload in bytes.
        len: usize,
    },
    /// This kind of frame is never sent in this direction, or not on this stream.
    #[error("a {kind} frame on stream {stream} is not allowed here")]
    Misplaced {
        /// Name of the kind.
        kind: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// A frame of a stream that was never opened.
    #[error("a {kind} frame of stream {stream}, which was never opened")]
    UnknownStream {
        /// Name of the kind.
        kind: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// Bytes that are not the next ones.
    #[error("stream {stream} goes on at {got} where {expected} comes next")]
    Offset {
        /// The stream.
        stream: StreamId,
        /// Offset that comes next.
        expected: u64,
        /// Offset of the frame.
        got: u64,
    },
    /// More bytes than were granted.
    #[error("stream {stream} sent {excess} bytes more than its credit")]
    Credit {
        /// The stream.
        stream: StreamId,
        /// How many.
        excess: u64,
    },
    /// Something after the end of a stream.
    #[error("stream {stream} goes on after its end")]
    AfterFin {
        /// The stream.
        stream: StreamId,
    },
    /// An acknowledgement that goes back or is ahead of what was sent.
    #[error("stream {stream} acknowledges {got}, which is not between {acked} and {sent}")]
    Ack {
        /// The stream.
        stream: StreamId,
        /// The acknowledged offset.
        got: u64,
        /// What was acknowledged before.
        acked: u64,
        /// What was sent.
        sent: u64,
    },
    /// A version that is not spoken here.
    #[error("the peer speaks version {theirs} of the protocol, here it is {ours}", ours = crate::VERSION)]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// A handshake or a message that cannot be read.
    #[error("unreadable {what}: {reason}")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A message or a handshake that is longer than allowed.
    #[error("a {what} of {len} bytes, {max} are allowed")]
    MessageTooLong {
        /// What it was to be.
        what: &'static str,
        /// Its length in bytes, as far as it was announced.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A handshake that contradicts what is known of the streams.
    #[error("the handshake does not fit: {0}")]
    Handshake(&'static str),
    /// More streams than a link can have.
    #[error("more than {max} streams", max = crate::MAX_STREAMS)]
    TooManyStreams,
    /// The link is dead since an earlier error.
    #[error("the link is dead since an earlier error")]
    Dead,
}

/// Why a stream could not be opened or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A link has at most [`MAX_STREAMS`](crate::MAX_STREAMS) streams.
    #[error("too many open streams")]
    TooMany,
    /// The id was used before, or is one that the other side may not choose.
    #[error("stream {0} cannot be opened: its id is used or not the opener's")]
    Id(StreamId),
}

/// Why the host could not answer a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No Hello waits for an answer.
    #[error("no hello waits for an answer")]
    NoHello,
    /// The guest is in this epoch, but the streams of this end are of another: choose a new one.
    #[error("epoch {0} cannot be resumed")]
    NotResumable(u32),
    /// Epoch 0 is that of a guest which was never started.
    #[error("epoch 0 cannot be started")]
    Zero,
}

/// A message that is longer than the other side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {len} bytes, {max} are allowed")]
pub struct Oversized {
    /// Its length in bytes of JSON.
    pub len: usize,
    /// The limit.
    pub max: usize,
}
