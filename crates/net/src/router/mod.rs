//! The router: one per engine, with a namespace for each VM's card, an uplink, and a pool.
//!
//! ```text
//!  start ─▶ helper ─▶ router's namespace ─▶ uplink ─▶ pool is filled in the background
//!    ▲                  │ killed                         │ namespace(policy)
//!    └── by the next ───┘                                ▼
//!        namespace()                         Namespace: apply, allow, refused ──drop──▶ link and namespace removed
//! ```
//!
//! Owner: the engine. Invariants
//! - What is the end of a helper is not that of the router: the namespaces of that helper lead nowhere and say so, and
//!   later ones have another.
//! - A namespace is given out once. Its addresses on the link to the router may be used again, after it is cut off.
//! - What there is exists in the helper only: its end, and this process's end is it, leaves nothing.
//! - Nothing of a namespace is waited for by another: each is made by a task of its own, and the helper runs programs
//!   of different namespaces at once.

mod check;
mod client;
mod hosts;
mod make;
mod namespace;
mod running;
mod uplink;

use std::{
    ffi::OsString,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use check::{Checked, check};
pub use namespace::Namespace;
use serde::{Deserialize, Serialize};
pub use uplink::Note;

use crate::{Error, Policy, Result};
use running::{Running, installed};

/// How a router is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The helper: a program that calls [`crate::helper`], and its leading arguments.
    pub helper: Vec<OsString>,
    /// Where packets go that leave the router.
    pub uplink: Uplink,
    /// Of each VM.
    pub limits: Limits,
    /// How many namespaces are made ahead.
    pub pool: usize,
}

/// Where packets go that leave the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// To the host's network: as root over a veth pair, else through `pasta`.
    Host,
    /// Nowhere.
    None,
}

/// What one VM may use of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Connections that it may have at once.
    pub connections: u32,
    /// Bits per second from it.
    pub upload: Option<u64>,
    /// Bits per second to it.
    pub download: Option<u64>,
}

impl Limits {
    /// Whether they are those that nobody asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, upload: None, download: None }
    }
}

/// One per engine.
#[derive(Debug)]
pub struct Router {
    config: Config,
    notes: Vec<Note>,
    /// What there is now; nothing after the end.
    now: Mutex<Option<Arc<Running>>>,
    /// Held by whoever starts another helper.
    starts: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Starts a helper and makes the router's namespace and its uplink; the pool is filled later.
    ///
    /// # Errors
    /// Something lacks here: [`crate::check()`] tells what.
    pub async fn start(config: Config) -> Result<Self> {
        let running = Running::start(&config).await?;
        let notes = running.notes.clone();
        let now = Mutex::new(Some(Arc::new(running)));
        Ok(Self { config, notes, now, starts: tokio::sync::Mutex::default() })
    }

    /// What was found or done on the way that somebody should hear of.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// A namespace of its own for one VM whose policy nobody knows yet.
    ///
    /// # Errors
    /// As [`Router::namespace_for`].
    pub async fn namespace(&self) -> Result<Namespace> {
        self.namespace_for(&Policy::internet()).await
    }

    /// A namespace of its own for one VM: one that was made ahead, or made now. Where it is this policy that is then
    /// applied, that takes next to no time. A helper that was killed is replaced before.
    ///
    /// # Errors
    /// It cannot be made, or the router was closed.
    pub async fn namespace_for(&self, likely: &Policy) -> Result<Namespace> {
        let running = self.living().await?;
        match running.namespace(likely).await {
            // it was killed in this moment
            Err(Error::Gone) => self.living().await?.namespace(likely).await,
            result => result,
        }
    }

    /// What there is now, in place of what was killed.
    async fn living(&self) -> Result<Arc<Running>> {
        let now = || lock(&self.now).clone().ok_or(Error::Gone);
        let running = now()?;
        if !running.is_gone() {
            return Ok(running);
        }
        let _one = self.starts.lock().await;
        let running = now()?;
        if !running.is_gone() {
            return Ok(running);
        }
        let running = Arc::new(Running::start(&self.config).await?);
        match &mut *lock(&self.now) {
            // closed meanwhile
            None => return Err(Error::Gone),
            Some(now) => now.clone_from(&running),
        }
        Ok(running)
    }

    /// How many namespaces are there ahead.
    #[must_use]
    pub fn ready(&self) -> usize {
        lock(&self.now).as_ref().map_or(0, |running| running.ready())
    }

    /// Ends everything, and returns when it is gone. Namespaces that are still held are cut off.
    pub async fn close(&self) {
        let running = lock(&self.now).take();
        if let Some(running) = running {
            running.close().await;
        }
    }
}
