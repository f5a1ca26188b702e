//! What starts a workflow, and what a caller gives and gets.
//!
//! Purpose: what stands under `on`. Owner: [`super::Workflow`].
//! Invariant: a default is of its input's type.

use doc::Spanned;

use crate::{Filters, Template, Value};

/// An event that starts a workflow.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its name, such as `push`.
    pub event: Spanned<String>,
    /// Which happenings of the event start the workflow.
    pub filters: Filters,
    /// `inputs` of `workflow_dispatch` and `workflow_call`.
    pub inputs: Vec<Input>,
    /// `secrets` of `workflow_call`.
    pub secrets: Vec<CallSecret>,
    /// `outputs` of `workflow_call`.
    pub outputs: Vec<CallOutput>,
}

/// A secret that a called workflow reads.
#[derive(Clone, Debug)]
pub struct CallSecret {
    /// Its name.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `required`.
    pub required: bool,
}

/// What a called workflow gives out.
#[derive(Clone, Debug)]
pub struct CallOutput {
    /// Its name.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `value`, evaluated when all its jobs are done.
    pub value: Template,
}

/// An input of a workflow.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `type`.
    pub kind: InputKind,
    /// `required`.
    pub required: bool,
    /// `default`, of the input's kind.
    pub default: Option<Value>,
    /// A `default` of `workflow_call` with expressions in it; then there is no other.
    pub computed: Option<Template>,
    /// `deprecationMessage`.
    pub deprecation: Option<Spanned<String>>,
}

/// The type of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Any text.
    Text,
    /// The name of an environment, which in Forgejo is any text.
    Environment,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of these.
    Choice(Vec<String>),
}
