//! Which files the paths of a command line mean.
//!
//! Purpose: workflows and actions of a repository, of several below a directory, of a directory, or by name. Owner:
//! [`super::run`].
//! Invariant: the order is that of the paths, within a directory that of the names; no file comes twice.

use std::{
    collections::HashSet,
    fs, io,
    path::{self, Path, PathBuf},
};

use workflow::rules::FileKind;

use super::Unreadable;
use crate::exec::find::{self, DIRECTORIES, Depth, FindError, Found};

/// Names of an action's file.
pub(super) const ACTIONS: [&str; 2] = ["action.yml", "action.yaml"];

/// Of a directory of a server, where its workflows are.
const WORKFLOWS: &str = "workflows";
/// Why a directory is not looked at.
const NOTHING: &str = "there is no workflow and no action in it";
/// Why a file is not.
pub(super) const LEADS_OUT: &str = "it is a symbolic link that leads out of the repository";

/// Levels of directories below one in which actions and repositories are looked for, at most.
const DEPTH_MAX: usize = 8;
/// Directories that are looked into for repositories, at most.
const DIRECTORIES_MAX: usize = 100_000;

/// A file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// As the report calls it.
    pub(super) shown: String,
    pub(super) kind: FileKind,
    /// The repository that it is of.
    pub(super) root: PathBuf,
    /// The same, as the report calls it.
    pub(super) shown_root: PathBuf,
    /// Where it is in there.
    pub(super) inside: String,
}

pub(super) fn find(paths: &[PathBuf]) -> (Vec<File>, Vec<Unreadable>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for path in paths {
        match of(path, &mut unreadable) {
            Ok(found) => {
                for found in found.iter().map(|found| file(if found == path { found } else { below(found) }))
                {
                    if !seen.insert(found.root.join(&found.inside)) {
                        continue;
                    }
                    if found.path != *path && leads_out(&found.root, &found.path) {
                        unreadable.push(Unreadable { path: found.shown, why: LEADS_OUT.to_owned() });
                    } else {
                        files.push(found);
                    }
                }
            }
            Err(why) => unreadable.push(Unreadable { path: path.display().to_string(), why }),
        }
    }
    (files, unreadable)
}

/// What was found below `.`, by the name that one would type.
fn below(found: &Path) -> &Path {
    found.strip_prefix(".").unwrap_or(found)
}

/// The files of one path, or why there are none. What else cannot be read is noted.
fn of(path: &Path, unreadable: &mut Vec<Unreadable>) -> Result<Vec<PathBuf>, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    // `.forgejo` and its kin
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if is_workflows(&whole.join(WORKFLOWS)) {
        if path.join(WORKFLOWS).is_dir() {
            found.extend(workflows_of(&path.join(WORKFLOWS), Depth::All)?);
        }
        actions_of(&path.join("actions"), &mut found)?;
        return if found.is_empty() { Err(NOTHING.to_owned()) } else { Ok(found) };
    }
    found = of_repository(path)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let is_repository = path.join(".git").exists();
    if !is_repository {
        let within = path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let depth = if within.ancestors().any(is_workflows) { Depth::All } else { Depth::Flat };
        found = workflows_of(path, depth)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let before = unreadable.len();
    let mut below = Below { directories: 0, files: Vec::new(), unreadable };
    below.look(path, DEPTH_MAX);
    if below.directories > DIRECTORIES_MAX {
        return Err(format!("{NOTHING}, and it has too many directories: name those of the repositories"));
    }
    let found = below.files;
    if is_repository {
        unreadable.truncate(before);
        // no server looks there
        return Err(match found.first().and_then(|first| first.parent()) {
            Some(place) => format!("{NOTHING}; if those below it are meant, name `{}`", place.display()),
            None => NOTHING.to_owned(),
        });
    }
    match found.is_empty() && unreadable.len() == before {
        true => Err(NOTHING.to_owned()),
        false => Ok(found),
    }
}

/// The files of a repository; none of a directory that is none.
fn of_repository(path: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        let workflows = path.join(directory);
        if workflows.is_dir() {
            found.extend(workflows_of(&workflows, Depth::All)?);
        }
        actions_of(&workflows.with_file_name("actions"), &mut found)?;
    }
    actions_of(&path.join("actions"), &mut found)?;
    found.extend(ACTIONS.iter().map(|name| path.join(name)).filter(|path| path.is_file()));
    Ok(found)
}

/// What is below a directory that has no workflows itself: repositories, and actions. Links to directories are not
/// followed, and what cannot be read keeps nothing else from being found.
struct Below<'u> {
    /// How many were looked into.
    directories: usize,
    files: Vec<PathBuf>,
    unreadable: &'u mut Vec<Unreadable>,
}

