//! The bodies of the fuzz targets, as plain functions so that `cargo test` can replay their corpus.
//!
//! Purpose: no input may panic or take unbounded memory. Owner: the `fuzz` directory and the tests.

use crate::{Kind, Locator, Node, Rendering, Source, parse_toml, parse_yaml};

/// A YAML document: parsed, every scalar located, every diagnostic rendered.
pub fn yaml(data: &[u8]) {
    document(data, parse_yaml);
}

/// A TOML document, likewise.
pub fn toml(data: &[u8]) {
    document(data, parse_toml);
}

fn document(data: &[u8], parse: fn(&Source) -> Result<Node, crate::Error>) {
    let source = match Source::from_bytes("fuzz", data) {
        Ok(source) => source,
        Err(diagnostic) => {
            let _ = diagnostic.render(Rendering::Coloured);
            return;
        }
    };
    match parse(&source) {
        Ok(node) => walk(&source, &node),
        Err(error) => {
            for diagnostic in &error.diagnostics {
                let _ = diagnostic.render(Rendering::Plain);
                let _ = diagnostic.to_string();
            }
        }
    }
}

fn walk(source: &Source, node: &Node) {
    assert!(source.text().get(node.span.start..node.span.end).is_some(), "a span outside of its source");
    match &node.kind {
        Kind::Scalar(scalar) => {
            let locator = Locator::new(source, node.span, scalar);
            let whole = locator.locate(0, scalar.text.len());
            assert!(source.text().get(whole.start..whole.end).is_some(), "a place outside of its source");
        }
        Kind::Seq(items) => items.iter().for_each(|item| walk(source, item)),
        Kind::Map(map) => map.entries.iter().for_each(|entry| walk(source, &entry.value)),
    }
}
