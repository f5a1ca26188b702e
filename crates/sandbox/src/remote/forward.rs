//! Connections of a guest over an engine's socket: one connection of it each.
//!
//! Owner: in the engine, whoever serves the lease offers them ([`Offers`]), and the connection that takes one up carries
//! it; in the client, the lease's task makes them ([`connect`]).
//!
//! Invariant: an end is said (`End`), so that the end of the socket alone is a reset, also while nothing is read of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    client::Remote,
    frame::Frame,
    link::{Reader, Writer, nonsense},
    message::{Ask, Say},
};
use crate::{
    Destination, Result, Services,
    ways::{Cut, Hears, Offer, Opening, Says, dial, pipe},
};

/// How long the client may take to make one.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long its connection may take to be taken up after that.
const LATER: Duration = Duration::from_secs(5);

/// What the guest says, as the other process sends it.
struct FramesIn<'a>(&'a mut Reader);

/// What the guest is told, by way of the other process.
struct FramesOut<'a>(&'a mut Writer);

#[async_trait]
impl Hears for FramesIn<'_> {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match self.0.frame().await {
            Ok(Some(Frame::Bytes(bytes))) => Ok(Some(bytes)),
            Ok(Some(Frame::End)) => Ok(None),
            Ok(Some(Frame::Message(_) | Frame::Output { .. }) | None) | Err(_) => Err(Cut),
        }
    }

    async fn gone(&mut self) {
        self.0.hung_up().await;
    }
}

#[async_trait]
impl Says for FramesOut<'_> {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Cut> {
        self.0.bytes(&bytes).await.map_err(|_| Cut)
    }

    async fn finish(&mut self) -> Result<(), Cut> {
        self.0.end().await.map_err(|_| Cut)
    }
}

/// Connections that clients were asked for, by number.
#[derive(Default)]
pub(super) struct Asked {
    openings: Mutex<(u64, HashMap<u64, Opening>)>,
}

impl Asked {
    fn openings(&self) -> MutexGuard<'_, (u64, HashMap<u64, Opening>)> {
        // nothing panics while it is held
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one up, if it still waits.
    pub(super) fn take(&self, number: u64) -> Option<Opening> {
        self.openings().1.remove(&number)
    }
}

/// Those of one lease. Dropped, or too late, they are refused.
pub(super) struct Offers<'a> {
    asked: &'a Asked,
    under_way: VecDeque<(Instant, u64)>,
}

impl<'a> Offers<'a> {
    pub(super) fn new(asked: &'a Asked) -> Self {
        Self { asked, under_way: VecDeque::new() }
    }

    /// What is said to the client.
    pub(super) fn put(&mut self, offer: Offer) -> Say {
        let Offer { forward, opening } = offer;
        let mut openings = self.asked.openings();
        openings.0 += 1;
        let number = openings.0;
        openings.1.insert(number, opening);
        self.under_way.push_back((Instant::now() + PATIENCE + LATER, number));
        Say::Connect { number, to: forward.to }
    }

    /// Refuses those whose time is up; never ends. Cancel-safe.
    pub(super) async fn expire(&mut self) {
        loop {
            let Some((until, number)) = self.under_way.front().copied() else {
                return std::future::pending().await;
            };
            sleep_until(until).await;
            self.under_way.pop_front();
            drop(self.asked.take(number));
        }
    }
}

impl Drop for Offers<'_> {
    fn drop(&mut self) {
        for (_, number) in &self.under_way {
            drop(self.asked.take(*number));
        }
    }
}

/// The end of one that was carried to its end. The other side may still be at what it was sent, and would take a
/// socket that is closed for a reset.
async fn part(reader: &mut Reader, writer: &mut Writer) {
    writer.shut().await;
    reader.closed().await;
}

/// In the engine: a connection that the client has made.
pub(super) async fn carry(opening: Opening, reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    let tunnel = opening.accept().await?;
    writer.message(&Say::Done).await?;
    let cut = tunnel.cut();
    let carried = pipe(tunnel.split(), (FramesIn(reader), FramesOut(writer)));
    let carried = tokio::select! {
        biased;
        () = cut.cancelled() => Err(Cut),
        carried = carried => carried,
    };
    if carried.is_ok() {
        part(reader, writer).await;
    }
    Ok(())
}

/// In the client: makes a connection and carries it.
pub(super) async fn connect(remote: Arc<Remote>, number: u64, to: Destination, services: Services) {
    let far = match timeout(PATIENCE, dial(&to, &services)).await {
        Ok(Ok(far)) => Some(far),
        Ok(Err(error)) => {
            tracing::debug!(%to, %error, "a forward cannot be connected");
            None
        }
        Err(_) => {
            tracing::debug!(%to, "a forward takes too long to be connected");
            None
        }
    };
    let carried = async {
        let (mut reader, mut writer) =
            remote.open(&Ask::Connected { number, connected: far.is_some() }).await?;
        match reader.say().await? {
            Say::Done => {}
            _ => return Err(nonsense("no word of a connection")),
        }
        if let Some(far) = far {
            let carried = pipe(far.split(), (FramesIn(&mut reader), FramesOut(&mut writer))).await;
            if carried.is_ok() {
                part(&mut reader, &mut writer).await;
            }
        }
        Ok(())
    };
    if let Err(error) = carried.await {
        // the guest has given it up, or its VM is gone
        tracing::debug!(%error, "a connection over a forward is not wanted any more");
    }
}
