//! What `uses:` names.
//!
//! Purpose: of a step `owner/repo[/path]@ref`, an absolute URL, a local path, an image; of a job the file of
//! a workflow. Owner: the step, the job. Invariant: a parsed one has every part that its form needs;
//! nothing here fetches.

use std::fmt;

/// What a step uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    /// A repository's action.
    Repository {
        /// The server's URL, without a slash at its end; `None` is the server's default for actions.
        host: Option<String>,
        /// `owner/repo`.
        repository: String,
        /// The directory in it; empty is the root.
        path: String,
        /// What stands after `@`.
        reference: String,
    },
    /// `./path` in the workspace; GitHub has also `$/path`, in the repository that the workflow is of.
    Local(String),
    /// `docker://image`
    Image(String),
}

/// The workflow that a job calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkflowRef {
    /// `./path/to/file.yml` of the caller's own repository and commit.
    Local(String),
    /// A file of another repository.
    Repository {
        /// The server's URL, without a slash at its end; `None` is the caller's server.
        host: Option<String>,
        /// `owner/repo`.
        repository: String,
        /// The file in it.
        path: String,
        /// What stands after `@`.
        reference: String,
    },
}

/// A `uses:` that names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUses {
    /// Nothing after `@`, or no `@`.
    #[error("the version of the action is missing")]
    NoReference,
    /// No `owner/repo`.
    #[error("this names no action")]
    NoRepository,
    /// White space within.
    #[error("`uses` has white space in it")]
    WhiteSpace,
    /// A path without `./`.
    #[error("a path begins with `./`")]
    BarePath,
    /// An owner or a repository with what no server has in such a name.
    #[error("no repository has such a name")]
    OddName,
    /// `docker:` without the slashes.
    #[error("an image begins with `docker://`")]
    NoSlashes,
    /// Nothing after `docker://`.
    #[error("this names no image")]
    NoImage,
    /// A job's `uses` without a file.
    #[error("this names no workflow")]
    NoWorkflow,
    /// A workflow of another repository without `@`.
    #[error("the version of the workflow is missing")]
    NoWorkflowReference,
    /// A workflow of the own repository with `@`.
    #[error("a workflow of the own repository has no version: it is the caller's")]
    LocalReference,
    /// A step's `uses` with a workflow's file.
    #[error("a step calls no workflow: a job does")]
    WorkflowInStep,
}

impl BadUses {
    /// What to write instead of a text, with what there is of it.
    pub fn instead(self, text: &str) -> String {
        let text = text.trim();
        match self {
            BadUses::NoReference => match cut(text) {
                (name, Some(version)) => format!("write `{name}@{version}`"),
                (name, None) => {
                    let name = name.trim_end_matches('@');
                    format!("add `@` and a version (a tag, a branch or a commit), such as `{name}@v4`")
                }
            },
            BadUses::OddName => match text.rsplit_once('@') {
                Some((name, reference)) if place(cut(name).0).is_some_and(|place| place.is_good()) => {
                    format!("write `{}@{reference}`", cut(name).0)
                }
                _ => "write `owner/repository@version`; names have letters, digits, `.`, `-` and `_`"
                    .to_owned(),
            },
            BadUses::NoSlashes => {
                let image = text.trim_start_matches("docker:").trim_start_matches('/');
                match image.split_once('@') {
                    Some((name, digest)) if digest.starts_with("sha256:") || name.contains(':') => {
                        let whole = if digest.starts_with("sha256:") { image } else { name };
                        format!("write `docker://{whole}`")
                    }
                    // the version of an image stands behind a colon
                    Some((name, version)) => format!("write `docker://{name}:{version}`"),
                    None => format!("write `docker://{image}`"),
                }
            }
            BadUses::WhiteSpace => {
                format!("write `{}`", text.split_whitespace().collect::<Vec<_>>().concat())
            }
            BadUses::BarePath if text == "." => "write `./`".to_owned(),
            BadUses::BarePath => format!("write `./{text}`"),
            _ => self.help().to_owned(),
        }
    }

