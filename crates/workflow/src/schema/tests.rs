//! The table of keys against the lowering: every row parses.

use std::path::Path;

use doc::{Diagnostic, Source};

use super::*;
use crate::{parse_action, parse_only};

/// Values that a key takes, at least one for every form; `name` chooses text that is good there.
fn samples(name: &str, takes: &'static Takes) -> Vec<Value> {
    match takes {
        Takes::Text | Takes::Word => vec![text(name)],
        Takes::Flag => vec![true.into()],
        Takes::Bool => vec![false.into(), "${{ github.x == 1 }}".into()],
        Takes::Number => vec![2.into(), "2".into(), "${{ fromJSON('2') }}".into()],
        Takes::If => vec!["always()".into(), true.into()],
        Takes::Expr => vec!["${{ fromJSON('{}') }}".into()],
        Takes::OneOf(words) => words.iter().map(|word| (*word).into()).collect(),
        Takes::Map(shape) => documents(shape),
        Takes::Names(takes) => {
            samples(name, takes).into_iter().map(|value| json!({ "some_name": value })).collect()
        }
        Takes::List(takes) => samples(name, takes).into_iter().map(|value| json!([value])).collect(),
        Takes::Any(all) => all.iter().flat_map(|takes| samples(name, takes)).collect(),
        Takes::Nothing => vec![Value::Null],
        Takes::Data => vec![1.into(), "x".into(), json!({ "a": [1] })],
        Takes::Events => {
            let all = FORGEJO.iter().chain(&GITHUB);
            let mut found: Vec<Value> = vec!["push".into(), json!(["push", "issues"])];
            for event in all {
                found.extend(
                    match *event {
                        "schedule" => documents(&SCHEDULE).into_iter().map(|time| json!([time])).collect(),
                        "workflow_dispatch" => documents(&DISPATCH),
                        "workflow_call" => documents(&CALL),
                        _ => vec![Value::Null],
                    }
                    .into_iter()
                    .map(|value| json!({ *event: value })),
                );
            }
            found
        }
    }
}

fn text(name: &str) -> Value {
    match name {
        "uses" => "o/r/dir/file.yml@v1",
        "steps-uses" => "o/r@v1",
        "cron" => "@daily",
        "default" => "true",
        _ => "words",
    }
    .into()
}

/// What a document of a shape has besides the key that is tried.
fn base(shape: &Shape, key: &str) -> Map<String, Value> {
    let value = match (shape.id, key) {
        ("job", "uses" | "with" | "secrets") => json!({ "uses": "./a.yml" }),
        ("job", _) => json!({ "runs-on": "x", "steps": [{ "run": "x" }] }),
        ("step" | "composite-step", "run" | "uses" | "wait" | "wait-all" | "cancel" | "parallel") => {
            json!({})
        }
        ("step", "with") => json!({ "uses": "o/r@v1" }),
        ("composite-step", "with") => json!({ "uses": "o/r@v1" }),
        ("step", _) => json!({ "run": "x" }),
        ("composite-step", _) => json!({ "run": "x", "shell": "sh" }),
        ("workflow", _) => {
            json!({ "on": "push", "jobs": { "a": { "runs-on": "x", "steps": [{ "run": "x" }] } } })
        }
        ("action", _) => json!({ "runs": { "using": "docker", "image": "Dockerfile" } }),
        ("composite", _) => json!({ "using": "composite", "steps": [{ "uses": "o/r@v1" }] }),
        ("docker", _) => {
            json!({ "using": "docker", "image": "Dockerfile", "pre-entrypoint": "x", "post-entrypoint": "x" })
        }
        ("script", _) => json!({ "using": "node20", "main": "x", "pre": "x", "post": "x" }),
        ("credentials", _) => json!({ "username": "x", "password": "x" }),
        ("environment", _) => json!({ "name": "x" }),
        ("snapshot", _) => json!({ "image-name": "x" }),
        ("container" | "service", _) => json!({ "image": "x" }),
        ("concurrency", _) => json!({ "group": "x" }),
        ("runs-on", _) => json!({ "labels": "x" }),
        ("matrix", _) => json!({ "v": [1] }),
        ("schedule", _) => json!({ "cron": "@daily" }),
        ("call-input", "default") => json!({ "type": "boolean" }),
        ("call-input", _) => json!({ "type": "string" }),
        ("call-output", _) => json!({ "value": "x" }),
        ("dispatch-input", "type") => json!({ "options": ["true"] }),
        ("dispatch-input", _) => json!({ "type": "choice", "options": ["true"] }),
        _ => json!({}),
    };
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// Documents of a shape: for each key and each form of its value one.
fn documents(shape: &'static Shape) -> Vec<Value> {
    let mut found = Vec::new();
    for key in shape.keys.iter().filter(|key| key.reader != Reader::Server) {
        let values = match (shape.id, key.name) {
            ("step" | "composite-step", "uses") => vec![text("steps-uses")],
            // a step in a step in a step
            ("step", "parallel") => vec![json!([{ "run": "x" }])],
            ("dispatch-input", "options") => vec![json!(["x"])],
            _ => samples(key.name, &key.takes),
        };
        for value in values {
            let mut map = base(shape, key.name);
            map.insert(key.name.to_owned(), value);
            if shape.id == "composite-step" && key.name == "run" {
                map.insert("shell".to_owned(), "sh".into());
            }
            found.push(Value::Object(map));
        }
    }
    found
}

fn faults(found: Vec<Diagnostic>, document: &Value) -> Vec<String> {
    found.iter().filter(|fault| fault.is_error()).map(|fault| format!("{fault}\n  in {document}")).collect()
}

#[test]
fn every_row_parses() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for document in documents(&WORKFLOW) {
        tried += 1;
        let parsed = parse_only(&Source::new("row", document.to_string()));
        wrong.extend(faults(parsed.diagnostics, &document));
    }
    for document in documents(&ACTION) {
        tried += 1;
        let parsed = parse_action(&Source::new("row", document.to_string()));
        wrong.extend(faults(parsed.diagnostics, &document));
    }
    assert!(tried > 250, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the table does not have is refused where it is refused, whatever stands there.
#[test]
fn other_keys_are_refused() {
    for shape in [&WORKFLOW, &crate::shape::job::JOB, &crate::shape::job::STEP] {
        for mut document in documents(shape).into_iter().take(3) {
            document["no-such-key"] = 1.into();
            let document = match shape.id {
                "job" => json!({ "on": "push", "jobs": { "a": document } }),
                "step" => json!({ "on": "push", "jobs": { "a": { "runs-on": "x", "steps": [document] } } }),
                _ => document,
            };
            let parsed = parse_only(&Source::new("row", document.to_string()));
            let found = faults(parsed.diagnostics, &document);
            assert!(found.iter().any(|fault| fault.contains("no key `no-such-key`")), "{document}");
        }
    }
}

/// The files that are checked in.
#[test]
fn the_files_are_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for (name, schema) in [("workflow.json", workflow()), ("action.json", action())] {
        let current = format!("{schema:#}\n");
        if std::env::var_os("AMPOULE_WRITE_SCHEMAS").is_some() {
            std::fs::write(dir.join(name), &current).expect("written");
        }
        let file = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        assert!(file == current, "schemas/{name} is old: run `cargo xtask schema`");
    }
}
