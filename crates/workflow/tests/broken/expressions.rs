//! Breaks of expressions: braces, quotes, brackets, operators, names.
//!
//! Owner: `main`. Invariant: each kind says why what it makes is wrong. All expressions of our files stand where
//! expressions are evaluated.

use super::{
    File, Made,
    names::{CONTEXTS, FUNCTIONS, misspelled},
    text::{masked_single, words},
};

/// One or both braces of the end left out: nothing closes the expression, or the end of a later one does, and then a
/// `}` or a `${{` stands within it, which are no part of the grammar.
pub(crate) fn end_brace(file: &File, made: &mut Made) {
    for inner in file.text.expressions().iter().filter(|inner| inner.braces) {
        made.add(inner.row, file.text.cut(inner.row, inner.end, inner.end + 1, ""));
        made.add(inner.row, file.text.cut(inner.row, inner.end, inner.end + 2, ""));
    }
}

/// A brace of the start left out, `${ x }}`: that is text. It is wrong where text is: in an `if`, whose value is then
/// an expression that begins with `$`; and where a truth value, a number or a map is wanted.
pub(crate) fn start_brace(file: &File, made: &mut Made) {
    const NO_TEXT: [&str; 9] = [
        "if",
        "timeout-minutes",
        "continue-on-error",
        "matrix",
        "strategy",
        "env",
        "with",
        "services",
        "credentials",
    ];
    for inner in file.text.expressions() {
        if inner.braces && inner.whole && NO_TEXT.contains(&inner.key.as_str()) {
            made.add(inner.row, file.text.cut(inner.row, inner.start - 1, inner.start, ""));
        }
    }
}

/// A brace of the start left out where text may be: that says nothing, and a context's name shows what was meant.
pub(crate) fn start_brace_in_text(file: &File, made: &mut Made) {
    for inner in file.text.expressions().iter().filter(|inner| inner.braces && !inner.more) {
        let line = &file.text.rows[inner.row].text;
        let text = line[inner.start..inner.end].trim();
        let named =
            CONTEXTS.iter().any(|name| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        let alone = line.matches("${{").count() == 1;
        if named && alone && !file.text.rows[inner.row].value.starts_with("${{") {
            made.add(inner.row, file.text.cut(inner.row, inner.start - 1, inner.start, ""));
        }
    }
}

/// The `$` left out in front of a value: `{{ x }}` is a map of YAML with a map as its key, and keys are text.
pub(crate) fn dollar(file: &File, made: &mut Made) {
    for inner in file.text.expressions() {
        let row = &file.text.rows[inner.row];
        if inner.braces && inner.whole && inner.start == row.value_at + 3 {
            made.add(inner.row, file.text.cut(inner.row, row.value_at, row.value_at + 1, ""));
        }
    }
}

/// A function with a letter swapped, left out or doubled; in front of a bracket there are only functions.
pub(crate) fn function(file: &File, made: &mut Made) {
    for inner in file.text.expressions() {
        let line = &file.text.rows[inner.row].text;
        for word in words(line, &inner).iter().filter(|word| word.behind == '(') {
            assert!(FUNCTIONS.contains(&word.text.as_str()), "{line}");
            for wrong in misspelled(&word.text, FUNCTIONS) {
                made.add(inner.row, file.text.cut(inner.row, word.start, word.end, &wrong));
            }
        }
    }
}

/// A context likewise: a name that nothing stands before, with a `.` behind.
pub(crate) fn context(file: &File, made: &mut Made) {
    for inner in file.text.expressions() {
        let line = &file.text.rows[inner.row].text;
        for word in words(line, &inner).iter().filter(|word| word.behind == '.' && word.before != '.') {
            assert!(CONTEXTS.contains(&word.text.as_str()), "{line}");
            for wrong in misspelled(&word.text, CONTEXTS) {
                made.add(inner.row, file.text.cut(inner.row, word.start, word.end, &wrong));
            }
        }
    }
}

/// Half of an operator, a bracket of two, a dot too many: `&`, `|` and `=` alone are none, brackets come in pairs, and
/// between two dots there is a name.
pub(crate) fn grammar(file: &File, made: &mut Made) {
    for inner in file.text.expressions() {
        let line = &file.text.rows[inner.row].text;
        let plain = masked_single(&line[inner.start..inner.end]);
        for operator in ["&&", "||", "==", "!="] {
            for (place, _) in plain.match_indices(operator) {
                let place = inner.start + place;
                made.add(inner.row, file.text.cut(inner.row, place + 1, place + 2, ""));
            }
        }
        for (place, _) in plain.match_indices(['(', ')']) {
            let place = inner.start + place;
            made.add(inner.row, file.text.cut(inner.row, place, place + 1, ""));
        }
        for (place, _) in plain
            .match_indices('.')
            .filter(|(place, _)| !plain[..*place].ends_with(|c: char| c.is_ascii_digit()))
        {
            let place = inner.start + place;
            made.add(inner.row, file.text.cut(inner.row, place, place, "."));
        }
    }
}

/// The last quote of an expression left out: the text within is open to the end. Not where the scalar goes on with
/// another `}}`, to which the text might reach, nor within quotes of YAML of the same kind.
pub(crate) fn quote(file: &File, made: &mut Made) {
    for inner in file.text.expressions().iter().filter(|inner| !inner.more) {
        let row = &file.text.rows[inner.row];
        let text = &row.text[inner.start..inner.end];
        let in_single = row.text[..inner.start].matches('\'').count() % 2 == 1;
        if let Some(place) =
            text.rfind('\'').filter(|_| !in_single && text.matches('\'').count().is_multiple_of(2))
        {
            let place = inner.start + place;
            made.add(inner.row, file.text.cut(inner.row, place, place + 1, ""));
        }
    }
}

/// The rows of the job that a row is of: a job's name stands two columns to the right, in all our files.
fn job_of(file: &File, row: usize) -> impl Iterator<Item = &str> {
    let rows = &file.text.rows;
    let begins =
        |row: &str| row.starts_with("  ") && row[2..].starts_with(|c: char| c.is_ascii_alphanumeric());
    let start = rows[..row].iter().rposition(|row| begins(&row.text)).unwrap_or_default();
    let length = rows[start + 1..].iter().position(|row| begins(&row.text)).unwrap_or(rows.len() - start - 1);
    rows[start..].iter().take(length + 1).map(|row| row.text.as_str())
}

/// A name behind `steps.`, `needs.`, `matrix.` or `inputs.` that the file has nowhere else. The language gives null for
/// it, so it is what a rule says.
pub(crate) fn name(file: &File, made: &mut Made) {
    let all: String = file.text.rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>().join("\n");
    for inner in file.text.expressions() {
        let line = &file.text.rows[inner.row].text;
        let words = words(line, &inner);
        for pair in words.windows(2) {
            let [of, word] = pair else { continue };
            let known = ["steps", "needs", "matrix", "inputs"].contains(&of.text.as_str());
            if !known || of.before == '.' || word.start != of.end + 1 || word.before != '.' {
                continue;
            }
            // where a job has no matrix the right name says nothing either
            if of.text == "matrix"
                && !job_of(file, inner.row).any(|row| row.trim_start().starts_with("matrix:"))
            {
                continue;
            }
            let wrong = format!("{}q", word.text);
            assert!(!all.contains(&wrong), "{wrong}");
            made.add(inner.row, file.text.cut(inner.row, word.start, word.end, &wrong));
        }
    }
}