    /// What to write instead.
    pub fn help(self) -> &'static str {
        match self {
            BadUses::NoReference | BadUses::OddName => "write `owner/repository@version`",
            BadUses::NoSlashes => "write `docker://image:version`",
            BadUses::NoRepository => "write `owner/repository@version`, `./path` or `docker://image`",
            BadUses::WhiteSpace => "take it out",
            BadUses::BarePath => "put `./` in front of it",
            BadUses::NoImage => "write `docker://image:version`",
            BadUses::NoWorkflow => {
                "write `./.forgejo/workflows/FILE.yml` or `owner/repository/.forgejo/workflows/FILE.yml@version`"
            }
            BadUses::NoWorkflowReference => "add `@` and a branch, tag or commit",
            BadUses::LocalReference => "remove `@` and what follows",
            BadUses::WorkflowInStep => "write `uses` directly below the job, without `steps`",
        }
    }
}

/// What stands before a path: server, owner and repository.
struct Place<'a> {
    host: Option<String>,
    repository: String,
    path: &'a str,
}

impl Place<'_> {
    /// Whether a server can have a repository of this name.
    fn is_good(&self) -> bool {
        self.repository.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'))
    }
}

/// `owner/repo#v1` and `owner/repo:v1`: what stands before and behind what is no `@`, and of
/// `git@host:owner/repo` what stands behind the host.
fn cut(text: &str) -> (&str, Option<&str>) {
    let text = match text.split_once(':') {
        Some((host, rest)) if !host.contains('/') && !rest.starts_with('/') => rest,
        _ => text,
    };
    let path = text
        .split_once("://")
        .map_or(0, |(scheme, rest)| scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()));
    match text[path..].split_once(['#', ':']) {
        Some((name, version)) if !version.is_empty() => (&text[..path + name.len()], Some(version)),
        _ => (text, None),
    }
}

/// Cuts `[scheme://host/]owner/repo[/path]`.
fn place(name: &str) -> Option<Place<'_>> {
    let (host, rest) = match name.split_once("://") {
        None => (None, name),
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            if scheme.is_empty() || authority.is_empty() {
                return None;
            }
            (Some(format!("{scheme}://{authority}")), path)
        }
    };
    let mut segments = rest.splitn(3, '/');
    let (owner, repository, path) = (segments.next()?, segments.next()?, segments.next());
    if owner.is_empty() || repository.is_empty() {
        return None;
    }
    let repository = format!("{owner}/{}", repository.trim_end_matches(".git"));
    Some(Place { host, repository, path: path.unwrap_or_default().trim_matches('/') })
}

/// Whether a path is that of a workflow's file.
fn is_workflow(path: &str) -> bool {
    [".yml", ".yaml"].iter().any(|end| path.ends_with(end))
}

/// Whether a text is a path of the own repository that lacks its `./`.
fn is_bare(text: &str) -> bool {
    !text.contains('@') && [".forgejo/", ".gitea/", ".github/"].iter().any(|start| text.starts_with(start))
}

/// A path without `.` and `..`, unless it leads out of where it begins.
fn straight(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.pop().is_none() => return path.to_owned(),
            ".." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl WorkflowRef {
    /// Parses what stands at a job's `uses:`.
    ///
    /// # Errors
    /// See [`BadUses`].
    pub fn parse(text: &str) -> Result<WorkflowRef, BadUses> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("./").or_else(|| text.strip_prefix("$/")) {
            return match path.rsplit_once('@') {
                Some((path, _)) if is_workflow(path) => Err(BadUses::LocalReference),
                _ if is_workflow(path) => Ok(WorkflowRef::Local(straight(path))),
                _ => Err(BadUses::NoWorkflow),
            };
        }
        if text.contains(char::is_whitespace) {
            return Err(BadUses::WhiteSpace);
        }
        if is_bare(text) {
            return Err(BadUses::BarePath);
        }
        let (name, reference) = match text.rsplit_once('@') {
            Some((name, reference)) if !reference.is_empty() => (name, reference),
            Some((name, _)) if is_workflow(name) => return Err(BadUses::NoWorkflowReference),
            None if is_workflow(text) && place(text).is_some() => return Err(BadUses::NoWorkflowReference),
            _ => return Err(BadUses::NoWorkflow),
        };
        match place(name) {
            Some(Place { host, repository, path }) if is_workflow(path) => Ok(WorkflowRef::Repository {
                host,
                repository,
                path: path.to_owned(),
                reference: reference.to_owned(),
            }),
            _ => Err(BadUses::NoWorkflow),
        }
    }
}

