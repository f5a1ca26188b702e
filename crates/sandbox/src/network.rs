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

use std::{fmt, sync::Arc};

use net::{Namespace, Policy, Router};
use vm::Capabilities;
use wire::message::{Card, Network};

use crate::{Error, Result};

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

/// The networks of an engine's VMs.
#[derive(Debug)]
pub(crate) struct Networks {
    by: Networking,
}

impl Networks {
    pub(crate) fn new(networking: Networking, backend: &Capabilities) -> Self {
        let by = match &backend.no_card {
            Some(why) => Networking::Lacking(format!("its VMs have no network card: {why}")),
            None => networking,
        };
        Self { by }
    }

    /// Why VMs cannot reach anything; `None` where they can.
    pub(crate) fn lacking(&self) -> Option<&str> {
        match &self.by {
            Networking::By(_) => None,
            Networking::Lacking(why) => Some(why),
        }
    }

    /// What a VM of this policy needs; `None`: nothing.
    pub(crate) async fn namespace(&self, policy: &Policy) -> Result<Option<Arc<Namespace>>> {
        if *policy == Policy::none() {
            return Ok(None);
        }
        match &self.by {
            Networking::By(router) => Ok(Some(Arc::new(router.namespace().await?))),
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

/// Lets a VM reach what its policy says. One without a namespace has to have one that allows nothing.
pub(crate) async fn apply(namespace: Option<&Arc<Namespace>>, policy: &Policy) -> Result<()> {
    match namespace {
        // a namespace that no policy was applied to forwards nothing
        _ if *policy == Policy::none() => Ok(()),
        Some(namespace) => Ok(namespace.apply(policy).await?),
        None => Err(Error::NoNetwork { why: "the VM was made without one".to_owned() }),
    }
}

/// What a guest with this policy is told. Where nothing is reached the card is down, so that what tries fails at once.
pub(crate) fn of_guest(policy: &Policy) -> Network {
    let card = (*policy != Policy::none()).then(guest_card);
    Network { card, ..Network::default() }
}

/// What the guest of a template is told, where it has a card: the most that a fork can have.
pub(crate) fn of_template(backend: &Capabilities) -> Network {
    let card = backend.no_card.is_none().then(guest_card);
    Network { card, ..Network::default() }
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
        let refused = apply(None, &internet).await;
        assert!(matches!(refused, Err(Error::NoNetwork { .. })));
        apply(None, &Policy::none()).await.unwrap();
        let networks = Networks::new(lacking, &backend(Some("no /dev/net/tun")));
        assert!(networks.lacking().is_some_and(|why| why.contains("no /dev/net/tun")));
    }

    #[test]
    fn a_guest_that_reaches_nothing_has_its_card_down() {
        assert_eq!(of_guest(&Policy::none()).card, None);
        let policy = "allow=a.example:443".parse().unwrap();
        assert_eq!(of_guest(&policy), of_template(&backend(None)));
        assert_eq!(of_template(&backend(Some("none"))).card, None);
    }
}
