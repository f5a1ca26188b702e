//! Comparisons that have the same result in every run.
//!
//! Purpose: `inputs.fast == 'true'` is false whatever the input is, and `x == 'a' || 'b'` is true whatever `x` is.
//! Owner: [`super::steps`]. Invariant: only what is certain from the file alone is told.

use doc::{Diagnostic, Source};

use super::Rule;
use crate::{
    ContextName, InputKind, Site, Trigger,
    expr::{
        tree::{Accessor, Ast, AstKind, Comparison, Function},
        unquoted,
    },
};

/// The inputs of a workflow that are booleans however it is started.
pub(super) fn booleans(on: &[Trigger]) -> Vec<&str> {
    let all = || on.iter().flat_map(|trigger| &trigger.inputs);
    let is = |name: &str| {
        all()
            .filter(|input| input.name.value.eq_ignore_ascii_case(name))
            .all(|input| input.kind == InputKind::Boolean)
    };
    all().map(|input| input.name.value.as_str()).filter(|name| is(name)).collect()
}

/// A boolean input that is compared with the text `true` or `false`.
pub(super) fn boolean_with_text(ast: &Ast, booleans: &[&str], source: &Source, found: &mut Vec<Diagnostic>) {
    ast.walk(&mut |part| {
        let AstKind::Compare { op, left, right } = &part.kind else { return };
        let sides = [(left, right), (right, left)];
        let input = sides.into_iter().find_map(|(input, text)| {
            let AstKind::Text(text) = &text.kind else { return None };
            let AstKind::Access { base, path } = &input.kind else { return None };
            let (AstKind::Context(ContextName::Inputs), [Accessor::Name(name)]) =
                (&base.kind, path.as_slice())
            else {
                return None;
            };
            let known = booleans.iter().any(|known| known.eq_ignore_ascii_case(name));
            known.then_some((name, text))
        });
        let Some((name, text)) = input else { return };
        let wanted = match text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return,
        };
        let (always, instead) = match op {
            Comparison::Equal => ("false", wanted),
            Comparison::NotEqual => ("true", !wanted),
            _ => return,
        };
        // a `!` in front would be a tag of YAML
        let end = if instead { "" } else { " == false" };
        found.push(
            Rule::NeverEqual
                .warning(format!("this is always {always}: `inputs.{name}` is a boolean"))
                .at(source, part.span)
                .label("no boolean is equal to a text")
                .help(format!("write `inputs.{name}{end}`")),
        );
    });
}

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
