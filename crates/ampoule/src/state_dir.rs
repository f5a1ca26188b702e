//! Where state is kept: images, caches, the slots of running VMs.

use std::{
    env,
    path::{Path, PathBuf},
};

/// No directory could be named.
#[derive(Debug, thiserror::Error)]
pub enum NoStateDir {
    /// Neither `XDG_STATE_HOME` nor `HOME` is an absolute path.
    #[error(
        "there is no place for state: neither XDG_STATE_HOME nor HOME is an absolute path; give --state-dir"
    )]
    NoHome,
    /// The directory of this process is gone.
    #[error("the working directory cannot be read")]
    WorkingDirectory(#[source] std::io::Error),
}

/// The directory: as given, else `$AMPOULE_STATE_DIR`, else the default of the user. It is absolute and
/// need not exist.
pub fn resolve(given: Option<&Path>) -> Result<PathBuf, NoStateDir> {
    let told = given.map(Path::to_owned).or_else(|| env::var_os("AMPOULE_STATE_DIR").map(PathBuf::from));
    if let Some(path) = told.filter(|path| !path.as_os_str().is_empty()) {
        return std::path::absolute(path).map_err(NoStateDir::WorkingDirectory);
    }
    let named = |name: &str| env::var_os(name).map(PathBuf::from);
    default(rustix::process::geteuid().is_root(), named("XDG_STATE_HOME"), named("HOME"))
}

fn default(root: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, NoStateDir> {
    if root {
        return Ok(PathBuf::from("/var/lib/ampoule"));
    }
    // the XDG specification: a relative path is to be ignored
    let absolute = |path: &PathBuf| path.is_absolute();
    xdg.filter(absolute)
        .or_else(|| home.filter(absolute).map(|home| home.join(".local/state")))
        .map(|base| base.join("ampoule"))
        .ok_or(NoStateDir::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_user() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(default(true, path("/x"), path("/h")).unwrap(), Path::new("/var/lib/ampoule"));
        assert_eq!(default(false, path("/x"), path("/h")).unwrap(), Path::new("/x/ampoule"));
        assert_eq!(default(false, path("x"), path("/h")).unwrap(), Path::new("/h/.local/state/ampoule"));
        assert_eq!(default(false, None, path("/h")).unwrap(), Path::new("/h/.local/state/ampoule"));
        assert!(default(false, None, path("h")).is_err());
        assert!(resolve(Some(Path::new("here"))).unwrap().is_absolute());
    }
}
