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
    /// Nothing after `docker://`, or after its colon.
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
        // what is still wrong is worse than no advice
        let good = self.better(text).filter(|better| Uses::parse(better).is_ok());
        match (self, good) {
            (BadUses::NoReference, Some(better)) if cut(text.trim_end_matches('@')).1.is_none() => {
                format!("add `@` and a version (a tag, a branch or a commit), such as `{better}`")
            }
            (_, Some(better)) => format!("write `{better}`"),
            (BadUses::OddName, None) => {
                "write `owner/repository@version`; names have letters, digits, `.`, `-` and `_`".to_owned()
            }
            (_, None) => self.help().to_owned(),
        }
    }

    /// What was probably meant by a text.
    fn better(self, text: &str) -> Option<String> {
        match self {
            BadUses::NoReference => {
                let scheme = if has_port(text) { "https://" } else { "" };
                let whole = format!("{scheme}{}", text.trim_end_matches('@'));
                let (name, version) = cut(&whole);
                let name = name.trim_end_matches(['@', '#', ':']);
                let is_good = place(name).is_some_and(|place| place.is_good());
                is_good.then(|| format!("{name}@{}", version.unwrap_or("v4")))
            }
            BadUses::OddName if has_port(text) => Some(format!("https://{text}")),
            BadUses::OddName => split(text).map(|(name, reference)| format!("{}@{reference}", cut(name).0)),
            BadUses::NoSlashes => {
                let image = text.trim_start_matches("docker:").trim_start_matches('/');
                Some(match image.split_once('@') {
                    Some((name, digest)) if digest.starts_with("sha256:") || name.contains(':') => {
                        let whole = if digest.starts_with("sha256:") { image } else { name };
                        format!("docker://{whole}")
                    }
                    // the version of an image stands behind a colon
                    Some((name, version)) => format!("docker://{name}:{version}"),
                    None => format!("docker://{image}"),
                })
            }
            BadUses::WhiteSpace => {
                let before = text.split_once(" #").map_or(text, |(before, _comment)| before);
                Some(before.split_whitespace().collect::<Vec<_>>().concat())
            }
            BadUses::BarePath if text == "." => Some("./".to_owned()),
            BadUses::BarePath => Some(format!("./{text}")),
            _ => None,
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

/// Cuts at the `@` in front of the version: as Forgejo's runner does at the first behind the owner, so that a version
/// can have one as well, `pkg@1.0`.
fn split(text: &str) -> Option<(&str, &str)> {
    let host = text.split_once("://").map_or(0, |(scheme, rest)| match rest.find('/') {
        Some(end) => scheme.len() + 4 + end,
        None => text.len(),
    });
    let behind = text[host..].find('/').map(|slash| host + slash);
    let at = behind.and_then(|slash| text[slash..].find('@').map(|at| slash + at));
    // an owner without a repository, `checkout@v4`
    let at = at.or_else(|| text.rfind('@'))?;
    Some((&text[..at], &text[at + 1..]))
}

/// Whether a text begins with a server and its port, `example.org:3000/`, and no scheme.
fn has_port(text: &str) -> bool {
    let port = text.split_once('/').and_then(|(host, _)| host.split_once(':')).map(|(_, port)| port);
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
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
pub(crate) fn straight(path: &str) -> String {
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
        let (name, reference) = match split(text) {
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
                image if image.is_empty() || image.ends_with([':', '@']) => Err(BadUses::NoImage),
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
        let (name, reference) = match split(text) {
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
            "a/b@pkg@1.0",
            "a/b/c@refs/tags/x@y",
            "https://me@h.org/a/b@x@y",
        ];
        for text in good {
            assert_eq!(Uses::parse(text).expect(text).to_string(), text);
        }
        let Ok(Uses::Repository { path, reference, .. }) = Uses::parse("a/b/c@refs/tags/x@y") else {
            panic!("no repository")
        };
        assert_eq!((path.as_str(), reference.as_str()), ("c", "refs/tags/x@y"));
        assert_eq!(Uses::parse("checkout@v4/x"), Err(BadUses::NoRepository));
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
        for text in ["docker://", "docker://debian:", "docker://debian@"] {
            assert_eq!(Uses::parse(text), Err(BadUses::NoImage), "{text}");
        }
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
            ("h.org:3000/a/b@v1", "https://h.org:3000/a/b@v1"),
            ("h.org:3000/a/b", "https://h.org:3000/a/b@v4"),
            ("a/b@v1 # x", "a/b@v1"),
            ("a/b:", "a/b@v4"),
            ("a/b#c@", "a/b@c"),
            ("a/b#c@x@y", "a/b@x@y"),
        ];
        for (text, expected) in rows {
            let error = Uses::parse(text).expect_err(text);
            let help = error.instead(text);
            assert!(help.contains(&format!("`{expected}`")), "{text}: {help}");
            assert!(Uses::parse(expected).is_ok(), "{expected}");
        }
        let rows = ["docker:", "docker:a b", "C:\\x", "~/x", "checkout", ".github/workflows/x.yml"];
        for text in rows {
            let error = Uses::parse(text).expect_err(text);
            assert_eq!(error.instead(text), error.help(), "{text}");
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
            "o/r/a.yml@refs/tags/x@y",
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
