//! An action.yml.
//!
//! Purpose: actions of all kinds: composite, with a script, docker. Owner: [`parse_action`]'s call.
//! Invariants: an action is given only when there is no error; what other runners read over is a warning.

use doc::{Diagnostic, Entry, Map, Node, Source, Span, Spanned};

use super::{Lower, Lowered, MAX_DIAGNOSTICS, finish, meant::misspelled, step::Place};
use crate::{
    Action, ActionInput, ActionOutput, Branding, Hook, Image, Runs, Site, Using,
    model::MAX_STEPS,
    rules::{self, Rule},
    shape::action::{
        ACTION, ACTION_INPUT, ACTION_OUTPUT, BRANDING, COLOURS, COMPOSITE, DOCKER, RUNS, SCRIPT, USINGS,
    },
};

/// What became of an action.yml.
#[derive(Debug)]
pub struct ParsedAction {
    /// The action; none when there is an error.
    pub action: Option<Action>,
    /// Errors and warnings in the order of the file, at most a hundred and one.
    pub diagnostics: Vec<Diagnostic>,
}

impl ParsedAction {
    /// The action and its warnings, or all errors and warnings.
    ///
    /// # Errors
    /// When the document is no good action.
    pub fn into_result(self) -> Result<(Action, Vec<Diagnostic>), Vec<Diagnostic>> {
        match self.action {
            Some(action) => Ok((action, self.diagnostics)),
            None => Err(self.diagnostics),
        }
    }
}

/// Parses and checks an action.yml.
pub fn parse_action(source: &Source) -> ParsedAction {
    let (root, mut lower) = match Lower::of(source) {
        Ok(begun) => begun,
        Err(diagnostics) => return ParsedAction { action: None, diagnostics },
    };
    let action = lower.an_action(&root);
    let good = !lower.faults.iter().any(Diagnostic::is_error);
    let diagnostics = finish(rules::allowed(source, lower.faults), MAX_DIAGNOSTICS);
    ParsedAction { action: action.filter(|_| good), diagnostics }
}

/// Reads an action for rules.
pub(crate) fn action_for_rules(source: &Source) -> Lowered<Action> {
    let (root, mut lower) = match Lower::of(source) {
        Ok(begun) => begun,
        Err(faults) => return Lowered::none(faults),
    };
    let model = lower.an_action(&root);
    Lowered { whole: model.is_some(), model, faults: lower.faults, lost: lower.lost }
}

