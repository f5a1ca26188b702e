//! An action.
//!
//! Purpose: what an action.yml says. Owner: [`crate::parse_action`] makes it.
//! Invariants: every kind of action has what it needs to run; expressions are checked.

use doc::{Source, Spanned};

use super::{Step, Variables};
use crate::{Condition, Template};

/// An action.
#[derive(Clone, Debug)]
pub struct Action {
    /// The file.
    pub source: Source,
    /// `name`
    pub name: Option<Spanned<String>>,
    /// `description`
    pub description: Option<Spanned<String>>,
    /// `author`
    pub author: Option<Spanned<String>>,
    /// `inputs`, in the order of the file.
    pub inputs: Vec<ActionInput>,
    /// `outputs`
    pub outputs: Vec<ActionOutput>,
    /// `runs`
    pub runs: Runs,
    /// `branding`
    pub branding: Option<Branding>,
}

/// An input of an action. All of them are text.
#[derive(Clone, Debug)]
pub struct ActionInput {
    /// Its name; names compare without case.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `required`; runners do not check it.
    pub required: bool,
    /// `default`
    pub default: Option<Template>,
    /// `deprecationMessage`
    pub deprecation: Option<Spanned<String>>,
}

/// An output of an action.
#[derive(Clone, Debug)]
pub struct ActionOutput {
    /// Its name.
    pub name: Spanned<String>,
    /// `description`, empty without.
    pub description: String,
    /// `value`: of a composite action, from its steps.
    pub value: Option<Template>,
}

/// How an action runs.
#[derive(Clone, Debug)]
pub enum Runs {
    /// `composite`: steps.
    Composite {
        /// They.
        steps: Vec<Step>,
    },
    /// A file of the action, by one of these programs.
    Script {
        /// Which.
        using: Spanned<Using>,
        /// `main`
        main: Spanned<String>,
        /// `pre` and `pre-if`.
        pre: Option<Hook>,
        /// `post` and `post-if`.
        post: Option<Hook>,
    },
    /// `docker`: a container.
    Docker {
        /// `image`
        image: Spanned<Image>,
        /// `env`
        env: Variables,
        /// `entrypoint`
        entrypoint: Option<Spanned<String>>,
        /// `args`
        args: Vec<Template>,
        /// `pre-entrypoint` and `pre-if`.
        pre: Option<Hook>,
        /// `post-entrypoint` and `post-if`.
        post: Option<Hook>,
    },
}

/// What runs the script of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Using {
    /// `node12` to `node24`: Node of about this version.
    Node(u8),
    /// `go`: `go run`, in Forgejo and Gitea.
    Go,
    /// `sh`: a shell script, in Forgejo.
    Sh,
}

/// What runs before a job's first step, or after its last.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The file, or the container's entry point.
    pub entry: Spanned<String>,
    /// Whether it runs; none is `always()`.
    pub condition: Option<Condition>,
}

/// The image of a docker action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A Dockerfile of the action: its path.
    Dockerfile(String),
    /// `docker://…`, without that.
    Registry(String),
}

/// The badge of an action.
#[derive(Clone, Debug, Default)]
pub struct Branding {
    /// `icon`
    pub icon: Option<Spanned<String>>,
    /// `color`
    pub color: Option<Spanned<String>>,
}

impl Action {
    /// An input by its name, case aside.
    pub fn input(&self, name: &str) -> Option<&ActionInput> {
        self.inputs.iter().find(|input| input.name.value.eq_ignore_ascii_case(name))
    }
}
