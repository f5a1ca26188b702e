//! One step.
//!
//! Purpose: `run` steps and `uses` steps. Owner: the lowering.
//! Invariant: a step does exactly one thing, and has no key of the other form.

use doc::{Map, Node};

use super::{Dots, Lower};
use crate::{BadUses, Site, Step, StepAction, Uses};

const STEP_KEYS: [&str; 11] = [
    "id",
    "name",
    "if",
    "run",
    "uses",
    "with",
    "env",
    "shell",
    "working-directory",
    "timeout-minutes",
    "continue-on-error",
];

impl Lower<'_> {
    pub(super) fn step(&mut self, node: &Node) -> Option<Step> {
        if node.is_null() {
            self.fault("a step is empty", node.span, "a step needs `run` or `uses`");
            return None;
        }
        let map = self.map(node, "a step")?;
        self.keys(map, "a step", &STEP_KEYS);
        let id = map.get("id").and_then(|node| self.text(node, "`id`"));
        if let Some(id) = &id {
            self.id(id, Dots::Refused);
        }
        let action = self.action(node, map);
        Some(Step {
            id,
            name: map.get("name").and_then(|node| self.template(node, Site::Step, "`name`")),
            condition: map.get("if").map(|node| self.condition(node, Site::StepIf)).unwrap_or_default(),
            env: map.get("env").map(|node| self.variables(node, Site::Step, "`env`")).unwrap_or_default(),
            timeout_minutes: map.get("timeout-minutes").and_then(|node| self.minutes(node, Site::Step)),
            continue_on_error: map
                .get("continue-on-error")
                .and_then(|node| self.boolean(node, Site::Step, "`continue-on-error`")),
            span: node.span,
            action: action?,
        })
    }

    fn action(&mut self, node: &Node, map: &Map) -> Option<StepAction> {
        match (map.entry("run"), map.entry("uses")) {
            (Some(run), Some(uses)) => {
                let fault = self
                    .error("a step has both `run` and `uses`", uses.key.span)
                    .label("not together with `run`")
                    .also(self.source, run.key.span, "`run` is here")
                    .help("make two steps of it");
                self.faults.push(fault);
                None
            }
            (None, None) => {
                let first = map.entries.first().map_or(node.span, |entry| entry.key.span);
                self.fault("a step does nothing", first, "this step needs `run` or `uses`");
                None
            }
            (Some(run), None) => {
                self.refuse(map, &["with"], "uses");
                if run.value.is_null() {
                    self.fault("`run` is empty", run.key.span, "expected a script");
                    return None;
                }
                Some(StepAction::Run {
                    script: self.template(&run.value, Site::Step, "`run`")?,
                    shell: map.get("shell").and_then(|node| self.template(node, Site::Step, "`shell`")),
                    working_directory: map
                        .get("working-directory")
                        .and_then(|node| self.template(node, Site::Step, "`working-directory`")),
                })
            }
            (None, Some(uses)) => {
                self.refuse(map, &["shell", "working-directory"], "run");
                let with = map.get("with").map(|node| self.variables(node, Site::Step, "`with`"));
                if uses.value.is_null() {
                    self.fault("`uses` is empty", uses.key.span, "expected an action");
                }
                let text = self.text(&uses.value, "`uses`")?;
                match Uses::parse(&text.value) {
                    Ok(parsed) => Some(StepAction::Uses {
                        uses: doc::Spanned::new(parsed, text.span),
                        with: with.unwrap_or_default(),
                    }),
                    Err(error) => {
                        let help = match error {
                            BadUses::NoReference => "write `owner/repository@version`",
                            BadUses::NoRepository => {
                                "write `owner/repository@version`, `./path` or `docker://image`"
                            }
                            BadUses::Expression => "write the action's name and version",
                        };
                        let fault = self.error(error.to_string(), text.span).label("this action").help(help);
                        self.faults.push(fault);
                        None
                    }
                }
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
