//! The initramfs: the agent as `/init`, and the modules of an image behind it.
//!
//! It is a blob of its own, so that a new agent does not need a new image.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use store::{BuildError, Digest, Store};

use crate::{Error, Image, Result, cpio::Archive, error::Doing as _};

/// Far above what an agent has.
const AGENT_LIMIT: u64 = 64 << 20;

/// The initramfs of `image` with the program `agent`, made if the store does not have it.
///
/// # Errors
/// When the agent cannot be read or is larger than 64 MiB, or the store fails.
pub fn initramfs(image: &Image, agent: &Path, store: &Store) -> Result<PathBuf> {
    let mut program = Vec::new();
    fs::File::open(agent)
        .and_then(|file| file.take(AGENT_LIMIT + 1).read_to_end(&mut program))
        .doing("read the agent")?;
    if program.len() as u64 > AGENT_LIMIT {
        return Err(Error::Incomplete { what: "agent" });
    }
    let key = format!("initramfs 1 {} {}", Digest::of(&program), image.modules_digest);
    let digest = store.get_or_build(&key, |writer| {
        let mut archive = Archive::default();
        for directory in ["dev", "proc", "sys"] {
            archive.directory(directory);
        }
        // The kernel opens it for /init before anything is mounted.
        archive.device("dev/console", 5, 1);
        archive.file("init", 0o755, &program).map_err(|_| Error::Incomplete { what: "agent" })?;
        writer.write_all(&archive.finish()).doing("write the initramfs")?;
        let mut modules = fs::File::open(&image.modules).doing("open the image's modules")?;
        writer.copy(&mut modules)?;
        Ok(())
    });
    let digest = digest.map_err(|error| match error {
        BuildError::Store(error) => Error::Store(error),
        BuildError::Build(error) => error,
    })?;
    store.get(&digest).ok_or(Error::Store(store::Error::Missing { digest }))
}
