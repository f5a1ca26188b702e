//! TOML into the tree.
//!
//! Purpose: configuration and recipes get the same spans and diagnostics as workflows. Owner:
//! [`parse_toml`]'s call. Invariant: as for YAML; TOML has no aliases, so the file's size is the budget.

use toml_edit::{Document, Item, TableLike, Value};

use crate::{Diagnostic, Entry, Error, Kind, Limits, Map, Node, Scalar, Source, Span, Spanned, Style, Typed};

/// Parses a TOML document into a map.
///
/// # Errors
/// The first fault of the syntax, or a limit that was passed.
pub fn parse_toml(source: &Source) -> Result<Node, Error> {
    let limits = Limits::default();
    limits.check_bytes(source.name(), source.text().len())?;
    let document = Document::parse(source.text()).map_err(|error| {
        let span = error.span().map_or_else(Span::default, |span| Span::new(span.start, span.end));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        Diagnostic::error(format!("this is not TOML: {message}"))
            .at(source, span)
            .label("the parser stopped here")
    })?;
    let whole = Span::new(0, source.text().len());
    let mut kind = table(source, document.as_table(), whole, limits.depth)?;
    if let Kind::Map(map) = &mut kind {
        map.entries.sort_by_key(|entry| entry.key.span.start);
    }
    Ok(Node { span: whole, kind })
}

fn table(source: &Source, table: &dyn TableLike, whole: Span, depth: usize) -> Result<Kind, Error> {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let key = table.key(name).and_then(toml_edit::Key::span).map_or(whole, from_range);
        entries
            .push(Entry { key: Spanned::new(name.to_owned(), key), value: node(source, item, key, depth)? });
    }
    Ok(Kind::Map(Map { entries }))
}

fn node(source: &Source, item: &Item, near: Span, depth: usize) -> Result<Node, Error> {
    let span = item.span().map_or(near, from_range);
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Diagnostic::error("the document is too deep").at(source, span).label("here").into());
    };
    let kind = match item {
        Item::Table(inner) => table(source, inner, span, depth)?,
        Item::Value(Value::InlineTable(inner)) => table(source, inner, span, depth)?,
        Item::ArrayOfTables(tables) => {
            let mut items = Vec::new();
            for inner in tables.iter() {
                let span = inner.span().map_or(span, from_range);
                items.push(Node { span, kind: table(source, inner, span, depth)? });
            }
            Kind::Seq(items)
        }
        Item::Value(Value::Array(values)) => {
            let mut items = Vec::new();
            for value in values.iter() {
                items.push(node(source, &Item::Value(value.clone()), span, depth)?);
            }
            Kind::Seq(items)
        }
        Item::Value(value) => Kind::Scalar(scalar(source.slice(span), value)),
        Item::None => Kind::Scalar(Scalar { text: String::new(), style: Style::Plain, typed: Typed::Null }),
    };
    Ok(Node { span, kind })
}

fn scalar(raw: &str, value: &Value) -> Scalar {
    let quoted = if raw.starts_with('\'') { Style::SingleQuoted } else { Style::DoubleQuoted };
    match value {
        Value::String(text) => Scalar { text: text.value().clone(), style: quoted, typed: Typed::Text },
        #[expect(clippy::cast_precision_loss, reason = "the text keeps the digits")]
        Value::Integer(number) => plain(raw, Typed::Number(*number.value() as f64)),
        Value::Float(number) => plain(raw, Typed::Number(*number.value())),
        Value::Boolean(value) => plain(raw, Typed::Bool(*value.value())),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => plain(raw, Typed::Text),
    }
}

fn plain(raw: &str, typed: Typed) -> Scalar {
    Scalar { text: raw.to_owned(), style: Style::Plain, typed }
}

fn from_range(range: std::ops::Range<usize>) -> Span {
    Span::new(range.start, range.end)
}
