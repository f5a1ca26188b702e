//! The two halves of a stream.
//!
//! Purpose: offsets, credit and what is held for sending again; no frames of their own.
//! Owner: the [`Mux`](super::Mux).
//!
//! Invariants
//! - A [`Sender`] holds exactly the bytes `acked..end`, at most [`CREDIT`] of them.
//! - A [`Receiver`] was given at most [`CREDIT`] bytes beyond `consumed`.
//! - The end of a half takes one place in its offsets: a final offset `n` is acknowledged by `n + 1`.
//!
//! ```text
//!   acked ≤ next ≤ end          sent: highest `next` so far (+1 with the end)
//!     │──────│──────│
//!     held   │      held, not sent yet on this opening of the link
//!            sent, not acknowledged
//! ```

use std::collections::VecDeque;

use crate::{error::ProtocolError, frame::MAX_PAYLOAD, message::StreamId};

/// Bytes that a sender may have sent beyond what the receiver has consumed.
pub const CREDIT: u64 = 256 * 1024;
/// Largest number of bytes in one Data frame, behind its offset and time.
pub(super) const MAX_DATA: usize = MAX_PAYLOAD as usize - 16;
/// A receiver acknowledges when this many bytes were consumed since the last time.
const ACK_EVERY: u64 = CREDIT / 4;

#[derive(Debug)]
struct Chunk {
    offset: u64,
    time_ns: u64,
    bytes: Vec<u8>,
}

/// The half that sends.
#[derive(Debug, Default)]
pub(super) struct Sender {
    chunks: VecDeque<Chunk>,
    /// Index in `chunks` of the one that holds `next`.
    cursor: usize,
    acked: u64,
    next: u64,
    end: u64,
    sent: u64,
    finished: bool,
    fin_sent: bool,
    /// Whether the other side has said that it knows the stream.
    granted: bool,
}

impl Sender {
    pub(super) fn new(granted: bool) -> Self {
        Self { granted, ..Self::default() }
    }

    /// Bytes that would be accepted now.
    pub(super) fn capacity(&self) -> usize {
        if self.finished {
            return 0;
        }
        usize::try_from((self.acked + CREDIT).saturating_sub(self.end)).unwrap_or(0)
    }

