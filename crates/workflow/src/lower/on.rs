//! `on`: what starts a workflow.
//!
//! Purpose: the three forms (a word, a list, a map); inputs, secrets and outputs, typed; filters are read
//! next door. Owner: the lowering. Invariant: an input's default is of the input's type.

use doc::{Kind, Map, Node, Span, Spanned, Typed, did_you_mean};

use super::{Dots, Lower, filters::SCHEDULE, meant::meant};
use crate::rules::Rule;
use crate::{
    CallOutput, CallSecret, Filters, Input, InputKind, Site, Template, Trigger,
    expr::Host,
    filter::events::{FORGEJO, GITHUB, NEVER},
    inputs,
    shape::{
        Shape,
        on::{
            CALL, CALL_INPUT, CALL_OUTPUT, CALL_SECRET, CALL_TYPES, DISPATCH, DISPATCH_INPUT, DISPATCH_TYPES,
        },
    },
};

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
        let name = event.value.as_str();
        if FORGEJO.contains(&name) {
            return;
        }
        if GITHUB.contains(&name) {
            self.warn(
                Rule::GithubOnlyEvent,
                format!("Forgejo starts no workflow for `{name}`"),
                event.span,
                "only GitHub has this event",
            );
            return;
        }
        if let Some((_, instead)) = NEVER.iter().find(|(never, _)| *never == name) {
            let warning = Rule::AdmitsNothing
                .warning(format!("nothing starts a workflow for `{name}`"))
                .at(self.source, event.span)
                .label("webhooks have this name, `on` does not");
            self.faults.push(match instead {
                Some(instead) => warning.help(format!("write `{instead}`")),
                None => warning,
            });
            return;
        }
        let fault = self.error(format!("there is no event `{name}`"), event.span).label("unknown event");
        self.faults.push(match self.near(name, FORGEJO.into_iter().chain(GITHUB)) {
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
        let (shape, input) = match event.value.as_str() {
            "workflow_dispatch" => (&DISPATCH, &DISPATCH_INPUT),
            "workflow_call" => (&CALL, &CALL_INPUT),
            _ => {
                trigger.filters = self.filters(event, node);
                return trigger;
            }
        };
        let Some(map) = self.map(node, shape.what) else { return trigger };
        let idle = |entry: &doc::Entry| shape.id == DISPATCH.id && read_over(entry);
        for entry in map.entries.iter().filter(|entry| idle(entry)) {
            let warning = Rule::IdleKey
                .warning(format!("`{}` does nothing at `workflow_dispatch`", entry.key.value))
                .at(self.source, entry.key.span)
                .label("servers read over it")
                .help("remove it: the person who starts the workflow chooses the branch");
            self.faults.push(warning);
        }
        self.keys_but(map, shape, idle);
        if let Some(inputs) = self.named_maps(map, "inputs") {
            trigger.inputs = inputs
                .entries
                .iter()
                .filter_map(|entry| self.input(&entry.key, &entry.value, input))
                .collect();
        }
        if let Some(secrets) = self.named_maps(map, "secrets") {
            trigger.secrets =
                secrets.entries.iter().filter_map(|entry| self.secret(&entry.key, &entry.value)).collect();
        }
        if let Some(outputs) = self.named_maps(map, "outputs") {
            trigger.outputs =
                outputs.entries.iter().filter_map(|entry| self.output(&entry.key, &entry.value)).collect();
        }
        trigger
    }

    /// The map of a key whose entries are named by the author, if it has any.
    fn named_maps<'n>(&mut self, map: &'n Map, key: &str) -> Option<&'n Map> {
        let node = map.get(key).filter(|node| !node.is_null())?;
        let map = self.map(node, &format!("`{key}`"))?;
        self.by_case(map);
        Some(map)
    }

    fn secret(&mut self, name: &Spanned<String>, node: &Node) -> Option<CallSecret> {
        self.id(name, Dots::Refused);
        let mut secret = CallSecret { name: name.clone(), description: String::new(), required: false };
        if node.is_null() {
            return Some(secret);
        }
        let map = self.map(node, CALL_SECRET.what)?;
        self.keys(map, &CALL_SECRET);
        secret.description = self.description(map);
        secret.required = map.get("required").is_some_and(|node| self.flag(node, "`required`"));
        Some(secret)
    }

    fn output(&mut self, name: &Spanned<String>, node: &Node) -> Option<CallOutput> {
        self.id(name, Dots::Refused);
        let map = self.map(node, CALL_OUTPUT.what)?;
        self.all_keys(map, &CALL_OUTPUT, name.span);
        let description = self.description(map);
        let value = map.get("value").and_then(|node| self.template(node, Site::CallOutput, "`value`"))?;
        Some(CallOutput { name: name.clone(), description, value })
    }

    fn input(&mut self, name: &Spanned<String>, node: &Node, shape: &Shape) -> Option<Input> {
        let mut input = Input {
            name: name.clone(),
            description: String::new(),
            kind: InputKind::Text,
            required: false,
            default: None,
            computed: None,
            deprecation: None,
        };
        let called = shape.id == CALL_INPUT.id;
        self.id(name, Dots::Refused);
        if node.is_null() {
            if called {
                self.no_type(name);
            }
            return Some(input);
        }
        let map = self.map(node, shape.what)?;
        self.keys(map, shape);
        input.description = self.description(map);
        input.deprecation =
            map.get("deprecationMessage").and_then(|node| self.text(node, "`deprecationMessage`"));
        input.required = map.get("required").is_some_and(|node| self.flag(node, "`required`"));
        let options = match shape.key("options") {
            Some(_) => map.get("options").map(|node| self.options(node)),
            None => None,
        };
        let types: &[&'static str] = if called { &CALL_TYPES } else { &DISPATCH_TYPES };
        let kind = map.get("type").filter(|node| !node.is_null());
        if kind.is_none() && called {
            self.no_type(name);
        }
        let plain = kind.is_none();
        let kind = kind.and_then(|node| match node.scalar() {
            Some(scalar) if !called && !types.contains(&scalar.text.as_str()) => {
                self.other_type(&scalar.text, node.span, types);
                None
            }
            _ => self.one_of(node, "the type of an input", types),
        });
        input.kind = match kind.map(|kind| (kind.value, kind.span)) {
            None | Some(("string", _)) => InputKind::Text,
            Some(("environment", _)) => InputKind::Environment,
            Some(("boolean", _)) => InputKind::Boolean,
            Some(("number", _)) => InputKind::Number,
            Some((_, span)) => {
                if options.as_ref().is_none_or(Vec::is_empty) {
                    self.fault("a choice needs `options`", span, "the values that there are to choose from");
                }
                InputKind::Choice(options.clone().unwrap_or_default())
            }
        };
        if let Some(entry) = map.entry("options")
            && !called
            && (plain
                || matches!(input.kind, InputKind::Boolean | InputKind::Number | InputKind::Environment))
        {
            let fault = Rule::IdleKey
                .warning("`options` do nothing without `type: choice`")
                .at(self.source, entry.key.span)
                .label("any value is taken")
                .help("add `type: choice`");
            self.faults.push(fault);
        }
        if let Some(node) = map.get("default").filter(|node| !node.is_null()) {
            self.default(&mut input, node, called);
        }
        Some(input)
    }

    fn default(&mut self, input: &mut Input, node: &Node, called: bool) {
        let Some(text) = self.text(node, "`default`") else { return };
        if called && text.value.contains("${{") {
            let host = Host::of(self.source, node);
            input.computed = host.map(|host| Template::parse(host, Site::CallDefault, &mut self.faults));
            return;
        }
        match inputs::typed(&input.kind, &text.value) {
            Ok(value) => input.default = Some(value),
            // GitHub's form has fields that are empty at first
            Err(_) if text.value.is_empty() => {}
            // that is said of the type
            Err(_) if matches!(&input.kind, InputKind::Choice(options) if options.is_empty()) => {}
            Err(wanted) => self.fault(
                format!("the default of `{}` is not of its type", input.name.value),
                node.span,
                format!("expected {wanted}"),
            ),
        }
    }

    fn no_type(&mut self, name: &Spanned<String>) {
        let warning = Rule::UntypedInput
            .warning("an input of `workflow_call` has no `type`")
            .at(self.source, name.span)
            .label("GitHub refuses it, Forgejo takes it as text")
            .help("add `type: string`, `type: boolean` or `type: number`");
        self.faults.push(warning);
    }

    /// Of a run by hand: no server refuses it, and the value is text.
    fn other_type(&mut self, name: &str, span: Span, types: &[&'static str]) {
        let warning = Rule::UntypedInput
            .warning(format!("there is no type `{name}` of inputs"))
            .at(self.source, span)
            .label("servers take the input as text");
        self.faults.push(match did_you_mean(name, types.iter().copied()) {
            Some(near) => warning.help(format!("did you mean `{near}`?")),
            None => warning.note(format!("the types are {}", types.join(", "))),
        });
    }

    fn options(&mut self, node: &Node) -> Vec<String> {
        let items = self.list(node, "`options`", "begin each option with `- `");
        items.iter().filter_map(|item| self.text(item, "an option")).map(|text| text.value).collect()
    }
}

/// Whether Forgejo reads over a key of `workflow_dispatch`, as GitHub does: it refuses what is neither text nor a list
/// of texts.
fn read_over(entry: &doc::Entry) -> bool {
    let text = |node: &Node| node.scalar().is_some_and(|scalar| scalar.typed == Typed::Text);
    let taken = text(&entry.value) || entry.value.seq().is_some_and(|items| items.iter().all(text));
    taken && DISPATCH.key(&entry.key.value).is_none() && meant(&entry.key.value, &DISPATCH).is_none()
}

fn plain(event: Spanned<String>) -> Trigger {
    Trigger {
        event,
        filters: Filters::default(),
        inputs: Vec::new(),
        secrets: Vec::new(),
        outputs: Vec::new(),
    }
}
