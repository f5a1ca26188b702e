//! The functions of the language: names, how many arguments, what they do.
//!
//! Purpose: all that is pure; what needs the evaluator (status, laziness, the guest) is in `eval`.
//! Owner: `eval` calls. Invariant: a message never quotes a value, which may be a secret.

use std::sync::Arc;

use super::json;
use crate::{
    Value,
    value::{fold, upper},
};

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    HashFiles,
    Success,
    Failure,
    Always,
    Cancelled,
    Case,
}

impl Function {
    /// Name, fewest and most arguments.
    pub(crate) const TABLE: [(&'static str, Function, usize, usize); 13] = [
        ("contains", Function::Contains, 2, 2),
        ("startsWith", Function::StartsWith, 2, 2),
        ("endsWith", Function::EndsWith, 2, 2),
        ("format", Function::Format, 1, 255),
        ("join", Function::Join, 1, 2),
        ("toJSON", Function::ToJson, 1, 1),
        ("fromJSON", Function::FromJson, 1, 1),
        ("hashFiles", Function::HashFiles, 1, 255),
        ("success", Function::Success, 0, 0),
        ("failure", Function::Failure, 0, 0),
        ("always", Function::Always, 0, 0),
        ("cancelled", Function::Cancelled, 0, 0),
        ("case", Function::Case, 3, 255),
    ];

    pub(crate) fn parse(name: &str) -> Option<(Function, usize, usize)> {
        let row = Function::TABLE.iter().find(|row| row.0.eq_ignore_ascii_case(name))?;
        Some((row.1, row.2, row.3))
    }

    pub(crate) fn name(self) -> &'static str {
        Function::TABLE.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }

    pub(crate) fn is_status(self) -> bool {
        matches!(self, Function::Success | Function::Failure | Function::Always | Function::Cancelled)
    }
}

/// Why a function has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `format` names an argument that is not there.
    #[error("`format` has no argument {index}: there are {count}, counted from 0")]
    FormatIndex {
        /// The number in braces.
        index: String,
        /// How many arguments follow the text.
        count: usize,
    },
    /// `format` has a brace that is not closed or not opened.
    #[error("`format` has a single brace at character {at}: write `{{{{` or `}}}}` for a brace")]
    FormatBrace {
        /// Its place in the format text, from 1.
        at: usize,
    },
    /// `fromJSON` was given what is not JSON.
    #[error("`fromJSON` was given {kind} that is not JSON (line {line}, column {column})")]
    NotJson {
        /// The kind of the argument.
        kind: &'static str,
        /// Where JSON ends to be JSON.
        line: usize,
        /// Likewise.
        column: usize,
    },
    /// `fromJSON` was given lists or objects that are nested too deeply.
    #[error("`fromJSON` was given JSON that is nested deeper than {limit} levels")]
    JsonTooDeep {
        /// The most.
        limit: usize,
    },
    /// `fromJSON` was given too many values.
    #[error("`fromJSON` was given JSON with more than {limit} values")]
    JsonTooMany {
        /// The most.
        limit: usize,
    },
    /// A condition of `case` is no truth value.
    #[error("condition {index} of `case` is {kind}, not a boolean")]
    CaseCondition {
        /// Which, from 1.
        index: usize,
        /// What it is.
        kind: &'static str,
    },
    /// The whole evaluation passed its budget.
    #[error("the evaluation makes or looks at more than {limit} bytes")]
    TooMuch {
        /// The budget.
        limit: usize,
    },
    /// The result passed the budget.
    #[error("the result is larger than {limit} bytes")]
    TooLarge {
        /// The budget.
        limit: usize,
    },
}

pub(crate) fn contains(search: &Value, item: &Value) -> bool {
    match search {
        Value::Array(items) => items.iter().any(|candidate| candidate.loosely_equals(item)),
        Value::Object(_) => false,
        _ if !item.is_primitive() => false,
        _ => folded(search).contains(&folded(item)),
    }
}

pub(crate) fn starts_with(text: &Value, prefix: &Value) -> bool {
    if !text.is_primitive() || !prefix.is_primitive() {
        return false;
    }
    let (text, prefix) = (text.to_text(), prefix.to_text());
    let mut letters = upper(&text);
    upper(&prefix).all(|letter| letters.next() == Some(letter))
}

pub(crate) fn ends_with(text: &Value, suffix: &Value) -> bool {
    if !text.is_primitive() || !suffix.is_primitive() {
        return false;
    }
    let (text, suffix) = (text.to_text(), suffix.to_text());
    let mut letters = upper(&text).rev();
    upper(&suffix).rev().all(|letter| letters.next() == Some(letter))
}

fn folded(value: &Value) -> String {
    fold(&value.to_text())
}

pub(crate) fn join(items: &Value, separator: &str, limit: usize) -> Result<Arc<str>, Fault> {
    let Value::Array(items) = items else {
        return Ok(if items.is_primitive() { items.to_text() } else { "".into() });
    };
    let mut out = String::new();
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            out.push_str(separator);
        }
        out.push_str(&item.to_text());
        if out.len() > limit {
            return Err(Fault::TooLarge { limit });
        }
    }
    Ok(out.into())
}

pub(crate) fn format(text: &str, args: &[Arc<str>], limit: usize) -> Result<String, Fault> {
    let mut out = String::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        if out.len() > limit {
            return Err(Fault::TooLarge { limit });
        }
        match c {
            '{' | '}' if chars.peek().is_some_and(|(_, next)| *next == c) => {
                chars.next();
                out.push(c);
            }
            '{' => {
                let (mut index, mut number) = (String::new(), Some(0usize));
                loop {
                    match chars.next().map(|(_, c)| (c, c.to_digit(10))) {
                        Some(('}', _)) if !index.is_empty() => break,
                        Some((c, Some(digit))) => {
                            let tens = number.and_then(|number| number.checked_mul(10));
                            number = tens.and_then(|tens| tens.checked_add(digit as usize));
                            // for the message, which a long row of digits makes no clearer
                            if index.len() < 20 {
                                index.push(c);
                            }
                        }
                        _ => return Err(Fault::FormatBrace { at: at + 1 }),
                    }
                }
                let arg = number.and_then(|number| args.get(number));
                out.push_str(arg.ok_or(Fault::FormatIndex { index, count: args.len() })?);
            }
            '}' => return Err(Fault::FormatBrace { at: at + 1 }),
            c => out.push(c),
        }
    }
    Ok(out)
}

pub(crate) fn from_json(value: &Value) -> Result<Value, Fault> {
    json::read(&value.to_text(), value.kind())
}

pub(crate) fn to_json(value: &Value, limit: usize) -> Result<String, Fault> {
    json::write(value, limit).ok_or(Fault::TooLarge { limit })
}