impl Below<'_> {
    fn look(&mut self, directory: &Path, below: usize) {
        self.directories += 1;
        if self.directories > DIRECTORIES_MAX {
            return;
        }
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(directory, error.to_string()),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if is_action(&path) && path.is_file() {
                    self.files.push(path);
                }
            } else if below == 0 || entry.file_name() == ".git" {
                // what git keeps is no working tree
            } else if DIRECTORIES.iter().any(|name| path.join(name).is_dir()) {
                match of_repository(&path) {
                    Ok(found) => self.files.extend(found),
                    Err(why) => self.unreadable(&path, why),
                }
            } else {
                self.look(&path, below - 1);
            }
        }
    }

    fn unreadable(&mut self, path: &Path, why: String) {
        self.unreadable.push(Unreadable { path: path.display().to_string(), why });
    }
}

/// Workflows in a directory.
fn workflows_of(path: &Path, depth: Depth) -> Result<Vec<PathBuf>, String> {
    let nowhere = Path::new("");
    match find::find(nowhere, nowhere, Some(path), depth) {
        Ok(Found::Directory { files, .. }) => Ok(files),
        Ok(Found::File(file)) => Ok(vec![file]),
        Err(FindError::Empty { .. }) => Ok(Vec::new()),
        Err(FindError::Read { source, .. }) => Err(source.to_string()),
        Err(
            error @ (FindError::NoWorkflows { .. } | FindError::Missing { .. } | FindError::TooMany { .. }),
        ) => Err(error.to_string()),
    }
}

/// The actions below a directory, if it is one.
fn actions_of(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    if !path.is_dir() {
        return Ok(());
    }
    collect(path, DEPTH_MAX, found).map_err(|error| error.to_string())
}

fn is_workflows(path: &Path) -> bool {
    DIRECTORIES.iter().any(|name| path.ends_with(name))
}

/// The actions below a directory; links to directories are not followed.
fn collect(directory: &Path, below: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if below > 0 {
                collect(&path, below - 1, found)?;
            }
        } else if is_action(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_action(path: &Path) -> bool {
    path.file_name().is_some_and(|name| ACTIONS.iter().any(|action| name == *action))
}

pub(super) fn file(path: &Path) -> File {
    let whole = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let root = root(&whole);
    let inside = whole.strip_prefix(&root).unwrap_or(&whole).to_owned();
    // as it was given, where that says where the repository is
    let given = path.components().count().checked_sub(inside.components().count());
    let shown_root = given
        .filter(|_| path.ends_with(&inside))
        .map_or_else(|| root.clone(), |count| path.components().take(count).collect::<PathBuf>());
    let in_workflows = whole.parent().is_some_and(|parent| parent.ends_with("workflows"));
    File {
        shown: path.display().to_string(),
        kind: if is_action(path) && !in_workflows { FileKind::Action } else { FileKind::Workflow },
        inside: inside.display().to_string(),
        path: path.to_owned(),
        root,
        shown_root,
    }
}

impl File {
    /// Whether it lies where GitHub looks: Forgejo does only where a repository has no directory of its own.
    pub(super) fn is_githubs(&self) -> bool {
        self.inside.starts_with(".github/")
    }

    /// Whether its root is one for certain, and not only where it lies.
    pub(super) fn is_of_repository(&self) -> bool {
        DIRECTORIES.iter().any(|directory| Path::new(&self.inside).starts_with(directory))
            || self.root.join(".git").exists()
    }

    /// Whether Forgejo never reads it.
    pub(super) fn is_only_githubs(&self) -> bool {
        let own = |directory: &str| !directory.starts_with(".github/") && self.root.join(directory).is_dir();
        self.is_githubs() && DIRECTORIES.into_iter().any(own)
    }
}

/// Whether what is found in a repository leads to something that is not in it: what is said of a file shows lines of it,
/// and a stranger's link could lead to anything of this host. A file that does not exist leads nowhere.
pub(super) fn leads_out(root: &Path, path: &Path) -> bool {
    match (root.canonicalize(), path.canonicalize()) {
        (Ok(root), Ok(path)) => !path.starts_with(root),
        _ => false,
    }
}

/// The repository of a file: above `.forgejo/workflows` and its kin, else where `.git` is, else beside it.
fn root(whole: &Path) -> PathBuf {
    let above = whole.ancestors().find(|dir| is_workflows(dir)).and_then(|dir| dir.ancestors().nth(2));
    let git = || whole.ancestors().skip(1).find(|dir| dir.join(".git").exists());
    above.or_else(git).or(whole.parent()).unwrap_or(Path::new("/")).to_owned()
}
