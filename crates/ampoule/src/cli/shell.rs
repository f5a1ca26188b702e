//! Completion scripts and man pages, made from the same definition as the parser.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::CommandFactory;

use crate::{
    class::{Class, Classed, End},
    cli::args::Cli,
};

/// Why a script or a page could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// A file or directory cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// It.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Classed for ShellError {
    fn class(&self) -> Class {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Class::Cancelled,
            Self::Output(_) => Class::Infrastructure,
            Self::Write { .. } => Class::User,
        }
    }
}

/// Prints a completion script.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<End, ShellError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ampoule", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script).and_then(|()| out.flush()).map_err(ShellError::Output)?;
    Ok(End::Success)
}

/// Writes `ampoule.1`, `ampoule-exec.1`, … into a directory.
pub(super) fn man(dir: &Path) -> Result<End, ShellError> {
    let failed = |source| ShellError::Write { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(End::Success)
}
