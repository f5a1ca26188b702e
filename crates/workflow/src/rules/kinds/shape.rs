//! What is inside of a value: the kinds of its properties.
//!
//! Purpose: one form for contexts, for the values of a matrix and for JSON that the file has. Owner: [`super::Contexts`].
//! Invariant: made in one pass over what it is made of.

use std::{collections::BTreeMap, sync::Arc};

use super::Kinds;
use crate::Value;

/// The kinds of a value and of its parts.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kinds: Kinds,
    /// By their names in lower case.
    fields: BTreeMap<String, Arc<Shape>>,
    others: Others,
}

/// What a property is that is not named, and every item of a list.
#[derive(Clone, Debug)]
enum Others {
    Unknown,
    Absent,
    Like(Arc<Shape>),
}

/// A look for a property.
#[derive(Debug)]
pub(super) enum Found {
    Shape(Arc<Shape>),
    /// It can be there.
    Unknown,
    /// Nothing has it.
    Absent,
}

impl Shape {
    /// Of these kinds, and nothing is known of what is in it.
    pub(super) fn of(kinds: Kinds) -> Shape {
        let others = if kinds.has(Kinds::CONTAINER) { Others::Unknown } else { Others::Absent };
        Shape { kinds, fields: BTreeMap::new(), others }
    }

    /// An object with these properties; it may have others.
    pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Shape)>) -> Shape {
        let fields =
            fields.into_iter().map(|(name, shape)| (name.to_ascii_lowercase(), Arc::new(shape))).collect();
        Shape { kinds: Kinds::OBJECT, fields, others: Others::Unknown }
    }

    /// An object all of whose properties are like this.
    pub(super) fn all(like: Shape) -> Shape {
        Shape { kinds: Kinds::OBJECT, fields: BTreeMap::new(), others: Others::Like(Arc::new(like)) }
    }

    /// A list or an object of which nothing is there yet.
    pub(super) fn empty(kinds: Kinds) -> Shape {
        Shape { kinds, fields: BTreeMap::new(), others: Others::Absent }
    }

    /// The same, or null.
    pub(super) fn or_null(mut self) -> Shape {
        self.kinds = self.kinds.or(Kinds::NULL);
        self
    }

    /// Another property: what has no other shape of this name has none of it.
    pub(super) fn add(&mut self, name: &str, shape: Shape) {
        match self.fields.get_mut(&name.to_ascii_lowercase()) {
            Some(known) => Arc::make_mut(known).join(shape),
            None => {
                self.fields.insert(name.to_ascii_lowercase(), Arc::new(shape));
            }
        }
    }

    /// Another item of a list.
    pub(super) fn push(&mut self, item: Shape) {
        match &mut self.others {
            Others::Unknown => {}
            Others::Absent => self.others = Others::Like(Arc::new(item)),
            Others::Like(known) => Arc::make_mut(known).join(item),
        }
    }

    /// Whether nothing is known of what is in it.
    fn is_open(&self) -> bool {
        self.kinds.has(Kinds::CONTAINER) && matches!(self.others, Others::Unknown)
    }

    /// Either of two. A property that only one of them has is to be null in that one as well.
    pub(super) fn join(&mut self, other: Shape) {
        let open = self.is_open() || other.is_open();
        self.kinds = self.kinds.or(other.kinds);
        if open {
            self.fields.clear();
            self.others = Others::Unknown;
            return;
        }
        for (name, shape) in other.fields {
            match self.fields.get_mut(&name) {
                Some(known) => Arc::make_mut(known).join(owned(shape)),
                None => {
                    self.fields.insert(name, shape);
                }
            }
        }
        if let Others::Like(item) = other.others {
            self.push(owned(item));
        }
    }

    /// Of a value, whose properties are null in what it is joined with.
    pub(super) fn of_value(value: &Value) -> Shape {
        let mut shape = Shape::empty(Kinds::of(value));
        match value {
            Value::Array(items) => items.iter().for_each(|item| shape.push(Shape::of_value(item))),
            Value::Object(object) => {
                object.iter().for_each(|(name, value)| shape.add(name, Shape::of_value(value).or_null()));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        shape
    }

    /// What a name is, of an object.
    pub(super) fn get(&self, name: &str) -> Found {
        match (self.fields.get(&name.to_ascii_lowercase()), &self.others) {
            (Some(shape), _) | (None, Others::Like(shape)) => Found::Shape(Arc::clone(shape)),
            (None, Others::Unknown) => Found::Unknown,
            (None, Others::Absent) => Found::Absent,
        }
    }

    /// The names of its properties, in lower case, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// What an item is, of a list.
    pub(super) fn item(&self) -> Found {
        match &self.others {
            Others::Like(shape) => Found::Shape(Arc::clone(shape)),
            Others::Unknown | Others::Absent => Found::Unknown,
        }
    }
}

fn owned(shape: Arc<Shape>) -> Shape {
    Arc::try_unwrap(shape).unwrap_or_else(|shared| shared.as_ref().clone())
}
