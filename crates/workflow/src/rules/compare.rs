//! Texts that are conditions.
//!
//! Purpose: `x == 'a' || 'b'` is true whatever `x` is, and so is a text alone.
//! Owner: [`super::steps`]. Invariant: only what is certain from the file alone is told.

use doc::{Diagnostic, Source};

use super::Rule;
use crate::{
    Site,
    expr::{
        tree::{Ast, AstKind, Comparison, Function},
        unquoted,
    },
};

/// `'x'`, of which nothing asks whether it holds.
pub(super) fn constant_text(ast: &Ast, site: Site, source: &Source) -> Option<Diagnostic> {
    let AstKind::Text(text) = &ast.kind else { return None };
    if text.is_empty() {
        return None;
    }
    let meant = match Function::parse(text) {
        Some((function, ..)) if function.is_status() => Some(format!("{}()", function.name())),
        _ => unquoted(text, site),
    };
    let warning = Rule::IfAlwaysTrue
        .warning("this `if` is always true: it is a text")
        .at(source, ast.span)
        .label("a text that is not empty is true");
    Some(warning.help(match meant {
        Some(meant) => format!("write it without its quotes: `{meant}`"),
        None => "compare it with something, as in `github.ref_name == 'main'`".to_owned(),
    }))
}

/// `x == 'a' || 'b'`, of which only the first text is compared.
pub(super) fn text_alone(ast: &Ast, source: &Source, found: &mut Vec<Diagnostic>) {
    ast.walk(&mut |part| {
        let AstKind::Or(items) = &part.kind else { return };
        for pair in items.windows(2) {
            let [
                Ast { kind: AstKind::Compare { op, left, right }, .. },
                Ast { kind: AstKind::Text(text), span },
            ] = pair
            else {
                continue;
            };
            if *op != Comparison::Equal || text.is_empty() || !matches!(right.kind, AstKind::Text(_)) {
                continue;
            }
            let compared = source.slice(left.span);
            let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            let warning = Rule::IfAlwaysTrue
                .warning(format!("`|| '{text}'` is always true: it is compared with nothing"))
                .at(source, *span)
                .label("a text that is not empty is true");
            found.push(match compared.chars().all(simple) {
                true => warning.help(format!("write `|| {compared} == '{text}'`")),
                false => warning.help("repeat the comparison for it"),
            });
            return;
        }
    });
}
