//! From the jail's errors to the contract's.

use std::error::Error as _;

/// What the jail could not do, with all its causes.
#[must_use]
pub fn of_jail(error: jail::Error) -> vm::Error {
    match error {
        jail::Error::Io { what, source } => vm::Error::Io { what, source },
        other => {
            let mut text = other.to_string();
            let mut cause = other.source();
            while let Some(source) = cause {
                text = format!("{text}: {source}");
                cause = source.source();
            }
            vm::Error::Jail(text)
        }
    }
}
