//! Which workflow files a command line means.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where workflows are, in the order in which a server looks.
pub const DIRECTORIES: [&str; 3] = [".forgejo/workflows", ".gitea/workflows", ".github/workflows"];

/// Directories below a directory of workflows, at most.
const DEPTH_MAX: usize = 8;
/// Workflows in a directory, at most.
const FILES_MAX: usize = 1000;

/// Whether subdirectories count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// They do, as on a server.
    All,
    /// They do not.
    Flat,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A file that was named.
    File(PathBuf),
    /// Every workflow of a directory, in the order of their names; at least one.
    Directory {
        /// It.
        path: PathBuf,
        /// Its workflows.
        files: Vec<PathBuf>,
    },
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The repository has no workflows.
    #[error("there are no workflows in {}: none of {} exists", root.display(), DIRECTORIES.join(", "))]
    NoWorkflows {
        /// The repository.
        root: PathBuf,
    },
    /// The named file or directory is not there.
    #[error("there is no {}", path.display())]
    Missing {
        /// It.
        path: PathBuf,
    },
    /// A directory holds no workflow.
    #[error("there is no workflow (*.yml, *.yaml) in {}", path.display())]
    Empty {
        /// It.
        path: PathBuf,
    },
    /// A directory cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// It.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There are more workflows than anyone wrote by hand.
    #[error("{} holds more than {FILES_MAX} workflows", path.display())]
    TooMany {
        /// It.
        path: PathBuf,
    },
}

/// A path of the command line: relative to the working directory that `-C` names, else, if only that is
/// there, to the one of this process.
#[must_use]
pub fn resolve(directory: &Path, path: &Path) -> PathBuf {
    let inside = directory.join(path);
    if !inside.exists() && path.exists() { path.to_owned() } else { inside }
}

/// The workflows that `-W` names, else those of the repository at `root`.
pub fn find(root: &Path, directory: &Path, named: Option<&Path>, depth: Depth) -> Result<Found, FindError> {
    let path = match named {
        Some(path) => resolve(directory, path),
        None => DIRECTORIES
            .iter()
            .map(|dir| root.join(dir))
            .find(|dir| dir.is_dir())
            .ok_or_else(|| FindError::NoWorkflows { root: root.to_owned() })?,
    };
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Ok(Found::File(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FindError::Missing { path }),
        Err(source) => return Err(FindError::Read { path, source }),
    }
    let mut files = Vec::new();
    let below = match depth {
        Depth::All => DEPTH_MAX,
        Depth::Flat => 0,
    };
    collect(&path, below, &mut files)?;
    if files.len() > FILES_MAX {
        return Err(FindError::TooMany { path });
    }
    files.sort();
    if files.is_empty() { Err(FindError::Empty { path }) } else { Ok(Found::Directory { path, files }) }
}

/// As the server does it: subdirectories too, links to directories not.
fn collect(dir: &Path, below: usize, files: &mut Vec<PathBuf>) -> Result<(), FindError> {
    let failed = |source| FindError::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            if below > 0 {
                collect(&path, below - 1, files)?;
            }
        } else if path.extension().is_some_and(|ext| ext == "yml" || ext == "yaml") && path.is_file() {
            files.push(path);
            if files.len() > FILES_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_exists_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(matches!(find(root, root, None, Depth::All), Err(FindError::NoWorkflows { .. })));
        for (at, name) in
            [".github/workflows", ".gitea/workflows", ".forgejo/workflows"].into_iter().enumerate()
        {
            fs::create_dir_all(root.join(name).join("more")).unwrap();
            assert!(matches!(find(root, root, None, Depth::All), Err(FindError::Empty { .. })));
            for file in ["b.yaml", "a.yml", "more/c.yml", "notes.txt"] {
                fs::write(root.join(name).join(file), at.to_string()).unwrap();
            }
            let path = root.join(name);
            let files = ["a.yml", "b.yaml", "more/c.yml"].map(|file| path.join(file)).to_vec();
            let flat = Found::Directory { path: path.clone(), files: files[..2].to_vec() };
            assert_eq!(find(root, root, None, Depth::Flat).unwrap(), flat);
            assert_eq!(find(root, root, None, Depth::All).unwrap(), Found::Directory { path, files });
        }
        let file = PathBuf::from(".github/workflows/a.yml");
        assert_eq!(find(root, root, Some(&file), Depth::All).unwrap(), Found::File(root.join(&file)));
        assert!(matches!(
            find(root, root, Some(Path::new("no.yml")), Depth::All),
            Err(FindError::Missing { .. })
        ));
    }
}
