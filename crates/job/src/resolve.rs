//! What a step's `uses` is run by.
//!
//! Purpose: one place that says which actions there are. So far: `actions/checkout` of any host and version,
//! for the job's own repository, satisfied from the tree that the caller gives.
//! Owner: the step that runs. Pure.

use workflow::{
    Uses, Value,
    checkout::{self, Checkout},
};

use crate::{Repository, guest::Fault};

/// What a `uses` step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Puts the repository's files into the workspace.
    Checkout(Checkout),
}

/// Finds what a step uses. `with` has its inputs, evaluated.
pub(crate) fn resolve(uses: &Uses, with: &[(String, String)], own: &Repository) -> Result<Action, Fault> {
    if !uses.is_checkout() {
        return Err(unknown(uses));
    }
    checkout::read(with, own.as_str()).map(Action::Checkout).map_err(|bad| Fault::step(bad.to_string()))
}

fn unknown(uses: &Uses) -> Fault {
    Fault::step(format!("the action `{uses}` does not work yet: only `actions/checkout` does"))
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
                resolved(uses, &[("Repository", "Me/It"), ("path", "./a//b/")]).unwrap();
            assert_eq!(checkout.path, "a/b");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (uses, with, said) in [
            ("actions/checkout@v4", &[("repository", "you/it")][..], "another repository (`you/it`)"),
            ("actions/cache@v4", &[], "`actions/cache@v4` does not work yet"),
        ] {
            let error = resolved(uses, with).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
