//! The way of a stream's bytes from the connection to their consumer.
//!
//! Purpose: a queue whose length is bounded by the credit of its streams, because credit moves only when the
//! consumer takes a part.
//! Owner: the connection pushes (it never waits), one consumer takes. Both sides are told when the other is
//! gone: a consumer that was dropped lets everything that still comes be thrown away, with its credit.
//!
//! Invariants
//! - Bytes in the queue are bytes of credit not given back: at most the window of each stream.
//! - Parts are joined when many are queued, so that a sender of single bytes costs no more than one of pages.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use jiff::Timestamp;
use tokio::sync::mpsc;
use wire::StreamId;

use crate::Gone;

/// From how many queued parts on a new one is joined to the last of the same stream.
const JOIN_FROM: usize = 64;
/// From how many on it is joined even past those of other streams, so that single bytes by turns cost no more.
const JOIN_PAST_FROM: usize = 1024;
/// A joined part is not longer than this, in bytes.
const JOIN_UP_TO: usize = 64 << 10;

/// Bytes of one stream that a consumer took: credit to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) stream: StreamId,
    pub(crate) bytes: usize,
}

/// Some bytes of one stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) stream: StreamId,
    pub(crate) time: Timestamp,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Part>,
    /// Streams that may still push.
    open: usize,
    /// Whether a stream ended before its end.
    cut: bool,
    /// Set once: nothing more will come, and why.
    gone: Option<Gone>,
    consumer: Option<Waker>,
    abandoned: bool,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.consumer.take() {
            waker.wake();
        }
    }
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // No code that can panic runs under this lock; if it did, the queue would still be whole.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection's end.
pub(crate) struct Producer(Shared);

/// The consumer's end.
pub(crate) struct Consumer {
    shared: Shared,
    taken: mpsc::UnboundedSender<Taken>,
}

/// A queue for `streams` streams. What the consumer takes is told to `taken`, whose length is thereby
/// bounded by the number of parts.
pub(crate) fn delivery(streams: usize, taken: mpsc::UnboundedSender<Taken>) -> (Producer, Consumer) {
    let shared = Arc::new(Mutex::new(State { open: streams, ..State::default() }));
    (Producer(Arc::clone(&shared)), Consumer { shared, taken })
}

impl Producer {
    /// Queues `part`. `false`: nobody will take it, and its credit is free.
    #[must_use]
    pub(crate) fn push(&self, part: Part) -> bool {
        let mut state = lock(&self.0);
        if state.abandoned {
            return false;
        }
        let within = match state.parts.len() {
            ..JOIN_FROM => 0,
            JOIN_FROM..JOIN_PAST_FROM => 1,
            // A queue has one or two streams.
            JOIN_PAST_FROM.. => 2,
        };
        let joinable = state.parts.iter_mut().rev().take(within).find(|last| last.stream == part.stream);
        match joinable {
            Some(last) if last.bytes.len() + part.bytes.len() <= JOIN_UP_TO => {
                last.bytes.extend_from_slice(&part.bytes);
            }
            _ => state.parts.push_back(part),
        }
        state.wake();
        true
    }

    /// One of the streams has ended.
    pub(crate) fn finish_one(&self) {
        let mut state = lock(&self.0);
        state.open = state.open.saturating_sub(1);
        state.wake();
    }

    /// One of the streams was given up, by either side, before its end.
    pub(crate) fn cut_one(&self) {
        lock(&self.0).cut = true;
        self.finish_one();
    }

    /// Nothing more will come because the VM is gone. What is queued can still be taken.
    pub(crate) fn fail(&self, gone: &Gone) {
        let mut state = lock(&self.0);
        if state.gone.is_none() {
            state.gone = Some(gone.clone());
        }
        state.wake();
    }
}

