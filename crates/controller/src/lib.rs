//! The REST API of the forkd controller, version 1, on our engine.
//!
//! Purpose: clients of forkd (its SDKs, its MCP server, our action) spawn sandboxes, run commands in them and
//! delete them, without a change. A sandbox is a VM of the engine, a snapshot is a root image.
//! Owner: the binary makes [`Images`], an engine and a [`Door`] (a listener, or streams of this process), and calls
//! [`serve`].
//!
//! ```text
//!  client ──REST──▶ routes ──▶ sandboxes (the table) ──▶ Engine::lease
//!                │                │ one keeper per sandbox: deleted, gone, too old, closing
//!                ▼                ▼
//!              ledger          Lease::destroy, or Lease::leave for the next controller;
//!                              adrift, and Engine::adopt, when the engine's process is gone
//! ```
//!
//! Invariants
//! - Every VM has a keeper, which alone holds its lease, or belongs to a request under way; when a client goes
//!   away in the middle of a spawn, what was leased for it is destroyed.
//! - A spawn gives all sandboxes or none.
//! - Without a token only loopback is served, and only requests that name this host so.
//! - What a guest printed is capped and made UTF-8 before it is an answer.
//! - What the API of forkd has and this one lacks is answered with 501 and a reason.

mod access;
mod adrift;
mod command;
mod config;
mod door;
mod error;
mod failure;
pub mod guest;
mod images;
mod ledger;
mod python;
mod resume;
mod routes;
mod sandboxes;
mod server;

pub use access::{MIN_TOKEN, Token, TokenError};
pub use config::{Access, Config, Keeping, Size};
pub use door::{Door, Visitors};
pub use error::{Error, Result};
pub use images::{Boots, Images, ImagesError, InvalidTag, Snapshot, Tag};
pub use server::serve;
