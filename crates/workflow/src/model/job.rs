//! A job.
//!
//! Purpose: what stands under `jobs`. Owner: [`super::Workflow`].
//! Invariant: a job has steps and `runs-on`, or it calls a workflow.

use doc::Spanned;

use super::{
    Concurrency, Container, Defaults, Environment, MachineImage, OrExpr, Permissions, Service, Step,
    Variable, Variables,
};
use crate::{Condition, Template, Value, WorkflowRef};

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
    /// `runs-on`; of a job that calls a workflow it says only who runs the call, and may be absent.
    pub runs_on: Option<RunsOn>,
    /// `strategy`.
    pub strategy: Option<Strategy>,
    /// `permissions`; Forgejo reads over them.
    pub permissions: Option<Spanned<Permissions>>,
    /// `environment`; Forgejo reads over it.
    pub environment: Option<Environment>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `enable-openid-connect`.
    pub openid_connect: Option<Spanned<bool>>,
    /// `container`, with its key's place.
    pub container: Option<Spanned<OrExpr<Container>>>,
    /// `services`, with their key's place.
    pub services: Option<Spanned<OrExpr<Vec<Service>>>>,
    /// `env` of the job.
    pub env: Variables,
    /// `defaults.run` of the job.
    pub defaults: Defaults,
    /// `outputs`, evaluated when its steps are done.
    pub outputs: Vec<Variable>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Template>,
    /// `cancel-timeout-minutes`; only GitHub reads it.
    pub cancel_timeout_minutes: Option<Template>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Template>,
    /// `snapshot`; only GitHub has it.
    pub snapshot: Option<MachineImage>,
    /// `steps`; none in a job that calls a workflow.
    pub steps: Vec<Step>,
    /// `uses`, `with` and `secrets`: the reusable workflow that it calls.
    pub call: Option<Call>,
}

/// The call of a reusable workflow.
#[derive(Clone, Debug)]
pub struct Call {
    /// `uses`; Forgejo takes expressions in it.
    pub uses: OrExpr<Spanned<WorkflowRef>>,
    /// `with`: its inputs.
    pub with: Vec<Variable>,
    /// `secrets`; without, it has none but the token.
    pub secrets: Option<CallSecrets>,
}

impl Call {
    /// All its expressions.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let secrets: &[Variable] = match &self.secrets {
            Some(CallSecrets::Named(named)) => named,
            Some(CallSecrets::Inherit(_)) | None => &[],
        };
        let values = self.with.iter().chain(secrets).map(|variable| &variable.value);
        values.chain(self.uses.expr())
    }
}

/// The secrets that a called workflow has.
#[derive(Clone, Debug)]
pub enum CallSecrets {
    /// `inherit`: all of the caller. Where that stands.
    Inherit(doc::Span),
    /// These.
    Named(Vec<Variable>),
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
#[derive(Clone, Debug, Default)]
pub struct Strategy {
    /// `strategy: ${{ fromJSON(…) }}`; the rest is then absent.
    pub whole: Option<Template>,
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
    /// Whether it is the same in every run.
    pub(crate) fn is_constant(&self) -> bool {
        match &self.kind {
            DataKind::Value(_) => true,
            DataKind::Template(_) => false,
            DataKind::List(items) => items.iter().all(Data::is_constant),
            DataKind::Map(entries) => {
                entries.iter().all(|(name, data)| !name.value.contains("${{") && data.is_constant())
            }
        }
    }

    fn templates<'a>(&'a self, found: &mut Vec<&'a Template>) {
        match &self.kind {
            DataKind::Value(_) => {}
            DataKind::Template(template) => found.push(template),
            DataKind::List(items) => items.iter().for_each(|item| item.templates(found)),
            DataKind::Map(entries) => entries.iter().for_each(|(_, data)| data.templates(found)),
        }
    }
}
