//! The keys of the language: one table.
//!
//! Purpose: which keys a map of a workflow or of an action.yml may have, what each takes, and who reads it.
//! Owner: the lowering asks it for unknown and ignored keys, [`crate::schema`] makes the JSON schema of it.
//! Invariant: a key that the lowering reads is in here, with the kinds that it accepts; `tests/schema.rs`
//! makes a document of every row and has it parsed.

pub(crate) mod action;
pub(crate) mod job;
pub(crate) mod on;
pub(crate) mod workflow;

/// A map with keys that are known.
pub(crate) struct Shape {
    /// As messages call it: `a job`.
    pub(crate) what: &'static str,
    /// Its name in the schema.
    pub(crate) id: &'static str,
    /// Its keys, in the order in which messages list them.
    pub(crate) keys: &'static [Key],
    /// Whether other keys are an error.
    pub(crate) others: Others,
}

/// What keys that are not in the table are.
pub(crate) enum Others {
    /// An error.
    Refused,
    /// A warning: servers read over them.
    Ignored,
    /// Names, for such values.
    Names(&'static Takes),
}

/// One key.
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) takes: Takes,
    /// Whether it has to be there.
    pub(crate) need: Need,
    /// Who reads it.
    pub(crate) reader: Reader,
    /// What it is for, in one sentence.
    pub(crate) about: &'static str,
}

/// Whether a key has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Optional,
    Required,
}

/// Who reads a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Forgejo, whoever else.
    Forgejo,
    /// Only GitHub; Forgejo reads over it, and this is why that may matter.
    Ignored(&'static str),
    /// Only GitHub; Forgejo refuses a workflow that has it.
    GitHub,
    /// A server writes it into what it sends to a runner.
    Server,
}

/// What a key takes.
pub(crate) enum Takes {
    /// Text, or what is taken as it is written.
    Text,
    /// Text that is not empty.
    Word,
    /// `true` or `false`, nothing else.
    Flag,
    /// `true`, `false` or an expression.
    Bool,
    /// A number or an expression.
    Number,
    /// An expression, with or without `${{ }}`.
    If,
    /// Nothing but an expression.
    Expr,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A map with known keys.
    Map(&'static Shape),
    /// A map whose keys are names.
    Names(&'static Takes),
    /// A list.
    List(&'static Takes),
    /// Any of these.
    Any(&'static [Takes]),
    /// Nothing at all: the value may be left out.
    Nothing,
    /// Whatever a document can hold.
    Data,
    /// The events of `on`.
    Events,
}

impl Key {
    pub(crate) const fn new(name: &'static str, takes: Takes, about: &'static str) -> Key {
        Key { name, takes, need: Need::Optional, reader: Reader::Forgejo, about }
    }

    pub(crate) const fn required(name: &'static str, takes: Takes, about: &'static str) -> Key {
        Key { name, takes, need: Need::Required, reader: Reader::Forgejo, about }
    }

    pub(crate) const fn ignored(
        name: &'static str,
        takes: Takes,
        why: &'static str,
        about: &'static str,
    ) -> Key {
        Key { name, takes, need: Need::Optional, reader: Reader::Ignored(why), about }
    }

    pub(crate) const fn github(name: &'static str, takes: Takes, about: &'static str) -> Key {
        Key { name, takes, need: Need::Optional, reader: Reader::GitHub, about }
    }
}

impl Shape {
    /// A key by its name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names that Forgejo knows.
    pub(crate) fn common(&self) -> impl Iterator<Item = &'static str> + use<> {
        let known = |key: &&Key| matches!(key.reader, Reader::Forgejo | Reader::Ignored(_));
        self.keys.iter().filter(known).map(|key| key.name)
    }

    /// The names that a person may write.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.keys.iter().filter(|key| key.reader != Reader::Server).map(|key| key.name)
    }
}

/// A text, or a list of texts that are not empty.
pub(crate) const WORDS: Takes = Takes::Any(&[Takes::Word, Takes::List(&Takes::Word)]);

/// Names and texts, or an expression that gives them.
pub(crate) const VARIABLES: Takes = Takes::Any(&[Takes::Names(&Takes::Text), Takes::Expr, Takes::Nothing]);
