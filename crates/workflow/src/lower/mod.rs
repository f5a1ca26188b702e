//! The document's tree to the typed model.
//!
//! Purpose: every key is looked at once, and everything that is wrong is said, with its place and what
//! to write instead. Owner: [`parse`]'s call. Invariants: a fault never stops the rest from being
//! looked at; a workflow is given only when there is no error.
//!
//! ```text
//! Source ──doc──▶ Node ──workflow ─┬─ on (triggers, inputs) ── filters
//!                                  └─ jobs ── job ─┬─ matrix (data)
//!                                                  └─ steps ── step
//! ```

mod data;
mod filters;
mod job;
mod on;
mod step;

use doc::{Diagnostic, Map, Node, Source, Span, Spanned, did_you_mean};

use crate::{
    Condition, Defaults, OtherKey, Site, Template, Variable, Workflow, expr::Host, model::MAX_JOBS, support,
};

/// What became of a document.
#[derive(Debug)]
pub struct Parsed {
    /// The workflow; none when there is an error.
    pub workflow: Option<Workflow>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The workflow and its warnings, or all errors and warnings.
    ///
    /// # Errors
    /// When the document is no good workflow.
    pub fn into_result(self) -> Result<(Workflow, Vec<Diagnostic>), Vec<Diagnostic>> {
        match self.workflow {
            Some(workflow) => Ok((workflow, self.diagnostics)),
            None => Err(self.diagnostics),
        }
    }
}

/// Most diagnostics of one file; nobody reads more, and each is rendered.
const MAX_DIAGNOSTICS: usize = 100;

/// Parses and checks a workflow. Of one with errors, what is not possible yet is among them as well, of
/// whichever job; of a good one [`support::check`] says it, of the jobs that are to run.
pub fn parse(source: &Source) -> Parsed {
    lowered(source, Origin::File)
}

/// Parses a task's payload: what a server made of a workflow for one job. It is checked as a workflow, but for
/// what the server has already used (`on`), for keys at its top that this version
/// does not know, and for ids of jobs that the server expanded, `call.inner`.
pub fn parse_payload(source: &Source) -> Parsed {
    lowered(source, Origin::Payload)
}

fn lowered(source: &Source, origin: Origin) -> Parsed {
    let root = match doc::parse_yaml(source) {
        Ok(root) => root,
        Err(error) => return Parsed { workflow: None, diagnostics: error.diagnostics },
    };
    let job_ids = match origin {
        Origin::File => Dots::Refused,
        Origin::Payload => Dots::Allowed,
    };
    let mut lower = Lower { source, faults: Vec::new(), origin, job_ids };
    let workflow = lower.workflow(&root);
    let mut diagnostics = lower.faults;
    let good = !diagnostics.iter().any(Diagnostic::is_error);
    if let Some(workflow) = workflow.as_ref().filter(|_| !good) {
        // Nobody will plan it: say at once what would be refused once the faults are mended.
        diagnostics.extend(support::check_workflow(workflow).into_iter().filter(Diagnostic::is_error));
    }
    diagnostics.sort_by_key(|fault| fault.primary.as_ref().map_or(0, |label| label.span.start));
    // An alias that holds a fault says it once for each use: once is enough.
    diagnostics.dedup();
    if diagnostics.len() > MAX_DIAGNOSTICS {
        let more = diagnostics.len() - MAX_DIAGNOSTICS;
        diagnostics.truncate(MAX_DIAGNOSTICS);
        let rest = format!("{more} more errors and warnings are not shown");
        diagnostics.push(if good { Diagnostic::warning(rest) } else { Diagnostic::error(rest) });
    }
    Parsed { workflow: workflow.filter(|_| good), diagnostics }
}

/// Whether an id may have dots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Allowed,
    Refused,
}

/// Who wrote the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Payload,
}

/// The state of a lowering: where it is, and what it found.
pub(crate) struct Lower<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
    origin: Origin,
    /// A server's payload has jobs of expanded workflows, `call.inner`.
    job_ids: Dots,
}

const WORKFLOW_KEYS: [&str; 11] = [
    "name",
    "run-name",
    "on",
    "env",
    "defaults",
    "jobs",
    "concurrency",
    "permissions",
    "enable-email-notifications",
    "enable-openid-connect",
    "__metadata",
];

