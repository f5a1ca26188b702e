//! Labels, as the official runner writes them: `name[:scheme[:argument]]`.
//!
//! Purpose: which jobs a runner takes, and what they asked to run in. Owner: the registration and the
//! configuration. Invariants: only names go to the server; every scheme runs in a VM of the root image, and one
//! that names something else is told.

use std::{fmt, str::FromStr};

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What `runs-on` names.
    pub name: String,
    /// What the official runner would run its jobs in.
    pub scheme: Scheme,
}

/// What the official runner would run jobs of a label in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing is said.
    None,
    /// A container of this image; empty is its own default.
    Docker(String),
    /// The machine itself.
    Host,
    /// A system container of this template.
    Lxc(String),
}

/// A text that is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    /// No name.
    #[error("the label `{0}` has no name: write `name`, or `name:scheme:argument`")]
    NoName(String),
    /// A name that the server would not take as one.
    #[error("the label `{0}` holds blanks, commas or control characters")]
    Name(String),
    /// A scheme that nobody knows.
    #[error("the label `{label}` has the unknown scheme `{scheme}`: there are docker, host and lxc")]
    Scheme {
        /// As written.
        label: String,
        /// The part.
        scheme: String,
    },
    /// `host` with something behind it.
    #[error("the label `{0}`: host takes no argument")]
    HostArgument(String),
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let text = text.trim();
        let mut parts = text.splitn(3, ':');
        let name = parts.next().unwrap_or_default();
        if name.is_empty() {
            return Err(BadLabel::NoName(text.to_owned()));
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(BadLabel::Name(text.to_owned()));
        }
        let (scheme, argument) = (parts.next(), parts.next());
        let scheme = match (scheme, argument) {
            (None | Some(""), None) => Scheme::None,
            (Some("docker"), argument) => {
                Scheme::Docker(argument.unwrap_or_default().trim_start_matches("//").to_owned())
            }
            (Some("host"), None) => Scheme::Host,
            (Some("host"), Some(_)) => return Err(BadLabel::HostArgument(text.to_owned())),
            (Some("lxc"), argument) => {
                Scheme::Lxc(argument.unwrap_or_default().trim_start_matches("//").to_owned())
            }
            (scheme, _) => {
                let scheme = scheme.unwrap_or_default().to_owned();
                return Err(BadLabel::Scheme { label: text.to_owned(), scheme });
            }
        };
        Ok(Self { name: name.to_owned(), scheme })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.scheme {
            Scheme::None => f.write_str(name),
            Scheme::Docker(image) => write!(f, "{name}:docker://{image}"),
            Scheme::Host => write!(f, "{name}:host"),
            Scheme::Lxc(template) => write!(f, "{name}:lxc://{template}"),
        }
    }
}

impl Label {
    /// What its jobs do not get although the label names it; nothing where there is no difference.
    #[must_use]
    pub fn unlike(&self) -> Option<String> {
        let asked = match &self.scheme {
            Scheme::None => return None,
            Scheme::Docker(image) if image.is_empty() => "a container".to_owned(),
            Scheme::Docker(image) => format!("a container of {image}"),
            Scheme::Host => "the machine itself".to_owned(),
            Scheme::Lxc(_) => "a system container".to_owned(),
        };
        Some(format!("the label `{self}` asks for {asked}: its jobs run in a microVM of the root image"))
    }
}

/// Parses several.
///
/// # Errors
/// The first that is none.
pub fn parse_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Label>, BadLabel> {
    texts.into_iter().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_forms_are_read_and_written() {
        for (text, name, scheme) in [
            ("debian", "debian", Scheme::None),
            ("docker:docker://node:22-bookworm", "docker", Scheme::Docker("node:22-bookworm".to_owned())),
            ("x:docker:alpine:3", "x", Scheme::Docker("alpine:3".to_owned())),
            ("self:host", "self", Scheme::Host),
            ("l:lxc://debian:bookworm", "l", Scheme::Lxc("debian:bookworm".to_owned())),
        ] {
            let label: Label = text.parse().unwrap();
            assert_eq!((label.name.as_str(), &label.scheme), (name, &scheme), "{text}");
            assert_eq!(label.to_string().parse::<Label>().unwrap(), label, "{text}");
            assert_eq!(label.unlike().is_none(), scheme == Scheme::None, "{text}");
        }
        for bad in ["", ":docker", "a b", "a,b", "x:vm", "x:host:/tmp"] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }
}
