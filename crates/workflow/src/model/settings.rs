//! What workflow, job and step have in common.
//!
//! Purpose: variables, defaults, concurrency, permissions, environments. Owner: [`super`].

use doc::{Span, Spanned};

use crate::{Condition, Template};

/// What stands in the file, or one expression that gives it.
#[derive(Clone, Debug)]
pub enum OrExpr<T> {
    /// As written.
    Written(T),
    /// `${{ … }}` in its place.
    Expr(Template),
}

impl<T> OrExpr<T> {
    /// What is written, if anything is.
    pub fn written(&self) -> Option<&T> {
        match self {
            OrExpr::Written(written) => Some(written),
            OrExpr::Expr(_) => None,
        }
    }

    /// The expression that stands in its place.
    pub fn expr(&self) -> Option<&Template> {
        match self {
            OrExpr::Written(_) => None,
            OrExpr::Expr(template) => Some(template),
        }
    }
}

/// An `env` or `with`.
pub type Variables = OrExpr<Vec<Variable>>;

impl Variables {
    /// Those that are written down.
    pub fn list(&self) -> &[Variable] {
        self.written().map_or(&[], Vec::as_slice)
    }
}

impl Default for Variables {
    fn default() -> Variables {
        OrExpr::Written(Vec::new())
    }
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

/// `concurrency`.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// `group`; in Forgejo it may be absent.
    pub group: Option<Template>,
    /// `cancel-in-progress`.
    pub cancel_in_progress: Option<Template>,
    /// `queue`; only GitHub has it.
    pub queue: Option<Spanned<Queue>>,
    /// Where its key stands.
    pub span: Span,
}

/// How many runs of a concurrency group may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// One, the newest.
    Single,
    /// As many as there are.
    Max,
}

/// `permissions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// `read-all`
    ReadAll,
    /// `write-all`
    WriteAll,
    /// These; every other is none.
    Listed(Vec<Permission>),
}

/// What a token may do with one kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The kind, one of the known.
    pub scope: Spanned<&'static str>,
    /// How far it goes.
    pub access: Spanned<Access>,
}

/// How far a permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Not at all.
    None,
    /// To read.
    Read,
    /// To read and change.
    Write,
}

/// `environment` of a job.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name.
    pub name: Template,
    /// `url`, evaluated when the steps are done.
    pub url: Option<Template>,
    /// `deployment`; only GitHub has it.
    pub deployment: Option<Template>,
}

/// `snapshot` of a job: the image that GitHub makes of its machine.
#[derive(Clone, Debug)]
pub struct MachineImage {
    /// `image-name`
    pub name: Spanned<String>,
    /// `if`
    pub condition: Option<Condition>,
    /// `version`
    pub version: Option<Spanned<String>>,
}
