//! The network of VMs: a namespace for each that may reach anything, and the card in the guest.
//!
//! Purpose: what a lease's policy means on the host ([`net::Namespace`]) and in the guest ([`Card`]).
//! Owner: the engine has one [`Networks`]; a namespace is its slot's ([`crate::journal::Held`]) and goes with it, after
//! the VM, on every path.
//!
//! ```text
//!   slot ── a policy that allows something, a router ──▶ namespace: forwards nothing
//!     │ else: the shim's own tap, which is down             │ lease: policy applied, beside the guest's Bind
//!     ▼                                                     ▼
//!   no way out                                            ways out, until the slot is removed or the engine is gone
//! ```
//!
//! Invariants
//! - A policy that was asked for and cannot be had is an error, never none instead of it.
//! - A lease is ready only when its policy holds.
//! - A template has the card, configured and up, and no namespace: its forks have nothing to do for the card.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use net::{
    NameLimits, NameRefused, Namespace, Note, Opened, Policy, Refused, Resolver, Router, Upstreams,
    serve_names,
};
use serde::{Deserialize, Serialize};
use vm::{Capabilities, Link};
use wire::message::{Card, Names, Network, Others};

use crate::{
    Bind, Error, Result,
    ways::{self, Service},
};

/// Where the host's name servers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Bytes between a guest's stream and what answers it: some questions.
const DNS_BUFFER: usize = 16 << 10;

/// What makes the networks of an engine's VMs.
#[derive(Clone)]
pub enum Networking {
    /// This.
    By(Arc<Router>),
    /// Nothing: no VM reaches anything. With the reason, for those who ask for more.
    Lacking(String),
}

impl fmt::Debug for Networking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(_) => f.write_str("By(a router)"),
            Self::Lacking(why) => f.debug_tuple("Lacking").field(why).finish(),
        }
    }
}

/// What a VM was refused since it has its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Where its packets may not go.
    pub destinations: Vec<RefusedDestination>,
    /// Of one kind of destinations (TCP and UDP or the rest, IPv4 or IPv6) as many are there as are counted: there may
    /// be others.
    pub more: bool,
    /// What it asked its resolver for and was not told.
    pub names: Vec<NameRefused>,
    /// Connections that were more at once than it may have.
    pub over_limit: Option<OverLimit>,
    /// Whether that is all. Where nothing is reached nothing is counted: by its policy, or because what it had of a
    /// network went with its engine.
    pub counted: bool,
}

/// A limit of connections at once that a VM has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverLimit {
    /// How many it may have.
    pub connections: u32,
    /// Packets of others, which were dropped.
    pub packets: u64,
}

/// Where a VM's packets may not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDestination {
    /// The destination, and how many packets were for it.
    #[serde(flatten)]
    pub to: Refused,
    /// The names that lead there, of those that the VM asked for.
    pub names: Vec<String>,
}

/// The networks of an engine's VMs.
#[derive(Debug)]
pub(crate) struct Networks {
    by: Networking,
    /// The host's name servers, for all VMs; read when the first asks.
    upstreams: OnceLock<Arc<Upstreams>>,
}

impl Networks {
    pub(crate) fn new(networking: Networking, backend: &Capabilities) -> Self {
        let by = match &backend.no_card {
            Some(why) => Networking::Lacking(format!("this host cannot give VMs a network card: {why}")),
            None => networking,
        };
        Self { by, upstreams: OnceLock::new() }
    }

    /// Why VMs cannot reach anything; `None` where they can.
    pub(crate) fn lacking(&self) -> Option<&str> {
        match &self.by {
            Networking::By(_) => None,
            Networking::Lacking(why) => Some(why),
        }
    }

    /// What was found or changed when they were made, as far as everybody is told.
    pub(crate) fn notes(&self) -> Vec<String> {
        match &self.by {
            Networking::By(router) => told(router.notes()),
            Networking::Lacking(_) => Vec::new(),
        }
    }

    /// What a VM of this policy needs; `None`: nothing.
    pub(crate) async fn namespace(&self, policy: &Policy) -> Result<Option<Arc<VmNetwork>>> {
        if *policy == Policy::none() {
            return Ok(None);
        }
        match &self.by {
            Networking::By(router) => {
                let namespace = Arc::new(router.namespace_for(policy).await?);
                let upstreams = self.upstreams.get_or_init(|| Upstreams::follow(RESOLV_CONF));
                Ok(Some(Arc::new(VmNetwork {
                    namespace,
                    upstreams: Arc::clone(upstreams),
                    resolver: Asked::default(),
                    connections: AtomicU32::default(),
                })))
            }
            Networking::Lacking(why) => Err(Error::NoNetwork { why: why.clone() }),
        }
    }

