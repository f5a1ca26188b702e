//! The ways out of a VM over its link: what names lead where.
//!
//! Purpose: the table of a VM's forwards, as it was leased, and who connects them.
//! Owner: the connection to the agent holds the table; each connection over a forward is a task of its own there.
//!
//! ```text
//!  guest: Open forward:NAME:PORT ──▶ in the table? ──▶ connected by who leased ──▶ Accept ──▶ bytes, each way by itself
//!                                       │ no            │ refused, time is up
//!                                       ▼               ▼
//!                                     reset           reset
//! ```
//!
//! Invariants
//! - Nothing is connected but what the lease said, by whatever name the guest asks.
//! - What comes of one connection is no other's affair: each destination has so many that are being connected
//!   ([`UNDER_WAY`]), and each stream its own credit.

mod dial;
mod pipe;
mod spec;
#[cfg(test)]
mod tests;
mod tunnel;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use wire::message::{self, Network};

pub use self::spec::{Destination, Forward, ForwardError, Service, Services};
pub(crate) use self::{
    dial::{Far, dial},
    pipe::{Cut, Hears, Says, pipe},
    tunnel::Opening,
};
use crate::{Bind, Error, Result};

/// Connections of a VM at a time, over all its forwards.
pub(crate) const MOST: usize = 2048;
/// Connections to one destination that are being made at a time; more wait for their turn.
const UNDER_WAY: usize = 128;
/// How long a connection may take, its wait included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Names that a VM can have.
const MOST_NAMES: usize = 254;
/// Ports of all names.
const MOST_PORTS: usize = 1024;

/// One destination.
struct Way {
    forward: Forward,
    under_way: Semaphore,
}

/// A connection that whoever leased, in another process, is to make.
pub(crate) struct Offer {
    pub(crate) forward: Forward,
    pub(crate) opening: Opening,
}

/// The table of one VM.
#[derive(Default)]
pub(crate) struct Ways {
    ways: HashMap<String, Arc<Way>>,
    services: Services,
    names: Option<Arc<dyn Service>>,
}

impl Ways {
    /// What a lease says.
    pub(crate) fn of(bind: &Bind) -> Self {
        let way = |forward: &Forward| {
            let service = format!("forward:{}:{}", forward.name, forward.port);
            (service, Arc::new(Way { forward: forward.clone(), under_way: Semaphore::new(UNDER_WAY) }))
        };
        Self {
            ways: bind.forwards.iter().map(way).collect(),
            services: bind.services.clone(),
            names: bind.services.names(),
        }
    }

    /// What makes a connection that the guest asks for; `None`: there is no such thing.
    pub(crate) fn connect(
        &self,
        service: &str,
        opening: Opening,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let to = if service == message::Open::DNS {
            To::Names(Arc::clone(self.names.as_ref()?))
        } else {
            To::Way(Arc::clone(self.ways.get(service)?), self.services.clone())
        };
        Some(to.carry(opening))
    }
}

enum To {
    Names(Arc<dyn Service>),
    Way(Arc<Way>, Services),
}

impl To {
    async fn carry(self, opening: Opening) {
        let (way, services) = match self {
            Self::Names(service) => {
                let connected = timeout(PATIENCE, service.connect()).await;
                return match connected {
                    Ok(Ok(link)) => run(opening, Far::of(link)).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a VM's resolver cannot be reached"),
                    Err(_) => tracing::debug!("a VM's resolver does not answer"),
                };
            }
            Self::Way(way, services) => (way, services),
        };
        let forward = &way.forward;
        let connected = timeout(PATIENCE, async {
            let turn = way.under_way.acquire().await;
            if let Some(elsewhere) = services.elsewhere() {
                match elsewhere.reserve().await {
                    Ok(place) => return Some(Err(place)),
                    // it is gone: what this process can reach it connects itself
                    Err(_) => tracing::debug!(%forward, "whoever leased the VM is gone"),
                }
            }
            let far = dial(&forward.to, &services).await;
            drop(turn);
            match far {
                Ok(far) => Some(Ok(far)),
                Err(error) => {
                    tracing::debug!(%forward, %error, "a forward cannot be connected");
                    None
                }
            }
        });
        match connected.await {
            Ok(Some(Ok(far))) => run(opening, far).await,
            Ok(Some(Err(place))) => place.send(Offer { forward: forward.clone(), opening }),
            Ok(None) => {}
            Err(_) => tracing::debug!(%forward, "a forward takes too long to be connected"),
        }
    }
}

/// Carries a connection to its end.
async fn run(opening: Opening, far: Far) {
    let Ok(tunnel) = opening.accept().await else { return };
    let cut = tunnel.cut();
    let (far_in, far_out) = far.split();
    let (guest_in, guest_out) = tunnel.split();
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        piped = pipe((guest_in, guest_out), (far_in, far_out)) => if piped.is_err() { tracing::trace!("a connection over a forward was cut") },
    }
}

/// What the guest is told of its forwards; `None`: nothing.
pub(crate) fn network(bind: &Bind) -> Option<Network> {
    (!bind.forwards.is_empty() || bind.services.names().is_some()).then(|| replaced(bind))
}

/// What a guest is told that may have had others before.
pub(crate) fn replaced(bind: &Bind) -> Network {
    let mut ports: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for forward in &bind.forwards {
        ports.entry(&forward.name).or_default().push(forward.port);
    }
    let forwards = ports
        .into_iter()
        .zip(net::FORWARDS.hosts())
        .map(|((name, ports), address)| message::Forward { name: name.to_owned(), address, ports })
        .collect();
    let others = match bind.services.names() {
        Some(_) => message::Others::Host,
        None => message::Others::Nobody,
    };
    Network { card: None, names: Some(message::Names { address: net::NAMES, others }), forwards }
}

/// Whether a lease's forwards can be given.
pub(crate) fn check(bind: &Bind) -> Result<()> {
    let mut names: Vec<&str> = bind.forwards.iter().map(|forward| &*forward.name).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MOST_NAMES || bind.forwards.len() > MOST_PORTS {
        return Err(Error::Request("too many forwards"));
    }
    let mut ports: Vec<(&str, u16)> =
        bind.forwards.iter().map(|forward| (&*forward.name, forward.port)).collect();
    ports.sort_unstable();
    if ports.windows(2).any(|two| two[0] == two[1]) {
        return Err(Error::Request("two forwards of one name and port"));
    }
    if bind.forwards.iter().any(|forward| !spec::is_name(&forward.name) || forward.port == 0) {
        return Err(Error::Request("a forward whose name or port is none"));
    }
    Ok(())
}

/// The way to whoever leased, in another process.
pub(crate) type Elsewhere = mpsc::Sender<Offer>;
