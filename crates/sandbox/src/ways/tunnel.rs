//! The guest's end of a connection over a forward.
//!
//! ```text
//!   Opening ── accept ──▶ Tunnel ──▶ TunnelIn, TunnelOut ── both at their end ──▶ closed
//!      └── dropped: refused                └── dropped before: reset
//! ```

use std::future::poll_fn;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::{Code, StreamId};

use super::pipe::{Cut, Hears, Says};
use crate::{Result, connection::Connection, delivery::Consumer};

/// Where streams go that nobody has any more.
pub(crate) type Lost = mpsc::UnboundedSender<(StreamId, Code)>;

/// Gives a stream up unless it is disarmed.
struct Guard {
    stream: StreamId,
    code: Code,
    lost: Lost,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            // a connection that is gone has no streams
            let _ = self.lost.send((self.stream, self.code));
        }
    }
}

/// A stream that the guest has asked for.
pub(crate) struct Opening {
    connection: Connection,
    cut: CancellationToken,
    guard: Guard,
}

impl Opening {
    pub(crate) fn new(stream: StreamId, connection: Connection, lost: Lost, cut: CancellationToken) -> Self {
        Self { connection, cut, guard: Guard { stream, code: Code::REFUSED, lost, armed: true } }
    }

    /// Agrees to it.
    pub(crate) async fn accept(mut self) -> Result<Tunnel> {
        let consumer = self.connection.accept(self.guard.stream).await?;
        self.guard.code = Code::FAILED;
        let Self { connection, cut, guard } = self;
        Ok(Tunnel { connection, cut, guard, consumer })
    }
}

/// A stream that was agreed to.
pub(crate) struct Tunnel {
    connection: Connection,
    cut: CancellationToken,
    guard: Guard,
    consumer: Consumer,
}

impl Tunnel {
    /// Fires when the guest has reset it.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    pub(crate) fn split(self) -> (TunnelIn, TunnelOut) {
        let Self { connection, guard, consumer, .. } = self;
        let second = Guard { stream: guard.stream, code: guard.code, lost: guard.lost.clone(), armed: true };
        (TunnelIn { consumer, guard }, TunnelOut { connection, guard: second })
    }
}

/// What comes from the guest.
pub(crate) struct TunnelIn {
    consumer: Consumer,
    guard: Guard,
}

/// What goes to the guest.
pub(crate) struct TunnelOut {
    connection: Connection,
    guard: Guard,
}

#[async_trait]
impl Hears for TunnelIn {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match poll_fn(|context| self.consumer.poll_take(context)).await {
            Some(Ok(part)) => Ok(Some(part.bytes)),
            Some(Err(_)) => Err(Cut),
            None if self.consumer.was_cut() => Err(Cut),
            None => {
                self.guard.armed = false;
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl Says for TunnelOut {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Cut> {
        if self.connection.send(self.guard.stream, bytes).await { Ok(()) } else { Err(Cut) }
    }

    async fn finish(&mut self) -> Result<(), Cut> {
        self.connection.finish(self.guard.stream).await;
        self.guard.armed = false;
        Ok(())
    }
}
