//! A tree and contexts into a value.
//!
//! Purpose: pure evaluation; `&&`, `||` and `case` are lazy, so that a guest is asked only for what
//! counts. Owner: templates and conditions call it. Invariants: no I/O; results are at most
//! [`MAX_RESULT`] bytes each, and all that one evaluation makes and looks at is within its [`Budget`];
//! errors name places, never values.

use std::{cell::Cell, sync::Arc};

use doc::{Diagnostic, Source, Span};

use super::{
    Contexts, Expr, Query,
    ast::{Accessor, Ast, AstKind, Comparison},
    function::{self, Fault, Function},
};
use crate::{Value, value::parse_number};

/// Largest text that one evaluation may make, in bytes.
pub(crate) const MAX_RESULT: usize = 10 << 20;

/// What one evaluation, of a template with all its expressions, may make and look at, in bytes: texts,
/// copied lists, values of JSON. It is what keeps 10,000 short calls on one large value from taking hours.
pub(crate) const MAX_WORK: usize = 256 << 20;

/// About what a value takes in memory, in bytes.
const VALUE: usize = 32;

/// What is left of [`MAX_WORK`].
pub(crate) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(MAX_WORK))
    }
}

impl Budget {
    fn spend(&self, bytes: usize) -> Result<(), Fault> {
        match self.0.get().checked_sub(bytes) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(Fault::TooMuch { limit: MAX_WORK }),
        }
    }
}

/// What an evaluation gives: the result, or a question that has to be answered first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eval<T = Value> {
    /// The result.
    Value(T),
    /// Ask the guest, give the answer to [`Contexts::answer`], evaluate again.
    Need(Query),
}

impl<T> Eval<T> {
    /// The same with another result.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Eval<U> {
        match self {
            Eval::Value(value) => Eval::Value(change(value)),
            Eval::Need(query) => Eval::Need(query),
        }
    }
}

/// An expression that has no value, with its place.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct EvalError {
    /// Why. Never holds a value.
    pub kind: Fault,
    /// The text that it stands in.
    pub source_text: Source,
    /// Where.
    pub span: Span,
}

impl EvalError {
    /// The error as a person is shown it.
    pub fn to_diagnostic(&self) -> Diagnostic {
        Diagnostic::error(self.kind.to_string())
            .at(&self.source_text, self.span)
            .label("while evaluating this")
    }
}

impl Expr {
    /// The expression's value in these contexts.
    ///
    /// # Errors
    /// A function that cannot work with its arguments, or a result beyond the budget.
    pub fn eval(&self, contexts: &Contexts) -> Result<Eval, EvalError> {
        self.eval_within(contexts, &Budget::default())
    }

    /// The same with a budget that is shared.
    pub(super) fn eval_within(&self, contexts: &Contexts, budget: &Budget) -> Result<Eval, EvalError> {
        match (Evaluator { contexts, budget }).eval(&self.root) {
            Ok(result) => Ok(Eval::Value(result.value)),
            Err(Stop::Need(query)) => Ok(Eval::Need(query)),
            Err(Stop::Fault(kind, span)) => Err(EvalError { kind, source_text: self.source.clone(), span }),
        }
    }
}

enum Stop {
    Need(Query),
    Fault(Fault, Span),
}

/// A value, and whether it is the list of a `.*`, over which the next property is mapped.
struct Evaluated {
    value: Value,
    filtered: bool,
}

impl From<Value> for Evaluated {
    fn from(value: Value) -> Evaluated {
        Evaluated { value, filtered: false }
    }
}

struct Evaluator<'a> {
    contexts: &'a Contexts,
    budget: &'a Budget,
}