    pub(super) fn push(&mut self, bytes: &[u8], time_ns: u64) -> usize {
        let accepted = bytes.len().min(self.capacity());
        let (now, _) = bytes.split_at(accepted);
        for part in now.chunks(MAX_DATA) {
            self.chunks.push_back(Chunk { offset: self.end, time_ns, bytes: part.to_vec() });
            self.end += part.len() as u64;
        }
        accepted
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether the other side has said that it knows the stream.
    pub(super) fn granted(&self) -> bool {
        self.granted
    }

    /// What `sent` says in a handshake.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all was sent at least once, the end too.
    pub(super) fn all_sent(&self) -> bool {
        self.finished && self.sent == self.end + 1
    }

    /// Whether all was sent and acknowledged, the end too.
    pub(super) fn done(&self) -> bool {
        self.finished && self.acked == self.end + 1
    }

    /// Whether there is something to send now.
    pub(super) fn pending(&self) -> bool {
        self.granted && (self.next < self.end || (self.finished && !self.fin_sent))
    }

    /// The next piece to send: offset, time, bytes.
    pub(super) fn pop(&mut self) -> Option<(u64, u64, &[u8])> {
        if !self.granted || self.next >= self.end {
            return None;
        }
        let chunk = self.chunks.get(self.cursor)?;
        let skip = usize::try_from(self.next - chunk.offset).unwrap_or(usize::MAX);
        let bytes = chunk.bytes.get(skip..)?;
        let offset = self.next;
        self.next += bytes.len() as u64;
        self.sent = self.sent.max(self.next);
        self.cursor += 1;
        Some((offset, chunk.time_ns, bytes))
    }

    /// The final offset, once all bytes are sent.
    pub(super) fn pop_fin(&mut self) -> Option<u64> {
        if !self.granted || !self.finished || self.fin_sent || self.next < self.end {
            return None;
        }
        self.fin_sent = true;
        self.sent = self.end + 1;
        Some(self.end)
    }

    pub(super) fn ack(&mut self, stream: StreamId, offset: u64) -> Result<(), ProtocolError> {
        if offset < self.acked || offset > self.sent {
            return Err(ProtocolError::Ack { stream, got: offset, acked: self.acked, sent: self.sent });
        }
        self.granted = true;
        self.acked = offset;
        while let Some(chunk) = self.chunks.front()
            && chunk.offset + chunk.bytes.len() as u64 <= offset
        {
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        // An old acknowledgement never lies beyond `next` on this link, but one of the link before may.
        if self.next < offset.min(self.end) {
            self.seek(offset);
        }
        Ok(())
    }

    /// Goes on from what the other side has: `received` of a handshake.
    pub(super) fn resume(&mut self, received: u64) {
        self.granted = true;
        self.fin_sent = self.finished && received > self.end;
        self.seek(received);
    }

    /// Whether a handshake may resume from there.
    pub(super) fn check(&self, received: u64) -> Result<(), ProtocolError> {
        if received < self.acked || received > self.sent {
            return Err(ProtocolError::Handshake("a stream is to go on where nothing is held"));
        }
        Ok(())
    }

    fn seek(&mut self, offset: u64) {
        self.next = offset.min(self.end);
        let next = self.next;
        self.cursor = self.chunks.partition_point(|chunk| chunk.offset + chunk.bytes.len() as u64 <= next);
    }
}

/// The half that receives.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    received: u64,
    consumed: u64,
    acked: u64,
    fin: bool,
    ack_due: bool,
}

impl Receiver {
    /// `announce`: says at once that the stream is known here.
    pub(super) fn new(announce: bool) -> Self {
        Self { ack_due: announce, ..Self::default() }
    }

    /// What `received` says in a handshake.
    pub(super) fn received(&self) -> u64 {
        self.received + u64::from(self.fin)
    }

    /// Whether all was received, the end too.
    pub(super) fn ended(&self) -> bool {
        self.fin
    }

    /// Whether all was received, consumed and acknowledged, the end too; not while an acknowledgement that
    /// a link may have lost is to be said again.
    pub(super) fn done(&self) -> bool {
        self.fin && !self.ack_due && self.acked == self.received + 1
    }

    pub(super) fn data(&mut self, stream: StreamId, offset: u64, len: usize) -> Result<(), ProtocolError> {
        if self.fin {
            return Err(ProtocolError::AfterFin { stream });
        }
        if offset != self.received {
            return Err(ProtocolError::Offset { stream, expected: self.received, got: offset });
        }
        let end = self.received + len as u64;
        if end > self.consumed + CREDIT {
            return Err(ProtocolError::Credit { stream, excess: end - self.consumed - CREDIT });
        }
        self.received = end;
        Ok(())
    }

    pub(super) fn finish(&mut self, stream: StreamId, offset: u64) -> Result<(), ProtocolError> {
        if self.fin {
            return Err(ProtocolError::AfterFin { stream });
        }
        if offset != self.received {
            return Err(ProtocolError::Offset { stream, expected: self.received, got: offset });
        }
        self.fin = true;
        self.consume(0);
        Ok(())
    }

    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.received);
        if self.consumed - self.acked.min(self.consumed) >= ACK_EVERY
            || (self.fin && self.consumed == self.received && !self.done())
        {
            self.ack_due = true;
        }
    }

    /// Says again where it is: the last acknowledgement may have been lost with its link.
    pub(super) fn resume(&mut self) {
        self.ack_due = true;
    }

    pub(super) fn pending(&self) -> bool {
        self.ack_due
    }

    /// The offset to acknowledge now, if it is time.
    pub(super) fn pop_ack(&mut self) -> Option<u64> {
        if !self.ack_due {
            return None;
        }
        self.ack_due = false;
        self.acked = self.consumed + u64::from(self.fin && self.consumed == self.received);
        Some(self.acked)
    }
}
