//! A backend that looks at the clock: when a fork was asked for, when QEMU ran it, when its agent said Hello.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use vm::{
    Backend, BackendKey, BootSpec, Capabilities, Exit, Forks, Guest, Link, Machine, Result, Saved, Slot,
    SlotId, Snapshot,
};

use crate::process;

/// The moments of one fork.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    /// The engine wanted it: slot and disk are there.
    pub(crate) asked: Option<Instant>,
    /// Its processors run.
    pub(crate) runs: Option<Instant>,
    /// Processor time of all that had been used then.
    pub(crate) runs_cpu: Duration,
    /// The first byte came.
    pub(crate) hello: Option<Instant>,
    /// Likewise.
    pub(crate) hello_cpu: Duration,
}

type All = Arc<Mutex<HashMap<SlotId, Moments>>>;

fn locked(all: &All) -> MutexGuard<'_, HashMap<SlotId, Moments>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A backend that is looked at.
pub(crate) struct Watched {
    inner: Arc<dyn Backend>,
    all: All,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, all: All::default() }
    }

    /// Those of a fork.
    pub(crate) fn moments(&self, slot: SlotId) -> Moments {
        locked(&self.all).get(&slot).copied().unwrap_or_default()
    }
}

#[async_trait]
impl Backend for Watched {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        self.inner.boot(spec, slot).await
    }

    async fn adopt(&self, slot: &Slot) -> Result<Box<dyn Machine>> {
        self.inner.adopt(slot).await
    }

    fn forks(&self) -> Option<&dyn Forks> {
        self.inner.forks().map(|_| self as &dyn Forks)
    }
}

#[async_trait]
impl Forks for Watched {
    fn key(&self) -> &BackendKey {
        match self.inner.forks() {
            Some(forks) => forks.key(),
            None => unreachable!("it was asked whether it can"),
        }
    }

    async fn fork(&self, from: &Snapshot, spec: &BootSpec, slot: &Slot) -> Result<Box<dyn Machine>> {
        let Some(forks) = self.inner.forks() else { unreachable!("it was asked whether it can") };
        let asked = Some(Instant::now());
        let machine = forks.fork(from, spec, slot).await?;
        let runs = Some(Instant::now());
        let moments = Moments { asked, runs, runs_cpu: process::used(), ..Moments::default() };
        locked(&self.all).insert(slot.id, moments);
        Ok(Box::new(WatchedMachine { inner: machine, slot: slot.id, all: Arc::clone(&self.all) }))
    }
}

struct WatchedMachine {
    inner: Box<dyn Machine>,
    slot: SlotId,
    all: All,
}

#[async_trait]
impl Machine for WatchedMachine {
    async fn link(&mut self) -> Result<Link> {
        let inner = self.inner.link().await?;
        Ok(Box::new(WatchedLink { inner, slot: self.slot, all: Some(Arc::clone(&self.all)) }))
    }

    async fn park(&mut self) -> Result<()> {
        self.inner.park().await
    }

    async fn unpark(&mut self) -> Result<()> {
        self.inner.unpark().await
    }

    async fn save(&mut self, guest: &mut dyn Guest) -> Result<Saved> {
        self.inner.save(guest).await
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.inner.exited()
    }
}

struct WatchedLink {
    inner: Link,
    slot: SlotId,
    /// Until the first byte came.
    all: Option<All>,
}

impl AsyncRead for WatchedLink {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some(all) = self.all.take()
            && let Some(moments) = locked(&all).get_mut(&self.slot)
        {
            moments.hello.get_or_insert_with(Instant::now);
            moments.hello_cpu = process::used();
        }
        read
    }
}

impl AsyncWrite for WatchedLink {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
