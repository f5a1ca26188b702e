//! What is in the tree: every entry by its path there, with the file on the host that it comes from.
//!
//! Invariants: a path has no `..` and no absolute part; a source is named by directories that are no
//! symbolic links; a later reader still has to open it without following one.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::{Error, Git, GitDir, config, gitdir};

/// Where an entry comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file, symbolic link or directory of the host.
    Disk(PathBuf),
    /// A file that we made.
    Bytes(Vec<u8>),
    /// A directory that may be empty.
    Directory,
}

/// All entries, by their path in the tree.
pub(super) type Entries = BTreeMap<PathBuf, Source>;

/// Repositories inside repositories, at most.
const DEPTH_MAX: usize = 16;
/// Alternates of alternates, at most; git has 5.
const ALTERNATES_MAX: usize = 5;

/// The entries of a tree without git: everything but `.git`.
pub(super) fn directory(root: &Path) -> Result<Entries, Error> {
    let mut entries = Entries::new();
    walk(root, &mut |relative, path, kind| {
        if relative.iter().any(|part| part == ".git") {
            return false;
        }
        let source = if kind.is_dir() { Source::Directory } else { Source::Disk(path.to_owned()) };
        entries.insert(relative.to_owned(), source);
        true
    })?;
    Ok(entries)
}

/// The entries of a repository, its `.git` included.
pub(super) fn repository(root: &Path, git: &Git, dir: &GitDir) -> Result<Entries, Error> {
    let mut entries = Entries::new();
    whole(root, Path::new(""), git, dir, 0, &mut entries)?;
    Ok(entries)
}

/// The entries of a directory of a repository.
pub(super) fn part(root: &Path, git: &Git) -> Result<Entries, Error> {
    let mut entries = Entries::new();
    files(root, Path::new(""), git, 0, &mut entries)?;
    Ok(entries)
}

fn whole(
    root: &Path,
    prefix: &Path,
    git: &Git,
    dir: &GitDir,
    depth: usize,
    entries: &mut Entries,
) -> Result<(), Error> {
    files(root, prefix, git, depth, entries)?;
    git_directory(git, dir, &prefix.join(".git"), entries)
}

/// What git lists where it runs, which is `root`.
fn files(root: &Path, prefix: &Path, git: &Git, depth: usize, entries: &mut Entries) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep { path: root.to_owned(), limit: DEPTH_MAX });
    }
    let listed =
        git.run(&["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])?;
    let mut parents = Parents { root, known: HashMap::new() };
    for name in listed.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = Path::new(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)));
        if !is_plain(name) || !parents.are_directories(name) {
            continue;
        }
        let path = root.join(name);
        let Some(kind) = kind_of(&path)? else { continue };
        let place = prefix.join(name);
        if !kind.is_dir() {
            entries.insert(place, Source::Disk(path));
            continue;
        }
        // a directory in the list is a submodule, or a repository that was put here
        entries.insert(place.clone(), Source::Directory);
        if kind_of(&path.join(".git"))?.is_some() {
            let inner = GitDir::open(&path)?;
            whole(&path, &place, &Git::new(&path, &inner), &inner, depth + 1, entries)?;
        }
    }
    Ok(())
}

fn git_directory(git: &Git, dir: &GitDir, place: &Path, entries: &mut Entries) -> Result<(), Error> {
    for needed in ["", "objects", "refs"] {
        entries.insert(place.join(needed), Source::Directory);
    }
    let objects = dir.common().join("objects");
    if !kind_of(&objects)?.is_some_and(|kind| kind.is_dir()) {
        return Err(Error::GitDir {
            path: dir.common().to_owned(),
            reason: "its objects are not a directory".to_owned(),
        });
    }
    // what a worktree has of its own wins over what it shares
    for base in [dir.common(), dir.dir()] {
        walk(base, &mut |relative, path, kind| {
            if kind.is_dir() {
                let top = relative
                    .components()
                    .next()
                    .map(|c| c.as_os_str().as_bytes().to_vec())
                    .unwrap_or_default();
                return matches!(top.as_slice(), b"objects" | b"refs" | b"reftable" | b"info");
            }
            if kind.is_file() && gitdir::travels(relative) {
                entries.insert(place.join(relative), Source::Disk(path.to_owned()));
            }
            true
        })?;
    }
    alternates(&objects, &place.join("objects"), 0, entries)?;
    let files = [dir.common().join("config"), dir.dir().join("config.worktree")];
    let mut present = Vec::new();
    for file in &files {
        if kind_of(file)?.is_some_and(|kind| kind.is_file()) {
            present.push(file.as_path());
        }
    }
    let text = config::sanitised(git, &present)?;
    entries.insert(place.join("config"), Source::Bytes(text.into_bytes()));
    Ok(())
}

/// Objects that a repository borrows from others of this host: the VM does not have those.
fn alternates(objects: &Path, place: &Path, depth: usize, entries: &mut Entries) -> Result<(), Error> {
    let list = objects.join("info/alternates");
    if depth > ALTERNATES_MAX || !kind_of(&list)?.is_some_and(|kind| kind.is_file()) {
        return Ok(());
    }
    let text = fs::read_to_string(&list).map_err(|source| Error::Read { path: list.clone(), source })?;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let other = objects.join(line);
        // a dead alternate is nothing to git either
        if !kind_of(&other)?.is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        walk(&other, &mut |relative, path, kind| {
            let parts: Vec<&[u8]> = relative.iter().map(OsStrExt::as_bytes).collect();
            match parts.as_slice() {
                [_] => kind.is_dir(),
                [dir, name] if kind.is_file() && *dir != b"info" && gitdir::is_object(dir, name) => {
                    entries.entry(place.join(relative)).or_insert_with(|| Source::Disk(path.to_owned()));
                    true
                }
                _ => false,
            }
        })?;
        alternates(&other, place, depth + 1, entries)?;
    }
    Ok(())
}

/// Visits everything below `base`; a directory is entered if the visitor says so, a link never.
fn walk(base: &Path, visit: &mut dyn FnMut(&Path, &Path, fs::FileType) -> bool) -> Result<(), Error> {
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let dir = base.join(&relative);
        let read = |source| Error::Read { path: dir.clone(), source };
        for entry in fs::read_dir(&dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Read { path: entry.path(), source }),
            };
            let inner = relative.join(entry.file_name());
            if visit(&inner, &entry.path(), kind) && kind.is_dir() {
                open.push(inner);
            }
        }
    }
    Ok(())
}

/// Whether a path that git listed names something below the root and outside of any `.git`.
fn is_plain(name: &Path) -> bool {
    name.components().all(|part| match part {
        Component::Normal(part) => !part.eq_ignore_ascii_case(".git"),
        _ => false,
    })
}

/// Type of what is at the path itself; nothing if it is gone.
fn kind_of(path: &Path) -> Result<Option<fs::FileType>, Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.file_type())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Remembers which directories of the tree are real ones.
struct Parents<'a> {
    root: &'a Path,
    known: HashMap<PathBuf, bool>,
}

impl Parents<'_> {
    /// Whether every directory above `name` is a directory and no link.
    fn are_directories(&mut self, name: &Path) -> bool {
        let Some(parent) = name.parent().filter(|p| !p.as_os_str().is_empty()) else { return true };
        if let Some(known) = self.known.get(parent) {
            return *known;
        }
        let real = self.are_directories(parent)
            && fs::symlink_metadata(self.root.join(parent)).is_ok_and(|meta| meta.is_dir());
        self.known.insert(parent.to_owned(), real);
        real
    }
}
