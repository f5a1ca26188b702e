//! The shim itself: what `ampoule vm-shim` runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::launch::{Ids, Level, Log, OwnerLoss, Part, Program, View};

/// What the owner sends first, after its length and with the descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) dir: PathBuf,
    pub(crate) ids: Option<Ids>,
    pub(crate) groups: Vec<u32>,
    pub(crate) level: Level,
    pub(crate) on_owner_loss: OwnerLoss,
    pub(crate) program: Program,
    pub(crate) view: Option<View>,
    /// Numbers of the descriptors that came along, after the lock.
    pub(crate) targets: Vec<i32>,
    pub(crate) logs: Vec<Log>,
}

impl Config {
    /// The most bytes of a configuration.
    pub(crate) const LIMIT: u32 = 1 << 20;
}

/// What the shim says to each new owner, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub(crate) enum Report {
    /// The VMM runs.
    Started {
        /// What this host could not give.
        missing: Vec<Part>,
    },
    /// It does not, and the shim ends.
    Failed {
        /// Why.
        what: String,
    },
}

/// What an owner may say to the shim: single bytes; others mean nothing.
pub(crate) struct Order;

impl Order {
    /// Kill the VMM.
    pub(crate) const END: u8 = b'e';
}
