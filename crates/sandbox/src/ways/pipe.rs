//! Bytes between two ends that both can half-close and reset.
//!
//! Invariant: an end of one side becomes the end of the same direction on the other, and never more; anything else that
//! ends a direction cuts both ends.

use async_trait::async_trait;

/// It ended otherwise than by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut;

/// What is heard of an end.
#[async_trait]
pub(crate) trait Hears: Send {
    /// The next bytes; `None` at their end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Cut>;
    /// Waits until the other side is gone, also while bytes of it wait or have ended; for ever where that cannot be told
    /// without taking them.
    async fn gone(&mut self) {
        std::future::pending().await
    }
}

/// What is said to an end. One that is dropped before it was finished is cut.
#[async_trait]
pub(crate) trait Says: Send {
    /// Returns when it has taken all.
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Cut>;
    /// There are no more.
    async fn finish(&mut self) -> Result<(), Cut>;
}

async fn pour(from: &mut impl Hears, to: &mut impl Says) -> Result<(), Cut> {
    while let Some(bytes) = from.next().await? {
        tokio::select! {
            biased;
            sent = to.send(bytes) => sent?,
            () = from.gone() => return Err(Cut),
        }
    }
    to.finish().await
}

/// Carries bytes until both directions are at their end, or one end is cut.
pub(crate) async fn pipe(
    (mut from, mut to): (impl Hears, impl Says),
    (mut far_from, mut far_to): (impl Hears, impl Says),
) -> Result<(), Cut> {
    let mut there = Box::pin(pour(&mut from, &mut far_to));
    let mut back = Box::pin(pour(&mut far_from, &mut to));
    let first = tokio::select! {
        poured = &mut there => poured.map(|()| true)?,
        poured = &mut back => poured.map(|()| false)?,
    };
    if first {
        drop(there);
        tokio::select! {
            poured = back => poured,
            () = from.gone() => Err(Cut),
        }
    } else {
        drop(back);
        tokio::select! {
            poured = there => poured,
            () = far_from.gone() => Err(Cut),
        }
    }
}
