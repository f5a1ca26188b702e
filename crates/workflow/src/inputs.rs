//! Types of a workflow's inputs.
//!
//! Purpose: text to a value of the declared type. Owner: the lowering, for defaults.
//! Invariant: pure.

use crate::{InputKind, Value, value::parse_number};

/// A text as a value of an input's type.
///
/// # Errors
/// What would have been good, in words.
pub(crate) fn typed(kind: &InputKind, text: &str) -> Result<Value, String> {
    match kind {
        InputKind::Text | InputKind::Environment => Ok(text.into()),
        InputKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("`true` or `false`".to_owned()),
        },
        InputKind::Number => {
            let number = parse_number(text);
            if text.trim().is_empty() || !number.is_finite() {
                return Err("a number".to_owned());
            }
            Ok(number.into())
        }
        InputKind::Choice(options) if options.iter().any(|option| option == text) => Ok(text.into()),
        InputKind::Choice(options) => Err(format!("one of {}", options.join(", "))),
    }
}
