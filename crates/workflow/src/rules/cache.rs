//! Keys of caches that never change.
//!
//! Purpose: a cache is saved once for each key; one that names only the machine is never saved again.
//! Owner: [`super::steps`]. Invariant: a key with a digit, or with anything that may change, is left alone.

use doc::{Diagnostic, Source};

use super::Rule;
use crate::{
    ContextName, Template,
    expr::tree::{Accessor, Ast, AstKind},
};

/// Properties of `matrix` that say where a job runs, not what it makes.
const PLACES: [&str; 8] = ["os", "arch", "target", "platform", "runner", "runs-on", "image", "runs_on"];

/// Properties of `github` that are the same in every run.
const SAME: [&str; 7] =
    ["job", "workflow", "repository", "repository_owner", "repository_id", "server_url", "api_url"];

pub(super) fn key(key: &Template, source: &Source) -> Option<Diagnostic> {
    if key.raw().trim().is_empty() || !key.exprs().all(|expr| constant(expr.root())) || key.has_digit() {
        return None;
    }
    Some(
        Rule::ConstantCacheKey
            .warning("this cache is saved once and never again: its key never changes")
            .at(source, key.span())
            .label("the same in every run")
            .note("what a run adds to the cache is lost, and what is old stays in it")
            .help("add what the content hangs on, such as `-${{ hashFiles('**/Cargo.lock') }}`"),
    )
}

fn constant(ast: &Ast) -> bool {
    let mut good = true;
    ast.walk(&mut |part| {
        let same = |base: &Ast, path: &[Accessor]| {
            let name = match path {
                [Accessor::Name(name)] => name.as_str(),
                _ => return matches!(base.kind, AstKind::Context(ContextName::Runner)),
            };
            match base.kind {
                AstKind::Context(ContextName::Runner) => true,
                AstKind::Context(ContextName::Matrix) => PLACES.contains(&name),
                AstKind::Context(ContextName::Github) => SAME.contains(&name),
                _ => false,
            }
        };
        match &part.kind {
            AstKind::Access { base, path } => good &= same(base, path),
            AstKind::Call { function, .. } => good &= function.name() == "format",
            AstKind::Text(text) => good &= !text.contains(|c: char| c.is_ascii_digit()),
            AstKind::Null
            | AstKind::Bool(_)
            | AstKind::Number(_)
            | AstKind::Context(_)
            | AstKind::Not(_)
            | AstKind::And(_)
            | AstKind::Or(_)
            | AstKind::Compare { .. } => {}
        }
    });
    good
}

impl Template {
    /// Whether a digit stands outside of expressions, such as that of a version.
    fn has_digit(&self) -> bool {
        self.texts().any(|text| text.contains(|c: char| c.is_ascii_digit()))
    }
}
