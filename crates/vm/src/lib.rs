//! The contract between the engine and what runs virtual machines.
//!
//! Purpose: the types that `sandbox` speaks and `backends` implement; data and traits only.
//! Owner: the engine (`sandbox`) calls, a backend answers; neither knows the other's crate.
//!
//! Invariants
//! - A [`Slot`] exists, and is journalled by the engine, before a backend sees it. Everything that a
//!   backend creates for a VM is a process started through the slot's shim or a file below
//!   [`Slot::dir`], so that the engine alone can end and remove it, also after a crash.
//! - A [`Machine`] has exactly one owner. Dropping it ends the VM of a [`OwnerLoss::Kill`] slot.
//! - What a guest does never makes a method panic; it makes it return an error.
//!
//! ```text
//!         boot, fork                  guest powers off, VMM dies, owner ends it
//!  (slot) ─────────▶ Machine: running ────────────────────────────────────────▶ exited
//!    ▲                  │     ▲
//!    │ adopt            │ drop of a Keep slot's owner
//!    └──────────────────┘
//! ```
//! A running machine can stand still for a while (`park`, `unpark`) and be saved (`save`), where the backend
//! has [`Forks`].

mod error;
mod machine;
mod slot;
mod snapshot;
mod spec;

pub use error::{Error, Result};
pub use machine::{Backend, Boundary, Bytes, Capabilities, Exit, Link, Machine, NO_FRAME};
pub use slot::{Ids, InvalidSlotId, OwnerLoss, Slot, SlotId};
pub use snapshot::{BackendKey, Forks, Guest, Nobody, Ram, Saved, Snapshot};
pub use spec::{BootSpec, Drive, DriveId, DriveMode, Mebibytes, Memory};
