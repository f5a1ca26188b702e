//! Matrices that give no jobs, too many, or have entries of `exclude` for a variable that they lack.
//!
//! Purpose: what `expand` refuses is told without evaluating anything, where all of the matrix is written down.
//! Owner: [`super::steps`].

use doc::{Diagnostic, Source};

use crate::{Contexts, DataKind, Matrix, matrix};

/// What is wrong with a matrix whose jobs are the same in every run.
pub(super) fn refused(matrix: &Matrix, source: &Source, found: &mut Vec<Diagnostic>) {
    let before = found.len();
    stray(matrix, source, found);
    let is_list = |data: &crate::Data| matches!(&data.kind, DataKind::List(items) if !items.is_empty());
    let Matrix::Written { axes, include, exclude, .. } = matrix else { return };
    // the lowering has told of those that are no lists, and an empty one is what is left of a faulty file
    let good = axes.iter().map(|(_, data)| data).chain(include).chain(exclude).all(is_list);
    let constant = matrix.templates().is_empty() && axes.iter().all(|(name, _)| !name.value.contains("${{"));
    if found.len() == before && good && constant && !(axes.is_empty() && include.is_none()) {
        found.extend(matrix::cells(matrix, source, &Contexts::new()).err().unwrap_or_default());
    }
}

/// Each name in `exclude` that is no variable of the matrix.
fn stray(matrix: &Matrix, source: &Source, found: &mut Vec<Diagnostic>) {
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
            let fault = matrix::not_there(&name.value, known()).at(source, name.span);
            found.push(fault.label("no job of this matrix can have it"));
        }
    }
}
