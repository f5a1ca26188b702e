//! Matrices that say something twice, or take out what is not there.
//!
//! Purpose: a value that stands twice in a list makes the same job twice; an entry of `exclude` whose value no list
//! has takes nothing out, most often because the one was changed and the other forgotten. Owner: [`super::steps`].
//! Invariants: only what is written down is compared, by the rules of [`matrix`]; what an expression gives is not
//! guessed. The work of one matrix is bounded by [`MAX_WORK`].

use std::collections::HashMap;

use doc::{Diagnostic, Source, Span, Spanned, did_you_mean};

use super::{Levels, Rule};
use crate::{Contexts, Data, DataKind, Matrix, Value, matrix};

/// Most comparisons; beyond them nothing is said.
const MAX_WORK: usize = 1 << 18;

pub(super) fn find(written: &Matrix, source: &Source, levels: &Levels, found: &mut Vec<Diagnostic>) {
    let Matrix::Written { axes, exclude, .. } = written else { return };
    if levels.is_on(Rule::RepeatedValue) {
        for (name, data) in axes {
            repeated(name, data, source, found);
        }
    }
    // `${{ insert }}` takes in more
    let computed = axes.iter().any(|(name, _)| name.value.contains("${{"));
    if let Some(Data { kind: DataKind::List(entries), .. }) = exclude
        && !computed
        && levels.is_on(Rule::IdleExclude)
    {
        let lists: Vec<(&str, Option<Vec<Value>>)> =
            axes.iter().map(|(name, data)| (name.value.as_str(), constants(data))).collect();
        let mut left = MAX_WORK;
        for entry in entries {
            found.extend(idle(entry, &lists, source, &mut left));
        }
    }
}

/// The values of a list without expressions.
fn constants(data: &Data) -> Option<Vec<Value>> {
    let DataKind::List(items) = &data.kind else { return None };
    items.iter().map(constant).collect()
}

fn constant(data: &Data) -> Option<Value> {
    data.is_constant().then(|| matrix::value(data, &Contexts::new()).ok()).flatten()
}

fn repeated(name: &Spanned<String>, data: &Data, source: &Source, found: &mut Vec<Diagnostic>) {
    let DataKind::List(items) = &data.kind else { return };
    let mut first: HashMap<(&'static str, String), Span> = HashMap::new();
    for item in items {
        let DataKind::Value(value) = &item.kind else { continue };
        let key = (value.kind(), value.to_text().to_string());
        if let Some(before) = first.get(&key) {
            found.push(
                Rule::RepeatedValue
                    .warning(format!("`{}` of the matrix has this value twice", name.value))
                    .at(source, item.span)
                    .label("again here")
                    .also(source, *before, "first here")
                    .note("the same job runs once for each")
                    .help("take one of them out"),
            );
            continue;
        }
        first.insert(key, item.span);
    }
}

/// The first value of an entry that none of its list is like.
fn idle(
    entry: &Data,
    lists: &[(&str, Option<Vec<Value>>)],
    source: &Source,
    left: &mut usize,
) -> Option<Diagnostic> {
    let DataKind::Map(wanted) = &entry.kind else { return None };
    for (name, data) in wanted {
        let list = lists.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name.value));
        let Some((_, Some(values))) = list else { continue };
        *left = left.checked_sub(values.len())?;
        let Some(value) = constant(data) else { continue };
        if values.iter().any(|own| matrix::matches(own, &value)) {
            continue;
        }
        let warning = Rule::IdleExclude
            .warning("this entry of `exclude` takes out no job")
            .at(source, data.span)
            .label(format!("no value of `{}` is like it", name.value));
        let texts: Vec<String> =
            values.iter().filter(|own| own.is_primitive()).map(|own| own.to_text().to_string()).collect();
        let near = value
            .is_primitive()
            .then(|| value.to_text().to_string())
            .and_then(|text| did_you_mean(&text, texts.iter().map(String::as_str)).map(str::to_owned));
        return Some(match near {
            Some(near) => warning.help(format!("did you mean `{near}`?")),
            None => warning
                .note("what `include` adds is added after that, and not taken out")
                .help("take the entry out, or write a value that the list has"),
        });
    }
    None
}
