//! The typed model of a workflow.
//!
//! Purpose: what a workflow says, with a place for everything that can be complained about.
//! Owner: `lower` makes it; `plan` and `expand` read it; shared as `Arc<Workflow>`.
//! Invariants: ids are unique and well formed; every job either has steps or is a reusable workflow;
//! expressions are checked. What the engine cannot do yet is still here: `support` speaks of it.

use doc::{Diagnostic, Source, Spanned};

use crate::{Condition, Contexts, Filters, Template, Uses, Value, settings};

/// Most jobs of one workflow.
pub(crate) const MAX_JOBS: usize = 1000;

/// Most steps of one job.
pub(crate) const MAX_STEPS: usize = 1000;

/// A workflow.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The file.
    pub source: Source,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `run-name`.
    pub run_name: Option<Template>,
    /// `on`: what starts it, in the order of the file.
    pub on: Vec<Trigger>,
    /// `env` of the workflow.
    pub env: Vec<Variable>,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// The jobs in the order of the file, at least one.
    pub jobs: Vec<Job>,
    /// Keys whose meaning is not modelled, with their key's place.
    pub other: Vec<Spanned<OtherKey>>,
}

/// An event that starts a workflow.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its name, such as `push`.
    pub event: Spanned<String>,
    /// Which happenings of the event start the workflow.
    pub filters: Filters,
    /// `inputs` of `workflow_dispatch` and `workflow_call`.
    pub inputs: Vec<Input>,
}

/// An input of a workflow.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `type`.
    pub kind: InputKind,
    /// `required`.
    pub required: bool,
    /// `default`, of the input's kind.
    pub default: Option<Value>,
}

/// The type of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Any text; also what `environment` is here.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of these.
    Choice(Vec<String>),
}

/// A variable of an `env`, an output of a job, an entry of `with`.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name, case kept.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Template,
}

/// `defaults.run`.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// `shell`.
    pub shell: Option<Template>,
    /// `working-directory`.
    pub working_directory: Option<Template>,
}

impl Defaults {
    /// These, and where they are silent those of `outer`.
    #[must_use]
    pub fn or(&self, outer: &Defaults) -> Defaults {
        Defaults {
            shell: self.shell.clone().or_else(|| outer.shell.clone()),
            working_directory: self.working_directory.clone().or_else(|| outer.working_directory.clone()),
        }
    }
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its key under `jobs`.
    pub id: Spanned<String>,
    /// `name`.
    pub name: Option<Template>,
    /// `needs`.
    pub needs: Vec<Spanned<String>>,
    /// `if`.
    pub condition: Condition,
    /// `runs-on`; absent in a job that calls a reusable workflow.
    pub runs_on: Option<RunsOn>,
    /// `strategy`.
    pub strategy: Option<Strategy>,
    /// `env` of the job.
    pub env: Vec<Variable>,
    /// `defaults.run` of the job.
    pub defaults: Defaults,
    /// `outputs`, evaluated when its steps are done.
    pub outputs: Vec<Variable>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// `steps`.
    pub steps: Vec<Step>,
    /// `uses`: the reusable workflow that it calls.
    pub uses: Option<Spanned<String>>,
    /// Keys whose meaning is not modelled, with their key's place: `container`, `services`, ….
    pub other: Vec<Spanned<OtherKey>>,
}

/// A key of a job that is known and kept, and that no stage reads yet but `support`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKey {
    /// `container`
    Container,
    /// `services`
    Services,
    /// `environment`
    Environment,
    /// `concurrency`
    Concurrency,
    /// `permissions`
    Permissions,
    /// `with` or `secrets` of a reusable workflow
    CallArguments,
}

/// `runs-on`.
#[derive(Clone, Debug)]
pub struct RunsOn {
    /// One per label as written; one that is a single expression may give a list.
    pub labels: Vec<Template>,
    /// `group` of the map form.
    pub group: Option<Template>,
    /// Where it stands.
    pub span: doc::Span,
}

/// `strategy`.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// `matrix`.
    pub matrix: Option<Matrix>,
    /// `fail-fast`; true without.
    pub fail_fast: Option<Template>,
    /// `max-parallel`.
    pub max_parallel: Option<Template>,
}

/// `strategy.matrix`.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// `matrix: ${{ fromJSON(…) }}`
    Expr(Template),
    /// The written form.
    Written {
        /// Each variable and its values.
        axes: Vec<(Spanned<String>, Data)>,
        /// `include`.
        include: Option<Data>,
        /// `exclude`.
        exclude: Option<Data>,
        /// Where the matrix stands.
        span: doc::Span,
    },
}

