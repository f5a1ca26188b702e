//! Network cards by policy: who may reach what, and what makes it so.
//!
//! Purpose: the namespaces, rules and the resolver behind a VM's network card, and the policies that they enforce.
//! Owner: the engine (`sandbox`) has one router, and gives each VM a namespace of its own, never used twice.
//!
//! ```text
//!  guest ── tap ── [VM's namespace: rules, masquerade] ── veth ── [router's namespace: masquerade] ── uplink ── host
//! ```
//!
//! Invariants
//! - Every guest has the same addresses ([`GUEST_V4`], [`GUEST_V6`]); a VM's namespace hides them behind a link of its
//!   own.
//! - A namespace forwards nothing before a policy was applied to it.

mod addresses;
mod error;
pub mod fuzz_targets;
mod helper;
mod policy;
mod ranges;
mod resolver;
mod router;
mod ruleset;

pub use addresses::{
    FORWARDS, GATEWAY_MAC, GUEST_MAC, GUEST_V4, GUEST_V6, LINKS_V4, LINKS_V6, MTU, NAMES, V4_GATEWAY,
    V4_PREFIX, V6_GATEWAY, V6_PREFIX,
};
pub use error::{Error, Result};
pub use helper::main as helper;
pub use policy::{Base, Fault, Policy, PolicyError, Ports, Rule, Target, looks_numeric};
pub use ranges::{RANGES, Range, denied, embedded, networks_v4, networks_v6};
pub use resolver::{Allow, NameLimits, NameRefused, Opened, Resolver, Servers, Upstreams, Why, serve_names};
pub use router::{Checked, Config, Limits, Namespace, Note, Router, Uplink, check};
pub use ruleset::refused::{Destinations, Refused};
