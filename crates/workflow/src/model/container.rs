//! Containers of a job.
//!
//! Purpose: what stands under `container` and `services`. Owner: [`super::Job`].

use doc::{Span, Spanned};

use super::{OrExpr, Variables};
use crate::Template;

/// A container: the job's, or a service.
#[derive(Clone, Debug)]
pub struct Container {
    /// `image`; one that evaluates to nothing is no container.
    pub image: Option<Template>,
    /// `credentials`
    pub credentials: Option<OrExpr<Credentials>>,
    /// `env`
    pub env: Variables,
    /// `ports`
    pub ports: Vec<Template>,
    /// `volumes`
    pub volumes: Vec<Template>,
    /// `options`
    pub options: Option<Template>,
    /// `cmd`; only Forgejo and Gitea have it.
    pub cmd: Vec<Template>,
    /// `entrypoint` of a service; only GitHub has it.
    pub entrypoint: Option<Template>,
    /// `command` of a service; only GitHub has it.
    pub command: Option<Template>,
    /// Where it stands.
    pub span: Span,
}

/// Who asks a registry for an image.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `username`
    pub username: Template,
    /// `password`
    pub password: Template,
}

/// A container beside a job.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its key, which is also its host name.
    pub name: Spanned<String>,
    /// What runs.
    pub container: OrExpr<Container>,
}
