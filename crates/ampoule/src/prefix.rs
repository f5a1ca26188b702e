//! Things that are named by the beginning of their names, as long as only one begins so.
//!
//! Invariant: what cannot be told names what there is.

use std::{collections::HashSet, fmt};

/// How many names an error shows.
const SHOWN: usize = 10;

/// Why a beginning names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMatch {
    /// What is named, as `snapshot`.
    kind: &'static str,
    given: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// Nothing begins so. What there is.
    Unknown(Vec<String>),
    /// These begin so.
    Several(Vec<String>),
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, given, why } = self;
        let list = |names: &[String]| {
            let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            if names.len() > SHOWN {
                text.push_str(&format!(" and {} more", names.len() - SHOWN));
            }
            text
        };
        match why {
            Why::Unknown(names) if names.is_empty() => {
                write!(f, "there is no {kind} `{given}`, and no other")
            }
            Why::Unknown(names) => write!(f, "there is no {kind} `{given}`; there are: {}", list(names)),
            Why::Several(names) => {
                let end = if kind.ends_with('x') { "es" } else { "s" };
                write!(f, "`{given}` is the beginning of {} {kind}{end}: {}", names.len(), list(names))
            }
        }
    }
}

impl std::error::Error for NoMatch {}

/// The one of `all` whose name is `given` or alone begins so. Errors show `digits` characters of a name, or more
/// where those do not tell them apart.
pub(crate) fn find<'a, T>(
    kind: &'static str,
    given: &str,
    all: &'a [T],
    digits: usize,
    name: impl Fn(&T) -> &str,
) -> Result<&'a T, NoMatch> {
    let short = |things: &[&T]| told_apart(things.iter().map(|thing| name(thing)), digits);
    if let Some(exact) = all.iter().find(|thing| name(thing) == given) {
        return Ok(exact);
    }
    let begin: Vec<&T> =
        all.iter().filter(|thing| !given.is_empty() && name(thing).starts_with(given)).collect();
    let why = match begin.as_slice() {
        [one] => return Ok(one),
        [] => Why::Unknown(short(&all.iter().collect::<Vec<_>>())),
        several => Why::Several(short(several)),
    };
    // of a slip of the pen that pasted a file, enough to see it
    let given = given.chars().filter(|c| !c.is_control()).take(100).collect();
    Err(NoMatch { kind, given, why })
}

/// The beginnings of names, of so many characters or as many as it takes for each to be another.
fn told_apart<'a>(names: impl Iterator<Item = &'a str> + Clone, digits: usize) -> Vec<String> {
    let longest = names.clone().map(|name| name.chars().count()).max().unwrap_or_default();
    let count = names.clone().count();
    let cut = |digits: usize| names.clone().map(move |name| name.chars().take(digits).collect::<String>());
    let enough = (digits..longest).find(|digits| cut(*digits).collect::<HashSet<_>>().len() == count);
    cut(enough.unwrap_or(longest.max(digits))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(given: &str, all: &[&str]) -> Result<String, String> {
        let found = find("snapshot", given, all, 4, |name| name);
        found.map(|name| (*name).to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_beginning_is_enough_where_only_one_begins_so() {
        let all = ["abcdef01", "abcdef02", "ff00ff00", "ff"];
        assert_eq!(look("abcdef01", &all).unwrap(), "abcdef01");
        assert_eq!(look("ff0", &all).unwrap(), "ff00ff00");
        // the whole name of one, though another begins so
        assert_eq!(look("ff", &all).unwrap(), "ff");
    }

    #[test]
    fn what_cannot_be_told_names_what_there_is() {
        let all = ["abcdef01", "abcdef02", "ff00ff00"];
        assert_eq!(
            look("abcd", &all).unwrap_err(),
            "`abcd` is the beginning of 2 snapshots: abcdef01, abcdef02"
        );
        let all = ["abcdef01", "abcd0", "ff00ff00"];
        assert_eq!(look("0", &all).unwrap_err(), "there is no snapshot `0`; there are: abcde, abcd0, ff00f");
        assert_eq!(look("", &["a"]).unwrap_err(), "there is no snapshot ``; there are: a");
        assert_eq!(look("x\u{1b}y", &[]).unwrap_err(), "there is no snapshot `xy`, and no other");
        let many: Vec<String> = (0..12).map(|number| format!("{number:04}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(look("x", &many).unwrap_err().ends_with("0009 and 2 more"));
    }
}
