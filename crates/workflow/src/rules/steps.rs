//! The rules that look at jobs and steps.
//!
//! Purpose: walks a model once and asks each rule that is on. Owner: [`super::check`].

use doc::{Diagnostic, Source, Span, did_you_mean};

use super::{
    Levels, Rule, cache, compare, exclude, half, property, repeat, script,
    untrusted::{self, Reader},
};
use crate::{
    Action, Condition, Container, ContextName, Credentials, Defaults, Image, Job, OrExpr, Runs, Site, Step,
    StepAction, Template, Uses, Variables, Workflow, WorkflowRef,
    expr::tree::{Accessor, AstKind},
    lower::Lost,
    matrix,
};

struct Look<'a> {
    source: &'a Source,
    levels: &'a Levels,
    found: &'a mut Vec<Diagnostic>,
}

/// Whose `if`.
#[derive(Clone, Copy)]
enum Whose {
    Job,
    Step,
}

/// What a step has from where it stands.
struct Around<'a> {
    /// The shell of one without a shell of its own.
    defaults: Defaults,
    windows: bool,
    /// The variables that it sees, the nearest last.
    env: Vec<&'a Variables>,
}

pub(super) fn workflow(workflow: &Workflow, lost: &Lost, levels: &Levels, found: &mut Vec<Diagnostic>) {
    let mut look = Look { source: &workflow.source, levels, found };
    look.shell(workflow.defaults.shell.as_ref());
    for job in &workflow.jobs {
        look.job(job, workflow);
    }
    if levels.is_on(Rule::HalfExpression) {
        half::find(&workflow.source, found);
    }
    property::workflow(workflow, lost, found);
}

pub(super) fn action(action: &Action, lost: &Lost, levels: &Levels, found: &mut Vec<Diagnostic>) {
    let mut look = Look { source: &action.source, levels, found };
    match &action.runs {
        Runs::Composite { steps } => {
            let around = Around { defaults: Defaults::default(), windows: false, env: Vec::new() };
            look.steps(steps, &around);
        }
        Runs::Docker { image, .. } => {
            if let Image::Registry(name) = &image.value {
                look.image(name, image.span);
            }
        }
        Runs::Script { .. } => {}
    }
    if levels.is_on(Rule::HalfExpression) {
        half::find(&action.source, found);
    }
    property::action(action, lost, found);
}

