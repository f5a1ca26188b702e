//! One job.
//!
//! Purpose: every key of a job. Owner: the lowering.
//! Invariant: a job has steps and `runs-on`, or it calls a reusable workflow.

use doc::{Kind, Map, Node, Spanned};

use super::{Lower, meant::misspelled, step::Place, values::twice};
use crate::rules::Rule;
use crate::{
    Call, CallSecrets, Job, OrExpr, RunsOn, Site, Step, Template, Variable, WorkflowRef,
    expr::Host,
    model::{MAX_JOBS, MAX_STEPS},
    shape::job::{INHERIT, JOB, RUNS_ON_MAP},
};

impl Lower<'_> {
    pub(super) fn job(&mut self, id: &Spanned<String>, node: &Node) -> Option<Job> {
        self.own_id(id, self.job_ids);
        if node.is_null() {
            self.fault(format!("job `{}` is empty", id.value), id.span, "a job needs `runs-on` and `steps`");
            return None;
        }
        let map = self.map(node, "a job")?;
        self.keys(map, &JOB);
        self.shape(id, map);
        map.get("name").into_iter().for_each(|node| self.cut(node));
        let setting = Site::JobSetting;
        Some(Job {
            id: id.clone(),
            name: map.get("name").and_then(|node| self.template(node, Site::JobName, "`name`")),
            needs: map.get("needs").map(|node| self.names(|lower| lower.needs(node))).unwrap_or_default(),
            condition: map.get("if").map(|node| self.condition(node, Site::JobIf)).unwrap_or_default(),
            runs_on: map.get("runs-on").and_then(|node| self.runs_on(node)),
            strategy: map.get("strategy").and_then(|node| self.names(|lower| lower.strategy(node))),
            permissions: map.get("permissions").and_then(|node| self.permissions(node)),
            environment: map.get("environment").and_then(|node| self.environment(node)),
            concurrency: map.entry("concurrency").and_then(|entry| self.concurrency(entry, setting)),
            openid_connect: self.switch(map, "enable-openid-connect"),
            container: map.entry("container").and_then(|entry| self.container(entry)),
            services: map.entry("services").and_then(|entry| self.services(entry)),
            env: self.env(map, Site::JobEnv),
            defaults: map.get("defaults").map(|node| self.defaults(node)).unwrap_or_default(),
            outputs: self.names(|lower| lower.named(map, "outputs", Site::JobOutputs)),
            timeout_minutes: map
                .get("timeout-minutes")
                .and_then(|node| self.minutes(node, setting, "`timeout-minutes`")),
            cancel_timeout_minutes: map
                .get("cancel-timeout-minutes")
                .and_then(|node| self.minutes(node, setting, "`cancel-timeout-minutes`")),
            continue_on_error: map
                .get("continue-on-error")
                .and_then(|node| self.boolean(node, setting, "`continue-on-error`")),
            snapshot: map.get("snapshot").and_then(|node| self.snapshot(node)),
            steps: map.get("steps").map(|node| self.steps(node)).unwrap_or_default(),
            call: self.names(|lower| lower.call(map)),
        })
    }

    fn call(&mut self, map: &Map) -> Option<Call> {
        let node = map.get("uses").filter(|node| !node.is_null())?;
        let with = self.named(map, "with", Site::CallWith);
        let secrets = map.get("secrets").filter(|node| !node.is_null()).and_then(|node| self.secrets(node));
        let text = self.text(node, "`uses`")?;
        let uses = if text.value.contains("${{") {
            let host = Host::of(self.source, node)?;
            OrExpr::Expr(Template::parse(host, Site::JobSetting, &mut self.faults))
        } else {
            match WorkflowRef::parse(&text.value) {
                Ok(parsed) => OrExpr::Written(Spanned::new(parsed, text.span)),
                Err(error) => {
                    let fault =
                        self.error(error.to_string(), text.span).label("this workflow").help(error.help());
                    self.faults.push(fault);
                    return None;
                }
            }
        };
        Some(Call { uses, with, secrets })
    }

    fn secrets(&mut self, node: &Node) -> Option<CallSecrets> {
        if node.scalar().is_some() {
            return self.one_of(node, "`secrets`", &INHERIT).map(|word| CallSecrets::Inherit(word.span));
        }
        Some(CallSecrets::Named(self.variables(node, Site::CallSecret, "`secrets`")))
    }

    /// What a job must have and must not have together.
    fn shape(&mut self, id: &Spanned<String>, map: &Map) {
        if let Some(uses) = map.entry("uses") {
            if uses.value.is_null() {
                self.fault("`uses` is empty", uses.key.span, "expected a workflow");
            }
            const NOT_WITH_USES: [&str; 4] = ["steps", "services", "environment", "snapshot"];
            for entry in map.entries.iter().filter(|entry| NOT_WITH_USES.contains(&entry.key.value.as_str()))
            {
                let fault = self
                    .error(
                        format!("a job that calls a workflow has no `{}`", entry.key.value),
                        entry.key.span,
                    )
                    .label("not together with `uses`")
                    .also(self.source, uses.key.span, "the workflow that it calls");
                self.faults.push(fault);
            }
            const UNUSED: [&str; 6] =
                ["env", "defaults", "outputs", "timeout-minutes", "continue-on-error", "container"];
            for entry in map.entries.iter().filter(|entry| UNUSED.contains(&entry.key.value.as_str())) {
                self.warn(
                    Rule::IdleKey,
                    format!("`{}` does nothing in a job that calls a workflow", entry.key.value),
                    entry.key.span,
                    "the jobs of that workflow do not see it",
                );
            }
            return;
        }
        for (key, example) in [("runs-on", "runs-on: ubuntu-latest"), ("steps", "steps:")] {
            // what stands for `uses` would make it a job without them
            if map.get(key).is_none() && !misspelled(map, &JOB, key) && !misspelled(map, &JOB, "uses") {
                let fault = self
                    .error(format!("`{key}` is missing"), id.span)
                    .label(format!("job `{}` needs it", id.value))
                    .help(format!("add `{example}`"));
                self.faults.push(fault);
            }
        }
        for (key, instead) in [
            ("with", "give a step its inputs by its own `with`"),
            ("secrets", "give a step a secret by its `env`: `KEY: ${{ secrets.KEY }}`"),
        ] {
            if let Some(entry) = map.entry(key) {
                let fault = self
                    .error(format!("`{key}` of a job belongs to `uses`"), entry.key.span)
                    .label("this job calls no workflow")
                    .help(instead);
                self.faults.push(fault);
            }
        }
    }

    fn named(&mut self, map: &Map, key: &str, site: Site) -> Vec<Variable> {
        map.get(key).map(|node| self.variables(node, site, &format!("`{key}`"))).unwrap_or_default()
    }

    fn needs(&mut self, node: &Node) -> Vec<Spanned<String>> {
        let found: Vec<Spanned<String>> = match &node.kind {
            Kind::Scalar(scalar) if scalar.is_null() => Vec::new(),
            Kind::Seq(items) => items.iter().filter_map(|item| self.text(item, "a need")).collect(),
            Kind::Map(_) => {
                self.fault("`needs` is text or a list", node.span, format!("this is {}", node.describe()));
                Vec::new()
            }
            Kind::Scalar(scalar) => match several(&scalar.text) {
                Some(list) => {
                    let fault = self
                        .error("several jobs in `needs` are a list", node.span)
                        .label("this is one text")
                        .help(format!("write `needs: {list}`"));
                    self.faults.push(fault);
                    Vec::new()
                }
                None => self.text(node, "`needs`").into_iter().collect(),
            },
        };
        if let Some(excess) = found.get(MAX_JOBS) {
            self.fault(format!("a job needs at most {MAX_JOBS} others"), excess.span, "one too many");
            return Vec::new();
        }
        let mut needs: Vec<Spanned<String>> = Vec::new();
        for need in found {
            if !needs.iter().any(|known| known.value == need.value) {
                needs.push(need);
            }
        }
        needs
    }

    fn runs_on(&mut self, node: &Node) -> Option<RunsOn> {
        let mut runs_on = RunsOn { labels: Vec::new(), group: None, span: node.span };
        match &node.kind {
            Kind::Scalar(_) => runs_on.labels.extend(self.label(node, "`runs-on`")),
            Kind::Seq(items) => {
                for item in items {
                    if item.is_null() && items.len() > 1 {
                        self.fault("the label is empty", item.span, "expected a label");
                    }
                    runs_on.labels.extend(self.label(item, "a label"));
                }
            }
            Kind::Map(map) => {
                self.keys(map, &RUNS_ON_MAP);
                runs_on.group =
                    map.get("group").and_then(|node| self.template(node, Site::RunsOn, "`group`"));
                if let Some(labels) = map.get("labels").and_then(|node| self.runs_on(node)) {
                    runs_on.labels = labels.labels;
                }
            }
        }
        let meant = node.map().is_some_and(|map| {
            RUNS_ON_MAP.names().any(|key| map.get(key).is_none() && misspelled(map, &RUNS_ON_MAP, key))
        });
        if runs_on.labels.is_empty() && runs_on.group.is_none() {
            if meant {
                return None;
            }
            self.fault("`runs-on` names no machine", node.span, "expected a label, such as `ubuntu-latest`");
            return None;
        }
        Some(runs_on)
    }

    /// A label; an expression is looked at when it is evaluated, and a server has looked at those of its payload.
    fn label(&mut self, node: &Node, what: &str) -> Option<Template> {
        let label = self.template(node, Site::RunsOn, what)?;
        if label.raw().trim().is_empty() && !self.is_payload() {
            self.fault("the label is empty", node.span, "expected a label");
        }
        if let Some(text) = label.literal().filter(|text| text.contains(',') && !self.is_payload()) {
            let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            let warning = Rule::GithubOnly
                .warning("no runner of Forgejo has a label with a comma")
                .at(self.source, node.span)
                .label("a comma stands between labels where a runner is registered");
            self.faults.push(match parts.len() {
                0 | 1 => warning.help("take the comma out"),
                _ => warning.help(format!("write `[{}]` for a runner that has them all", parts.join(", "))),
            });
        }
        let odd = label.texts().flat_map(str::chars).find_map(doc::odd_space);
        if let Some(odd) = odd.filter(|_| !self.is_payload()) {
            self.fault(format!("{odd} stands in a label"), node.span, "no machine has a label with one");
        }
        Some(label)
    }

    fn steps(&mut self, node: &Node) -> Vec<Step> {
        let Some(items) = node.seq() else {
            let odd = doc::odd_space_in(self.source, node);
            let fault = odd.unwrap_or_else(|| {
                self.error("`steps` is a list", node.span)
                    .label(format!("this is {}", node.describe()))
                    .help("begin each step with `- `")
            });
            self.faults.push(fault);
            self.lost.names = true;
            return Vec::new();
        };
        if items.is_empty() {
            self.fault("there are no steps", node.span, "a job needs at least one");
        }
        if let Some(excess) = items.get(MAX_STEPS) {
            self.lost.names = true;
            self.fault(format!("a job has at most {MAX_STEPS} steps"), excess.span, "one too many");
            return Vec::new();
        }
        self.steps_in(items, Place::Job)
    }

    /// The steps of a list, with ids that are unique.
    pub(super) fn steps_in(&mut self, items: &[Node], place: Place) -> Vec<Step> {
        // a step is large: what most jobs have is not moved about
        let mut steps = Vec::with_capacity(items.len().min(64));
        steps.extend(items.iter().filter_map(|item| self.step(item, place)));
        self.lost.names |= steps.len() < items.len();
        for (id, first) in twice(steps.iter().filter_map(|step| step.id.as_ref())) {
            let fault = self
                .error(format!("the id `{}` is there twice", id.value), id.span)
                .label("again here")
                .also(self.source, first.span, "first here");
            self.faults.push(fault);
        }
        steps
    }
}

/// What to write for ids in one text, with commas or spaces between them.
fn several(text: &str) -> Option<String> {
    let is_id = |id: &&str| id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let ids: Vec<_> = text.split([',', ' ']).filter(|id| !id.is_empty()).collect();
    let one = ids.len() < 2 && !text.contains(',');
    (!one && !ids.is_empty() && ids.iter().all(is_id)).then(|| format!("[{}]", ids.join(", ")))
}
