//! Kinds of values: what an expression can be, as far as the file says it.
//!
//! Purpose: an object as a text, a property of a text and a comparison of things that are never equal have the same
//! result in every run, and nothing says so when they run. Owner: [`super::property`].
//! Invariants: a set of kinds holds every kind that a value can have on any server, also null where it can be absent;
//! what is not known can be everything, so that nothing is said of it. One walk for each expression.
//!
//! ```text
//! Contexts (shapes of github, steps, inputs, matrix, ...) ──▶ Walk (one expression) ──▶ Known ──▶ diagnostics
//! ```

mod compare;
mod contexts;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

use crate::Value;

pub(super) use contexts::{Contexts, STRATEGY};
pub(super) use walk::Walk;

/// The kinds that a value can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    const NULL: Kinds = Kinds(1);
    const BOOL: Kinds = Kinds(2);
    const NUMBER: Kinds = Kinds(4);
    const TEXT: Kinds = Kinds(8);
    const LIST: Kinds = Kinds(16);
    const OBJECT: Kinds = Kinds(32);
    const NONE: Kinds = Kinds(0);
    /// What has a text of its own, and no properties.
    const SCALAR: Kinds = Kinds(1 | 2 | 4 | 8);
    const CONTAINER: Kinds = Kinds(16 | 32);
    const ALL: Kinds = Kinds(63);
    /// A text that can be absent.
    const SOME_TEXT: Kinds = Kinds(1 | 8);

    fn of(value: &Value) -> Kinds {
        match value {
            Value::Null => Kinds::NULL,
            Value::Bool(_) => Kinds::BOOL,
            Value::Number(_) => Kinds::NUMBER,
            Value::String(_) => Kinds::TEXT,
            Value::Array(_) => Kinds::LIST,
            Value::Object(_) => Kinds::OBJECT,
        }
    }

    const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }

    fn without(self, other: Kinds) -> Kinds {
        Kinds(self.0 & !other.0)
    }

    fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is one of these, whatever it is.
    fn within(self, other: Kinds) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether it is always a list or an object.
    fn is_container(self) -> bool {
        self != Kinds::NONE && self.within(Kinds::CONTAINER)
    }

    /// Whether it is a list or an object, unless it is absent.
    fn is_container_if_there(self) -> bool {
        self.without(Kinds::NULL).is_container()
    }

    /// Each kind by itself.
    fn each(self) -> impl Iterator<Item = Kinds> {
        (0..6).map(|bit| Kinds(1 << bit)).filter(move |kind| self.has(*kind))
    }

    /// The kind in a word, of what is there.
    fn phrase(self) -> &'static str {
        match self.without(Kinds::NULL) {
            Kinds::BOOL => "a boolean",
            Kinds::NUMBER => "a number",
            Kinds::TEXT => "a text",
            Kinds::LIST => "a list",
            Kinds::OBJECT => "an object",
            Kinds::CONTAINER => "a list or an object",
            kinds if kinds.within(Kinds::SCALAR) => "a single value",
            _ => "something else",
        }
    }
}
