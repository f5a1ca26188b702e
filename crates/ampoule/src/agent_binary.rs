//! Where the agent's binary is: `ampoule-agent`, a static program that becomes PID 1 of every VM.
//!
//! It is looked for in `$AMPOULE_AGENT`, in `../lib/ampoule` of this program, and beside it, in that order.
//! Invariant: a program that needs a dynamic linker is none: there is nothing in the initramfs but the agent.
//! (A build of the whole workspace puts such an agent beside this program.)

use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
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
    match looked.iter().find(|path| path.is_file() && !needs_linker(path)) {
        Some(path) => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        None => Err(NotFound { looked }),
    }
}

fn beside(dir: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(prefix) = dir.parent() {
        places.push(prefix.join("lib/ampoule").join(NAME));
    }
    places.push(dir.join(NAME));
    places
}

/// Whether a file is an ELF program with an interpreter; whatever is wrong with it otherwise is seen later.
fn needs_linker(path: &Path) -> bool {
    const INTERP: u64 = 3;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    // the program headers of a 64-bit ELF: where they begin, their size, their count
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    let header = |index: u64| {
        let at = usize::try_from(start.checked_add(index.checked_mul(size)?)?).ok()?;
        number(at, 4)
    };
    (0..count.min(64)).filter_map(header).any(|kind| kind == INTERP)
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

        std::fs::write(dir.path().join("bin").join(NAME), "").unwrap();
        assert_eq!(find_from(None, Ok(program.clone())).unwrap(), dir.path().join("bin").join(NAME));
        std::fs::write(lib.join(NAME), "").unwrap();
        assert_eq!(find_from(None, Ok(program.clone())).unwrap(), lib.join(NAME));
        // this test is a program with a dynamic linker
        std::fs::remove_file(lib.join(NAME)).unwrap();
        std::os::unix::fs::symlink(env::current_exe().unwrap(), lib.join(NAME)).unwrap();
        assert_eq!(find_from(None, Ok(program.clone())).unwrap(), dir.path().join("bin").join(NAME));
        let told = dir.path().join("elsewhere");
        assert!(find_from(Some(told.clone()), Ok(program.clone())).is_err());
        std::fs::write(&told, "").unwrap();
        assert_eq!(find_from(Some(told.clone()), Ok(program)).unwrap(), told);
    }
}
