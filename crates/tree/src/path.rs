//! Names of entries, parsed into what cannot lead out of a tree.

use std::{
    ffi::OsStr,
    os::{fd::BorrowedFd, fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

use crate::error::Refusal;

/// Longest name of an entry in bytes.
const MAX_PATH: usize = 4095;
/// Longest component in bytes.
const MAX_NAME: usize = 255;

/// A relative name without `.`, `..`, empty components or zero bytes; empty: the tree itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inside(Vec<u8>);

impl Inside {
    pub(crate) fn parse(name: &[u8]) -> Result<Self, Refusal> {
        if name.is_empty() {
            return Err(Refusal::Empty);
        }
        if name.starts_with(b"/") {
            return Err(Refusal::Absolute);
        }
        if name.len() > MAX_PATH || name.contains(&0) {
            return Err(Refusal::Name);
        }
        let mut clean = Vec::with_capacity(name.len());
        for part in name.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(Refusal::Parent),
                part if part.len() > MAX_NAME => return Err(Refusal::Name),
                part => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Ok(Self(clean))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a system call; the tree itself is `.`.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(if self.0.is_empty() { b"." } else { &self.0 })
    }

    /// The name of what it is in, and its own name there; `None` for the tree itself.
    pub(crate) fn split(&self) -> Option<(Self, &OsStr)> {
        if self.0.is_empty() {
            return None;
        }
        let (parent, name) = match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (self.0.get(..at)?, self.0.get(at + 1..)?),
            None => (&b""[..], &self.0[..]),
        };
        Some((Self(parent.to_vec()), OsStr::from_bytes(name)))
    }

    /// Opens it below `tree` without going through any symbolic link.
    pub(crate) fn open(&self, tree: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(tree, self.as_os_str(), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel could not rule out a race with a rename.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Whether a symbolic link that lies here and says `target` stays in the tree.
    pub(crate) fn target_is_inside(&self, target: &[u8]) -> bool {
        if target.starts_with(b"/") {
            return false;
        }
        let mut depth = self.0.split(|&byte| byte == b'/').count() - 1;
        for part in target.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => match depth.checked_sub(1) {
                    Some(up) => depth = up,
                    None => return false,
                },
                _ => depth += 1,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        for (name, reason) in [
            (&b""[..], Refusal::Empty),
            (b"/etc/passwd", Refusal::Absolute),
            (b"..", Refusal::Parent),
            (b"a/../../b", Refusal::Parent),
            (b"a/..", Refusal::Parent),
            (b"a\0b", Refusal::Name),
            (&[b'x'; 256], Refusal::Name),
        ] {
            assert_eq!(Inside::parse(name), Err(reason), "{}", name.escape_ascii());
        }
        assert_eq!(Inside::parse(b"./a//b/./c/").unwrap().as_bytes(), b"a/b/c");
        assert_eq!(Inside::parse(b"./").unwrap().split(), None);
        assert_eq!(Inside::parse(b"...").unwrap().as_bytes(), b"...");
    }

    #[test]
    fn a_target_is_counted_from_where_the_link_lies() {
        let link = Inside::parse(b"a/b/link").unwrap();
        assert!(link.target_is_inside(b"../../c"));
        assert!(link.target_is_inside(b"x/../../.."));
        assert!(!link.target_is_inside(b"../../../c"));
        assert!(!link.target_is_inside(b"x/../../../../a"));
        assert!(!link.target_is_inside(b"/a"));
        assert!(!Inside::parse(b"link").unwrap().target_is_inside(b".."));
    }

    proptest! {
        #[test]
        fn what_was_parsed_has_only_plain_components(name in prop::collection::vec(
            prop::sample::select(b"./ab\0".to_vec()), 0..40,
        )) {
            if let Ok(inside) = Inside::parse(&name) {
                let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
                prop_assert!(inside.as_bytes().is_empty() || inside.as_bytes().split(|b| *b == b'/').all(plain));
            }
        }
    }
}
