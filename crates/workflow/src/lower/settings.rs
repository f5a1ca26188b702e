//! What workflow, job and step have in common.
//!
//! Purpose: variables, defaults, concurrency, permissions, environments. Owner: the lowering.

use doc::{Entry, Kind, Map, Node, Spanned};

use super::{Lower, meant::misspelled};
use crate::rules::Rule;
use crate::{
    Access, Concurrency, Defaults, Environment, MachineImage, OrExpr, Permission, Permissions, Queue, Site,
    Template, Variable, Variables,
    expr::Host,
    shape::{
        job::{ENVIRONMENT, SNAPSHOT},
        workflow::{ALL_PERMISSIONS, CONCURRENCY_MAP, DEFAULTS, PERMISSIONS_MAP, QUEUES, RUN_DEFAULTS},
    },
};

impl Lower<'_> {
    /// `env` of a map.
    pub(super) fn env(&mut self, map: &Map, site: Site) -> Variables {
        self.variables_of(map, "env", site)
    }

    /// `env` or `with` of a map: names and texts, or one expression.
    pub(super) fn variables_of(&mut self, map: &Map, key: &str, site: Site) -> Variables {
        let Some(node) = map.get(key) else { return Variables::default() };
        match self.whole(node, site) {
            Some(template) => {
                self.all_in_one(node, key, site);
                OrExpr::Expr(template)
            }
            None => OrExpr::Written(self.variables(node, site, &format!("`{key}`"))),
        }
    }

    /// One expression in place of names and texts: Forgejo's runner takes none of job and step for it, and cannot read
    /// it anywhere else.
    fn all_in_one(&mut self, node: &Node, key: &str, site: Site) {
        if self.is_payload() {
            return;
        }
        let read_over = key == "env" && matches!(site, Site::JobEnv | Site::Step | Site::ActionStep);
        let (rule, message, label) = if read_over {
            let message = format!("an expression in place of `{key}` is ignored");
            (Rule::IgnoredByForgejo, message, "Forgejo's runner sets none of it")
        } else {
            let message = format!("only GitHub takes an expression in place of `{key}`");
            (Rule::GithubOnly, message, "Forgejo's runner refuses it")
        };
        let fault = rule.warning(message).at(self.source, node.span).label(label);
        self.faults.push(fault.help("write each name down, with an expression as its value"));
    }

    /// A map of names and texts; a value that is nothing is empty text.
    pub(super) fn variables(&mut self, node: &Node, site: Site, what: &str) -> Vec<Variable> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(map) = self.map(node, what) else { return Vec::new() };
        // variables of Linux differ by case, and GitHub reads nothing of other servers' directories
        if !(what == "`env`" && self.is_forgejos()) {
            self.by_case(map);
        }
        let mut variables = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let name = &entry.key.value;
            if name.contains("${{") {
                self.warn(
                    Rule::NotEvaluated,
                    "a name is not evaluated",
                    entry.key.span,
                    "Forgejo takes it as it is written",
                );
            } else if name.is_empty() || name.contains(['=', '\n']) {
                self.fault("this is no name", entry.key.span, "a name is not empty and has no `=`");
            }
            let value = match Host::of(self.source, &entry.value) {
                Some(_) if entry.value.is_null() => Some(Template::of_text("")),
                Some(host) => {
                    self.unlike_github(&entry.value);
                    Some(Template::parse(host, site, &mut self.faults))
                }
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

    pub(super) fn defaults(&mut self, node: &Node) -> Defaults {
        if node.is_null() {
            return Defaults::default();
        }
        let Some(map) = self.map(node, "`defaults`") else { return Defaults::default() };
        self.keys(map, &DEFAULTS);
        let Some(run) = map.get("run").filter(|run| !run.is_null()) else { return Defaults::default() };
        let Some(run) = self.map(run, "`defaults.run`") else { return Defaults::default() };
        self.keys(run, &RUN_DEFAULTS);
        Defaults {
            shell: run.get("shell").and_then(|node| self.template(node, Site::JobDefaults, "`shell`")),
            working_directory: run
                .get("working-directory")
                .and_then(|node| self.template(node, Site::JobDefaults, "`working-directory`")),
        }
    }

    pub(super) fn concurrency(&mut self, entry: &Entry, site: Site) -> Option<Concurrency> {
        let node = &entry.value;
        if node.is_null() {
            return None;
        }
        let span = entry.key.span;
        let Some(map) = node.map() else {
            let group = Some(self.template(node, site, "`concurrency`")?);
            return Some(Concurrency { group, cancel_in_progress: None, queue: None, span });
        };
        self.keys(map, &CONCURRENCY_MAP);
        let group = map.get("group").and_then(|node| self.template(node, site, "`group`"));
        let cancel_in_progress =
            map.get("cancel-in-progress").and_then(|node| self.boolean(node, site, "`cancel-in-progress`"));
        let meant = ["group", "cancel-in-progress"].iter().any(|key| misspelled(map, &CONCURRENCY_MAP, key));
        if group.is_none() && cancel_in_progress.is_none() && !meant {
            self.fault("`concurrency` says nothing", node.span, "expected `group` or `cancel-in-progress`");
        }
        let queue = map.get("queue").and_then(|node| self.one_of(node, "`queue`", &QUEUES));
        let queue = queue.map(|word| {
            let queue = if word.value == "max" { Queue::Max } else { Queue::Single };
            Spanned::new(queue, word.span)
        });
        Some(Concurrency { group, cancel_in_progress, queue, span })
    }

    pub(super) fn permissions(&mut self, node: &Node) -> Option<Spanned<Permissions>> {
        let permissions = match &node.kind {
            Kind::Scalar(scalar) if scalar.is_null() => Permissions::Listed(Vec::new()),
            Kind::Scalar(_) => match self.one_of(node, "`permissions`", &ALL_PERMISSIONS)?.value {
                "read-all" => Permissions::ReadAll,
                _ => Permissions::WriteAll,
            },
            Kind::Seq(_) | Kind::Map(_) => {
                let map = self.map(node, "`permissions`")?;
                self.keys(map, &PERMISSIONS_MAP);
                Permissions::Listed(map.entries.iter().filter_map(|entry| self.permission(entry)).collect())
            }
        };
        Some(Spanned::new(permissions, node.span))
    }

    fn permission(&mut self, entry: &Entry) -> Option<Permission> {
        let key = PERMISSIONS_MAP.key(&entry.key.value)?;
        let crate::shape::Takes::OneOf(words) = key.takes else { return None };
        if entry.value.is_null() {
            self.fault(format!("`{}` is empty", key.name), entry.key.span, "expected a level");
            return None;
        }
        let word = self.one_of(&entry.value, &format!("`{}`", key.name), words)?;
        let access = match word.value {
            "read" => Access::Read,
            "write" => Access::Write,
            _ => Access::None,
        };
        Some(Permission {
            scope: Spanned::new(key.name, entry.key.span),
            access: Spanned::new(access, word.span),
        })
    }

    pub(super) fn environment(&mut self, node: &Node) -> Option<Environment> {
        if node.is_null() {
            return None;
        }
        let Some(map) = node.map() else {
            let name = self.template(node, Site::JobSetting, "`environment`")?;
            return Some(Environment { name, url: None, deployment: None });
        };
        self.all_keys(map, &ENVIRONMENT, node.span);
        let name = map.get("name").and_then(|node| self.template(node, Site::JobSetting, "`name`"));
        let url = map.get("url").and_then(|node| self.template(node, Site::EnvironmentUrl, "`url`"));
        let deployment =
            map.get("deployment").and_then(|node| self.boolean(node, Site::JobSetting, "`deployment`"));
        Some(Environment { name: name?, url, deployment })
    }

    pub(super) fn snapshot(&mut self, node: &Node) -> Option<MachineImage> {
        if node.is_null() {
            return None;
        }
        let Some(map) = node.map() else {
            let name = self.text(node, "`snapshot`")?;
            return Some(MachineImage { name, condition: None, version: None });
        };
        self.all_keys(map, &SNAPSHOT, node.span);
        let name = map.get("image-name").and_then(|node| self.text(node, "`image-name`"));
        let condition = map.get("if").map(|node| self.condition(node, Site::JobIf));
        let version = map.get("version").and_then(|node| self.text(node, "`version`"));
        Some(MachineImage { name: name?, condition, version })
    }
}
