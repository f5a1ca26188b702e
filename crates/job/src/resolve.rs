//! What a step's `uses` is run by.
//!
//! Purpose: one place that says which actions there are. So far: `actions/checkout` of any host and version,
//! for the job's own repository, satisfied from the tree that the caller gives.
//! Owner: the step that runs. Pure.

use workflow::{Uses, Value};

use crate::{Repository, Wanted, guest::Fault};

/// What a `uses` step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Puts the repository's files into the workspace.
    Checkout(Checkout),
}

/// A checkout of the job's own repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// Relative to the workspace, without `..`; empty is the workspace itself.
    pub(crate) path: String,
    /// What of the repository.
    pub(crate) wanted: Wanted,
    /// Whether files that are there already go first.
    pub(crate) clean: Clean,
}

/// Whether files that are there already go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clean {
    Yes,
    No,
}

/// Finds what a step uses. `with` has its inputs, evaluated.
pub(crate) fn resolve(uses: &Uses, with: &[(String, String)], own: &Repository) -> Result<Action, Fault> {
    if uses.is_checkout() { checkout(with, own).map(Action::Checkout) } else { Err(unknown(uses)) }
}

fn unknown(uses: &Uses) -> Fault {
    Fault::step(format!("the action `{uses}` does not work yet: only `actions/checkout` does"))
}

fn checkout(with: &[(String, String)], own: &Repository) -> Result<Checkout, Fault> {
    let input = |name: &str| {
        let found = with.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    if let Some(other) = input("repository").filter(|other| !other.eq_ignore_ascii_case(own.as_str())) {
        return Err(Fault::step(format!(
            "checkout of another repository (`{other}`) does not work yet: only of the own, `{own}`"
        )));
    }
    for name in ["submodules", "lfs"] {
        if input(name).is_some_and(|value| value != "false") {
            return Err(Fault::step(format!("`{name}` of a checkout does not work yet")));
        }
    }
    let path = input("path").unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if path.starts_with('/') || parts.contains(&"..") || path.contains('\0') {
        return Err(Fault::step(format!("the `path` of a checkout has to be below the workspace: `{path}`")));
    }
    Ok(Checkout {
        path: parts.join("/"),
        wanted: Wanted { reference: input("ref").map(str::to_owned) },
        clean: if input("clean") == Some("false") { Clean::No } else { Clean::Yes },
    })
}

/// The inputs of a step as text.
pub(crate) fn input(name: &str, value: &Value) -> (String, String) {
    (name.to_owned(), value.to_text().as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(uses: &str, with: &[(&str, &str)]) -> Result<Action, String> {
        let with: Vec<_> = with.iter().map(|(name, value)| input(name, &(*value).into())).collect();
        resolve(&Uses::parse(uses).unwrap(), &with, &Repository::parse("me/it").unwrap()).map_err(|fault| {
            match fault {
                Fault::Step(text) => text,
                Fault::Job(error) => panic!("{error}"),
            }
        })
    }

    #[test]
    fn a_checkout_of_any_host_and_version_is_ours() {
        for uses in [
            "actions/checkout@v4",
            "https://code.forgejo.org/actions/checkout@11bd719",
            "Actions/Checkout@main",
        ] {
            let Action::Checkout(checkout) =
                resolved(uses, &[("Repository", "Me/It"), ("fetch-depth", "0")]).unwrap();
            assert_eq!(
                checkout,
                Checkout { path: String::new(), wanted: Wanted::default(), clean: Clean::Yes }
            );
        }
        let with = [("path", "./a//b/"), ("ref", "v1"), ("clean", "false")];
        let Action::Checkout(checkout) = resolved("actions/checkout@v4", &with).unwrap();
        assert_eq!(checkout.path, "a/b");
        assert_eq!(checkout.wanted.reference.as_deref(), Some("v1"));
        assert_eq!(checkout.clean, Clean::No);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (with, said) in [
            (("repository", "you/it"), "another repository (`you/it`)"),
            (("path", "../out"), "below the workspace"),
            (("path", "/abs"), "below the workspace"),
            (("path", "a/../../b"), "below the workspace"),
            (("submodules", "recursive"), "`submodules` of a checkout"),
        ] {
            let error = resolved("actions/checkout@v4", &[with]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(
            resolved("actions/cache@v4", &[]).unwrap_err().contains("`actions/cache@v4` does not work yet")
        );
    }
}
