//! `cargo xtask proto`: the generated messages of the forge's protocol.
//!
//! Purpose: writes `crates/forgejo/src/generated` anew from the `.proto` files.
//! Owner: whoever changed one of them.
//!
//! Invariants: the compiler of the `.proto` files is a dependency of that crate's tests only, so neither the
//! product nor this task runner builds it; the test that does the writing fails where the code is stale.

use anyhow::Result;

use crate::run::{cargo, run};

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    run(cargo(&["test", "--quiet", "-p", "forgejo", "--test", "generated"])
        .env("AMPOULE_WRITE_GENERATED", "1"))
}
