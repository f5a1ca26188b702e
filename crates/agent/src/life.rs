//! Where the life of a guest stands, and how much it may say.
//!
//! ```text
//!   Fresh ── Warm ──▶ Warm ── Prepare ──▶ Prepared ── Freeze: the job stops ──▶ Freezing ── all is said ──▶ Frozen
//!     └──────────────── Prepare ─────────────▲  ▲                                │                            │
//!                                            └──┴──────────────── Thaw ──────────┴────────────────────────────┘
//! ```
//! A Shutdown or a SIGTERM ends each of them. A new epoch changes none but Freezing, whose asker it forgets.

use std::time::Instant;

/// Where the life of the guest stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Fresh,
    /// What needs no scratch disk is done; waits for a Prepare.
    Warm,
    Prepared,
    /// The job has stopped; this request is answered with Frozen when the disks are written back, and what was
    /// to be said before is said.
    Freezing(u64, Stage),
    /// The job is stopped until a Thaw.
    Frozen,
    Ending(Instant),
}

/// How far a Freeze is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The disks are being written back.
    Writing,
    /// All that is left is to say what there is to say.
    LastWords,
}

/// Whether the link is kept silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    No,
    /// But for what is in the buffer.
    Yes,
}
