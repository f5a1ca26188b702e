//! Directories with a workflow in them.

use std::{fs, path::Path};

use tempfile::TempDir;

/// A directory, not a git repository, with one workflow.
///
/// # Panics
/// When the temporary directory cannot be written.
#[must_use]
pub fn project(workflow: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = dir.path().join(".forgejo/workflows");
    fs::create_dir_all(&place).expect("a directory for workflows");
    fs::write(place.join("test.yml"), workflow).expect("a workflow");
    dir
}

/// A workflow of one job, `j`, with these steps, a list at any indentation.
#[must_use]
pub fn steps(list: &str) -> String {
    let mut text = "on: push\njobs:\n  j:\n    runs-on: debian\n    steps:\n".to_owned();
    for line in list.trim_matches('\n').lines() {
        text.push_str("      ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// A workflow of one job, `j`, whose only step runs `script` in bash.
#[must_use]
pub fn script(script: &str) -> String {
    let lines = script.lines().flat_map(|line| ["    ", line, "\n"]);
    steps(&["- run: |\n"].into_iter().chain(lines).collect::<String>())
}

/// Where the sources of the examples are.
#[must_use]
pub fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"))
}