    /// Ends the router, when no VM is left.
    pub(crate) async fn close(&self) {
        if let Networking::By(router) = &self.by {
            router.close().await;
        }
    }
}

/// What of it everybody is told. That IPv6 lacks beside IPv4 is not: it would be said on many hosts, always.
fn told(notes: &[Note]) -> Vec<String> {
    let v4 = !notes.contains(&Note::NoRoute { family: 4 });
    let of_v6 = |note: &Note| matches!(note, Note::NoRoute { family: 6 } | Note::Advertised(_));
    notes.iter().filter(|note| !v4 || !of_v6(note)).map(ToString::to_string).collect()
}

/// The network of one VM: its namespace, and the resolver of its policy.
#[derive(Debug)]
pub(crate) struct VmNetwork {
    namespace: Arc<Namespace>,
    upstreams: Arc<Upstreams>,
    resolver: Asked,
    /// How many it may have at once.
    connections: AtomicU32,
}

impl VmNetwork {
    /// What the VM's card is connected to.
    pub(crate) fn tap(&self) -> &Arc<OwnedFd> {
        self.namespace.tap()
    }

    /// What it was refused so far.
    pub(crate) async fn refused(&self) -> Result<Refusals> {
        let destinations = self.namespace.refused().await?;
        let resolver = self.resolver.get();
        let names_of = |to: &Refused| resolver.as_ref().map(|known| known.names_of(to.address));
        Ok(Refusals {
            more: destinations.more,
            counted: resolver.is_some(),
            over_limit: (destinations.over_limit > 0).then(|| OverLimit {
                connections: self.connections.load(Ordering::Relaxed),
                packets: destinations.over_limit,
            }),
            destinations: destinations
                .all
                .into_iter()
                .map(|to| RefusedDestination { names: names_of(&to).unwrap_or_default(), to })
                .collect(),
            names: resolver.as_ref().map(Resolver::refused_names).unwrap_or_default(),
        })
    }

    /// What answers for names under a policy, from now on; `None`: nothing.
    fn names(&self, policy: &Policy) -> Option<Arc<dyn Service>> {
        // weak: the resolver is this one's, and goes with it
        let namespace = Arc::downgrade(&self.namespace);
        let allow = move |opened: Opened| -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
            let namespace = namespace.clone();
            Box::pin(async move {
                let namespace = namespace.upgrade().ok_or(io::ErrorKind::NotConnected)?;
                namespace.allow(&opened.addresses).await.map_err(io::Error::other)
            })
        };
        let upstreams = Arc::clone(&self.upstreams);
        let resolver = self.resolver.put(policy, || {
            Resolver::new(policy.clone(), upstreams, NameLimits::default(), Box::new(allow))
        })?;
        Some(Arc::new(move || {
            let resolver = resolver.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(DNS_BUFFER);
                // it ends with the stream
                tokio::spawn(async move {
                    if let Err(error) = serve_names(resolver, ours).await {
                        tracing::debug!(%error, "a VM's names are no longer asked for");
                    }
                });
                Ok(Box::new(theirs) as Link)
            }
        }))
    }
}

/// The resolver of the policy that a VM has now; none where that reaches nothing, also where the VM was made ahead for
/// another policy.
#[derive(Debug, Default)]
struct Asked(Mutex<Option<Resolver>>);

impl Asked {
    fn get(&self) -> Option<Resolver> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, policy: &Policy, make: impl FnOnce() -> Resolver) -> Option<Resolver> {
        let resolver = (*policy != Policy::none()).then(make);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&resolver);
        resolver
    }
}

/// What answers for a VM's names that are no forwards; `None`: nothing, so that there are none.
pub(crate) fn names(network: Option<&Arc<VmNetwork>>, policy: &Policy) -> Option<Arc<dyn Service>> {
    network?.names(policy)
}

/// Lets a VM reach what its policy says, within its limits. One without a namespace has to have one that allows nothing.
pub(crate) async fn apply(network: Option<&Arc<VmNetwork>>, bind: &Bind) -> Result<()> {
    match network {
        // a namespace that no policy was applied to forwards nothing
        _ if bind.network == Policy::none() => Ok(()),
        Some(network) => {
            network.namespace.limit(&bind.limits).await?;
            network.connections.store(bind.limits.connections, Ordering::Relaxed);
            Ok(network.namespace.apply(&bind.network).await?)
        }
        None => Err(Error::NoNetwork { why: "the VM was made without one".to_owned() }),
    }
}

/// Whether a VM with this network can have this policy: [`apply`] would not refuse it.
pub(crate) fn serves(network: Option<&Arc<VmNetwork>>, policy: &Policy) -> bool {
    *policy == Policy::none() || network.is_some_and(|network| !network.namespace.is_gone())
}

