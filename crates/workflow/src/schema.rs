//! The JSON schema of the language.
//!
//! Purpose: completion and checks in editors, for workflows and for action.yml; made of the same table of
//! keys as the lowering's own checks. Owner: `cargo xtask schema` writes it, a test compares.
//! Invariant: what parses without an error is valid by it, but for documents that use anchors in place of
//! required keys; it is looser where a schema cannot see (ids, expressions, patterns).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    filter::events::{self, FORGEJO, GITHUB, NEVER},
    shape::{
        Need, Others, Reader, Shape, Takes, WORDS,
        action::ACTION,
        on::{CALL, DISPATCH, SCHEDULE},
        workflow::WORKFLOW,
    },
};

/// Where editors find what a schema's own keys mean.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of a workflow.
pub fn workflow() -> Value {
    of(&WORKFLOW, "A workflow of Forgejo Actions", "https://forgejo.org/docs/latest/user/actions/reference/")
}

/// The schema of an action.yml.
pub fn action() -> Value {
    of(&ACTION, "An action of Forgejo Actions", "https://forgejo.org/docs/latest/user/actions/actions/")
}

fn of(shape: &'static Shape, title: &str, page: &str) -> Value {
    let mut writer = Writer::default();
    writer.shape(shape);
    let mut root = Map::new();
    root.insert("$schema".into(), DIALECT.into());
    root.insert("title".into(), title.into());
    root.insert(
        "$comment".into(),
        format!("generated from the parser's own table of keys; see {page}").into(),
    );
    root.insert("allOf".into(), json!([reference(shape)]));
    root.insert("definitions".into(), Value::Object(writer.definitions.into_iter().collect()));
    Value::Object(root)
}

fn reference(shape: &Shape) -> Value {
    json!({ "$ref": format!("#/definitions/{}", shape.id) })
}

#[derive(Default)]
struct Writer {
    definitions: BTreeMap<String, Value>,
}

impl Writer {
    /// Writes a shape's definition, and those that it needs, once.
    fn shape(&mut self, shape: &'static Shape) -> Value {
        if !self.definitions.contains_key(shape.id) {
            self.definitions.insert(shape.id.to_owned(), Value::Null);
            let written = self.object(shape);
            self.definitions.insert(shape.id.to_owned(), written);
        }
        reference(shape)
    }

    fn object(&mut self, shape: &'static Shape) -> Value {
        let mut properties = Map::new();
        for key in shape.keys.iter().filter(|key| key.reader != Reader::Server) {
            let mut value = self.takes(&key.takes);
            if value.get("$ref").is_some() {
                // beside a reference nothing else is read
                value = json!({ "allOf": [value] });
            }
            if let Value::Object(value) = &mut value {
                let about = match key.reader {
                    Reader::Ignored(why) => format!("{} Forgejo ignores it: {why}.", key.about),
                    Reader::GitHub => format!("{} Only GitHub has it.", key.about),
                    Reader::Forgejo | Reader::Server => key.about.to_owned(),
                };
                value.insert("description".into(), about.into());
            }
            properties.insert(key.name.to_owned(), value);
        }
        let others = match shape.others {
            Others::Refused => false.into(),
            Others::Ignored => true.into(),
            Others::Names(takes) => self.takes(takes),
        };
        let required: Vec<_> =
            shape.keys.iter().filter(|key| key.need == Need::Required).map(|key| key.name).collect();
        let mut object = Map::new();
        object.insert("type".into(), "object".into());
        object.insert("properties".into(), properties.into());
        object.insert("additionalProperties".into(), others);
        if !required.is_empty() {
            object.insert("required".into(), required.into());
        }
        if let Some((name, rule)) = rule(shape) {
            object.insert(name.to_owned(), rule);
        }
        Value::Object(object)
    }

    fn takes(&mut self, takes: &'static Takes) -> Value {
        match takes {
            Takes::Text => json!({ "type": ["string", "number", "boolean", "null"] }),
            Takes::Word => json!({ "type": ["string", "number", "boolean"], "minLength": 1 }),
            Takes::Flag => json!({ "type": "boolean" }),
            Takes::Bool => json!({ "anyOf": [{ "type": "boolean" }, expression()] }),
            Takes::Number => {
                json!({ "anyOf": [{ "type": "number" }, { "type": "string", "pattern": "^[0-9.]+$" }, expression()] })
            }
            Takes::If => json!({ "type": ["string", "boolean", "number", "null"] }),
            Takes::Expr => expression(),
            Takes::OneOf(words) => json!({ "enum": words }),
            Takes::Map(shape) => self.shape(shape),
            Takes::Names(takes) => json!({ "type": "object", "additionalProperties": self.takes(takes) }),
            Takes::List(takes) => json!({ "type": "array", "items": self.takes(takes) }),
            Takes::Any(all) => {
                json!({ "anyOf": all.iter().map(|takes| self.takes(takes)).collect::<Vec<_>>() })
            }
            Takes::Nothing => json!({ "type": "null" }),
            Takes::Data => json!({}),
            Takes::Events => self.events(),
        }
    }

    /// `on`: a word, a list of words, or a map.
    fn events(&mut self) -> Value {
        let names: Vec<_> =
            FORGEJO.iter().chain(&GITHUB).chain(NEVER.iter().map(|(name, _)| name)).copied().collect();
        let mut properties = Map::new();
        for name in &names {
            let value = match *name {
                "schedule" => json!({ "type": "array", "minItems": 1, "items": self.shape(&SCHEDULE) }),
                "workflow_dispatch" => json!({ "anyOf": [self.shape(&DISPATCH), { "type": "null" }] }),
                "workflow_call" => json!({ "anyOf": [self.shape(&CALL), { "type": "null" }] }),
                event => self.filters(event),
            };
            properties.insert((*name).to_owned(), value);
        }
        json!({ "anyOf": [
            { "enum": names },
            { "type": "array", "minItems": 1, "items": { "enum": names } },
            { "type": "object", "minProperties": 1, "properties": properties, "additionalProperties": false },
        ] })
    }

    fn filters(&mut self, event: &str) -> Value {
        let Some(known) = events::known(event).filter(|known| !known.keys.is_empty()) else {
            return json!({ "type": ["object", "null"] });
        };
        let mut properties = Map::new();
        for key in known.keys {
            let value = match key.as_str() {
                "types" if !known.types.is_empty() => {
                    // a server may have more, which is a warning only
                    let word = json!({ "anyOf": [{ "enum": known.types }, { "type": "string" }] });
                    json!({ "anyOf": [word, { "type": "array", "items": word }] })
                }
                _ => self.takes(&WORDS),
            };
            properties.insert(key.as_str().to_owned(), value);
        }
        json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
    }
}

fn expression() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{\\{(.|[\r\n])*\\}\\}" })
}

/// What a shape's table cannot say: which keys go together.
fn rule(shape: &Shape) -> Option<(&'static str, Value)> {
    let one_of = |keys: &[&str]| keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>();
    match shape.id {
        "job" => Some(("anyOf", json!([{ "required": ["runs-on", "steps"] }, { "required": ["uses"] }]))),
        "step" => Some(("oneOf", one_of(&["run", "uses", "wait", "wait-all", "cancel", "parallel"]).into())),
        "composite-step" => Some(("oneOf", one_of(&["run", "uses"]).into())),
        "service" => Some(("required", json!(["image"]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
