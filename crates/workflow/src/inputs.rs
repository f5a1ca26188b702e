//! Inputs of a manual run.
//!
//! Purpose: `--input K=V` against the declared inputs: types, defaults, what is required.
//! Owner: whoever starts a run. Invariant: the `inputs` context has every declared input.

use std::collections::BTreeMap;

use doc::{Diagnostic, did_you_mean};

use crate::{InputKind, Object, Value, Workflow, value::parse_number};

/// A text as a value of an input's type.
///
/// # Errors
/// What would have been good, in words.
pub(crate) fn typed(kind: &InputKind, text: &str) -> Result<Value, String> {
    match kind {
        InputKind::Text => Ok(text.into()),
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

impl Workflow {
    /// The `inputs` context of a run by this event.
    ///
    /// # Errors
    /// Each input that is given and not declared, required and not given, or not of its type. An event
    /// that declares no inputs takes any: there is nothing to check them against.
    pub fn inputs(&self, event: &str, given: &BTreeMap<String, String>) -> Result<Value, Vec<Diagnostic>> {
        let declared = self.trigger(event).map(|trigger| trigger.inputs.as_slice()).unwrap_or_default();
        let takes_any = !matches!(event, "workflow_dispatch" | "workflow_call");
        let mut inputs = Object::new();
        let mut faults = Vec::new();
        for (name, text) in given {
            if declared.iter().any(|input| input.name.value.eq_ignore_ascii_case(name)) {
                continue;
            }
            if takes_any {
                inputs.insert(name.as_str(), text.as_str());
                continue;
            }
            let names = || declared.iter().map(|input| input.name.value.as_str());
            let fault = Diagnostic::error(format!("the workflow has no input `{name}`"));
            faults.push(match did_you_mean(name, names()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None if declared.is_empty() => fault.help("it declares none"),
                None => fault.help(format!("its inputs are {}", names().collect::<Vec<_>>().join(", "))),
            });
        }
        for input in declared {
            let name = &input.name.value;
            let text = given.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, text)| text);
            let at = |fault: Diagnostic| fault.at(&self.source, input.name.span).label("declared here");
            match (text, &input.default) {
                (Some(text), _) => match typed(&input.kind, text) {
                    Ok(value) => inputs.insert(name.as_str(), value),
                    Err(wanted) => {
                        faults.push(at(Diagnostic::error(format!("the input `{name}` has to be {wanted}"))));
                    }
                },
                (None, Some(default)) => inputs.insert(name.as_str(), default.clone()),
                (None, None) if input.required => faults.push(
                    at(Diagnostic::error(format!("the input `{name}` is required")))
                        .help(format!("give `--input {name}=…`")),
                ),
                (None, None) => inputs.insert(
                    name.as_str(),
                    match &input.kind {
                        InputKind::Boolean => Value::Bool(false),
                        InputKind::Number => Value::Number(0.0),
                        InputKind::Choice(options) => Value::text(options.first().map_or("", String::as_str)),
                        InputKind::Text => Value::text(""),
                    },
                ),
            }
        }
        if faults.is_empty() { Ok(inputs.into()) } else { Err(faults) }
    }
}
