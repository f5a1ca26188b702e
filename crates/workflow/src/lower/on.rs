//! `on`: what starts a workflow.
//!
//! Purpose: the three forms (a word, a list, a map) and inputs, typed; filters are read next door.
//! Owner: the lowering. Invariant: an input's default is of the input's type.

use doc::{Kind, Node, Spanned, Typed, did_you_mean};

use super::{Dots, Lower, filters::SCHEDULE};
use crate::{Filters, Input, InputKind, Trigger, inputs};

/// All events of GitHub, Gitea and Forgejo.
const EVENTS: [&str; 45] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request",
    "pull_request_approved",
    "pull_request_assign",
    "pull_request_comment",
    "pull_request_label",
    "pull_request_milestone",
    "pull_request_rejected",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_request",
    "pull_request_sync",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
    "action_run_failure",
];

const MORE_EVENTS: [&str; 4] = ["action_run_recover", "action_run_success", "repository", "wiki"];

impl Lower<'_> {
    pub(super) fn triggers(&mut self, node: &Node) -> Vec<Trigger> {
        let triggers = match &node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => {
                vec![plain(Spanned::new(scalar.text.clone(), node.span))]
            }
            Kind::Scalar(_) => Vec::new(),
            Kind::Seq(items) => {
                items.iter().filter_map(|item| self.text(item, "an event").map(plain)).collect()
            }
            Kind::Map(map) => {
                let trigger = |entry: &doc::Entry| self.trigger(&entry.key, &entry.value);
                map.entries.iter().map(trigger).collect()
            }
        };
        if triggers.is_empty() {
            self.fault("`on` names no event", node.span, "expected an event, such as `push`");
        }
        for trigger in &triggers {
            self.event(&trigger.event);
        }
        if let Kind::Scalar(_) | Kind::Seq(_) = node.kind {
            for trigger in triggers.iter().filter(|trigger| trigger.event.value == SCHEDULE) {
                self.no_times(trigger.event.span);
            }
        }
        triggers
    }

    fn event(&mut self, event: &Spanned<String>) {
        let all = || EVENTS.iter().chain(&MORE_EVENTS).copied();
        if all().any(|known| known == event.value) {
            return;
        }
        let fault =
            self.error(format!("there is no event `{}`", event.value), event.span).label("unknown event");
        self.faults.push(match did_you_mean(&event.value, all()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault.help("common events are push, pull_request, schedule and workflow_dispatch"),
        });
    }

    fn trigger(&mut self, event: &Spanned<String>, node: &Node) -> Trigger {
        let mut trigger = plain(event.clone());
        if node.is_null() {
            if event.value == SCHEDULE {
                self.no_times(event.span);
            }
            return trigger;
        }
        if !matches!(event.value.as_str(), "workflow_dispatch" | "workflow_call") {
            trigger.filters = self.filters(event, node);
            return trigger;
        }
        let Some(map) = self.map(node, &format!("`{}`", event.value)) else { return trigger };
        let known: &[&str] = match event.value.as_str() {
            "workflow_call" => &["inputs", "outputs", "secrets"],
            _ => &["inputs"],
        };
        self.keys(map, &format!("`{}`", event.value), known);
        let Some(inputs) = map.get("inputs").filter(|inputs| !inputs.is_null()) else { return trigger };
        let Some(inputs) = self.map(inputs, "`inputs`") else { return trigger };
        trigger.inputs =
            inputs.entries.iter().filter_map(|entry| self.input(&entry.key, &entry.value)).collect();
        trigger
    }

    fn input(&mut self, name: &Spanned<String>, node: &Node) -> Option<Input> {
        let mut input = Input {
            name: name.clone(),
            description: String::new(),
            kind: InputKind::Text,
            required: false,
            default: None,
        };
        self.id(name, Dots::Refused);
        if node.is_null() {
            return Some(input);
        }
        let map = self.map(node, "an input")?;
        let known = ["description", "type", "required", "default", "options", "deprecationMessage"];
        self.keys(map, "an input", &known);
        if let Some(text) = map.get("description").and_then(|node| self.text(node, "`description`")) {
            input.description = text.value;
        }
        input.required = map.get("required").is_some_and(|node| self.flag(node, "`required`"));
        let options = map.get("options").map(|node| self.options(node));
        input.kind = match map.get("type").and_then(|node| self.text(node, "`type`")) {
            None => InputKind::Text,
            Some(kind) => match kind.value.as_str() {
                "string" | "environment" => InputKind::Text,
                "boolean" => InputKind::Boolean,
                "number" => InputKind::Number,
                "choice" => {
                    if options.as_ref().is_none_or(Vec::is_empty) {
                        self.fault(
                            "a choice needs `options`",
                            kind.span,
                            "the values that there are to choose from",
                        );
                    }
                    InputKind::Choice(options.unwrap_or_default())
                }
                other => {
                    let fault = self
                        .error(format!("there is no type `{other}` of inputs"), kind.span)
                        .label("expected string, boolean, number, choice or environment");
                    let types = ["string", "boolean", "number", "choice", "environment"];
                    self.faults.push(match did_you_mean(other, types) {
                        Some(near) => fault.help(format!("did you mean `{near}`?")),
                        None => fault,
                    });
                    InputKind::Text
                }
            },
        };
        let default = map.get("default").filter(|node| !node.is_null());
        if let Some(node) = default
            && let Some(text) = self.text(node, "`default`")
        {
            // What the server sends of a called workflow keeps its expressions.
            match inputs::typed(&input.kind, &text.value) {
                Ok(value) => input.default = Some(value),
                Err(wanted) => self.fault(
                    format!("the default of `{}` is not of its type", name.value),
                    node.span,
                    format!("expected {wanted}"),
                ),
            }
        }
        Some(input)
    }

    fn options(&mut self, node: &Node) -> Vec<String> {
        match node.seq() {
            Some(items) => {
                items.iter().filter_map(|item| self.text(item, "an option")).map(|text| text.value).collect()
            }
            None => {
                self.fault("`options` is a list", node.span, format!("this is {}", node.describe()));
                Vec::new()
            }
        }
    }

    /// A boolean that takes no expression.
    fn flag(&mut self, node: &Node, what: &str) -> bool {
        match node.scalar().map(|scalar| scalar.typed) {
            Some(Typed::Bool(value)) => value,
            Some(Typed::Null) => false,
            Some(Typed::Text) if matches!(node_text(node), "true" | "false") => node_text(node) == "true",
            _ => {
                self.fault(format!("{what} is `true` or `false`"), node.span, "expected `true` or `false`");
                false
            }
        }
    }
}

fn node_text(node: &Node) -> &str {
    node.scalar().map_or("", |scalar| scalar.text.as_str())
}

fn plain(event: Spanned<String>) -> Trigger {
    Trigger { event, filters: Filters::default(), inputs: Vec::new() }
}
