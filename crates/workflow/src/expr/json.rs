//! JSON to values and back.
//!
//! Purpose: `fromJSON` and `toJSON`, each in one pass over the text. Owner: `function`.
//! Invariants: depth, number of values and size are capped while the text is read or made, not after; a
//! fault never quotes the text, which may be a secret.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::function::Fault;
use crate::{Object, Value, value::number_text};

/// Deepest nesting of JSON; serde_json would end at 128 by itself, without saying so in our words.
pub(super) const MAX_DEPTH: usize = 100;

/// Most values in one JSON text: at some tens of bytes each they are what a bomb is made of.
pub(super) const MAX_VALUES: usize = 1_000_000;

/// Text as a value.
pub(super) fn read(text: &str, kind: &'static str) -> Result<Value, Fault> {
    let reader = Reader { values: Cell::new(0), limit: Cell::new(None) };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = At { reader: &reader, depth: 0 }.deserialize(&mut json).and_then(|value| {
        json.end()?;
        Ok(value)
    });
    read.map_err(|error| {
        reader.limit.take().unwrap_or(Fault::NotJson { kind, line: error.line(), column: error.column() })
    })
}

struct Reader {
    values: Cell<usize>,
    /// The limit that ended it.
    limit: Cell<Option<Fault>>,
}

#[derive(Clone, Copy)]
struct At<'a> {
    reader: &'a Reader,
    depth: usize,
}

impl At<'_> {
    fn within<E: serde::de::Error>(self) -> Result<Self, E> {
        let reader = self.reader;
        reader.values.set(reader.values.get() + 1);
        let fault = if self.depth > MAX_DEPTH {
            Fault::JsonTooDeep { limit: MAX_DEPTH }
        } else if reader.values.get() > MAX_VALUES {
            Fault::JsonTooMany { limit: MAX_VALUES }
        } else {
            return Ok(self);
        };
        reader.limit.set(Some(fault));
        Err(E::custom("a limit"))
    }

    fn deeper(self) -> Self {
        At { depth: self.depth + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self.within()?)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "numbers of the language are such")]
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "numbers of the language are such")]
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper())? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(name) = entries.next_key::<String>()? {
            object.insert(name, entries.next_value_seed(self.deeper())?);
        }
        Ok(object.into())
    }
}

/// A value as JSON with two spaces of indentation, as GitHub's; none when it would pass `limit` bytes.
/// Numbers are as [`number_text`] has them; what JSON cannot say (NaN, infinity) is null.
pub(super) fn write(value: &Value, limit: usize) -> Option<String> {
    let mut out = String::new();
    print(value, 0, limit, &mut out).then_some(out)
}

/// Whether all of it is there.
fn print(value: &Value, depth: usize, limit: usize, out: &mut String) -> bool {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) if number.is_finite() => out.push_str(&number_text(*number)),
        Value::Number(_) => out.push_str("null"),
        Value::String(text) => quote(text, out),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(object) if object.is_empty() => out.push_str("{}"),
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                out.push_str(if nth == 0 { "[" } else { "," });
                line(depth + 1, out);
                if !print(item, depth + 1, limit, out) {
                    return false;
                }
            }
            line(depth, out);
            out.push(']');
        }
        Value::Object(object) => {
            for (nth, (name, item)) in object.iter().enumerate() {
                out.push_str(if nth == 0 { "{" } else { "," });
                line(depth + 1, out);
                quote(name, out);
                out.push_str(": ");
                if !print(item, depth + 1, limit, out) {
                    return false;
                }
            }
            line(depth, out);
            out.push('}');
        }
    }
    out.len() <= limit
}

fn line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // what GitHub escapes beyond what JSON has to
            c if c < ' ' || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