impl fmt::Display for WorkflowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkflowRef::Local(path) => write!(f, "./{path}"),
            WorkflowRef::Repository { host, repository, path, reference } => {
                if let Some(host) = host {
                    write!(f, "{host}/")?;
                }
                write!(f, "{repository}/{path}@{reference}")
            }
        }
    }
}

impl Uses {
    /// Parses what stands at `uses:`.
    ///
    /// # Errors
    /// See [`BadUses`].
    pub fn parse(text: &str) -> Result<Uses, BadUses> {
        let text = text.trim();
        if let Some(image) = text.strip_prefix("docker://") {
            return match image {
                "" => Err(BadUses::NoImage),
                image if image.contains(char::is_whitespace) => Err(BadUses::WhiteSpace),
                image => Ok(Uses::Image(image.to_owned())),
            };
        }
        if text == "." || text == ".." || text.starts_with("../") {
            return Err(BadUses::BarePath);
        }
        if ["./", "$/"].iter().any(|start| text.starts_with(start)) {
            return match is_workflow(text) && text.contains("/workflows/") {
                true => Err(BadUses::WorkflowInStep),
                false => Ok(Uses::Local(text.to_owned())),
            };
        }
        if text.contains(char::is_whitespace) {
            return Err(BadUses::WhiteSpace);
        }
        if is_bare(text) {
            return Err(BadUses::BarePath);
        }
        if text.starts_with("docker:") {
            return Err(BadUses::NoSlashes);
        }
        let (name, reference) = match text.rsplit_once('@') {
            Some((name, reference)) if !reference.is_empty() => (name, reference.to_owned()),
            Some(("", _)) => return Err(BadUses::NoRepository),
            _ => return Err(BadUses::NoReference),
        };
        let place = place(name).ok_or(BadUses::NoRepository)?;
        if !place.is_good() {
            return Err(BadUses::OddName);
        }
        let Place { host, repository, path } = place;
        if is_workflow(path) && path.contains("/workflows/") {
            return Err(BadUses::WorkflowInStep);
        }
        Ok(Uses::Repository { host, repository, path: path.to_owned(), reference })
    }

