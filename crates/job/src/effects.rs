//! What a step did to the job: its outputs, the environment, its summary.
//!
//! Purpose: commands and files together, commands first, for the files were read after the last row.
//! Owner: the step that ended. Pure.
//! Invariant: a file that cannot be read changes nothing and is a fault; the others count all the same.

use workflow::{envfile, mask::Masker};

use crate::{
    environ::Environ,
    files::{File, Written},
    output::{self, Effects},
};

/// Most bytes of a summary, as the server takes them.
const MAX_SUMMARY: usize = 1 << 20;

/// Most notes of a step.
const MAX_NOTES: usize = 10;

/// What remains to be told of a step.
pub(crate) struct Taken {
    pub(crate) outputs: Vec<(String, String)>,
    /// Masked.
    pub(crate) summary: Option<String>,
    /// Why the step fails; may hold secrets.
    pub(crate) faults: Vec<String>,
    /// What else is to be said, with its marks.
    pub(crate) notes: Vec<String>,
}

/// Takes what a step did.
pub(crate) fn take(effects: Effects, written: Written, environ: &mut Environ, masker: &Masker) -> Taken {
    let mut faults: Vec<String> = written.fault().map(str::to_owned).into_iter().collect();
    let mut read = |file: File| {
        envfile::variables(written.content(file)).unwrap_or_else(|error| {
            faults.push(format!("GITHUB_{}: {error}", file.variable()));
            Vec::new()
        })
    };
    let mut notes = Vec::new();
    let mut outputs = effects.outputs;
    outputs.extend(read(File::Output));
    // Only actions have a use for states, but a step that writes nonsense should know it.
    read(File::State);
    for (name, value) in effects.env.into_iter().chain(read(File::Env)) {
        match output::reserved(&name) {
            None => environ.export(name, value),
            Some(note) if notes.len() < MAX_NOTES => notes.push(note),
            Some(_) => {}
        }
    }
    let paths = envfile::paths(written.content(File::Path)).unwrap_or_else(|error| {
        faults.push(format!("GITHUB_PATH: {error}"));
        Vec::new()
    });
    effects.paths.into_iter().chain(paths).for_each(|path| environ.add_path(path));
    let summary = written.content(File::Summary);
    let summary = (!summary.is_empty()).then(|| {
        let mut text = masker.mask(&String::from_utf8_lossy(summary));
        text.truncate(text.floor_char_boundary(MAX_SUMMARY));
        text
    });
    Taken { outputs, summary, faults, notes }
}
