//! Texts of `format`, and the values that they name.
//!
//! Purpose: a text that no value can fill, and values that the text does not name. Owner: [`super::property`].
//! Invariant: only what is so whenever it is evaluated; a text that is made when it runs is not looked at.

use std::sync::Arc;

use doc::{Diagnostic, Source};

use super::Rule;
use crate::expr::tree::{Ast, AstKind, format as formatted};

/// What is wrong with the arguments of `format`.
pub(super) fn find(source: &Source, args: &[Ast]) -> Option<Diagnostic> {
    let (text, values) = args.split_first()?;
    let AstKind::Text(pattern) = &text.kind else { return None };
    let empty = vec![Arc::from(""); values.len()];
    if let Err(fault) = formatted(pattern, &empty, usize::MAX) {
        return Some(Diagnostic::error(fault.to_string()).at(source, text.span).label("this text"));
    }
    let used = named(pattern, values.len());
    let idle = used.iter().position(|used| !used)?;
    let value = values.get(idle)?;
    Some(
        Rule::IdleKey
            .warning(format!("`format` does nothing with its argument {idle}: the text has no `{{{idle}}}`"))
            .at(source, value.span)
            .label("arguments are counted from 0, behind the text")
            .help(format!("write `{{{idle}}}` where it is to stand, or leave it out")),
    )
}

/// Which of so many values a text names, of a text that is well formed.
fn named(pattern: &str, count: usize) -> Vec<bool> {
    let mut used = vec![false; count];
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let behind = &rest[at + 1..];
        // two braces are one of the text
        if behind.starts_with(&rest[at..=at]) {
            rest = &behind[1..];
            continue;
        }
        let end = behind.find('}').unwrap_or(behind.len());
        if let Some(slot) = behind[..end].parse().ok().and_then(|index: usize| used.get_mut(index)) {
            *slot = true;
        }
        rest = &behind[end..];
        rest = rest.strip_prefix('}').unwrap_or(rest);
    }
    used
}
