//! The place of one VM on this host: its name, directory and identity.

use std::{fmt, path::PathBuf, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of a slot, unique for all time; sorts by age (UUID version 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotId(Uuid);

impl SlotId {
    /// A new name that no other slot has or had.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for SlotId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a slot's name.
#[derive(Debug, thiserror::Error)]
#[error("not a slot's name: {0:?}")]
pub struct InvalidSlotId(String);

impl FromStr for SlotId {
    type Err = InvalidSlotId;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match Uuid::try_parse(s) {
            Ok(id) if s.len() == 32 => Ok(Self(id)),
            _ => Err(InvalidSlotId(s.to_owned())),
        }
    }
}

/// User and group that the VMM of one slot runs as; no other process of the host has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What becomes of a VM when the process that owns it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum OwnerLoss {
    /// It ends at once: jobs.
    Kill,
    /// It waits for an owner that adopts it: sandboxes of the controller.
    Keep {
        /// And ends at this time if none came.
        until: SystemTime,
    },
}

/// The place of one VM on this host, made and journalled by the engine.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub id: SlotId,
    /// Absolute path of its own directory; whatever is in it is removed with the slot.
    pub dir: PathBuf,
    /// Identity of its VMM where the engine may choose one (it runs as root), else that of the engine.
    pub ids: Option<Ids>,
    /// What becomes of it without an owner.
    pub on_owner_loss: OwnerLoss,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slots_name_is_read_back_and_nothing_else_is() {
        let id = SlotId::new();
        assert_eq!(id.to_string().parse::<SlotId>().unwrap(), id);
        for bad in ["", "..", "a/b", &format!("{id}x"), "0193-5b"] {
            assert!(bad.parse::<SlotId>().is_err(), "{bad}");
        }
    }
}