impl Lower<'_> {
    fn an_action(&mut self, root: &Node) -> Option<Action> {
        if root.is_null() {
            self.fault("the action is empty", root.span, "an action needs `runs`");
            return None;
        }
        let map = self.map(root, ACTION.what)?;
        self.all_keys(map, &ACTION, Span::new(root.span.start, root.span.start));
        let runs =
            map.entry("runs").filter(|entry| !entry.value.is_null()).and_then(|entry| self.runs(entry));
        let inputs = map.get("inputs").filter(|node| !node.is_null());
        self.lost.inputs |= inputs.is_some_and(|node| node.map().is_none());
        let inputs = inputs.and_then(|node| self.map(node, "`inputs`"));
        let outputs = map.get("outputs").filter(|node| !node.is_null());
        let outputs = outputs.and_then(|node| self.map(node, "`outputs`"));
        let composite = matches!(runs, Some(Runs::Composite { .. }));
        let before = self.faults.len();
        let inputs = self.each(inputs, Lower::action_input);
        self.lost.inputs |= self.has_error(before);
        Some(Action {
            source: self.source.clone(),
            name: map.get("name").and_then(|node| self.text(node, "`name`")),
            description: map.get("description").and_then(|node| self.text(node, "`description`")),
            author: map.get("author").and_then(|node| self.text(node, "`author`")),
            inputs,
            outputs: self.each(outputs, |lower, name, node| lower.action_output(name, node, composite)),
            branding: map.get("branding").and_then(|node| self.branding(node)),
            runs: runs?,
        })
    }

    fn each<T>(
        &mut self,
        map: Option<&Map>,
        mut make: impl FnMut(&mut Self, &Spanned<String>, &Node) -> Option<T>,
    ) -> Vec<T> {
        let entries = map.map(|map| map.entries.as_slice()).unwrap_or_default();
        map.into_iter().for_each(|map| self.by_case(map));
        entries.iter().filter_map(|entry| make(self, &entry.key, &entry.value)).collect()
    }

    fn action_input(&mut self, name: &Spanned<String>, node: &Node) -> Option<ActionInput> {
        let mut input = ActionInput {
            name: name.clone(),
            description: String::new(),
            required: false,
            default: None,
            deprecation: None,
        };
        if node.is_null() {
            return Some(input);
        }
        let map = self.map(node, ACTION_INPUT.what)?;
        self.keys(map, &ACTION_INPUT);
        input.description = self.description(map);
        input.required = map.get("required").is_some_and(|node| self.required(node));
        input.default =
            map.get("default").and_then(|node| self.template(node, Site::ActionDefault, "`default`"));
        input.deprecation =
            map.get("deprecationMessage").and_then(|node| self.text(node, "`deprecationMessage`"));
        Some(input)
    }

    /// `required`, which no runner checks: what is no boolean is a warning.
    fn required(&mut self, node: &Node) -> bool {
        let text = node.scalar().map(|scalar| scalar.text.to_ascii_lowercase()).unwrap_or_default();
        match text.as_str() {
            "true" => true,
            "false" | "" => false,
            other => {
                self.warn(
                    Rule::ActionMetadata,
                    "`required` is `true` or `false`",
                    node.span,
                    "expected `true` or `false`",
                );
                matches!(other, "yes" | "on")
            }
        }
    }

    fn action_output(
        &mut self,
        name: &Spanned<String>,
        node: &Node,
        composite: bool,
    ) -> Option<ActionOutput> {
        if node.is_null() {
            return Some(ActionOutput { name: name.clone(), description: String::new(), value: None });
        }
        let map = self.map(node, ACTION_OUTPUT.what)?;
        self.keys(map, &ACTION_OUTPUT);
        let description = self.description(map);
        let value = map.get("value").and_then(|node| self.template(node, Site::ActionOutput, "`value`"));
        if composite && value.is_none() {
            self.warn(
                Rule::EmptyOutput,
                format!("the output `{}` is always empty", name.value),
                name.span,
                "an output of a composite action needs `value`",
            );
        }
        Some(ActionOutput { name: name.clone(), description, value })
    }

    fn runs(&mut self, entry: &Entry) -> Option<Runs> {
        let node = &entry.value;
        let map = self.map(node, RUNS.what)?;
        let Some(using) = map.get("using").filter(|node| !node.is_null()) else {
            match misspelled(map, &RUNS, "using") {
                true => self.needed(map, &RUNS, "using"),
                false => {
                    let fault = self
                        .error("`using` is missing", entry.key.span)
                        .label("`runs` needs it")
                        .help(format!("add one of {}", USINGS.join(", ")));
                    self.faults.push(fault);
                }
            }
            return None;
        };
        let written = self.text(using, "`using`")?;
        // runners compare it without case
        let lowered = written.value.to_ascii_lowercase();
        let using = match USINGS.iter().find(|word| **word == lowered) {
            Some(word) => Spanned::new(*word, written.span),
            None => self.one_of(using, "`using`", &USINGS)?,
        };
        let start = entry.key.span;
        match using.value {
            "composite" => {
                self.all_keys(map, &COMPOSITE, start);
                let steps = map.get("steps")?;
                let items = self.list(steps, "`steps`", "begin each step with `- `");
                if let Some(excess) = items.get(MAX_STEPS) {
                    self.fault(
                        format!("an action has at most {MAX_STEPS} steps"),
                        excess.span,
                        "one too many",
                    );
                    return None;
                }
                Some(Runs::Composite { steps: self.steps_in(items, Place::Action) })
            }
            "docker" => {
                self.all_keys(map, &DOCKER, start);
                let image = map.get("image").and_then(|node| self.text(node, "`image`"));
                let of = |lower: &mut Self, key: &str| {
                    map.get(key).and_then(|node| lower.text(node, &format!("`{key}`")))
                };
                let entrypoint = of(self, "entrypoint");
                let args = map.get("args").map(|node| self.templates(node, Site::ActionArgs, "`args`"));
                let env = self.env(map, Site::ActionArgs);
                let pre = self.hook(map, "pre-entrypoint", "pre-if");
                let post = self.hook(map, "post-entrypoint", "post-if");
                let image = image?;
                let image = Spanned::new(self.image(&image)?, image.span);
                Some(Runs::Docker { image, env, entrypoint, args: args.unwrap_or_default(), pre, post })
            }
            script => {
                self.all_keys(map, &SCRIPT, start);
                let main = map.get("main").and_then(|node| self.text(node, "`main`"));
                let pre = self.hook(map, "pre", "pre-if");
                let post = self.hook(map, "post", "post-if");
                let version = script.strip_prefix("node").and_then(|version| version.parse().ok());
                let program = match (version, script) {
                    (Some(version), _) => Using::Node(version),
                    (None, "go") => Using::Go,
                    (None, _) => Using::Sh,
                };
                Some(Runs::Script { using: Spanned::new(program, using.span), main: main?, pre, post })
            }
        }
    }

    fn image(&mut self, text: &Spanned<String>) -> Option<Image> {
        match text.value.trim().strip_prefix("docker://") {
            Some("") => {
                self.fault("this names no image", text.span, "write `docker://image:version`");
                None
            }
            Some(image) => Some(Image::Registry(image.to_owned())),
            None => Some(Image::Dockerfile(text.value.clone())),
        }
    }

    fn hook(&mut self, map: &Map, entry: &str, condition: &str) -> Option<Hook> {
        let found = map.get(entry).and_then(|node| self.text(node, &format!("`{entry}`")));
        let test = map.entry(condition).filter(|entry| !entry.value.is_null());
        if let (None, Some(test)) = (&found, test) {
            self.warn(
                Rule::IdleKey,
                format!("`{condition}` does nothing without `{entry}`"),
                test.key.span,
                format!("there is no `{entry}`"),
            );
        }
        let condition = test.map(|entry| self.condition(&entry.value, Site::ActionIf));
        Some(Hook { entry: found?, condition })
    }

    fn branding(&mut self, node: &Node) -> Option<Branding> {
        if node.is_null() {
            return None;
        }
        let map = self.map(node, BRANDING.what)?;
        self.keys(map, &BRANDING);
        let icon = map.get("icon").and_then(|node| self.text(node, "`icon`"));
        let color = map.get("color").and_then(|node| self.text(node, "`color`"));
        if let Some(color) = color.as_ref().filter(|color| !COLOURS.contains(&color.value.as_str())) {
            self.warn(
                Rule::ActionMetadata,
                format!("there is no colour `{}`", color.value),
                color.span,
                format!("there are {}", COLOURS.join(", ")),
            );
        }
        Some(Branding { icon, color })
    }
}
