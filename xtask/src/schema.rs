//! `cargo xtask schema`: the JSON schemas of workflows and actions.
//!
//! Purpose: writes `schemas` anew from the table of keys that the lowering checks by.
//! Owner: whoever changed that table. Invariant: the test that does the writing fails where a file is stale.

use anyhow::Result;

use crate::run::{cargo, run};

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    run(cargo(&["test", "--quiet", "-p", "workflow", "--lib", "the_files_are_current"])
        .env("AMPOULE_WRITE_SCHEMAS", "1"))
}
