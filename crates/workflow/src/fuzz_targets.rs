//! The bodies of the fuzz targets, as plain functions so that `cargo test` can replay their corpus.
//!
//! Purpose: no input may panic or take unbounded time. Owner: the `fuzz` directory and the tests.

use std::sync::Arc;

use doc::{Diagnostic, Locator, Node, Rendering, Source};

use crate::{
    ContextName, Contexts, Eval, Plan, RefFacts, Resolved, Results, RunState, Site, Surroundings, Value,
    Workflow, WorkflowRef,
    expr::{Host, parse_expr},
    parse, parse_action,
    rules::{self, FileKind, Level, Levels, Repository, ResolvedAction, Rule},
    support,
};
use crate::{
    command::{self, Command, Echo, Form, Reader, Row},
    envfile,
    mask::{Masker, Stream},
    matcher::{self, Matchers},
};

/// A whole workflow: parsed, planned, expanded, every diagnostic rendered.
pub fn workflow(data: &[u8]) {
    let Ok(source) = Source::from_bytes("fuzz.yml", data) else { return };
    judged(&source, FileKind::Workflow);
    let parsed = parse(&source);
    for diagnostic in &parsed.diagnostics {
        let _ = diagnostic.render(Rendering::Plain);
    }
    let Some(workflow) = parsed.workflow else { return };
    for name in ["refs/heads/a/b", "refs/tags/v1.2"] {
        let facts = RefFacts { pushed: Some(name.to_owned()), base: Some(name.to_owned()), activity: None };
        for trigger in &workflow.on {
            for diagnostic in trigger.admits(&facts).to_diagnostics(&workflow.source) {
                let _ = diagnostic.render(Rendering::Plain);
            }
        }
    }
    let workflow = Arc::new(workflow);
    calls(&source, &workflow);
    let Ok(plan) = Plan::new(workflow) else { return };
    for diagnostic in support::check(&plan) {
        let _ = diagnostic.render(Rendering::Plain);
    }
    let (results, contexts) = (Results::new(), Contexts::new());
    let around =
        Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
    for job in plan.jobs() {
        match plan.expand(&job.id.value, around) {
            Ok(expansion) => assert!(!expansion.jobs.is_empty(), "an expansion without jobs"),
            Err(faults) => assert!(!faults.is_empty(), "an error without a message"),
        }
        let _ = plan.foresee(&job.id.value, around);
    }
    let _ = plan.prospects(around);
}

/// An action.yml: parsed, every diagnostic rendered.
pub fn action(data: &[u8]) {
    let Ok(source) = Source::from_bytes("fuzz/action.yml", data) else { return };
    judged(&source, FileKind::Action);
    let parsed = parse_action(&source);
    for diagnostic in &parsed.diagnostics {
        let _ = diagnostic.render(Rendering::Plain);
    }
    let faults = parsed.diagnostics.iter().any(Diagnostic::is_error);
    assert_ne!(parsed.action.is_some(), faults, "an action with errors, or none without");
}

/// A repository with one action, under whatever name, that needs an input.
struct Small;

impl Repository for Small {
    fn workflow(&mut self, _: &WorkflowRef) -> Resolved {
        Resolved::Elsewhere
    }

    fn action(&mut self, directory: &str) -> ResolvedAction {
        const TEXT: &str = "name: x\ndescription: x\ninputs: {a: {required: true, description: x}}\n\
                            runs: {using: docker, image: Dockerfile}\n";
        match directory.len() % 2 {
            0 => ResolvedAction::Nothing,
            _ => ResolvedAction::Text(Source::new("action.yml", TEXT)),
        }
    }
}

/// Every rule looks at a file, and what it says can be shown.
fn judged(source: &Source, kind: FileKind) {
    let mut levels = Levels::default();
    Rule::all().for_each(|rule| levels.set(rule, Level::Warn));
    for diagnostic in rules::check(source, kind, "fuzz.yml", &levels, &mut Small) {
        let _ = diagnostic.render(Rendering::Plain);
    }
}

/// Every call leads to the same jobs, made callable.
fn calls(source: &Source, workflow: &Arc<Workflow>) {
    let text = source.text().replacen("on:", "on: [push, workflow_call] #", 1);
    let mut left = 20;
    let mut resolve = |_: &WorkflowRef| {
        left -= 1;
        if left > 0 { Resolved::Text(Source::new("called.yml", text.as_str())) } else { Resolved::Elsewhere }
    };
    match Plan::with_calls(Arc::clone(workflow), &mut resolve) {
        Err(faults) => {
            assert!(faults.iter().any(Diagnostic::is_error), "a refusal without an error");
            for diagnostic in &faults {
                let _ = diagnostic.render(Rendering::Plain);
            }
        }
        Ok((plan, _)) => {
            let (results, contexts) = (Results::new(), Contexts::new());
            let around =
                Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
            for job in plan.jobs() {
                let Ok(expansion) = plan.expand(&job.id.value, around) else { continue };
                for call in expansion.jobs.iter().filter_map(|job| job.call.as_ref()) {
                    let _ = call.result(&results);
                }
            }
        }
    }
}