    /// Whether it is `actions/checkout`, of any host and version.
    pub fn is_checkout(&self) -> bool {
        match self {
            Uses::Repository { repository, path, .. } => {
                path.is_empty() && repository.eq_ignore_ascii_case("actions/checkout")
            }
            Uses::Local(_) | Uses::Image(_) => false,
        }
    }
}

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uses::Repository { host, repository, path, reference } => {
                if let Some(host) = host {
                    write!(f, "{host}/")?;
                }
                f.write_str(repository)?;
                if !path.is_empty() {
                    write!(f, "/{path}")?;
                }
                write!(f, "@{reference}")
            }
            Uses::Local(path) => f.write_str(path),
            Uses::Image(image) => write!(f, "docker://{image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let good = [
            "actions/checkout@v4",
            "https://code.forgejo.org/actions/checkout@v4",
            "a/b/some/dir@main",
            "./local",
            "$/.github/actions/own",
            "docker://alpine:3",
        ];
        for text in good {
            assert_eq!(Uses::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Uses::parse("actions/checkout"), Err(BadUses::NoReference));
        for text in ["a/b@ v4", "a/b @v1", "a /b@v1", "docker://a b"] {
            assert_eq!(Uses::parse(text), Err(BadUses::WhiteSpace), "{text}");
        }
        assert_eq!(Uses::parse(".github/actions/x"), Err(BadUses::BarePath));
        assert_eq!(Uses::parse("./a b"), Ok(Uses::Local("./a b".to_owned())));
        for text in [".", "..", "../x"] {
            assert_eq!(Uses::parse(text), Err(BadUses::BarePath), "{text}");
        }
        assert_eq!(Uses::parse("checkout@v4"), Err(BadUses::NoRepository));
        assert_eq!(Uses::parse("https://x@v4"), Err(BadUses::NoRepository));
        assert_eq!(Uses::parse("docker://"), Err(BadUses::NoImage));
        assert_eq!(Uses::parse("a/b/.github/workflows/x.yml@v1"), Err(BadUses::WorkflowInStep));
        assert_eq!(Uses::parse("./.github/workflows/x.yml"), Err(BadUses::WorkflowInStep));
        assert!(Uses::parse("https://data.forgejo.org/Actions/checkout@v3").expect("good").is_checkout());
        assert!(!Uses::parse("actions/checkout/sub@v3").expect("good").is_checkout());
    }

    /// What a help says to write is good.
    #[test]
    fn instead() {
        let rows = [
            ("docker:alpine", "docker://alpine"),
            ("docker:/alpine:3", "docker://alpine:3"),
            ("docker:alpine@v4", "docker://alpine:v4"),
            ("docker:alpine:3@v4", "docker://alpine:3"),
            ("docker:alpine@sha256:ab", "docker://alpine@sha256:ab"),
            ("actions/checkout#v4", "actions/checkout@v4"),
            ("actions/checkout:v4", "actions/checkout@v4"),
            ("https://x:3000/a/b#v4", "https://x:3000/a/b@v4"),
            ("actions/checkout#v4@v4", "actions/checkout@v4"),
            ("actions/checkout:v4@main", "actions/checkout@main"),
            ("git@github.com:a/b@v1", "a/b@v1"),
            (".", "./"),
            ("../x", "./../x"),
            (".github/actions/x", "./.github/actions/x"),
            ("a/b @v1", "a/b@v1"),
            ("actions/checkout", "actions/checkout@v4"),
            ("actions/checkout@", "actions/checkout@v4"),
        ];
        for (text, expected) in rows {
            let error = Uses::parse(text).expect_err(text);
            let help = error.instead(text);
            assert!(help.contains(&format!("`{expected}`")), "{text}: {help}");
            assert!(Uses::parse(expected).is_ok(), "{expected}");
        }
        let odd = Uses::parse("ä/b@v1").expect_err("no name");
        assert_eq!((odd, odd.instead("ä/b@v1").contains("letters, digits")), (BadUses::OddName, true));
    }

    #[test]
    fn workflows() {
        let good = [
            "./.forgejo/workflows/a.yml",
            "./a.yaml",
            "o/r/.forgejo/workflows/a.yml@v1",
            "https://code.forgejo.org/o/r/.forgejo/workflows/a.yml@refs/heads/main",
            "o/r/a.yml@x/y",
        ];
        for text in good {
            assert_eq!(WorkflowRef::parse(text).expect(text).to_string(), text);
        }
        let local = |path: &str| Ok(WorkflowRef::Local(path.to_owned()));
        assert_eq!(
            WorkflowRef::parse("./.forgejo/workflows/sub/../a.yml"),
            local(".forgejo/workflows/a.yml")
        );
        assert_eq!(WorkflowRef::parse("./a/../../a.yml"), local("a/../../a.yml"));
        let bad = [
            ("./.forgejo/workflows/a.yml@main", BadUses::LocalReference),
            ("./.forgejo/workflows", BadUses::NoWorkflow),
            ("o/r/.forgejo/workflows/a.yml", BadUses::NoWorkflowReference),
            ("o/r/a.yml@", BadUses::NoWorkflowReference),
            (".forgejo/workflows/a.yml", BadUses::BarePath),
            ("o/r/a.yml@ v1", BadUses::WhiteSpace),
            ("o/r@v1", BadUses::NoWorkflow),
            ("a.yml", BadUses::NoWorkflow),
            ("actions/checkout@v4", BadUses::NoWorkflow),
            ("https://x/a.yml@v1", BadUses::NoWorkflow),
            ("", BadUses::NoWorkflow),
        ];
        for (text, expected) in bad {
            assert_eq!(WorkflowRef::parse(text), Err(expected), "{text}");
        }
    }
}
