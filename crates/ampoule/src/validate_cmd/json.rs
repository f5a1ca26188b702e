//! The report as one JSON object, whose shape the docs describe.
//!
//! Owner: [`super::run`]. Invariant: what is in there stays; a field can be added, and then `version` stays 1.

use doc::{Diagnostic, Label};
use serde_json::{Value as Json, json};

use super::Report;

pub(super) fn json(report: &Report) -> Json {
    let unreadable = report.unreadable.iter().map(|of| json!({"path": of.path, "why": of.why}));
    json!({
        "version": 1,
        "files": report.files,
        "errors": report.errors(),
        "warnings": report.warnings(),
        "diagnostics": report.found.iter().map(diagnostic).collect::<Vec<_>>(),
        "unreadable": unreadable.collect::<Vec<_>>(),
    })
}

fn diagnostic(fault: &Diagnostic) -> Json {
    let mut object = json!({
        "severity": if fault.is_error() { "error" } else { "warning" },
        "rule": fault.rule,
        "message": fault.message,
    });
    extend(&mut object, fault.primary.as_ref().map_or_else(|| json!({"file": null}), place));
    let related = fault.others.iter().map(place).collect::<Vec<_>>();
    extend(&mut object, json!({"help": fault.help, "notes": fault.notes, "related": related}));
    object
}

fn extend(object: &mut Json, more: Json) {
    if let (Json::Object(object), Json::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Lines and columns from 1, columns in characters, the end behind the last one.
fn place(label: &Label) -> Json {
    let (line, column) = label.source.line_column(label.span.start);
    let (end_line, end_column) = label.source.line_column(label.span.end);
    json!({
        "file": label.source.name(),
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "label": label.text,
    })
}
