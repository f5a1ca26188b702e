//! Where the agent's binary is: `ampoule-agent`, a static program that becomes PID 1 of every VM.
//!
//! It is looked for in `$AMPOULE_AGENT`, beside this program, and in `../lib/ampoule` of it, in that order.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
};

/// Its file name.
pub const NAME: &str = "ampoule-agent";
const VARIABLE: &str = "AMPOULE_AGENT";

/// No file was found.
#[derive(Debug)]
pub struct NotFound {
    looked: Vec<PathBuf>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent `{NAME}` was not found; looked for ")?;
        for (at, path) in self.looked.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        write!(f, " (set {VARIABLE} to its path)")
    }
}

impl std::error::Error for NotFound {}

/// Finds it.
pub fn find() -> Result<PathBuf, NotFound> {
    find_from(env::var_os(VARIABLE).map(PathBuf::from), env::current_exe())
}

fn find_from(told: Option<PathBuf>, program: io::Result<PathBuf>) -> Result<PathBuf, NotFound> {
    let looked = match told {
        Some(path) => vec![path],
        None => program.ok().as_deref().and_then(Path::parent).map(beside).unwrap_or_default(),
    };
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        None => Err(NotFound { looked }),
    }
}

fn beside(dir: &Path) -> Vec<PathBuf> {
    let mut places = vec![dir.join(NAME)];
    if let Some(prefix) = dir.parent() {
        places.push(prefix.join("lib/ampoule").join(NAME));
        // `cargo test` puts programs one directory deeper than `cargo build` puts the agent
        places.push(prefix.join(NAME));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_beside_the_program_or_in_lib_and_the_variable_wins() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("bin/ampoule");
        let lib = dir.path().join("lib/ampoule");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        let error = find_from(None, Ok(program.clone())).unwrap_err();
        assert!(error.to_string().contains("AMPOULE_AGENT"));

        std::fs::write(lib.join(NAME), "").unwrap();
        assert_eq!(find_from(None, Ok(program.clone())).unwrap(), lib.join(NAME));
        std::fs::write(dir.path().join("bin").join(NAME), "").unwrap();
        assert_eq!(find_from(None, Ok(program.clone())).unwrap(), dir.path().join("bin").join(NAME));
        let told = dir.path().join("elsewhere");
        assert!(find_from(Some(told.clone()), Ok(program.clone())).is_err());
        std::fs::write(&told, "").unwrap();
        assert_eq!(find_from(Some(told.clone()), Ok(program)).unwrap(), told);
    }
}