/// One expression: what is printed parses to what prints the same; evaluation ends.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(expr) = parse_text(text) else { return };
    let printed = expr.to_string();
    let again = parse_text(&printed).map(|expr| expr.to_string());
    assert_eq!(again.ok().as_deref(), Some(printed.as_str()), "printed form does not parse to itself");
    let mut contexts = Contexts::new();
    let event = serde_json::json!({"a": [1, "2", null, {"b": [true]}], "B": {"c": -0.5}});
    contexts.set(ContextName::Github, Value::from_json(&event));
    for _ in 0..8 {
        match expr.eval(&contexts) {
            Ok(Eval::Need(query)) => contexts.answer(query, "0".repeat(64)),
            Ok(Eval::Value(value)) => return drop(value.to_text()),
            Err(error) => return drop(error.to_diagnostic().render(Rendering::Plain)),
        };
    }
}

fn parse_text(text: &str) -> Result<crate::Expr, Vec<Diagnostic>> {
    parse_expr(text, Site::StepIf)
}

/// Text with expressions within a scalar of any style.
pub fn template(data: &[u8]) {
    let Ok(source) = Source::from_bytes("fuzz.yml", data) else { return };
    let Ok(node) = doc::parse_yaml(&source) else { return };
    visit(&source, &node);
}

fn visit(source: &Source, node: &Node) {
    match &node.kind {
        doc::Kind::Scalar(scalar) => {
            let mut faults = Vec::new();
            let Some(host) = Host::of(source, node) else { return };
            let template = crate::Template::parse(host, Site::Step, &mut faults);
            for fault in &faults {
                let _ = fault.render(Rendering::Plain);
            }
            let _ = template.eval(&Contexts::new());
            let _ = Locator::new(source, node.span, scalar).locate(0, scalar.text.len());
        }
        doc::Kind::Seq(items) => items.iter().for_each(|item| visit(source, item)),
        doc::Kind::Map(map) => map.entries.iter().for_each(|entry| visit(source, &entry.value)),
    }
}

/// Rows of a step: what a command is made of is printed as the command that it was.
pub fn commands(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut reader = Reader::new(Echo::On);
    for row in text.split('\n') {
        let Row::Command { command: Command::SetOutput { name, value }, .. } = reader.read(row) else {
            continue;
        };
        for form in [Form::Colons, Form::Brackets] {
            let printed = command::row(form, "set-output", &[("name", &name)], &value);
            let Row::Command { command, .. } = Reader::default().read(&printed) else {
                panic!("a printed command is none");
            };
            let trimmed = name.trim() != name;
            assert!(trimmed || command == Command::SetOutput { name: name.clone(), value: value.clone() });
        }
    }
}

/// A file by which a step speaks: what it says is printed as what it said.
pub fn env_file(data: &[u8]) {
    let _ = envfile::paths(data);
    let Ok(variables) = envfile::variables(data) else { return };
    for (name, value) in variables {
        let _ = envfile::standing(&name);
        if !name.ends_with('<') && !value.ends_with('\r') && value.len() < envfile::MAX_VALUE {
            let printed = envfile::block(&name, &value);
            assert_eq!(envfile::variables(printed.as_bytes()), Ok(vec![(name, value)]));
        }
    }
}

/// A file of matchers, a NUL, and rows for them.
pub fn matchers(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (file, rows) = data.split_at(at);
    let found = match matcher::parse("fuzz.json", file) {
        Ok(found) => found,
        Err(faults) => {
            assert!(!faults.is_empty(), "an error without a message");
            return faults.iter().for_each(|fault| drop(fault.render(Rendering::Plain)));
        }
    };
    let mut matchers = Matchers::new();
    if matchers.add(found).is_ok() {
        for row in String::from_utf8_lossy(rows).split(['\0', '\n']) {
            drop(matchers.read(row).map(|annotation| annotation.text()));
        }
    }
}

/// Values with a NUL behind each, and a text: the same is masked however the text is cut.
pub fn mask(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts: Vec<&str> = text.split('\0').collect();
    let Some(text) = parts.pop() else { return };
    let Ok(masker) = Masker::new(parts.iter().copied()) else { return };
    let whole = masker.mask(text);
    assert_eq!(whole.matches('\n').count(), text.matches('\n').count(), "rows were lost");
    let cut = text.floor_char_boundary(text.len() / 2);
    let (mut stream, mut out) = (Stream::new(), String::new());
    for piece in [&text[..cut], &text[cut..]] {
        stream.push(&masker, piece, &mut out);
    }
    stream.finish(&masker, &mut out);
    assert_eq!(out, whole, "cut at {cut}");
}
