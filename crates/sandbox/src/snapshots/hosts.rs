//! Whether a snapshot fits this host: its backends are asked.

use std::{fmt, sync::Arc};

use vm::{Backend, BackendKey};

/// The backends whose word on keys counts.
pub(super) struct Hosts(pub(super) Vec<Arc<dyn Backend>>);

impl Hosts {
    /// Whether no VM asks for that key any more. What one of them has is asked for, whatever another one says.
    pub(super) fn is_stale(&self, key: &BackendKey) -> bool {
        let forks = || self.0.iter().filter_map(|backend| backend.forks());
        forks().any(|forks| forks.is_stale(key)) && !forks().any(|forks| forks.key() == key)
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|backend| backend.name())).finish()
    }
}
