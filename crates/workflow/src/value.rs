//! What an expression is made of and becomes.
//!
//! Purpose: the values of the expression language with its conversions, as GitHub defines them and
//! Forgejo follows. Owner: contexts and results; cheap to clone (shared inside).
//! Invariants: property names keep their case and compare without it; `Debug` shows kinds and sizes,
//! never text, because any value may hold a secret.

use std::{collections::HashMap, fmt, sync::Arc};

/// A value of the expression language.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing; also what an unknown property is.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// Properties.
    Object(Arc<Object>),
}

/// Properties in their order, found without regard to case.
#[derive(Clone, Default)]
pub struct Object {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Object {
    /// No properties.
    pub fn new() -> Object {
        Object::default()
    }

    /// Sets a property; one of the same name, case aside, is replaced and keeps its place.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.index.get(&fold(&name)) {
            Some(at) => self.entries[*at].1 = value,
            None => {
                self.index.insert(fold(&name), self.entries.len());
                self.entries.push((name, value));
            }
        }
    }

    /// A property by its name, case aside.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.index.get(&fold(name)).map(|at| &self.entries[*at].1)
    }

    /// All properties in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(items: I) -> Object {
        let mut object = Object::new();
        for (name, value) in items {
            object.insert(name, value);
        }
        object
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::String(text.into())
    }

    /// From JSON.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::text(text.as_str()),
            serde_json::Value::Array(items) => items.iter().map(Value::from_json).collect::<Vec<_>>().into(),
            serde_json::Value::Object(entries) => {
                entries.iter().map(|(name, value)| (name, Value::from_json(value))).collect::<Object>().into()
            }
        }
    }

    /// To JSON; whole numbers without a point, what JSON cannot say (NaN, infinity) as null.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => serde_json::from_str(&number_text(*number)).unwrap_or_default(),
            Value::String(text) => text.as_ref().into(),
            Value::Array(items) => items.iter().map(Value::to_json).collect::<Vec<_>>().into(),
            Value::Object(object) => serde_json::Value::Object(
                object.iter().map(|(name, value)| (name.to_owned(), value.to_json())).collect(),
            ),
        }
    }

    /// The value as text: what `${{ }}` inside of text becomes.
    pub fn to_text(&self) -> Arc<str> {
        match self {
            Value::Null => "".into(),
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            Value::Number(number) => number_text(*number).into(),
            Value::String(text) => Arc::clone(text),
            Value::Array(_) => "Array".into(),
            Value::Object(_) => "Object".into(),
        }
    }

    /// The value as a number: nothing and empty text are 0, truth is 1, lists and objects are NaN.
    pub fn to_number(&self) -> f64 {
        match self {
            Value::Null => 0.0,
            Value::Bool(value) => f64::from(u8::from(*value)),
            Value::Number(number) => *number,
            Value::String(text) => parse_number(text),
            Value::Array(_) | Value::Object(_) => f64::NAN,
        }
    }

    /// Whether a condition with this value holds.
    pub fn truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => *number != 0.0 && !number.is_nan(),
            Value::String(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) => true,
        }
    }

    /// Whether it is neither a list nor an object.
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Value::Array(_) | Value::Object(_))
    }

    /// A property by name or, of a list, an item by number; what is not there is nothing.
    pub fn get(&self, name: &str) -> Value {
        match self {
            Value::Object(object) => object.get(name).cloned().unwrap_or_default(),
            Value::Array(items) => item(items, parse_number(name)),
            _ => Value::Null,
        }
    }

    /// The same with a value as the index.
    pub(crate) fn index(&self, index: &Value) -> Value {
        match self {
            Value::Object(object) if index.is_primitive() => {
                object.get(&index.to_text()).cloned().unwrap_or_default()
            }
            Value::Array(items) => item(items, index.to_number()),
            _ => Value::Null,
        }
    }

    /// `==`: text without case, mixed kinds as numbers, lists and objects only with themselves.
    pub fn loosely_equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => equal_fold(a, b),
            (Value::Array(a), Value::Array(b)) => Arc::ptr_eq(a, b),
            (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
            #[expect(clippy::float_cmp, reason = "the language compares numbers exactly")]
            _ => self.to_number() == other.to_number(),
        }
    }

    /// `<`: as [`Value::loosely_equals`] compares.
    pub fn loosely_less(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::String(a), Value::String(b)) => upper(a).lt(upper(b)),
            (Value::Null, Value::Null) => false,
            _ => self.to_number() < other.to_number(),
        }
    }

    /// The kind in a word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

fn item(items: &[Value], index: f64) -> Value {
    if !(0.0..9e15).contains(&index) {
        return Value::Null;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked; GitHub rounds down"
    )]
    let index = index as usize;
    items.get(index).cloned().unwrap_or_default()
}

/// A text with letter case taken out, to be compared.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { upper(text).collect() }
}

/// Letter by letter, as GitHub compares: what would become several letters (`ß`), and the dotless `ı`,
/// stay as they are.
pub(crate) fn upper(text: &str) -> impl DoubleEndedIterator<Item = char> + '_ {
    text.chars().map(|c| {
        if c.is_ascii() {
            return c.to_ascii_uppercase();
        }
        let mut letters = c.to_uppercase();
        match (letters.next(), letters.next()) {
            (Some(letter), None) if c != 'ı' => letter,
            _ => c,
        }
    })
}

/// Whether two texts are the same but for case.
pub(crate) fn equal_fold(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { upper(a).eq(upper(b)) }
}

/// A number as GitHub and Forgejo print it: 15 significant digits, no trailing zeros, an exponent only
/// below 1e-4 and from 1e15 on.
pub fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() };
    }
    if number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 15 digits")]
        return (number as i64).to_string();
    }
    let scientific = format!("{number:.14e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if number < 0.0 { "-" } else { "" };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if !(-4..15).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}E{direction}{:02}", exponent.unsigned_abs());
    }
    let Ok(whole) = usize::try_from(exponent) else {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    };
    if digits.len() <= whole + 1 {
        format!("{sign}{digits}{}", "0".repeat(whole + 1 - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..=whole], &digits[whole + 1..])
    }
}

/// Text as a number: empty is 0, `0x` and `0o` forms, decimals with exponent, else NaN.
pub(crate) fn parse_number(text: &str) -> f64 {
    let text = text.trim();
    match text {
        "" => return 0.0,
        "Infinity" | "+Infinity" => return f64::INFINITY,
        "-Infinity" => return f64::NEG_INFINITY,
        _ => {}
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let good = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            let value = digits.chars().filter_map(|c| c.to_digit(radix));
            let sum = value.fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit));
            return if good { sum } else { f64::NAN };
        }
    }
    // Rust also reads `inf`, `nan` and `infinity`; the language does not.
    if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')) {
        text.parse().unwrap_or(f64::NAN)
    } else {
        f64::NAN
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Bool(_) => f.write_str("Bool"),
            Value::Number(_) => f.write_str("Number"),
            Value::String(text) => write!(f, "String({} bytes)", text.len()),
            Value::Array(items) => write!(f, "Array({} items)", items.len()),
            Value::Object(object) => object.fmt(f),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Object")?;
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Number(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(items))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(Arc::new(object))
    }
}
