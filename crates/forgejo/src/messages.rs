//! The messages of the wire.
//!
//! Purpose: what `cargo xtask proto` generated from `proto/`, and Debug by hand for what holds secrets.
//! Owner: the calls of this crate, and the test server, which answers them.
//!
//! Invariants: the Debug of a message shows no secret, token or variable.

use std::fmt;

#[rustfmt::skip]
#[path = "generated/ping.rs"]
pub mod ping;
#[rustfmt::skip]
#[path = "generated/runner.rs"]
pub mod runner;

impl fmt::Debug for runner::RegisterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterRequest")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("labels", &self.labels)
            .field("ephemeral", &self.ephemeral)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for runner::Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("id", &self.id)
            .field("uuid", &self.uuid)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("version", &self.version)
            .field("labels", &self.labels)
            .field("ephemeral", &self.ephemeral)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for runner::Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = self.context.iter().flat_map(|context| context.fields.keys());
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("context", &context.collect::<Vec<_>>())
            .field("needs", &self.needs.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