/// Any value of a document, with expressions in its text.
#[derive(Clone, Debug)]
pub struct Data {
    /// Where it stands.
    pub span: doc::Span,
    /// What it is.
    pub kind: DataKind,
}

/// What a [`Data`] is.
#[derive(Clone, Debug)]
pub enum DataKind {
    /// A constant.
    Value(Value),
    /// Text with expressions.
    Template(Template),
    /// A list.
    List(Vec<Data>),
    /// A map.
    Map(Vec<(Spanned<String>, Data)>),
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// `id`.
    pub id: Option<Spanned<String>>,
    /// `name`.
    pub name: Option<Template>,
    /// `if`.
    pub condition: Condition,
    /// `run` or `uses`.
    pub action: StepAction,
    /// `env` of the step.
    pub env: Vec<Variable>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// Where the step stands.
    pub span: doc::Span,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepAction {
    /// `run`
    Run {
        /// The script.
        script: Template,
        /// `shell`; see [`crate::Shell::parse`] for its value.
        shell: Option<Template>,
        /// `working-directory`.
        working_directory: Option<Template>,
    },
    /// `uses`
    Uses {
        /// What.
        uses: Spanned<Uses>,
        /// `with`.
        with: Vec<Variable>,
    },
}

impl Workflow {
    /// Its name, else the file's.
    pub fn title(&self) -> &str {
        match &self.name {
            Some(name) => &name.value,
            None => self.source.name().rsplit('/').next().unwrap_or_default(),
        }
    }

    /// The title of a run, by `run-name`: one line, at most 255 characters, as the server cuts it; none
    /// without `run-name`, or where its value is empty. Of `contexts` it reads `github`, `inputs` and
    /// `vars`: a `github.token` in there is not masked here.
    ///
    /// # Errors
    /// An expression without a value.
    pub fn run_title(&self, contexts: &Contexts) -> Result<Option<String>, Vec<Diagnostic>> {
        const LONGEST: usize = 255;
        let Some(template) = &self.run_name else { return Ok(None) };
        let text = settings::text(template, contexts)?;
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let title: String = line.chars().take(LONGEST).collect();
        Ok(Some(title).filter(|title| !title.is_empty()))
    }

    /// A job by its id, compared exactly.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.value == id)
    }

    /// The trigger of an event.
    pub fn trigger(&self, event: &str) -> Option<&Trigger> {
        self.on.iter().find(|trigger| trigger.event.value == event)
    }

    /// The event of a run that names none: the only one of the workflow, else `push`.
    pub fn default_event(&self) -> &str {
        match self.on.as_slice() {
            [only] => &only.event.value,
            _ => "push",
        }
    }
}

impl Matrix {
    /// All its expressions.
    pub(crate) fn templates(&self) -> Vec<&Template> {
        let mut found = Vec::new();
        match self {
            Matrix::Expr(template) => found.push(template),
            Matrix::Written { axes, include, exclude, .. } => {
                axes.iter()
                    .map(|(_, data)| data)
                    .chain(include)
                    .chain(exclude)
                    .for_each(|data| data.templates(&mut found));
            }
        }
        found
    }
}

impl Data {
    fn templates<'a>(&'a self, found: &mut Vec<&'a Template>) {
        match &self.kind {
            DataKind::Value(_) => {}
            DataKind::Template(template) => found.push(template),
            DataKind::List(items) => items.iter().for_each(|item| item.templates(found)),
            DataKind::Map(entries) => entries.iter().for_each(|(_, data)| data.templates(found)),
        }
    }
}

impl Step {
    /// What a step without a name is called: GitHub's `Run` and the first line, or the action.
    pub fn title(&self) -> String {
        match &self.action {
            StepAction::Run { script, .. } => {
                let first = script.raw().lines().find(|line| !line.trim().is_empty());
                format!("Run {}", first.unwrap_or_default().trim())
            }
            StepAction::Uses { uses, .. } => format!("Run {}", uses.value),
        }
    }

    /// The step's shell by its own key, else by the defaults, else bash.
    ///
    /// Gives the template to evaluate; [`crate::Shell::parse`] reads its value. `None` means [`crate::Shell::Bash`].
    pub fn shell<'a>(&'a self, defaults: &'a Defaults) -> Option<&'a Template> {
        match &self.action {
            StepAction::Run { shell, .. } => shell.as_ref().or(defaults.shell.as_ref()),
            StepAction::Uses { .. } => None,
        }
    }
}
