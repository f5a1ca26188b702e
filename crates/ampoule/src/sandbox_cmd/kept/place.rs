//! Where `ampoule sandbox cp` copies from and to.

use std::path::{Path, PathBuf};

use controller::guest::DIRECTORY;

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path of this host.
    Here(PathBuf),
    /// A path in a sandbox.
    There {
        /// The sandbox: its id, or the beginning of it.
        id: String,
        /// Absolute.
        path: String,
    },
    /// A tar archive on standard input or output.
    Stream,
}

/// Why a text is no end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Nothing stands there.
    #[error("the path is empty")]
    Empty,
    /// Nothing stands before the colon.
    #[error("the sandbox is missing before `:`; a path of this host that has a colon is written as `./:…`")]
    NoId,
}

impl Place {
    /// `ID:PATH` unless a slash or a dot at the beginning says that the colon is one of a path; `ID:` is `ID:.`.
    pub(crate) fn parse(text: &str) -> Result<Self, PlaceError> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        match text.split_once(':') {
            Some(("", _)) => Err(PlaceError::NoId),
            Some((id, path)) if !id.contains('/') && !id.starts_with('.') => {
                let path = if path.is_empty() { "." } else { path };
                Ok(Self::There { id: id.to_owned(), path: absolute(path) })
            }
            _ if text.is_empty() => Err(PlaceError::Empty),
            _ => Ok(Self::Here(PathBuf::from(text))),
        }
    }
}

/// A path in a sandbox; one that is not absolute is one of the directory that commands run in.
pub(super) fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{DIRECTORY}/{path}") }
}

/// The end of a copy on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side<'a> {
    Path(&'a Path),
    /// Of a tar archive.
    Stream,
}

/// A copy into a sandbox or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy<'a> {
    pub(super) id: &'a str,
    /// In the sandbox.
    pub(super) path: &'a str,
    pub(super) way: Way<'a>,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    In(Side<'a>),
    Out(Side<'a>),
}

impl<'a> Copy<'a> {
    /// None where not just one end is in a sandbox.
    pub(crate) fn of(from: &'a Place, to: &'a Place) -> Option<Self> {
        let (id, path, way) = match (from, to) {
            (Place::There { id, path }, Place::Here(to)) => (id, path, Way::Out(Side::Path(to))),
            (Place::There { id, path }, Place::Stream) => (id, path, Way::Out(Side::Stream)),
            (Place::Here(from), Place::There { id, path }) => (id, path, Way::In(Side::Path(from))),
            (Place::Stream, Place::There { id, path }) => (id, path, Way::In(Side::Stream)),
            (Place::There { .. }, Place::There { .. })
            | (Place::Here(_) | Place::Stream, Place::Here(_) | Place::Stream) => return None,
        };
        Some(Self { id, path, way })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: &str, path: &str) -> Place {
        Place::There { id: id.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn a_colon_names_a_sandbox_unless_it_is_one_of_a_path() {
        for (text, place) in [
            ("sb-1:/x", there("sb-1", "/x")),
            ("sb-1:x/y:z", there("sb-1", "/workspace/x/y:z")),
            ("sb-1:", there("sb-1", "/workspace/.")),
            ("sb-1:.", there("sb-1", "/workspace/.")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/a:b", Place::Here("/a:b".into())),
            ("d/a:b", Place::Here("d/a:b".into())),
            ("a", Place::Here("a".into())),
            ("-", Place::Stream),
            ("./-", Place::Here("./-".into())),
        ] {
            assert_eq!(Place::parse(text), Ok(place), "{text}");
        }
        assert_eq!(Place::parse(":x"), Err(PlaceError::NoId));
        assert_eq!(Place::parse(""), Err(PlaceError::Empty));
    }

    #[test]
    fn just_one_end_is_in_a_sandbox() {
        let (here, there) = (Place::Here("x".into()), there("a", "/y"));
        assert_eq!(
            Copy::of(&here, &there),
            Some(Copy { id: "a", path: "/y", way: Way::In(Side::Path(Path::new("x"))) })
        );
        assert_eq!(
            Copy::of(&there, &Place::Stream),
            Some(Copy { id: "a", path: "/y", way: Way::Out(Side::Stream) })
        );
        for (from, to) in [(&here, &here), (&there, &there), (&Place::Stream, &here)] {
            assert_eq!(Copy::of(from, to), None);
        }
    }
}
