//! What each context is.
//!
//! Purpose: `github`, `steps` and others as servers fill them, `inputs` by their types, `matrix` by its values.
//! Owner: [`super::super::property`], which makes one for each file and sets the matrix for each job.
//! Invariant: what any server can fill in otherwise is open.

use std::sync::{Arc, LazyLock};

use super::{Kinds, Walk, shape::Found, shape::Shape};
use crate::{ContextName, Data, DataKind, InputKind, Job, Matrix, Trigger};

/// What of `github` is a text on every server, where it is there.
const TEXTS: [&str; 27] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "api_url",
    "base_ref",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "ref",
    "ref_name",
    "ref_type",
    "repository",
    "repository_owner",
    "repositoryUrl",
    "server_url",
    "sha",
    "token",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
    "env",
];

/// What of it is a text, a number or a boolean.
const SINGLE: [&str; 10] = [
    "actor_id",
    "ref_protected",
    "repository_id",
    "repository_owner_id",
    "repository_visibility",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "secret_source",
];

const RUNNER: [&str; 6] = ["name", "os", "arch", "temp", "tool_cache", "environment"];

/// All of `strategy`.
pub(in crate::rules) const STRATEGY: [&str; 4] = ["fail-fast", "job-index", "job-total", "max-parallel"];

/// Those that are the same in every file.
struct Fixed {
    github: Arc<Shape>,
    texts: Arc<Shape>,
    steps: Arc<Shape>,
    jobs: Arc<Shape>,
    job: Arc<Shape>,
    runner: Arc<Shape>,
    strategy: Arc<Shape>,
    open: Arc<Shape>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let text = || Shape::of(Kinds::SOME_TEXT);
    let single = || Shape::of(Kinds::SCALAR);
    let texts = || Shape::all(text());
    let event = Shape::object([("inputs", texts().or_null())]);
    let of_github = TEXTS.iter().map(|name| (*name, text()));
    let github = of_github.chain(SINGLE.iter().map(|name| (*name, single()))).chain([("event", event)]);
    let step = Shape::object([("outputs", texts()), ("outcome", text()), ("conclusion", text())]);
    let job = Shape::object([
        ("status", text()),
        ("container", Shape::of(Kinds::OBJECT).or_null()),
        ("services", Shape::of(Kinds::OBJECT).or_null()),
    ]);
    Fixed {
        github: Arc::new(Shape::object(github)),
        texts: Arc::new(texts()),
        steps: Arc::new(Shape::all(step)),
        jobs: Arc::new(Shape::all(Shape::object([("outputs", texts()), ("result", text())]))),
        job: Arc::new(job),
        runner: Arc::new(Shape::object(RUNNER.iter().map(|name| (*name, text())))),
        strategy: Arc::new(Shape::object(STRATEGY.iter().map(|name| (*name, single())))),
        open: Arc::new(Shape::of(Kinds::OBJECT).or_null()),
    }
});

/// What the expressions of a job, or of an action, can see.
pub(in crate::rules) struct Contexts {
    inputs: Arc<Shape>,
    matrix: Arc<Shape>,
}

impl Contexts {
    /// Of a workflow.
    pub(in crate::rules) fn of(on: &[Trigger]) -> Contexts {
        let mut inputs = Shape::object([]).or_null();
        for trigger in on.iter().filter(|trigger| trigger.event.value.starts_with("workflow_")) {
            for input in &trigger.inputs {
                let kinds = match input.kind {
                    InputKind::Text | InputKind::Environment | InputKind::Choice(_) => Kinds::TEXT,
                    InputKind::Boolean => Kinds::BOOL,
                    InputKind::Number if trigger.event.value == "workflow_call" => Kinds::NUMBER,
                    // GitHub keeps only booleans of a form
                    InputKind::Number => Kinds::NUMBER.or(Kinds::TEXT),
                };
                inputs.add(&input.name.value, Shape::of(kinds).or_null());
            }
        }
        Contexts { inputs: Arc::new(inputs), matrix: Arc::clone(&FIXED.open) }
    }

    /// Of an action, whose inputs are texts.
    pub(in crate::rules) fn of_action() -> Contexts {
        Contexts { inputs: Arc::clone(&FIXED.texts), matrix: Arc::clone(&FIXED.open) }
    }

    /// Those of a job; `known` says whether all names of its matrix are.
    pub(in crate::rules) fn enter(&mut self, job: &Job, known: bool) {
        self.matrix = Arc::clone(&FIXED.open);
        if !known {
            return;
        }
        let matrix = job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref());
        let Some(Matrix::Written { axes, include, .. }) = matrix else { return };
        let mut shape = Shape::empty(Kinds::OBJECT);
        if axes.is_empty() {
            shape = shape.or_null();
        }
        for (name, values) in axes {
            let item = self.axis(values);
            // an entry of `include` can be a job without it
            shape.add(&name.value, if include.is_some() { item.or_null() } else { item });
        }
        let entries = include.as_ref().map(|data| &data.kind);
        if let Some(DataKind::List(entries)) = entries {
            for entry in entries {
                let DataKind::Map(values) = &entry.kind else { return };
                for (name, value) in values {
                    shape.add(&name.value, self.data(value).or_null());
                }
            }
        }
        self.matrix = Arc::new(shape);
    }

    /// What a variable of a matrix can be.
    fn axis(&self, values: &Data) -> Shape {
        let shape = self.data(values);
        match shape.item() {
            Found::Shape(item) if shape.kinds == Kinds::LIST => item.as_ref().clone(),
            Found::Shape(_) | Found::Unknown | Found::Absent => Shape::of(Kinds::ALL),
        }
    }

    fn data(&self, data: &Data) -> Shape {
        match &data.kind {
            DataKind::Value(value) => Shape::of_value(value),
            DataKind::Template(template) => match template.sole() {
                Some(expr) => {
                    let known = Walk::new(&expr.source, self).see(expr.root());
                    known.shape.map_or_else(|| Shape::of(known.kinds), |shape| shape.as_ref().clone())
                }
                None => Shape::of(Kinds::TEXT),
            },
            DataKind::List(items) => {
                let mut shape = Shape::empty(Kinds::LIST);
                for item in items {
                    let of_item = self.data(item);
                    // an expression that gives a list is part of the list that it stands in
                    let spread = matches!(item.kind, DataKind::Template(_)) && of_item.kinds.has(Kinds::LIST);
                    shape.push(if spread { Shape::of(Kinds::ALL) } else { of_item });
                }
                shape
            }
            DataKind::Map(entries) => {
                let mut shape = Shape::empty(Kinds::OBJECT);
                for (name, value) in entries {
                    // `${{ insert }}` takes in more
                    if name.value.contains("${{") {
                        return Shape::of(Kinds::OBJECT);
                    }
                    shape.add(&name.value, self.data(value).or_null());
                }
                shape
            }
        }
    }

    pub(super) fn shape(&self, context: ContextName) -> Arc<Shape> {
        Arc::clone(match context {
            ContextName::Github => &FIXED.github,
            ContextName::Env | ContextName::Vars | ContextName::Secrets => &FIXED.texts,
            ContextName::Job => &FIXED.job,
            ContextName::Jobs | ContextName::Needs => &FIXED.jobs,
            ContextName::Steps => &FIXED.steps,
            ContextName::Runner => &FIXED.runner,
            ContextName::Strategy => &FIXED.strategy,
            ContextName::Matrix => &self.matrix,
            ContextName::Inputs => &self.inputs,
        })
    }
}
