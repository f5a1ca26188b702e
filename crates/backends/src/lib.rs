//! What runs virtual machines, behind the contract of `vm`.
//!
//! Purpose: one module per backend; each is chosen by its name. Owner: the binary (and the test harnesses)
//! make one value of a backend and give it to an engine; nothing else imports this crate.
//!
//! Invariants
//! - Every process starts through `jail`, so that the engine's one teardown ends it.
//! - What a VMM or a guest says is hostile: sizes are capped before anything is kept.

mod error;
pub mod qemu;
pub mod shimmed;

pub use error::of_jail;
