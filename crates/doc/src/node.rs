//! The tree that every document becomes.
//!
//! Purpose: values with their places. Owner: whoever parsed; lowering borrows from it.
//! Invariants: keys of a map are unique scalars' texts (the parsers refuse the rest); order is the file's.

use crate::{Scalar, Span};

/// A value with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts the two together.
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }
}

/// One value of a document. An alias is a copy of what it names, with the place of the definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From the first to the last byte of the value as written, quotes included.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One value.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// Keys and values.
    Map(Map),
}

/// Keys and values in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// The entries; no two keys have the same text.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: Spanned<String>,
    /// The value.
    pub value: Node,
}

impl Map {
    /// The value of a key, compared exactly.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key, compared exactly.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.value == key)
    }
}

impl Node {
    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Seq(_) | Kind::Map(_) => None,
        }
    }

    /// The items, if it is a list.
    pub fn seq(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Seq(items) => Some(items),
            Kind::Scalar(_) | Kind::Map(_) => None,
        }
    }

    /// The map, if it is one.
    pub fn map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            Kind::Scalar(_) | Kind::Seq(_) => None,
        }
    }

    /// Whether it is nothing: an empty plain scalar, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// What it is, in words that a message can use: `a list`, `a number`.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.describe(),
            Kind::Seq(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// The node in the form of its format, for tests and messages: scalars as written, no comments.
    pub fn outline(&self) -> String {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.outline(),
            Kind::Seq(items) => {
                let items: Vec<_> = items.iter().map(|item| item.outline()).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Map(map) => {
                let entries: Vec<_> = map
                    .entries
                    .iter()
                    .map(|entry| format!("{:?}: {}", entry.key.value, entry.value.outline()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}