impl Consumer {
    /// The next part; `None` after the end of every stream, an error when the VM went before that.
    pub(crate) fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, Gone>>> {
        let mut state = lock(&self.shared);
        if let Some(part) = state.parts.pop_front() {
            drop(state);
            // Fails only when the connection has ended, and then no credit is needed any more.
            let _ = self.taken.send(Taken { stream: part.stream, bytes: part.bytes.len() });
            return Poll::Ready(Some(Ok(part)));
        }
        if state.open == 0 {
            return Poll::Ready(None);
        }
        if let Some(gone) = &state.gone {
            return Poll::Ready(Some(Err(gone.clone())));
        }
        state.consumer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Consumer {
    /// Whether a stream was given up before its end, so that something is missing.
    pub(crate) fn was_cut(&self) -> bool {
        lock(&self.shared).cut
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.abandoned = true;
        for part in std::mem::take(&mut state.parts) {
            let _ = self.taken.send(Taken { stream: part.stream, bytes: part.bytes.len() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(3);

    fn part(stream: StreamId, bytes: &[u8]) -> Part {
        Part { stream, time: Timestamp::UNIX_EPOCH, bytes: bytes.to_vec() }
    }

    async fn take(consumer: &mut Consumer) -> Option<Result<Part, Gone>> {
        poll_fn(|context| consumer.poll_take(context)).await
    }

    #[tokio::test]
    async fn parts_come_in_order_with_their_credit_and_end_when_every_stream_did() {
        let (taken, mut credit) = mpsc::unbounded_channel();
        let (producer, mut consumer) = delivery(2, taken);
        assert!(producer.push(part(A, b"one")));
        assert!(producer.push(part(B, b"two!")));
        assert!(credit.try_recv().is_err(), "credit moved before anything was taken");
        assert_eq!(take(&mut consumer).await, Some(Ok(part(A, b"one"))));
        assert_eq!(credit.try_recv().unwrap(), Taken { stream: A, bytes: 3 });
        producer.finish_one();
        assert_eq!(take(&mut consumer).await, Some(Ok(part(B, b"two!"))));
        producer.finish_one();
        assert_eq!(take(&mut consumer).await, None);
    }

    #[tokio::test]
    async fn what_was_queued_outlives_the_vm_and_then_its_end_is_told() {
        let (taken, _credit) = mpsc::unbounded_channel();
        let (producer, mut consumer) = delivery(1, taken);
        assert!(producer.push(part(A, b"last words")));
        producer.fail(&Gone::Destroyed);
        assert!(take(&mut consumer).await.unwrap().is_ok());
        assert_eq!(take(&mut consumer).await, Some(Err(Gone::Destroyed)));
        assert_eq!(take(&mut consumer).await, Some(Err(Gone::Destroyed)), "it stays gone");
    }

    #[tokio::test]
    async fn single_bytes_are_joined_once_many_wait() {
        let (taken, mut credit) = mpsc::unbounded_channel();
        let (producer, mut consumer) = delivery(1, taken);
        for _ in 0..100_000 {
            assert!(producer.push(part(A, b"x")));
        }
        producer.finish_one();
        let (mut parts, mut bytes) = (0, 0);
        while let Some(part) = take(&mut consumer).await {
            parts += 1;
            bytes += part.unwrap().bytes.len();
        }
        assert_eq!(bytes, 100_000);
        assert!(parts <= JOIN_FROM + 2, "{parts} parts");
        let mut credited = 0;
        while let Ok(taken) = credit.try_recv() {
            credited += taken.bytes;
        }
        assert_eq!(credited, 100_000);
    }

    #[tokio::test]
    async fn single_bytes_by_turns_are_joined_too() {
        let (taken, _credit) = mpsc::unbounded_channel();
        let (producer, mut consumer) = delivery(2, taken);
        for n in 0..100_000_usize {
            assert!(
                producer.push(part(if n % 2 == 0 { A } else { B }, &[u8::try_from(n / 2 % 256).unwrap()]))
            );
        }
        producer.finish_one();
        producer.finish_one();
        let (mut parts, mut at) = (0, [0, 0]);
        while let Some(part) = take(&mut consumer).await {
            let part = part.unwrap();
            parts += 1;
            let at = &mut at[usize::from(part.stream == B)];
            for byte in part.bytes {
                assert_eq!(usize::from(byte), *at % 256, "each stream stays in order");
                *at += 1;
            }
        }
        assert_eq!(at, [50_000, 50_000]);
        assert!(parts <= JOIN_PAST_FROM + 4, "{parts} parts");
    }

    #[test]
    fn a_dropped_consumer_gives_back_all_credit() {
        let (taken, mut credit) = mpsc::unbounded_channel();
        let (producer, consumer) = delivery(1, taken);
        assert!(producer.push(part(A, b"unread")));
        drop(consumer);
        assert_eq!(credit.try_recv().unwrap(), Taken { stream: A, bytes: 6 });
        assert!(!producer.push(part(A, b"later")));
    }
}