impl<'a> Lower<'a> {
    fn workflow(&mut self, root: &Node) -> Option<Workflow> {
        if root.is_null() {
            self.fault("the workflow is empty", root.span, "a workflow needs `on` and `jobs`");
            return None;
        }
        let map = self.map(root, "a workflow")?;
        if self.origin == Origin::File {
            self.keys(map, "a workflow", &WORKFLOW_KEYS);
        }
        if map.get("__metadata").is_some() {
            self.job_ids = Dots::Allowed;
        }
        let start = Span::new(root.span.start, root.span.start);
        for key in ["on", "jobs"] {
            let used = key == "on" && self.origin == Origin::Payload;
            if map.get(key).is_none() && !used {
                let fault = self
                    .error(format!("`{key}` is missing"), start)
                    .label("a workflow needs `on` and `jobs`");
                let example = if key == "on" { "on: push" } else { "jobs:" };
                self.faults.push(fault.help(format!("add `{example}`")));
            }
        }
        let before = self.faults.len();
        let on = map.get("on").map(|node| self.triggers(node)).unwrap_or_default();
        if self.origin == Origin::Payload {
            // the server has used it: nothing of the job hangs on it
            self.faults.truncate(before);
        }
        let jobs = map.get("jobs").map(|node| self.jobs(node)).unwrap_or_default();
        let other = [("concurrency", OtherKey::Concurrency), ("permissions", OtherKey::Permissions)];
        Some(Workflow {
            source: self.source.clone(),
            name: map.get("name").and_then(|node| self.text(node, "`name`")),
            run_name: map.get("run-name").and_then(|node| self.template(node, Site::RunName, "`run-name`")),
            on,
            env: map
                .get("env")
                .map(|node| self.variables(node, Site::WorkflowEnv, "`env`"))
                .unwrap_or_default(),
            defaults: map.get("defaults").map(|node| self.defaults(node)).unwrap_or_default(),
            jobs,
            other: others(map, &other),
        })
    }

    fn jobs(&mut self, node: &Node) -> Vec<crate::Job> {
        let Some(map) = self.map(node, "`jobs`") else { return Vec::new() };
        if map.entries.is_empty() {
            self.fault("there are no jobs", node.span, "a workflow needs at least one");
        }
        if map.entries.len() > MAX_JOBS {
            let at = map.entries[MAX_JOBS].key.span;
            self.fault(format!("a workflow has at most {MAX_JOBS} jobs"), at, "one too many");
            return Vec::new();
        }
        let mut seen: Vec<&Spanned<String>> = Vec::new();
        let mut jobs = Vec::new();
        for entry in &map.entries {
            if let Some(first) = seen.iter().find(|id| id.value.eq_ignore_ascii_case(&entry.key.value)) {
                let fault = self
                    .error("two jobs differ only by case", entry.key.span)
                    .label("names of jobs compare without case")
                    .also(self.source, first.span, "the first");
                self.faults.push(fault);
            }
            seen.push(&entry.key);
            jobs.extend(self.job(&entry.key, &entry.value));
        }
        jobs
    }

    fn defaults(&mut self, node: &Node) -> Defaults {
        if node.is_null() {
            return Defaults::default();
        }
        let Some(map) = self.map(node, "`defaults`") else { return Defaults::default() };
        self.keys(map, "`defaults`", &["run"]);
        let Some(run) = map.get("run").filter(|run| !run.is_null()) else { return Defaults::default() };
        let Some(run) = self.map(run, "`defaults.run`") else { return Defaults::default() };
        self.keys(run, "`defaults.run`", &["shell", "working-directory"]);
        Defaults {
            shell: run.get("shell").and_then(|node| self.template(node, Site::JobDefaults, "`shell`")),
            working_directory: run
                .get("working-directory")
                .and_then(|node| self.template(node, Site::JobDefaults, "`working-directory`")),
        }
    }

    fn error(&self, message: impl Into<String>, span: Span) -> Diagnostic {
        Diagnostic::error(message).at(self.source, span)
    }

    fn fault(&mut self, message: impl Into<String>, span: Span, label: impl Into<String>) {
        let fault = self.error(message, span).label(label);
        self.faults.push(fault);
    }

    /// The map of a node that must be one.
    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Map> {
        let map = node.map();
        if map.is_none() {
            self.fault(format!("{what} is a map of keys"), node.span, format!("this is {}", node.describe()));
        }
        map
    }

