//! An error and what it came from, for people.

use std::error::Error;

use crate::sanitise::{self, Colours};

/// Its text and those of its causes, the nearest first. Some errors repeat their source in their own text: it is not
/// said twice.
pub(crate) fn texts(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !texts.iter().any(|told| told.contains(&text)) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts
}

/// The same in one line.
pub(crate) fn line(error: &dyn Error) -> String {
    sanitise::line(&texts(error).join(": ").replace('\n', "; "), Colours::Drop)
}
