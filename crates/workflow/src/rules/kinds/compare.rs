//! Comparisons that have the same result in every run.
//!
//! Purpose: `inputs.fast == 'true'` is false whatever the input is, since no boolean is equal to a text.
//! Owner: [`super::Walk`]. Invariant: every kind that either side can have is looked at; what hangs on how a text is read
//! as a number is not told.

use doc::{Diagnostic, Source};

use super::{
    Kinds,
    walk::{Known, is_short, named},
};
use crate::{
    expr::tree::{Ast, AstKind, Comparison},
    rules::Rule,
    value::parse_number,
};

/// A comparison whose result hangs on nothing but the kinds of its sides.
pub(super) fn constant(
    ast: &Ast,
    op: Comparison,
    left: (&Ast, &Known),
    right: (&Ast, &Known),
    source: &Source,
) -> Option<Diagnostic> {
    let result = result(op, left, right)?;
    let sides = [(left, right), (right, left)];
    let of_kinds = |kinds: Kinds| move |side: &&((&Ast, &Known), (&Ast, &Known))| side.0.1.kinds.has(kinds);
    // an object is what is wrong, and of a text with something else the latter
    let (side, other) = sides
        .iter()
        .find(of_kinds(Kinds::CONTAINER))
        .or_else(|| sides.iter().find(|((part, _), _)| !matches!(part.kind, AstKind::Text(_))))?;
    let ((part, known), (text, _)) = (*side, *other);
    let (name, kind) = (named(part, source), known.kinds.phrase());
    let fault =
        Rule::NeverEqual.warning(format!("this is always {result}: {name} is {kind}")).at(source, ast.span);
    let kinds = known.kinds.without(Kinds::NULL);
    let whole = source.slice(part.span);
    Some(match kinds {
        Kinds::OBJECT => {
            fault.label("an object is equal only to itself").help("compare one of its properties")
        }
        Kinds::LIST => fault.label("a list is equal only to itself").help(format!(
            "for an item of the list write `contains({}, …)`",
            if is_short(whole) { whole } else { "…" }
        )),
        Kinds::BOOL => {
            let fault = fault.label("no boolean is equal to a text");
            match instead(op, part, text) {
                // a `!` in front would be a tag of YAML
                Some(end) if is_short(whole) => fault.help(format!("write `{whole}{end}`")),
                Some(_) | None => fault.help("compare it with `true` or `false`, without quotes"),
            }
        }
        Kinds::NUMBER => fault
            .label("no number is equal to this text")
            .help("compare it with a number, or write it as a text where it comes from"),
        _ => fault.label("it is never equal to this").help("compare it with what it can be"),
    })
}

/// What stands behind a boolean that is compared with the text `true` or `false`.
fn instead(op: Comparison, boolean: &Ast, text: &Ast) -> Option<&'static str> {
    let AstKind::Text(text) = &text.kind else { return None };
    if !matches!(boolean.kind, AstKind::Access { .. } | AstKind::Call { .. } | AstKind::Bool(_)) {
        return None;
    }
    let wanted = match text.to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    match op {
        Comparison::Equal => Some(wanted),
        Comparison::NotEqual => Some(!wanted),
        _ => None,
    }
    .map(|wanted| if wanted { "" } else { " == false" })
}

/// The result, if it is the same for all kinds of the two sides.
fn result(op: Comparison, left: (&Ast, &Known), right: (&Ast, &Known)) -> Option<bool> {
    // of what is not there something was told
    if left.1.kinds.within(Kinds::NULL) || right.1.kinds.within(Kinds::NULL) {
        return None;
    }
    let mut all = None;
    for one in left.1.kinds.each() {
        for other in right.1.kinds.each() {
            let result = of_pair(op, (one, is_word(left.0)), (other, is_word(right.0)))?;
            if all.is_some_and(|all| all != result) {
                return None;
            }
            all = Some(result);
        }
    }
    all
}

/// Of two kinds, and whether a text of it is no number: texts are compared with other kinds as numbers.
fn of_pair(op: Comparison, one: (Kinds, bool), other: (Kinds, bool)) -> Option<bool> {
    let equals = matches!(op, Comparison::Equal | Comparison::NotEqual);
    let or_equal = matches!(op, Comparison::LessEqual | Comparison::GreaterEqual);
    if one.0 == other.0 {
        let itself = one.0.is_container() && !equals && !or_equal;
        return itself.then_some(false);
    }
    let nan = |(kind, word): (Kinds, bool)| kind.is_container() || kind == Kinds::TEXT && word;
    (nan(one) || nan(other)).then_some(op == Comparison::NotEqual)
}

fn is_word(ast: &Ast) -> bool {
    matches!(&ast.kind, AstKind::Text(text) if parse_number(text).is_nan())
}