impl Evaluator<'_> {
    fn eval(&self, ast: &Ast) -> Result<Evaluated, Stop> {
        Ok(match &ast.kind {
            AstKind::Null => Value::Null.into(),
            AstKind::Bool(value) => Value::Bool(*value).into(),
            AstKind::Number(number) => Value::Number(*number).into(),
            AstKind::Text(text) => Value::text(text.as_str()).into(),
            AstKind::Context(name) => self.contexts.get(*name).into(),
            AstKind::Access { base, path } => self.access(base, path)?,
            AstKind::Call { function, args } => self.call(*function, args, ast.span)?.into(),
            AstKind::Not(inner) => Value::Bool(!self.eval(inner)?.value.truthy()).into(),
            AstKind::And(items) => self.first(items, false)?,
            AstKind::Or(items) => self.first(items, true)?,
            AstKind::Compare { op, left, right } => {
                let (left, right) = (self.eval(left)?.value, self.eval(right)?.value);
                self.spend(looked_at(&left).min(looked_at(&right)), ast.span)?;
                Value::Bool(match op {
                    Comparison::Equal => left.loosely_equals(&right),
                    Comparison::NotEqual => !left.loosely_equals(&right),
                    Comparison::Less => left.loosely_less(&right),
                    Comparison::LessEqual => left.loosely_less(&right) || left.loosely_equals(&right),
                    Comparison::Greater => right.loosely_less(&left),
                    Comparison::GreaterEqual => right.loosely_less(&left) || left.loosely_equals(&right),
                })
                .into()
            }
        })
    }

    /// The first operand whose truth is `wanted`, else the last.
    fn first(&self, items: &[Ast], wanted: bool) -> Result<Evaluated, Stop> {
        let mut last = Evaluated::from(Value::Null);
        for item in items {
            last = self.eval(item)?;
            if last.value.truthy() == wanted {
                break;
            }
        }
        Ok(last)
    }

    fn access(&self, base: &Ast, path: &[Accessor]) -> Result<Evaluated, Stop> {
        let mut current = self.eval(base)?;
        // `(a.*.b)[0]` is the first of the list, as Forgejo's runner has it; GitHub looks for an item 0 in each
        // item, which without the brackets is meant.
        let mut closed = matches!(base.kind, AstKind::Access { .. });
        for accessor in path {
            let found = match accessor {
                Accessor::All => {
                    self.spend(VALUE * items(&current.value), base.span)?;
                    Evaluated { value: all(&current), filtered: true }
                }
                Accessor::Name(name) => self.find(&current, Index::Name(name), base.span)?,
                Accessor::Index(index) => {
                    let at = self.eval(index)?.value;
                    if closed && matches!(at, Value::Number(_)) {
                        current.filtered = false;
                    }
                    self.find(&current, Index::Value(&at), base.span)?
                }
            };
            current = found;
            closed = false;
        }
        Ok(current)
    }

    /// A property or item; of the list of a `.*` that of each of its items.
    fn find(&self, current: &Evaluated, index: Index<'_>, span: Span) -> Result<Evaluated, Stop> {
        Ok(match (&current.value, current.filtered) {
            (Value::Array(items), true) => {
                self.spend(VALUE * items.len(), span)?;
                let found: Vec<_> = items.iter().filter_map(|item| present(item, index)).collect();
                Evaluated { value: found.into(), filtered: true }
            }
            (value, _) => match index {
                Index::Name(name) => value.get(name),
                Index::Value(at) => value.index(at),
            }
            .into(),
        })
    }

    fn call(&self, function: Function, args: &[Ast], span: Span) -> Result<Value, Stop> {
        let status = self.contexts.status();
        let fault = |kind| Stop::Fault(kind, span);
        match function {
            Function::Success => return Ok(status.success.into()),
            Function::Failure => return Ok(status.failure.into()),
            Function::Cancelled => return Ok(status.cancelled.into()),
            Function::Always => return Ok(true.into()),
            Function::Case => return self.case(args),
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?.value);
        }
        let (first, second) = (values.first().cloned().unwrap_or_default(), values.get(1));
        let other = second.cloned().unwrap_or_default();
        let look: usize = values.iter().map(looked_at).sum();
        self.spend(look, span)?;
        Ok(match function {
            Function::Contains => function::contains(&first, &other).into(),
            Function::StartsWith => function::starts_with(&first, &other).into(),
            Function::EndsWith => function::ends_with(&first, &other).into(),
            Function::Join => {
                // what is no text is no separator
                let separator =
                    second.filter(|value| value.is_primitive()).map_or(",".into(), Value::to_text);
                self.made(function::join(&first, &separator, MAX_RESULT), span)?
            }
            Function::Format => {
                let args: Vec<_> = values.iter().skip(1).map(Value::to_text).collect();
                self.made(function::format(&first.to_text(), &args, MAX_RESULT), span)?
            }
            Function::ToJson => self.made(function::to_json(&first, MAX_RESULT), span)?,
            Function::FromJson => function::from_json(&first).map_err(fault)?,
            Function::HashFiles => {
                let patterns = values.iter().map(|value| value.to_text().as_ref().to_owned()).collect();
                let query = Query::HashFiles(patterns);
                match self.contexts.answered(&query) {
                    Some(answer) => answer.into(),
                    None => return Err(Stop::Need(query)),
                }
            }
            Function::Success
            | Function::Failure
            | Function::Always
            | Function::Cancelled
            | Function::Case => Value::Null,
        })
    }

    fn case(&self, args: &[Ast]) -> Result<Value, Stop> {
        let mut rest = args;
        let mut index = 1;
        while let [condition, value, tail @ ..] = rest {
            let held = self.eval(condition)?.value;
            match held {
                Value::Bool(true) => return Ok(self.eval(value)?.value),
                Value::Bool(false) => {}
                other => {
                    let kind = Fault::CaseCondition { index, kind: other.kind() };
                    return Err(Stop::Fault(kind, condition.span));
                }
            }
            rest = tail;
            index += 1;
        }
        rest.first().map_or(Ok(Value::Null), |value| Ok(self.eval(value)?.value))
    }

    fn made<T: Into<Arc<str>>>(&self, text: Result<T, Fault>, span: Span) -> Result<Value, Stop> {
        let text = text.map_err(|kind| Stop::Fault(kind, span))?.into();
        if text.len() > MAX_RESULT {
            return Err(Stop::Fault(Fault::TooLarge { limit: MAX_RESULT }, span));
        }
        self.spend(text.len(), span)?;
        Ok(Value::String(text))
    }

    fn spend(&self, bytes: usize, span: Span) -> Result<(), Stop> {
        self.budget.spend(bytes).map_err(|kind| Stop::Fault(kind, span))
    }
}

