//! What a checkout step may ask for.
//!
//! Purpose: the inputs of `actions/checkout`, and which of their values can be had: by a look at the
//! literals before a VM starts, and by the values when the step runs.
//! Owner: [`crate::support`] looks, `job` reads. Invariant: both go by one rule, `allowed`.

use doc::{Diagnostic, Source, did_you_mean};

use crate::Variable;

/// All inputs of the action.
const INPUTS: [&str; 20] = [
    "repository",
    "ref",
    "token",
    "ssh-key",
    "ssh-known-hosts",
    "ssh-strict",
    "ssh-user",
    "persist-credentials",
    "path",
    "clean",
    "filter",
    "sparse-checkout",
    "sparse-checkout-cone-mode",
    "fetch-depth",
    "fetch-tags",
    "show-progress",
    "lfs",
    "submodules",
    "set-safe-directory",
    "github-server-url",
];

/// The names of its inputs.
pub(crate) fn inputs() -> &'static [&'static str] {
    &INPUTS
}

/// Those that would give less than everything, and why here they do not.
const PARTS: [(&str, &str); 2] = [
    ("sparse-checkout", "a local checkout holds all files: on a server some would not be there"),
    ("filter", "a local checkout has nothing to fetch later: it holds all files"),
];

/// A checkout of the job's own repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Relative to the workspace, without `.` and `..`; empty is the workspace itself.
    pub path: String,
    /// `ref`: a branch, tag or commit. `None`: what the job runs for.
    pub reference: Option<String>,
    /// Whether files that are there already go first.
    pub clean: Clean,
}

/// Whether files that are there already go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clean {
    /// They do.
    Yes,
    /// They stay.
    No,
}

/// What a checkout cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInput {
    /// Files of another repository.
    #[error("checkout of another repository (`{asked}`) does not work yet: only of the own, `{own}`")]
    Repository {
        /// That repository.
        asked: String,
        /// The job's own.
        own: String,
    },
    /// An input of which only `false` works.
    #[error("`{0}` of a checkout does not work yet")]
    NotYet(&'static str),
    /// A directory that is not in the workspace.
    #[error("the `path` of a checkout has to be below the workspace: `{0}`")]
    Path(String),
}

impl BadInput {
    fn help(&self) -> &'static str {
        match self {
            BadInput::Repository { .. } => "clone it in a `run` step",
            BadInput::NotYet("lfs") => "fetch the files in a `run` step, or write `false`",
            BadInput::NotYet(_) => "fetch them in a `run` step, or write `false`",
            BadInput::Path(_) => "write a relative path without `..`",
        }
    }
}

/// Reads the inputs of a checkout step, evaluated. `own` is the job's repository, `owner/name`.
///
/// # Errors
/// The first that cannot be done.
pub fn read(with: &[(String, String)], own: &str) -> Result<Checkout, BadInput> {
    let input = |name: &str| {
        let found = with.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    for name in INPUTS {
        input(name).map_or(Ok(()), |value| allowed(name, value, Some(own)))?;
    }
    Ok(Checkout {
        path: parts(input("path").unwrap_or_default()).collect::<Vec<_>>().join("/"),
        reference: input("ref").map(str::to_owned),
        clean: match input("clean") {
            Some(value) if value.eq_ignore_ascii_case("false") => Clean::No,
            _ => Clean::Yes,
        },
    })
}

/// What can be said of a checkout step as it is written. Without `own` any repository may be the job's.
pub(crate) fn look(with: &[Variable], own: Option<&str>, source: &Source) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for Variable { name, value } in with {
        let Some(known) = INPUTS.into_iter().find(|known| known.eq_ignore_ascii_case(&name.value)) else {
            let warning = Diagnostic::warning(format!("`actions/checkout` has no input `{}`", name.value))
                .at(source, name.span)
                .label("does nothing");
            found.push(match did_you_mean(&name.value, INPUTS) {
                Some(near) => warning.help(format!("did you mean `{near}`?")),
                None => warning.note(format!("its inputs are {}", INPUTS.join(", "))),
            });
            continue;
        };
        let part = PARTS.iter().find(|(name, _)| *name == known).filter(|_| !value.raw().trim().is_empty());
        if let Some((_, why)) = part {
            found.push(
                Diagnostic::warning(format!("`{known}` is ignored"))
                    .at(source, name.span)
                    .label("does nothing")
                    .note(*why),
            );
        }
        let literal = value.literal().map(str::trim).filter(|literal| !literal.is_empty());
        if let Some(Err(bad)) = literal.map(|literal| allowed(known, literal, own)) {
            found.push(
                Diagnostic::error(bad.to_string())
                    .at(source, value.span())
                    .label("this checkout asks for it")
                    .help(bad.help()),
            );
        }
    }
    found
}

/// Whether an input may have this value, which is trimmed and not empty.
fn allowed(name: &'static str, value: &str, own: Option<&str>) -> Result<(), BadInput> {
    match (name, own) {
        ("repository", Some(own)) if !value.eq_ignore_ascii_case(own) => {
            Err(BadInput::Repository { asked: value.to_owned(), own: own.to_owned() })
        }
        ("submodules" | "lfs", _) if !value.eq_ignore_ascii_case("false") => Err(BadInput::NotYet(name)),
        ("path", _) if value.starts_with('/') || value.contains('\0') || parts(value).any(|p| p == "..") => {
            Err(BadInput::Path(value.to_owned()))
        }
        _ => Ok(()),
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(inputs: &[(&str, &str)]) -> Result<Checkout, String> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&inputs, "me/it").map_err(|bad| bad.to_string())
    }

    #[test]
    fn what_works() {
        let plain = Checkout { path: String::new(), reference: None, clean: Clean::Yes };
        let nothing = [("Repository", "Me/It"), ("fetch-depth", "0"), ("lfs", " False "), ("submodules", "")];
        assert_eq!(with(&nothing), Ok(plain));
        assert_eq!(
            with(&[("path", "./a//b/"), ("ref", "v1"), ("clean", "FALSE")]),
            Ok(Checkout { path: "a/b".to_owned(), reference: Some("v1".to_owned()), clean: Clean::No })
        );
    }

    #[test]
    fn what_does_not() {
        for (input, said) in [
            (("repository", "you/it"), "another repository (`you/it`)"),
            (("path", "../out"), "below the workspace"),
            (("path", "/abs"), "below the workspace"),
            (("path", "a/../../b"), "below the workspace"),
            (("submodules", "recursive"), "`submodules` of a checkout"),
            (("LFS", "true"), "`lfs` of a checkout"),
        ] {
            let error = with(&[input]).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