impl Look<'_> {
    fn job(&mut self, job: &Job, workflow: &Workflow) {
        self.condition(&job.condition, Whose::Job);
        if let Some(OrExpr::Written(uses)) = job.call.as_ref().map(|call| &call.uses)
            && let WorkflowRef::Repository { reference, .. } = &uses.value
        {
            self.pin(reference, uses.span);
        }
        if let Some(matrix) = job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref()) {
            let source = self.source;
            let before = self.found.len();
            exclude::refused(matrix, source, self.found);
            if self.found.len() == before {
                repeat::find(matrix, source, self.levels, self.found);
            }
            if self.levels.is_on(Rule::LooseInclude) {
                self.found.extend(matrix::loose_inclusions(matrix).map(|span| matrix::loose(source, span)));
            }
        }
        let services = job.services.iter().filter_map(|services| services.value.written()).flatten();
        let containers = job.container.iter().map(|container| &container.value);
        for container in containers.chain(services.map(|service| &service.container)) {
            self.password(container);
        }
        let labels = job.runs_on.iter().flat_map(|runs_on| &runs_on.labels);
        let windows = labels.into_iter().any(|label| {
            let label = label.raw().to_ascii_lowercase();
            // of a matrix it may be
            label.contains("windows") || label.contains("${{")
        });
        self.shell(job.defaults.shell.as_ref());
        let defaults = job.defaults.or(&workflow.defaults);
        self.steps(&job.steps, &Around { defaults, windows, env: vec![&workflow.env, &job.env] });
    }

    /// A password that everybody can read.
    fn password(&mut self, container: &OrExpr<Container>) {
        let credentials = container.written().and_then(|container| container.credentials.as_ref());
        let Some(OrExpr::Written(Credentials { password, .. })) = credentials else { return };
        if password.literal().is_none_or(|text| text.trim().is_empty())
            || !self.levels.is_on(Rule::PasswordInClear)
        {
            return;
        }
        self.found.push(
            Rule::PasswordInClear
                .warning("a password in the file")
                .at(self.source, password.span())
                .label("everybody who reads the repository has it")
                .help("change it, make a secret of it, and write `${{ secrets.NAME }}` here"),
        );
    }

    fn steps(&mut self, steps: &[Step], around: &Around<'_>) {
        for step in steps {
            self.condition(&step.condition, Whose::Step);
            match &step.action {
                StepAction::Run { script, shell, .. } => {
                    self.shell(shell.as_ref());
                    self.run(step, script, around);
                }
                StepAction::Uses { uses, with } => self.uses(step, &uses.value, uses.span, with, around),
                StepAction::Parallel(inner) => self.steps(inner, around),
                StepAction::Computed { .. }
                | StepAction::Wait(_)
                | StepAction::WaitAll
                | StepAction::Cancel(_) => {}
            }
        }
    }

    fn condition(&mut self, condition: &Condition, whose: Whose) {
        if let Some(expr) = condition.whole().filter(|_| self.levels.is_on(Rule::IfAlwaysTrue)) {
            let site = match whose {
                Whose::Job => Site::JobIf,
                Whose::Step => Site::StepIf,
            };
            self.found.extend(compare::constant_text(expr.root(), site, self.source));
        }
        for expr in condition.exprs() {
            if self.levels.is_on(Rule::IfAlwaysTrue) {
                compare::text_alone(expr.root(), self.source, self.found);
            }
        }
        if let Whose::Job = whose {
            self.env_in_job_if(condition);
        }
        if !self.levels.is_on(Rule::SecretInIf) {
            return;
        }
        for expr in condition.exprs() {
            let (mut place, mut name) = (None, None);
            expr.root().walk(&mut |part| match &part.kind {
                AstKind::Context(ContextName::Secrets) => {
                    place.get_or_insert(part.span);
                }
                AstKind::Access { base, path } => {
                    if let (AstKind::Context(ContextName::Secrets), Some(Accessor::Name(first))) =
                        (&base.kind, path.first())
                    {
                        name.get_or_insert(first.as_str());
                    }
                }
                _ => {}
            });
            let Some(span) = place else { continue };
            let name = name.unwrap_or("KEY");
            let help = match whose {
                Whose::Job => {
                    "let a step of a job that this one needs look at it, and give out what it found"
                        .to_owned()
                }
                Whose::Step => format!(
                    "below the job's `env` write `HAS_{name}: ${{{{ secrets.{name} != '' }}}}`, and here `env.HAS_{name} == 'true'`"
                ),
            };
            self.found.push(
                Rule::SecretInIf
                    .warning("a secret in an `if`")
                    .at(self.source, span)
                    .label("GitHub refuses it here")
                    .note("Forgejo takes it, GitHub refuses the whole workflow")
                    .help(help),
            );
        }
    }

    /// GitHub looks at a job's `if` before there is an environment.
    fn env_in_job_if(&mut self, condition: &Condition) {
        if !self.levels.is_on(Rule::EnvInJobIf) {
            return;
        }
        for expr in condition.exprs() {
            let mut place = None;
            expr.root().walk(&mut |part| {
                if matches!(part.kind, AstKind::Context(ContextName::Env)) {
                    place.get_or_insert(part.span);
                }
            });
            let Some(span) = place else { continue };
            self.found.push(
                Rule::EnvInJobIf
                    .warning("`env` in a job's `if`")
                    .at(self.source, span)
                    .label("GitHub refuses it here")
                    .note("Forgejo takes it, GitHub refuses the whole workflow")
                    .help("a variable of the repository is there: `vars.NAME`; or move it to the `if` of the steps"),
            );
        }
    }

    /// A shell that is none: without `{0}` the script is not given to it.
    fn shell(&mut self, shell: Option<&Template>) {
        const KNOWN: [&str; 7] = ["bash", "sh", "python", "node", "pwsh", "powershell", "cmd"];
        let Some((template, name)) = shell.and_then(|shell| Some((shell, shell.literal()?.trim()))) else {
            return;
        };
        if name.is_empty() || name.contains("{0}") || KNOWN.contains(&name) {
            return;
        }
        if let Some(known) = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name)) {
            self.found.push(
                Rule::GithubOnly
                    .warning(format!("Forgejo's runner knows no shell `{name}`"))
                    .at(self.source, template.span())
                    .label("only GitHub reads it without regard to case")
                    .help(format!("write `{known}`")),
            );
            return;
        }
        let fault = Diagnostic::error(format!("the shell `{name}` is unknown"))
            .at(self.source, template.span())
            .label("no server has a shell of this name");
        self.found.push(match did_you_mean(name, KNOWN) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault.help(format!("write `{name} {{0}}` for a program that is given the script's file")),
        });
    }

    fn run(&mut self, step: &Step, text: &Template, around: &Around<'_>) {
        let shell = step.shell(&around.defaults);
        let reader = Reader::of(shell.map(Template::raw));
        self.untrusted(text, reader, step, around);
        if let StepAction::Run { shell: Some(shell), .. } = &step.action {
            self.untrusted(shell, Reader::Other, step, around);
        }
        if self.levels.is_on(Rule::RetiredCommand) {
            script::retired(text, self.source, self.found);
        }
        let lossy = shell.is_none() && !around.windows;
        if lossy && self.levels.is_on(Rule::LostPipeFailure) {
            self.found.extend(script::pipe(text, self.source));
        }
    }

    /// What of a script is text of strangers.
    fn untrusted(&mut self, script: &Template, reader: Reader, step: &Step, around: &Around<'_>) {
        if self.levels.is_on(Rule::UntrustedInput) {
            let env: Vec<&Variables> = around.env.iter().copied().chain([&step.env]).collect();
            untrusted::find(script, reader, &env, self.source, self.found);
        }
    }

    fn uses(&mut self, step: &Step, uses: &Uses, span: Span, with: &Variables, around: &Around<'_>) {
        let input = |wanted: &str| {
            let found = with.list().iter().find(|given| given.name.value.eq_ignore_ascii_case(wanted));
            found.map(|given| &given.value)
        };
        match uses {
            Uses::Repository { repository, path, reference, .. } => {
                let own = path.is_empty();
                if own
                    && repository.eq_ignore_ascii_case("actions/github-script")
                    && let Some(script) = input("script")
                {
                    self.untrusted(script, Reader::Node, step, around);
                }
                let saves = repository.eq_ignore_ascii_case("actions/cache") && (own || path == "save");
                if let Some(key) = input("key").filter(|_| saves && self.levels.is_on(Rule::ConstantCacheKey))
                {
                    self.found.extend(cache::key(key, self.source));
                }
                self.pin(reference, span);
            }
            Uses::Image(image) => self.image(image, span),
            Uses::Local(_) => {}
        }
    }

    fn pin(&mut self, reference: &str, span: Span) {
        let is_sha =
            matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_sha || !self.levels.is_on(Rule::UnpinnedAction) {
            return;
        }
        self.found.push(
            Rule::UnpinnedAction
                .warning(format!("`{reference}` is not a commit"))
                .at(self.source, span)
                .label("what runs can change without a change here")
                .help(format!("write the commit's 40 digits in its place, and `# {reference}` behind it")),
        );
    }

    fn image(&mut self, image: &str, span: Span) {
        if image.contains("@sha256:") || !self.levels.is_on(Rule::UnpinnedAction) {
            return;
        }
        self.found.push(
            Rule::UnpinnedAction
                .warning(format!("the image `{image}` is not pinned"))
                .at(self.source, span)
                .label("what runs can change without a change here")
                .help("add `@sha256:` and its digest"),
        );
    }
}