    /// Complains about every key that is not known.
    fn keys(&mut self, map: &Map, what: &str, known: &[&str]) {
        for entry in &map.entries {
            let key = entry.key.value.as_str();
            if known.contains(&key) {
                continue;
            }
            let fault = self.error(format!("{what} has no key `{key}`"), entry.key.span).label("unknown key");
            let there = known.iter().copied().filter(|known| !known.starts_with("__"));
            self.faults.push(match did_you_mean(key, there.clone()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.note(format!("the keys are {}", there.collect::<Vec<_>>().join(", "))),
            });
        }
    }

    /// Text of a scalar, as written; expressions are not looked at. Nothing at all counts as absent.
    fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        match node.scalar() {
            Some(scalar) if scalar.is_null() => None,
            Some(scalar) => Some(Spanned::new(scalar.text.clone(), node.span)),
            None => {
                self.fault(format!("{what} is text"), node.span, format!("this is {}", node.describe()));
                None
            }
        }
    }

    /// Text of a scalar with expressions. Nothing at all counts as absent.
    fn template(&mut self, node: &Node, site: Site, what: &str) -> Option<Template> {
        let Some(host) = Host::of(self.source, node) else {
            self.fault(format!("{what} is text"), node.span, format!("this is {}", node.describe()));
            return None;
        };
        (!node.is_null()).then(|| Template::parse(host, site, &mut self.faults))
    }

    fn condition(&mut self, node: &Node, site: Site) -> Condition {
        match Host::of(self.source, node) {
            Some(host) => Condition::parse(host, site, &mut self.faults),
            None => {
                self.fault("`if` is an expression", node.span, format!("this is {}", node.describe()));
                Condition::default()
            }
        }
    }

    /// A map of names and texts; a value that is nothing is empty text.
    fn variables(&mut self, node: &Node, site: Site, what: &str) -> Vec<Variable> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(map) = self.map(node, what) else { return Vec::new() };
        let mut variables = Vec::new();
        for entry in &map.entries {
            let name = &entry.key.value;
            if name.is_empty() || name.contains(['=', '\n']) {
                self.fault("this is no name", entry.key.span, "a name is not empty and has no `=`");
            }
            let value = match Host::of(self.source, &entry.value) {
                Some(_) if entry.value.is_null() => Some(Template::of_text("")),
                Some(host) => Some(Template::parse(host, site, &mut self.faults)),
                None => {
                    let label = format!("this is {}", entry.value.describe());
                    let fault = self
                        .error(format!("`{name}` of {what} is text"), entry.value.span)
                        .label(label)
                        .help("write a list or a map as JSON, in quotes");
                    self.faults.push(fault);
                    None
                }
            };
            variables.extend(value.map(|value| Variable { name: entry.key.clone(), value }));
        }
        variables
    }

    /// `timeout-minutes`: a literal is checked here, an expression when it is evaluated.
    fn minutes(&mut self, node: &Node, site: Site) -> Option<Template> {
        let template = self.template(node, site, "`timeout-minutes`")?;
        if let Some(text) = template.literal()
            && crate::minutes_of(&text.into()).is_none()
        {
            self.fault(
                format!("`timeout-minutes` is a number, {}", crate::MINUTES),
                node.span,
                "expected minutes, such as `30`",
            );
        }
        Some(template)
    }

    /// A boolean: a literal is checked here, an expression when it is evaluated.
    fn boolean(&mut self, node: &Node, site: Site, what: &str) -> Option<Template> {
        let template = self.template(node, site, what)?;
        if let Some(text) = template.literal()
            && !["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        {
            let fault = self
                .error(format!("{what} is `true` or `false`"), node.span)
                .label("expected `true` or `false`");
            let fault = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" => fault.help("write `true`: `yes` and `on` are text in YAML 1.2"),
                "no" | "off" => fault.help("write `false`: `no` and `off` are text in YAML 1.2"),
                _ => fault,
            };
            self.faults.push(fault);
        }
        Some(template)
    }

    /// An id of a job or step.
    fn id(&mut self, id: &Spanned<String>, dots: Dots) {
        let good = |c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (dots == Dots::Allowed && c == '.')
        };
        let starts = id.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts && id.value.chars().all(good) && id.value.len() <= 100 {
            return;
        }
        self.fault(
            "this is no id",
            id.span,
            "an id begins with a letter or `_` and has letters, digits, `-` and `_`, at most 100",
        );
    }
}

/// The keys of a map that are known by name only.
fn others(map: &Map, names: &[(&str, OtherKey)]) -> Vec<Spanned<OtherKey>> {
    names
        .iter()
        .filter_map(|(name, key)| map.entry(name).map(|entry| Spanned::new(*key, entry.key.span)))
        .collect()
}