#[derive(Clone, Copy)]
enum Index<'a> {
    Name(&'a str),
    Value(&'a Value),
}

/// How much there is to look at in a value, without what is nested in it.
fn looked_at(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        other => VALUE * items(other),
    }
}

fn items(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(object) => object.len(),
        _ => 0,
    }
}

/// The items of a list or the values of an object; of a `.*` before it, those of each of its items.
fn all(current: &Evaluated) -> Value {
    let children = |value: &Value| match value {
        Value::Array(items) => items.as_ref().clone(),
        Value::Object(object) => object.iter().map(|(_, value)| value.clone()).collect(),
        _ => Vec::new(),
    };
    match (&current.value, current.filtered) {
        (Value::Array(items), true) => items.iter().flat_map(children).collect::<Vec<_>>().into(),
        (value, _) => children(value).into(),
    }
}

/// What a `.*` keeps of an item: the property, if the item has it.
fn present(item: &Value, index: Index<'_>) -> Option<Value> {
    match (item, index) {
        (Value::Object(object), Index::Name(name)) => object.get(name).cloned(),
        (Value::Object(object), Index::Value(at)) if at.is_primitive() => object.get(&at.to_text()).cloned(),
        (Value::Array(items), _) => {
            let at = match index {
                Index::Name(name) => parse_number(name),
                Index::Value(at) => at.to_number(),
            };
            #[expect(clippy::cast_precision_loss, reason = "no list is that long")]
            let inside = at >= 0.0 && at < items.len() as f64;
            inside.then(|| item.index(&Value::Number(at)))
        }
        _ => None,
    }
}
