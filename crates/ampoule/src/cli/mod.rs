//! The command line: what is parsed, what it starts, and how it ends.

pub mod args;
pub mod inapplicable;
pub mod pair;
