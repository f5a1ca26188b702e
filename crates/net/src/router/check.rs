//! Whether a network can be made here: tried, by making one and ending it.

use std::ffi::OsString;

use super::{Config, Limits, Note, Router, Uplink, uplink};
use crate::{Base, Policy, Result};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the uplink is a link to the host, as root has it, and not `pasta`.
    pub root: bool,
    /// What a router would do, or could not, when it is started. Nothing of it was done.
    pub notes: Vec<Note>,
}

/// Makes a router, a namespace with a card and its rules, and an uplink; tries, as root, whether the host lets a packet of
/// it through, which does not leave the host; and ends them. No setting of the host is changed.
///
/// # Errors
/// What lacks.
pub async fn check(helper: Vec<OsString>) -> Result<Checked> {
    let root = rustix::process::geteuid().is_root();
    let limits = Limits { upload: Some(1_000_000_000), ..Limits::default() };
    let uplink = if root { Uplink::None } else { Uplink::Host };
    let router = Router::start(Config { helper, uplink, limits, pool: 0 }).await?;
    let tried = try_all(&router).await;
    router.close().await;
    tried.map(|notes| Checked { root, notes })
}

async fn try_all(router: &Router) -> Result<Vec<Note>> {
    let policy = Policy { base: Base::Internet, allow: Vec::new() };
    let namespace = router.namespace_for(&policy).await?;
    namespace.apply(&policy).await?;
    namespace.refused().await?;
    let running = router.living().await?;
    let shared = &running.shared;
    if !shared.client.root {
        return Ok(router.notes.clone());
    }
    uplink::would(&shared.client, shared.router, shared.v6, namespace.tap()).await
}
