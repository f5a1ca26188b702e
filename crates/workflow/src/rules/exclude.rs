//! `exclude` entries that take out nothing because the matrix has no such variable.
//!
//! Purpose: what `expand` refuses is told without evaluating anything, where all of the matrix is written down.
//! Owner: [`super::steps`].

use doc::{Diagnostic, Source, did_you_mean};

use crate::{DataKind, Matrix};

/// Each name in `exclude` that is no variable of the matrix.
pub(super) fn stray(matrix: &Matrix, source: &Source, found: &mut Vec<Diagnostic>) {
    let Matrix::Written { axes, exclude: Some(exclude), .. } = matrix else { return };
    let DataKind::List(entries) = &exclude.kind else { return };
    let known = || axes.iter().map(|(name, _)| name.value.as_str());
    // `${{ insert }}` takes in more
    if known().any(|name| name.contains("${{")) {
        return;
    }
    for entry in entries {
        let DataKind::Map(values) = &entry.kind else { continue };
        for (name, _) in values {
            if known().any(|axis| axis.eq_ignore_ascii_case(&name.value)) || name.value.contains("${{") {
                continue;
            }
            let fault = Diagnostic::error(format!(
                "`exclude` names `{}`, which the matrix does not have",
                name.value
            ))
            .at(source, name.span)
            .label("no job of this matrix can have it");
            found.push(match did_you_mean(&name.value, known()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.note(format!("it has {}", known().collect::<Vec<_>>().join(", "))),
            });
        }
    }
}
