//! Spaces of other kinds between the words of an expression.
//!
//! Purpose: GitHub reads over all that Unicode calls white space, Forgejo's parser refuses the expression, and nobody
//! sees why. Owner: templates and conditions. Invariant: what stands in quotes is text.

use doc::{Diagnostic, Locator, Source};

use crate::rules::Rule;

/// The first of them in `text`, which stands at `offset` of the scalar that `locator` maps.
pub(super) fn odd(text: &str, offset: usize, locator: &Locator, source: &Source) -> Option<Diagnostic> {
    if text.is_ascii() {
        return None;
    }
    let mut quoted = false;
    let (at, c) = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '\'';
        !quoted && !c.is_ascii() && c.is_whitespace()
    })?;
    let what = doc::odd_space(c)?;
    let fault = Rule::GithubOnly
        .warning(format!("{what} stands in an expression"))
        .at(source, locator.locate(offset + at, offset + at + c.len_utf8()))
        .label("Forgejo takes no space but the usual one")
        .help("write a space in its place");
    Some(fault)
}
