//! A row that looks like a command: its parts and escapes.
//!
//! Purpose: both forms, read and written. Owner: [`super::Reader`]; [`row`] is for who prints commands.
//! Invariant: what [`row`] makes is read as what it was made of.

/// Which of the two ways to write a command; they escape differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `::name key=value,key=value::text`
    Colons,
    /// `##[name key=value;key=value]text`
    Brackets,
}

/// What stands for what: `%25` last, though one pass needs no order.
type Escapes = &'static [(&'static str, char)];

const TEXT: Escapes = &[("%0D", '\r'), ("%0A", '\n'), ("%25", '%')];
const BRACKETS_TEXT: Escapes = &[("%0D", '\r'), ("%0A", '\n'), ("%3B", ';'), ("%5D", ']'), ("%25", '%')];
const PROPERTY: Escapes = &[("%0D", '\r'), ("%0A", '\n'), ("%3A", ':'), ("%2C", ','), ("%25", '%')];
/// GitHub's runner knows the first two beside CR, LF and `%`, Forgejo's the other two: no text has both.
const BRACKETS_PROPERTY: Escapes =
    &[("%0D", '\r'), ("%0A", '\n'), ("%3B", ';'), ("%5D", ']'), ("%3A", ':'), ("%2C", ','), ("%25", '%')];

impl Form {
    const fn separator(self) -> char {
        match self {
            Self::Colons => ',',
            Self::Brackets => ';',
        }
    }

    const fn of_text(self) -> Escapes {
        match self {
            Self::Colons => TEXT,
            Self::Brackets => BRACKETS_TEXT,
        }
    }

    const fn of_properties(self) -> Escapes {
        match self {
            Self::Colons => PROPERTY,
            Self::Brackets => BRACKETS_PROPERTY,
        }
    }
}

/// The parts of a row that looks like a command, still escaped.
pub(super) struct Raw<'a> {
    form: Form,
    /// All between the marks.
    pub(super) inner: &'a str,
    pub(super) name: &'a str,
    properties: &'a str,
    text: &'a str,
}

impl<'a> Raw<'a> {
    pub(super) fn parse(row: &'a str) -> Option<Self> {
        let row = row.trim_start();
        let (form, inner, text) = if let Some(rest) = row.strip_prefix("::") {
            let (inner, text) = rest.split_once("::")?;
            (Form::Colons, inner, text)
        } else {
            let (inner, text) = row.strip_prefix("##[")?.split_once(']')?;
            (Form::Brackets, inner, text)
        };
        let (name, properties) = inner.split_once(' ').unwrap_or((inner, ""));
        if name.is_empty() {
            return None;
        }
        Some(Self { form, inner, name, properties, text })
    }

    pub(super) fn text(&self) -> String {
        unescape(self.text, self.form.of_text())
    }

    /// The last value of a property that is not empty.
    pub(super) fn property(&self, key: &str) -> Option<String> {
        self.properties
            .rsplit(self.form.separator())
            .filter_map(|property| property.split_once('='))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case(key))
            .map(|(_, value)| value.trim())
            .find(|value| !value.is_empty())
            .map(|value| unescape(value, self.form.of_properties()))
    }
}

/// One pass from left to right, so that `%250A` is the text `%0A`.
fn unescape(text: &str, escapes: Escapes) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match escapes.iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, plain)) => {
                out.push(*plain);
                rest = &rest[escape.len()..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The row that is this command. Names of commands and properties are words.
#[must_use]
pub fn row(form: Form, name: &str, properties: &[(&str, &str)], text: &str) -> String {
    let (open, close) = match form {
        Form::Colons => ("::", "::"),
        Form::Brackets => ("##[", "]"),
    };
    let mut out = format!("{open}{name}");
    for (index, (key, value)) in properties.iter().enumerate() {
        out.push(if index == 0 { ' ' } else { form.separator() });
        out.push_str(key);
        out.push('=');
        escape(value, form.of_properties(), &mut out);
    }
    out.push_str(close);
    escape(text, form.of_text(), &mut out);
    out
}

fn escape(text: &str, escapes: Escapes, out: &mut String) {
    for c in text.chars() {
        match escapes.iter().find(|(_, plain)| *plain == c) {
            Some((escape, _)) => out.push_str(escape),
            None => out.push(c),
        }
    }
}
