//! What `uses:` names.
//!
//! Purpose: `owner/repo[/path]@ref`, an absolute URL, a local path, an image. Owner: the step.
//! Invariant: a parsed one has every part that its form needs; nothing here fetches.

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
    /// `./path` in the workspace.
    Local(String),
    /// `docker://image`
    Image(String),
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
    /// An expression; actions are fixed when the workflow is read.
    #[error("`uses` takes no expressions")]
    Expression,
}

impl Uses {
    /// Parses what stands at `uses:`.
    ///
    /// # Errors
    /// See [`BadUses`].
    pub fn parse(text: &str) -> Result<Uses, BadUses> {
        let text = text.trim();
        if text.contains("${{") {
            return Err(BadUses::Expression);
        }
        if let Some(image) = text.strip_prefix("docker://") {
            return if image.is_empty() {
                Err(BadUses::NoRepository)
            } else {
                Ok(Uses::Image(image.to_owned()))
            };
        }
        if text == "." || text.starts_with("./") || text.starts_with("../") {
            return Ok(Uses::Local(text.to_owned()));
        }
        let (name, reference) = match text.rsplit_once('@') {
            Some((name, reference)) if !reference.is_empty() => (name, reference.to_owned()),
            _ => return Err(BadUses::NoReference),
        };
        let (host, rest) = match name.split_once("://") {
            None => (None, name),
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/').ok_or(BadUses::NoRepository)?;
                (Some(format!("{scheme}://{authority}")), path)
            }
        };
        let mut segments = rest.splitn(3, '/');
        match (segments.next(), segments.next(), segments.next()) {
            (Some(owner), Some(repository), path) if !owner.is_empty() && !repository.is_empty() => {
                Ok(Uses::Repository {
                    host,
                    repository: format!("{owner}/{}", repository.trim_end_matches(".git")),
                    path: path.unwrap_or_default().trim_matches('/').to_owned(),
                    reference,
                })
            }
            _ => Err(BadUses::NoRepository),
        }
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
            "docker://alpine:3",
        ];
        for text in good {
            assert_eq!(Uses::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Uses::parse("actions/checkout"), Err(BadUses::NoReference));
        assert_eq!(Uses::parse("checkout@v4"), Err(BadUses::NoRepository));
        assert_eq!(Uses::parse("https://x@v4"), Err(BadUses::NoRepository));
        assert_eq!(Uses::parse("a/${{ x }}@v4"), Err(BadUses::Expression));
        assert!(Uses::parse("https://data.forgejo.org/Actions/checkout@v3").expect("good").is_checkout());
        assert!(!Uses::parse("actions/checkout/sub@v3").expect("good").is_checkout());
    }
}
