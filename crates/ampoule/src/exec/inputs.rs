//! `--input`: the inputs of `workflow_dispatch` and `workflow_call`, with their types.
//!
//! Invariants: every input that the workflow declares has a value of its type; none that it does not
//! declare is taken.

use workflow::{Input, InputKind, Object, Value, Workflow};

use crate::cli::pair::Pair;

/// The events that have inputs.
const EVENTS: [&str; 2] = ["workflow_dispatch", "workflow_call"];

/// Why the inputs do not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Only one event has inputs.
    #[error(
        "`--input` needs the event workflow_dispatch, and this run's is {event}; give `--event workflow_dispatch`"
    )]
    OtherEvent {
        /// The run's event.
        event: String,
    },
    /// The workflow has no such input.
    #[error("the workflow has no input `{name}`; {hint}")]
    Unknown {
        /// As given.
        name: String,
        /// What it has.
        hint: String,
    },
    /// A value is of another type.
    #[error("the input `{name}` has to be {expected}, not `{value}`")]
    Type {
        /// The input.
        name: String,
        /// What it can be.
        expected: String,
        /// As given.
        value: String,
    },
    /// An input that has to be given is not.
    #[error("the input `{name}` is required; give `--input {name}=VALUE`")]
    Missing {
        /// The input.
        name: String,
    },
}

/// The `inputs` context: typed values.
pub fn typed(workflow: &Workflow, event: &str, given: &[Pair]) -> Result<Object, InputError> {
    if !EVENTS.contains(&event) {
        return match given {
            [] => Ok(Object::new()),
            _ => Err(InputError::OtherEvent { event: event.to_owned() }),
        };
    }
    let declared = workflow.trigger(event).map(|trigger| trigger.inputs.as_slice()).unwrap_or_default();
    let names = || declared.iter().map(|input| input.name.value.as_str());
    for pair in given {
        if !names().any(|name| name == pair.key) {
            let hint = match (doc::did_you_mean(&pair.key, names()), names().next()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(_)) => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
                (None, None) => "it has none".to_owned(),
            };
            return Err(InputError::Unknown { name: pair.key.clone(), hint });
        }
    }
    let mut inputs = Object::new();
    for input in declared {
        // the last one wins, as with any other option
        let text =
            given.iter().rev().find(|pair| pair.key == input.name.value).map(|pair| pair.value.as_str());
        let value = match (text, &input.default) {
            (Some(text), _) => value(input, text)?,
            (None, Some(default)) => default.clone(),
            (None, None) if input.required => {
                return Err(InputError::Missing { name: input.name.value.clone() });
            }
            (None, None) => absent(&input.kind, event),
        };
        inputs.insert(input.name.value.as_str(), value);
    }
    Ok(inputs)
}

fn value(input: &Input, text: &str) -> Result<Value, InputError> {
    let wrong = |expected: String| InputError::Type {
        name: input.name.value.clone(),
        expected,
        value: text.chars().take(100).collect(),
    };
    match &input.kind {
        InputKind::Text | InputKind::Environment => Ok(Value::text(text)),
        InputKind::Boolean => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong("`true` or `false`".to_owned())),
        },
        InputKind::Number => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Number(number)),
            _ => Err(wrong("a number".to_owned())),
        },
        InputKind::Choice(choices) => {
            if choices.iter().any(|choice| choice == text) {
                Ok(Value::text(text))
            } else {
                let choices: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
                Err(wrong(format!("one of {}", choices.join(", "))))
            }
        }
    }
}

/// What an input is that nobody gave, as the server has it.
fn absent(kind: &InputKind, event: &str) -> Value {
    match kind {
        InputKind::Number if event == "workflow_call" => Value::Number(0.0),
        InputKind::Text | InputKind::Environment | InputKind::Number => Value::text(""),
        InputKind::Boolean => Value::Bool(false),
        InputKind::Choice(choices) => Value::text(choices.first().map(String::as_str).unwrap_or_default()),
    }
}
