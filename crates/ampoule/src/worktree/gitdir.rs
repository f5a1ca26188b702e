//! The git directory behind a `.git`: a directory, or a file that points to one (worktrees, submodules).
//!
//! Invariant: a pointer is followed only to a directory that points back, as git's own worktrees and
//! submodules do; else a hostile tree could name another repository of the user's and carry it off.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::Error;

/// Longest pointer file that is read, in bytes.
const POINTER_MAX: u64 = 8192;

/// A git directory, with the one that it shares objects and refs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitDir {
    dir: PathBuf,
    common: PathBuf,
}

impl GitDir {
    /// The git directory of the tree at `root`.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let dot = root.join(".git");
        let refuse = |reason: &str| Error::GitDir { path: dot.clone(), reason: reason.to_owned() };
        let kind = fs::symlink_metadata(&dot)
            .map_err(|source| Error::Read { path: dot.clone(), source })?
            .file_type();
        if kind.is_dir() {
            if !is_file(&dot.join("HEAD")) {
                return Err(refuse("it has no HEAD"));
            }
            return Ok(Self { common: dot.clone(), dir: dot });
        }
        if kind.is_symlink() {
            return Err(refuse("it is a symbolic link"));
        }
        let text = pointer(&dot).map_err(|source| Error::Read { path: dot.clone(), source })?;
        let target = text
            .strip_prefix("gitdir:")
            .ok_or_else(|| refuse("it is neither a directory nor a `gitdir:` file"))?;
        let dir = fs::canonicalize(root.join(target.trim()))
            .map_err(|_| refuse("what it points to does not exist"))?;
        if !is_file(&dir.join("HEAD")) {
            return Err(refuse("what it points to has no HEAD"));
        }
        let common = match pointer(&dir.join("commondir")) {
            Ok(text) => {
                fs::canonicalize(dir.join(text.trim())).map_err(|_| refuse("its commondir does not exist"))?
            }
            Err(_) => dir.clone(),
        };
        let back = if common == dir {
            submodule_points_to(&dir, root)
        } else {
            worktree_points_to(&dir, &common, &dot)
        };
        if !back {
            return Err(refuse("what it points to is not a git directory of this tree"));
        }
        Ok(Self { dir, common })
    }

    /// Where HEAD and the index are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where refs, objects and the config are.
    #[must_use]
    pub fn common(&self) -> &Path {
        &self.common
    }
}

/// A worktree's directory lies below its repository and holds the path of the worktree's `.git`.
fn worktree_points_to(dir: &Path, common: &Path, dot: &Path) -> bool {
    let Ok(text) = pointer(&dir.join("gitdir")) else { return false };
    let Ok(back) = fs::canonicalize(dir.join(text.trim())) else { return false };
    dir.starts_with(common.join("worktrees")) && fs::canonicalize(dot).is_ok_and(|dot| dot == back)
}

/// A submodule's config holds the path of its tree, relative to itself.
fn submodule_points_to(dir: &Path, root: &Path) -> bool {
    let Ok(text) = fs::read_to_string(dir.join("config")) else { return false };
    let named = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("worktree").then(|| value.trim().trim_matches('"'))
    });
    let Ok(root) = fs::canonicalize(root) else { return false };
    named.into_iter().any(|path| fs::canonicalize(dir.join(path)).is_ok_and(|path| path == root))
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

fn pointer(path: &Path) -> io::Result<String> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > POINTER_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let text = fs::read_to_string(path)?;
    if text.as_bytes().contains(&0) { Err(io::Error::from(io::ErrorKind::InvalidData)) } else { Ok(text) }
}

/// Whether a file of a git directory, by its path there, is one that a VM gets.
///
/// Not: hooks, logs and FETCH_HEAD (they hold URLs as they were typed, with tokens), worktrees and modules
/// (every tree gets a git directory of its own), what other programs put there.
pub(super) fn travels(path: &Path) -> bool {
    let mut parts = path.iter().map(|p| p.as_bytes());
    let Some(first) = parts.next() else { return false };
    let second = parts.next();
    let third = parts.next();
    let deeper = parts.next().is_some();
    match (first, second, third) {
        (b"HEAD" | b"ORIG_HEAD" | b"index" | b"packed-refs" | b"shallow", None, _) => true,
        (name, None, _) if name.starts_with(b"sharedindex.") => true,
        (b"info", Some(b"exclude" | b"attributes" | b"sparse-checkout" | b"grafts"), None) => true,
        (b"refs" | b"reftable", Some(_), _) => !path.as_os_str().as_bytes().ends_with(b".lock"),
        (b"objects", _, _) if deeper => false,
        (b"objects", Some(dir), Some(name)) => is_object(dir, name),
        _ => false,
    }
}

/// Whether `objects/<dir>/<name>` has the form of an object, of a pack, or of what belongs to one.
pub(super) fn is_object(dir: &[u8], name: &[u8]) -> bool {
    let hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    match dir {
        b"pack" => name.starts_with(b"pack-") || name == b"multi-pack-index",
        b"info" => name == b"commit-graph",
        dir => dir.len() == 2 && hex(dir) && matches!(name.len(), 38 | 62) && hex(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_files_travel() {
        let object = format!("objects/ab/{}", "c".repeat(38));
        for path in ["HEAD", "index", "refs/heads/main", "info/exclude", "objects/pack/pack-1.idx", &object] {
            assert!(travels(Path::new(path)), "{path}");
        }
        for path in [
            "config",
            "hooks/post-checkout",
            "logs/HEAD",
            "FETCH_HEAD",
            "credentials",
            "objects/info/alternates",
            "refs/heads/main.lock",
            "objects/ab/id_rsa",
            "modules/x/HEAD",
            "",
            "objects/ab/cd/ef",
        ] {
            assert!(!travels(Path::new(path)), "{path}");
        }
    }
}
