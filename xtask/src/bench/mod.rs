//! `cargo xtask bench`: figures, measured from outside, with the release build.
//!
//! Purpose: one file for each bench. `exec` is what a local run takes and the one that is run where none is named;
//! `fork` is what a fork of a template takes, `forward` what a forward carries, `runner` what a forge's job takes,
//! `validate` what a look at workflows takes. Each prints a table and writes the same to the target directory.
//!
//! Invariants: a bench checks what it measures; a wrong result is an error, not a figure.

mod act;
mod cost;
mod exec;
mod fork;
mod forward;
mod go;
mod runner;
mod turns;
mod validate;
mod versus;

use anyhow::{Result, bail};

/// Runs the bench that the first word names, with the words after it.
pub(crate) fn task(words: &[String]) -> Result<()> {
    match words.split_first() {
        Some((name, rest)) if name == "exec" => exec::task(rest),
        Some((name, rest)) if name == "fork" => fork::task(rest),
        Some((name, rest)) if name == "forward" => forward::task(rest),
        Some((name, rest)) if name == "runner" => runner::task(rest),
        Some((name, rest)) if name == "validate" => validate::task(rest),
        Some((name, _)) if !name.starts_with('-') => {
            bail!("no bench {name:?}: there are `exec`, `fork`, `forward`, `runner` and `validate`")
        }
        _ => exec::task(words),
    }
}
