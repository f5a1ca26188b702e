//! A helper, and what is made by it: the router's namespace, its uplink, and a pool of namespaces for VMs.
//!
//! Owner: the router, until the helper ends. Its drop ends the helper.
//!
//! Invariant: a namespace of the pool is prepared with a policy that was asked for lately, and forwards nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use super::{Config, Limits, Namespace, Note, Uplink, client, client::Client, hosts, lock, make, uplink};
use crate::{
    Error, Policy, Result,
    addresses::LINKS,
    helper::protocol::{Answer, Ask, Id, Place, Tool},
    ruleset,
};

/// It.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pool: Arc<Pool>,
    pub(super) notes: Vec<Note>,
    tasks: Vec<AbortHandle>,
}

/// What namespaces and tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    /// The router's namespace.
    pub(super) router: Id,
    pub(super) limits: Limits,
    /// Whether the kernel has IPv6.
    pub(super) v6: bool,
    /// The host's addresses as they were last seen.
    pub(super) hosts: Mutex<Arc<BTreeSet<IpAddr>>>,
    /// Namespaces that have rules.
    pub(super) living: Mutex<BTreeSet<Id>>,
    pub(super) links: Mutex<Links>,
    /// Namespaces that nobody has any more.
    pub(super) dropped: mpsc::UnboundedSender<Dropped>,
    /// Where rules of the host at the uplink are written.
    pub(super) host_rules: Option<uplink::HostRules>,
    /// The ways of the uplink, where there is one.
    pub(super) ways: Option<uplink::Ways>,
}

#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) id: Id,
    pub(super) link: u32,
}

/// Numbers of links: those that were never used first, then the one that is free for longest.
#[derive(Debug, Default)]
pub(super) struct Links {
    next: u32,
    pub(super) free: VecDeque<u32>,
}

impl Links {
    pub(super) fn take(&mut self) -> Result<u32> {
        if self.next < LINKS {
            self.next += 1;
            return Ok(self.next - 1);
        }
        self.free.pop_front().ok_or(Error::Full)
    }
}

/// Namespaces that were made ahead.
#[derive(Debug)]
pub(super) struct Pool {
    target: usize,
    ready: Mutex<VecDeque<Namespace>>,
    /// The last policies that were asked for, as many as there are namespaces ahead.
    asked: Mutex<VecDeque<Policy>>,
    pub(super) taken: Notify,
}

impl Pool {
    fn new(target: usize) -> Self {
        // what most ask for, until somebody does
        let asked = Mutex::new(vec![Policy::internet(); target].into());
        Self { target, ready: Mutex::default(), asked, taken: Notify::new() }
    }

    /// One for `likely`, or for another policy.
    fn take(&self, likely: &Policy) -> Option<Namespace> {
        if self.target == 0 {
            return None;
        }
        {
            let mut asked = lock(&self.asked);
            asked.pop_front();
            asked.push_back(likely.clone());
        }
        let mut ready = lock(&self.ready);
        let at = ready.iter().position(|namespace| namespace.is_prepared_for(likely)).unwrap_or(0);
        let taken = ready.remove(at);
        drop(ready);
        self.taken.notify_one();
        taken
    }

    /// For which policies one is to be made next: those of the last leases that would find none.
    pub(super) fn missing(&self) -> Vec<Policy> {
        let mut wanted: Vec<Policy> = lock(&self.asked).iter().cloned().collect();
        let ready = lock(&self.ready);
        for namespace in ready.iter() {
            if let Some(at) = wanted.iter().rposition(|policy| namespace.is_prepared_for(policy)) {
                wanted.remove(at);
            }
        }
        // the newest
        wanted.split_off(wanted.len() - wanted.len().min(self.target.saturating_sub(ready.len())))
    }

    pub(super) fn put(&self, made: Vec<Namespace>) {
        lock(&self.ready).extend(made);
    }
}

impl Running {
    /// Starts a helper and makes the router's namespace and its uplink; the pool is filled later.
    pub(super) async fn start(config: &Config) -> Result<Self> {
        let client = Client::start(&config.helper).await?;
        installed(&client, &[(Tool::Nft, "nftables"), (Tool::Ip, "iproute2")]).await?;
        if config.limits.upload.is_some() || config.limits.download.is_some() {
            installed(&client, &[(Tool::Tc, "iproute2")]).await?;
        }
        let (router, _) = client.make(make::settings(), None).await?;
        let v6 = client.settings(Place::Host, Vec::new(), &["ipv6/conf/all/forwarding"]).await?;
        let v6 = v6.iter().all(Option::is_some);
        client.nft("set the router's rules", Place::In(router), ruleset::router::base()).await?;
        let (host_rules, ways, notes) = match config.uplink {
            Uplink::Host => {
                let made = uplink::make(&client, router, v6).await?;
                (made.host_rules, Some(made.ways), made.notes)
            }
            Uplink::None => (None, None, Vec::new()),
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
            ways,
        });
        let pool = Arc::new(Pool::new(config.pool));
        let tasks = vec![
            tokio::spawn(hosts::keep(shared.clone(), changes)).abort_handle(),
            tokio::spawn(make::remove(Arc::downgrade(&shared), gone)).abort_handle(),
            tokio::spawn(make::fill(shared.clone(), pool.clone())).abort_handle(),
        ];
        Ok(Self { shared, pool, notes, tasks })
    }

    /// A namespace, as [`super::Router::namespace_for`] gives it.
    pub(super) async fn namespace(&self, likely: &Policy) -> Result<Namespace> {
        if let Some(ready) = self.pool.take(likely) {
            return Ok(ready);
        }
        // a task: whoever drops this future leaves nothing half-made
        let (shared, likely) = (self.shared.clone(), likely.clone());
        let made = tokio::spawn(async move { make::make(&shared, vec![likely]).await }).await;
        made.map_err(|_| Error::Gone)??.pop().ok_or(Error::Gone)
    }

    /// Whether the helper ended.
    pub(super) fn is_gone(&self) -> bool {
        self.shared.client.is_gone()
    }

    pub(super) fn ready(&self) -> usize {
        lock(&self.pool.ready).len()
    }

    /// Ends the helper, and returns when it is gone.
    pub(super) async fn close(&self) {
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

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        self.shared.client.stop();
    }
}

pub(super) async fn installed(client: &Client, tools: &[(Tool, &'static str)]) -> Result<()> {
    let answer = client.ask(Ask::Installed(tools.iter().map(|(tool, _)| *tool).collect())).await?.0;
    let Ok(Answer::Installed(there)) = answer else {
        return Err(client::refused("look for programs", answer));
    };
    match tools.iter().zip(there).find(|(_, there)| !there) {
        Some(((tool, package), _)) => Err(Error::Missing { program: tool.name(), package }),
        None => Ok(()),
    }
}
