//! Values of a job's settings.
//!
//! Purpose: templates to booleans, counts, minutes and labels, with a fault that says what was
//! expected. Owner: `expand`. Invariant: text and typed values mean the same, because a server sends
//! numbers and booleans as text.

use std::time::Duration;

use doc::Diagnostic;

use crate::{Contexts, Eval, EvalError, Job, Template, Value};

pub(crate) fn text(template: &Template, contexts: &Contexts) -> Result<String, Vec<Diagnostic>> {
    settled(template.eval_text(contexts))
}

/// A result without the guest: `hashFiles` is refused at these sites when the workflow is read.
pub(crate) fn settled<T>(result: Result<Eval<T>, EvalError>) -> Result<T, Vec<Diagnostic>> {
    match result {
        Ok(Eval::Value(value)) => Ok(value),
        Ok(Eval::Need(_)) => Err(vec![Diagnostic::error("`hashFiles` is not available before a job runs")]),
        Err(error) => Err(vec![error.to_diagnostic()]),
    }
}

pub(crate) fn fault(template: &Template, message: String, wanted: &str) -> Vec<Diagnostic> {
    vec![
        Diagnostic::error(message).at(template.source(), template.span()).label(format!("expected {wanted}")),
    ]
}

pub(crate) fn boolean(template: &Template, contexts: &Contexts) -> Result<bool, Vec<Diagnostic>> {
    boolean_of(&settled(template.eval(contexts))?, template)
}

/// A value that is, or is of, that of a template.
pub(crate) fn boolean_of(value: &Value, template: &Template) -> Result<bool, Vec<Diagnostic>> {
    match (value, value.to_text().to_ascii_lowercase().as_str()) {
        (Value::Bool(value), _) => Ok(*value),
        (Value::String(_), "true") => Ok(true),
        (Value::String(_) | Value::Null, "false" | "") => Ok(false),
        _ => Err(fault(template, format!("this is {}", value.kind()), "`true` or `false`")),
    }
}

pub(crate) fn count(template: &Template, contexts: &Contexts) -> Result<Option<usize>, Vec<Diagnostic>> {
    count_of(&settled(template.eval(contexts))?, template)
}

/// The same of a value that is, or is of, that of a template.
pub(crate) fn count_of(value: &Value, template: &Template) -> Result<Option<usize>, Vec<Diagnostic>> {
    let number = value.to_number();
    if number.is_nan() || number.is_finite() && number.fract() != 0.0 {
        return Err(fault(template, "this is no count".to_owned(), "a whole number from 1 on"));
    }
    if number < 1.0 {
        return Ok(None);
    }
    // more jobs than any matrix has
    const MOST: f64 = 1e6;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(Some(number.min(MOST) as usize))
}

/// What a number of minutes has to be, in words.
pub const MINUTES: &str = "more than 0 and at most 527040 (a year)";

const YEAR: f64 = 527_040.0;

/// `timeout-minutes`, which may be fractional, as a duration.
///
/// # Errors
/// A value that is not [`MINUTES`], or an expression without a value.
pub fn minutes(template: &Template, contexts: &Contexts) -> Result<Duration, Vec<Diagnostic>> {
    let value = settled(template.eval(contexts))?;
    minutes_of(&value).ok_or_else(|| {
        fault(template, "this is no number of minutes".to_owned(), &format!("a number, {MINUTES}"))
    })
}

/// The same of a value; none when it is not [`MINUTES`].
pub fn minutes_of(value: &Value) -> Option<Duration> {
    let minutes = value.to_number();
    let possible = minutes > 0.0 && minutes <= YEAR;
    if possible { Duration::try_from_secs_f64(minutes * 60.0).ok() } else { None }
}

pub(crate) fn labels(job: &Job, contexts: &Contexts) -> Result<Vec<String>, Vec<Diagnostic>> {
    let Some(runs_on) = &job.runs_on else { return Ok(Vec::new()) };
    let mut labels = Vec::new();
    let mut faults = Vec::new();
    for template in runs_on.labels.iter().chain(&runs_on.group) {
        let before = labels.len();
        match settled(template.eval(contexts)) {
            Ok(Value::Array(items)) => labels.extend(items.iter().map(|item| item.to_text().to_string())),
            // `runs-on: ${{ fromJSON('{"labels": …}') }}`
            Ok(Value::Object(object)) => match object.get("labels") {
                Some(Value::Array(items)) => {
                    labels.extend(items.iter().map(|item| item.to_text().to_string()))
                }
                Some(label) => labels.push(label.to_text().to_string()),
                None => {
                    faults.extend(fault(template, "this is an object".to_owned(), "a label or a list"));
                    continue;
                }
            },
            Ok(value) => labels.push(value.to_text().to_string()),
            Err(found) => {
                faults.extend(found);
                continue;
            }
        }
        let own = &labels[before..];
        if own.iter().any(|label| label.trim().is_empty()) {
            faults.extend(fault(template, "the label is empty".to_owned(), "a label"));
        }
    }
    if faults.is_empty()
        && labels.is_empty()
        && let Some(place) = runs_on.labels.first().or(runs_on.group.as_ref())
    {
        faults.extend(fault(place, "the label is empty".to_owned(), "a label"));
    }
    if faults.is_empty() { Ok(labels) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_positive_and_end() {
        for (minutes, seconds) in [("0.5", 30), ("1", 60), ("527040", 366 * 86_400)] {
            assert_eq!(minutes_of(&minutes.into()), Some(Duration::from_secs(seconds)), "{minutes}");
        }
        for bad in ["0", "-1", "527040.5", "99999999999", "Infinity", "1e400", "NaN", "soon"] {
            assert_eq!(minutes_of(&bad.into()), None, "{bad}");
        }
    }
}
