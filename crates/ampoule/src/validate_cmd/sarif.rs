//! The report as SARIF 2.1.0 (OASIS), which code hosts and editors read.
//!
//! Owner: [`super::run`]. Invariants: every rule is in there with its level, also one that found nothing; errors without
//! a rule have no `ruleId`; columns count characters, which `columnKind` says.

use doc::{Diagnostic, Label};
use serde_json::{Map, Value as Json, json};
use workflow::rules::{About, Level, Levels, Rule};

use super::Report;

/// `docs` is where the book is, if that is known.
pub(super) fn sarif(report: &Report, levels: &Levels, docs: &str) -> Json {
    let rules: Vec<Json> = Rule::all().map(|of| rule(of, levels, docs)).collect();
    let mut driver = json!({"name": "ampoule", "version": env!("CARGO_PKG_VERSION")});
    if !docs.is_empty() {
        driver["informationUri"] = docs.into();
    }
    driver["rules"] = rules.into();
    let unreadable = report
        .unreadable
        .iter()
        .map(|of| json!({"level": "error", "message": {"text": format!("{}: {}", of.path, of.why)}}));
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            "invocations": [{
                "executionSuccessful": report.unreadable.is_empty(),
                "toolExecutionNotifications": unreadable.collect::<Vec<_>>(),
            }],
            "columnKind": "unicodeCodePoints",
            "results": report.found.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule(rule: Rule, levels: &Levels, docs: &str) -> Json {
    let About { name, finds, costs, wrong, right, .. } = rule.about();
    let level = match levels.of(rule) {
        Level::Off => "none",
        Level::Warn => "warning",
        Level::Error => "error",
    };
    let markdown =
        format!("{costs}\n\nWrong:\n\n```yaml\n{}```\n\nRight:\n\n```yaml\n{}```\n", wrong.text, right.text);
    let text = format!("{costs}\n\nWrong:\n\n{}\nRight:\n\n{}", wrong.text, right.text);
    let mut object = json!({
        "id": name,
        "shortDescription": {"text": finds},
        "fullDescription": {"text": costs},
        "help": {"text": text, "markdown": markdown},
        "defaultConfiguration": {"enabled": level != "none", "level": level},
    });
    if !docs.is_empty() {
        object["helpUri"] = format!("{}/rules.html#{name}", docs.trim_end_matches('/')).into();
    }
    object
}

fn result(fault: &Diagnostic) -> Json {
    let mut object = Map::new();
    if let Some(rule) = fault.rule.and_then(|name| Rule::parse(name).ok()) {
        object.insert("ruleId".to_owned(), rule.name().into());
        object.insert("ruleIndex".to_owned(), (rule as usize).into());
    }
    object.insert("level".to_owned(), if fault.is_error() { "error" } else { "warning" }.into());
    object.insert("message".to_owned(), json!({"text": message(fault)}));
    // the label is in the message
    let locations: Vec<Json> = fault.primary.iter().map(place).collect();
    object.insert("locations".to_owned(), locations.into());
    if !fault.others.is_empty() {
        let related: Vec<Json> = fault.others.iter().map(location).collect();
        object.insert("relatedLocations".to_owned(), related.into());
    }
    object.into()
}

/// The message and what stands beside it: one text, as viewers show no more.
fn message(fault: &Diagnostic) -> String {
    let label = fault.primary.as_ref().map(|label| label.text.as_str()).filter(|text| !text.is_empty());
    let mut text = match label {
        Some(label) => format!("{}: {label}", fault.message),
        None => fault.message.clone(),
    };
    for (kind, more) in [("note", &fault.notes), ("help", &fault.help)] {
        more.iter().for_each(|more| text.push_str(&format!("\n{kind}: {more}")));
    }
    text
}

fn location(label: &Label) -> Json {
    let mut object = place(label);
    if !label.text.is_empty() {
        object["message"] = json!({"text": label.text});
    }
    object
}

fn place(label: &Label) -> Json {
    let (line, column) = label.source.line_column(label.span.start);
    let (end_line, end_column) = label.source.line_column(label.span.end);
    json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri(label.source.name())},
            "region": {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column},
        },
    })
}

/// A path as a URI: relative where the path is.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = if path.starts_with('/') { String::from("file://") } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(char::from(byte))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
