//! The router: one per engine, with a namespace for each VM's card, an uplink, and a pool.
//!
//! ```text
//!  start ─▶ helper ─▶ router's namespace ─▶ uplink ─▶ pool is filled in the background ◀──────┐
//!                                                        │ namespace()                         │
//!                                                        ▼                                     │
//!                                               Namespace: apply, allow, refused ──drop──▶ link and namespace removed
//! ```
//!
//! Owner: the engine. Invariants
//! - A namespace is given out once. Its addresses on the link to the router may be used again, after it is cut off.
//! - What there is exists in the helper only: its end, and this process's end is it, leaves nothing.
//! - Nothing of a namespace is waited for by another: each is made by a task of its own, and the helper runs programs
//!   of different namespaces at once.

mod check;
mod client;
mod hosts;
mod make;
mod namespace;
mod uplink;

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

pub use check::{Checked, check};
pub use namespace::Namespace;
pub use uplink::Note;

use crate::{
    Error, Result,
    addresses::LINKS,
    helper::protocol::{Answer, Ask, Id, Place, Tool},
    ruleset,
};
use client::Client;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that it may have at once.
    pub connections: u32,
    /// Bits per second from it.
    pub upload: Option<u64>,
    /// Bits per second to it.
    pub download: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, upload: None, download: None }
    }
}

/// One per engine.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    notes: Vec<Note>,
    tasks: Vec<AbortHandle>,
}

/// What namespaces and tasks share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// The router's namespace.
    router: Id,
    limits: Limits,
    /// Whether the kernel has IPv6.
    v6: bool,
    /// The host's addresses as they were last seen.
    hosts: Mutex<Arc<BTreeSet<IpAddr>>>,
    /// Namespaces that have rules.
    living: Mutex<BTreeSet<Id>>,
    links: Mutex<Links>,
    /// Namespaces that nobody has any more.
    dropped: mpsc::UnboundedSender<Dropped>,
    /// Where rules of the host at the uplink are written.
    host_rules: Option<uplink::HostRules>,
}

#[derive(Debug)]
struct Dropped {
    id: Id,
    link: u32,
}

/// Numbers of links: those that were never used first, then the one that is free for longest.
#[derive(Debug, Default)]
struct Links {
    next: u32,
    free: VecDeque<u32>,
}

impl Links {
    fn take(&mut self) -> Result<u32> {
        if self.next < LINKS {
            self.next += 1;
            return Ok(self.next - 1);
        }
        self.free.pop_front().ok_or(Error::Full)
    }
}

/// Namespaces that were made ahead.
#[derive(Debug)]
struct Pool {
    target: usize,
    ready: Mutex<VecDeque<Namespace>>,
    taken: Notify,
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
        let client = Client::start(&config.helper).await?;
        installed(&client, &[(Tool::Nft, "nftables"), (Tool::Ip, "iproute2")]).await?;
        if config.limits.upload.is_some() || config.limits.download.is_some() {
            installed(&client, &[(Tool::Tc, "iproute2")]).await?;
        }
        let (router, _) = client.make(make::settings(), None).await?;
        let v6 = client.settings(Place::Host, Vec::new(), &["ipv6/conf/all/forwarding"]).await?;
        let v6 = v6.iter().all(Option::is_some);
        client.nft("set the router's rules", Place::In(router), ruleset::router::base()).await?;
        let (host_rules, notes) = match config.uplink {
            Uplink::Host => uplink::make(&client, router, v6).await?,
            Uplink::None => (None, Vec::new()),
        };
        let (seen, changes) = hosts::follow(&client).await?;
        let (dropped, gone) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            client,
            router,
            limits: config.limits,
            v6,
            hosts: Mutex::new(Arc::new(seen)),
            living: Mutex::default(),
            links: Mutex::default(),
            dropped,
            host_rules,
        });
        let pool = Arc::new(Pool { target: config.pool, ready: Mutex::default(), taken: Notify::new() });
        let tasks = vec![
            tokio::spawn(hosts::keep(shared.clone(), changes)).abort_handle(),
            tokio::spawn(make::remove(Arc::downgrade(&shared), gone)).abort_handle(),
            tokio::spawn(make::fill(shared.clone(), pool.clone())).abort_handle(),
        ];
        Ok(Self { shared, pool, notes, tasks })
    }

    /// What was found or done on the way that somebody should hear of.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// A namespace of its own for one VM: one that was made ahead, or made now.
    ///
    /// # Errors
    /// It cannot be made, or the helper is gone.
    pub async fn namespace(&self) -> Result<Namespace> {
        let ready = lock(&self.pool.ready).pop_front();
        self.pool.taken.notify_one();
        if let Some(ready) = ready {
            return Ok(ready);
        }
        // a task: whoever drops this future leaves nothing half-made
        let shared = self.shared.clone();
        let made = tokio::spawn(async move { make::make(&shared, 1).await }).await;
        made.map_err(|_| Error::Gone)??.pop().ok_or(Error::Gone)
    }

    /// How many namespaces are there ahead.
    #[must_use]
    pub fn ready(&self) -> usize {
        lock(&self.pool.ready).len()
    }

    /// Ends everything, and returns when it is gone. Namespaces that are still held are cut off.
    pub async fn close(&self) {
        self.stop();
        self.shared.client.end().await;
    }

    fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
        let ready = std::mem::take(&mut *lock(&self.pool.ready));
        drop(ready);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop();
        self.shared.client.stop();
    }
}

async fn installed(client: &Client, tools: &[(Tool, &'static str)]) -> Result<()> {
    let answer = client.ask(Ask::Installed(tools.iter().map(|(tool, _)| *tool).collect())).await?.0;
    let Ok(Answer::Installed(there)) = answer else {
        return Err(client::refused("look for programs", answer));
    };
    match tools.iter().zip(there).find(|(_, there)| !there) {
        Some(((tool, package), _)) => Err(Error::Missing { program: tool.name(), package }),
        None => Ok(()),
    }
}
