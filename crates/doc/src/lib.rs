//! Spanned trees from YAML and TOML, diagnostics, did-you-mean.
//!
//! Purpose: every document that a person writes (workflows, action.yml, configuration, recipes) becomes
//! one kind of tree, in which each node knows where it stands, so that an error can point at it.
//! Owner: callers own a [`Source`] (cheap to clone) and the trees made from it.
//!
//! Invariants
//! - This crate alone knows the YAML parser, the TOML parser and the renderer of diagnostics; none of
//!   their types is in its interface.
//! - Documents are foreign input: size, depth, node count and expanded text are capped ([`Limits`]),
//!   and no input panics.
//! - A scalar keeps its text as written next to its value by the format's own rules: `3.10` is the
//!   number 3.1 and the text `3.10`, and the caller chooses.
//! - A [`Span`] is a byte range of the source that it was made from, on character boundaries.

mod alike;
mod blank;
mod diagnose;
mod diagnostic;
mod error;
pub mod fuzz_targets;
mod keys;
mod locate;
mod node;
mod scalar;
mod source;
mod suggest;
mod toml;
mod yaml;

pub use alike::look_alike;
pub use blank::{odd_space, odd_space_in};
pub use diagnostic::{Diagnostic, Label, Rendering, Severity};
pub use error::{Error, Limits};
pub use locate::Locator;
pub use node::{Entry, Kind, Map, Node, Spanned};
pub use scalar::{Scalar, Style, Typed};
pub use source::{Source, Span};
pub use suggest::did_you_mean;
pub use toml::parse_toml;
pub use yaml::{parse_yaml, parse_yaml_with};