/// What a guest is told. Where nothing is reached no route leads over its card, so that what tries fails at once.
pub(crate) fn of_guest(bind: &Bind) -> Network {
    let reaches = bind.network != Policy::none();
    let answered = reaches || bind.services.answer_names();
    let others = if answered { Others::Host } else { Others::Nobody };
    Network { card: reaches.then(guest_card), names: Some(stub(others)), forwards: ways::said(bind) }
}

/// What the guest of a template is told: the most that a fork can have, so that a fork has little to do.
pub(crate) fn of_template(backend: &Capabilities) -> Network {
    let card = backend.no_card.is_none().then(guest_card);
    Network { card, names: Some(stub(Others::Nobody)), forwards: Vec::new() }
}

fn stub(others: Others) -> Names {
    Names { address: net::NAMES, others }
}

/// Every guest's card.
fn guest_card() -> Card {
    Card {
        v4: net::GUEST_V4,
        v4_prefix: net::V4_PREFIX,
        v4_gateway: net::V4_GATEWAY,
        v6: net::GUEST_V6,
        v6_prefix: net::V6_PREFIX,
        v6_gateway: net::V6_GATEWAY,
        gateway_mac: net::GATEWAY_MAC,
        mtu: net::MTU,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(no_card: Option<&str>) -> Capabilities {
        Capabilities {
            version: "1".to_owned(),
            accelerator: "none".to_owned(),
            boundary: vm::Boundary::None,
            lacking: Vec::new(),
            no_card: no_card.map(str::to_owned),
            adopt: false,
        }
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_an_error_and_never_none() {
        let internet = Policy::internet();
        let lacking = Networking::Lacking("no nft".to_owned());
        let networks = Networks::new(lacking.clone(), &backend(None));
        assert!(matches!(networks.namespace(&Policy::none()).await, Ok(None)));
        let refused = networks.namespace(&internet).await;
        assert!(matches!(refused, Err(Error::NoNetwork { why }) if why == "no nft"));
        let bind = Bind { network: internet.clone(), ..Bind::default() };
        let refused = apply(None, &bind).await;
        assert!(matches!(refused, Err(Error::NoNetwork { .. })));
        assert!(!serves(None, &internet) && serves(None, &Policy::none()));
        apply(None, &Bind::default()).await.unwrap();
        let networks = Networks::new(lacking, &backend(Some("no /dev/net/tun")));
        assert!(networks.lacking().is_some_and(|why| why.contains("no /dev/net/tun")));
    }

    #[test]
    fn what_is_changed_and_what_lacks_is_told_but_for_ipv6_alone() {
        let (four, six) = (Note::NoRoute { family: 4 }, Note::NoRoute { family: 6 });
        let advertised = Note::Advertised("eth0".to_owned());
        for (notes, said) in [
            (vec![], vec![]),
            (vec![six.clone()], vec![]),
            (vec![advertised.clone()], vec![]),
            (vec![four.clone()], vec![&four]),
            (vec![four.clone(), six.clone()], vec![&four, &six]),
            (vec![six.clone(), Note::ForwardsV4], vec![&Note::ForwardsV4]),
            (vec![Note::ForwardsV4, Note::ForwardsV6], vec![&Note::ForwardsV4, &Note::ForwardsV6]),
        ] {
            let said: Vec<String> = said.into_iter().map(ToString::to_string).collect();
            assert_eq!(told(&notes), said, "{notes:?}");
        }
    }

    #[tokio::test]
    async fn one_that_was_made_ahead_and_reaches_nothing_counts_nothing() {
        let asked = Asked::default();
        let internet = Policy::internet();
        let made = || {
            let allow = |_: Opened| -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
                Box::pin(async { Ok(()) })
            };
            let upstreams = Upstreams::follow(RESOLV_CONF);
            Resolver::new(Policy::internet(), upstreams, NameLimits::default(), Box::new(allow))
        };
        assert!(asked.put(&internet, made).is_some() && asked.get().is_some());
        assert!(asked.put(&Policy::none(), made).is_none() && asked.get().is_none());
        assert!(asked.put(&internet, made).is_some() && asked.get().is_some());
    }

    #[test]
    fn a_guest_that_reaches_nothing_has_its_card_down() {
        assert_eq!(of_guest(&Bind::default()).card, None);
        let network = "allow=a.example:443".parse().unwrap();
        let of_fork = of_guest(&Bind { network, ..Bind::default() });
        let template = of_template(&backend(None));
        assert_eq!(of_fork.card, template.card);
        assert_eq!(of_fork.names.unwrap().address, template.names.unwrap().address);
        assert_eq!(of_template(&backend(Some("none"))).card, None);
    }
}
