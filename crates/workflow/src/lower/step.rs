//! One step.
//!
//! Purpose: `run` steps and `uses` steps. Owner: the lowering.
//! Invariant: a step does exactly one thing, and has no key of the other form.

use doc::{Map, Node};

use super::{Dots, Lower, meant::misspelled};
use crate::{
    BadUses, Site, Step, StepAction, Template, Uses,
    expr::Host,
    rules::Rule,
    shape::{Shape, action::COMPOSITE_STEP, job::STEP},
};

/// Whose steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A job's.
    Job,
    /// A composite action's.
    Action,
}

impl Place {
    fn shape(self) -> &'static Shape {
        match self {
            Place::Job => &STEP,
            Place::Action => &COMPOSITE_STEP,
        }
    }

    fn site(self) -> Site {
        match self {
            Place::Job => Site::Step,
            Place::Action => Site::ActionStep,
        }
    }

    fn condition(self) -> Site {
        match self {
            Place::Job => Site::StepIf,
            Place::Action => Site::ActionStepIf,
        }
    }
}

/// What a step can be, each by the key that makes it so.
const ACTIONS: [&str; 6] = ["run", "uses", "wait", "wait-all", "cancel", "parallel"];

impl Lower<'_> {
    pub(super) fn step(&mut self, node: &Node, place: Place) -> Option<Step> {
        if node.is_null() {
            self.fault("a step is empty", node.span, "a step needs `run` or `uses`");
            return None;
        }
        let map = self.map(node, "a step")?;
        self.keys(map, place.shape());
        let site = place.site();
        map.get("name").into_iter().chain(map.get("run")).for_each(|node| self.cut(node));
        let id = map.get("id").and_then(|node| self.names(|lower| lower.text(node, "`id`")));
        if let Some(id) = &id {
            self.own_id(id, Dots::Refused);
        }
        let action = self.action(node, map, place);
        Some(Step {
            id,
            name: map.get("name").and_then(|node| self.template(node, site, "`name`")),
            condition: map.get("if").map(|node| self.condition(node, place.condition())).unwrap_or_default(),
            env: self.env(map, site),
            timeout_minutes: map
                .get("timeout-minutes")
                .and_then(|node| self.minutes(node, site, "`timeout-minutes`")),
            continue_on_error: map
                .get("continue-on-error")
                .and_then(|node| self.boolean(node, site, "`continue-on-error`")),
            background: self.switch(map, "background"),
            span: node.span,
            action: action?,
        })
    }

    fn action(&mut self, node: &Node, map: &Map, place: Place) -> Option<StepAction> {
        let mut found = map.entries.iter().filter(|entry| ACTIONS.contains(&entry.key.value.as_str()));
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let (first, second) = (&first.key, &second.key);
            let fault = self
                .error(format!("a step has both `{}` and `{}`", first.value, second.value), second.span)
                .label(format!("not together with `{}`", first.value))
                .also(self.source, first.span, format!("`{}` is here", first.value))
                .help("make two steps of it");
            self.faults.push(fault);
            return None;
        }
        let Some(entry) = first else {
            if ["run", "uses"].iter().any(|key| misspelled(map, place.shape(), key)) {
                return None;
            }
            let first = map.entries.first().map_or(node.span, |entry| entry.key.span);
            self.fault("a step does nothing", first, "this step needs `run` or `uses`");
            return None;
        };
        if entry.key.value != "uses" {
            self.refuse(map, &["with"], "uses");
        }
        if entry.key.value != "run" {
            self.refuse(map, &["shell", "working-directory"], "run");
        }
        let key = entry.key.span;
        match entry.key.value.as_str() {
            "run" => self.script(&entry.value, key, map, place),
            "uses" => self.uses(&entry.value, key, map, place),
            "wait" => match entry.value.seq() {
                Some(items) => Some(StepAction::Wait(
                    items.iter().filter_map(|item| self.word(item, "an entry of `wait`", key)).collect(),
                )),
                None => Some(StepAction::Wait(vec![self.word(&entry.value, "`wait`", key)?])),
            },
            "wait-all" => (entry.value.is_null() || self.flag(&entry.value, "`wait-all`"))
                .then_some(StepAction::WaitAll),
            "cancel" => self.word(&entry.value, "`cancel`", key).map(StepAction::Cancel),
            _ => {
                let items = self.list(&entry.value, "`parallel`", "begin each step with `- `");
                Some(StepAction::Parallel(self.steps_in(items, place)))
            }
        }
    }

    fn script(&mut self, run: &Node, key: doc::Span, map: &Map, place: Place) -> Option<StepAction> {
        if run.is_null() {
            self.fault("`run` is empty", key, "expected a script");
            return None;
        }
        if place == Place::Action && map.get("shell").is_none_or(Node::is_null) {
            let warning = Rule::MissingShell
                .warning("`shell` is missing")
                .at(self.source, key)
                .label("GitHub refuses a step of an action without it")
                .note("Forgejo takes bash")
                .help("add `shell: bash`");
            self.faults.push(warning);
        }
        let site = place.site();
        Some(StepAction::Run {
            script: self.template(run, site, "`run`")?,
            shell: map.get("shell").and_then(|node| self.template(node, site, "`shell`")),
            working_directory: map
                .get("working-directory")
                .and_then(|node| self.template(node, site, "`working-directory`")),
        })
    }

    fn uses(&mut self, uses: &Node, key: doc::Span, map: &Map, place: Place) -> Option<StepAction> {
        let with = self.variables_of(map, "with", place.site());
        if uses.is_null() {
            self.fault("`uses` is empty", key, "expected an action");
        }
        let text = self.text(uses, "`uses`")?;
        if text.value.contains("${{") {
            let host = Host::of(self.source, uses)?;
            let uses = Template::parse(host, place.site(), &mut self.faults);
            return Some(StepAction::Computed { uses, with });
        }
        if text.value.starts_with("$/") {
            self.warn(
                Rule::GithubOnly,
                "only GitHub knows `$/`",
                text.span,
                "Forgejo finds no action of this name",
            );
        }
        match Uses::parse(&text.value) {
            Ok(parsed) => Some(StepAction::Uses { uses: doc::Spanned::new(parsed, text.span), with }),
            Err(error) => {
                let what = match error {
                    BadUses::NoImage | BadUses::NoSlashes => "this image",
                    BadUses::WorkflowInStep => "this workflow",
                    _ => "this action",
                };
                let fault =
                    self.error(error.to_string(), text.span).label(what).help(error.instead(&text.value));
                self.faults.push(fault);
                None
            }
        }
    }

    /// Keys that belong to the other form of a step.
    fn refuse(&mut self, map: &Map, keys: &[&str], form: &str) {
        for entry in map.entries.iter().filter(|entry| keys.contains(&entry.key.value.as_str())) {
            self.fault(
                format!("`{}` belongs to a step with `{form}`", entry.key.value),
                entry.key.span,
                format!("this step has no `{form}`"),
            );
        }
    }
}
