//! Whether a job without a checkout step reads the repository's files.
//!
//! Purpose: on a server its workspace would be empty, here it holds the tree. Only who reads it should be
//! told, or the warning is noise.
//! Owner: the job's set-up. Pure: what the tree holds is asked by who calls.
//!
//! The rule, a guess that would rather be silent than wrong. A job reads the tree when
//! - it has a script with a command that is of no use without one ([`workflow::Job::file_use`]: `make`,
//!   `cargo build`, `ls`), or `hashFiles`, or an action of its own tree (`uses: ./x`);
//! - or a `working-directory` or a word of a script names something that lies at the top of the tree. A
//!   command's own name does not count (`test` is a program, whatever the tree has), nor a variable, nor what
//!   is only written: what `echo` and `mkdir` and their like get, stands behind `>`, or is where `cp` copies
//!   to. Behind a `cd` names are of another directory.

use std::collections::BTreeSet;

use doc::Source;
use workflow::{Defaults, FileUse, Job, StepAction, commands_here};

/// Programs whose words name nothing that they read.
const MAKERS: [&str; 5] = ["echo", "printf", "mkdir", "touch", "tee"];

/// Programs whose last word names what they write.
const COPIERS: [&str; 5] = ["cp", "mv", "ln", "install", "rsync"];

/// How a script names the workspace in front of a path.
const ROOTS: [&str; 5] =
    ["$GITHUB_WORKSPACE/", "${GITHUB_WORKSPACE}/", "$PWD/", "${PWD}/", "${{ github.workspace }}/"];

/// What a look at a job's text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// It reads the tree.
    Yes,
    /// If one of these lies at the top of the tree; never if there is none.
    If(BTreeSet<String>),
}

/// Looks at a job. `defaults` are those that hold for its steps, `source` is where it stands.
pub(crate) fn reads(job: &Job, defaults: &Defaults, source: &Source) -> Reads {
    if matches!(job.file_use(), FileUse::Unchecked(_)) {
        return Reads::Yes;
    }
    let hashes = |text: &str| text.to_ascii_lowercase().contains("hashfiles(");
    if job.env.list().iter().chain(&job.outputs).any(|variable| hashes(variable.value.raw()))
        || job.steps.iter().any(|step| hashes(source.slice(step.span)))
    {
        return Reads::Yes;
    }
    let mut names = BTreeSet::new();
    for step in &job.steps {
        match &step.action {
            StepAction::Uses { uses, .. } => {
                if uses.value.to_string().starts_with("./") {
                    return Reads::Yes;
                }
            }
            StepAction::Run { script, working_directory, .. } => {
                let dir = working_directory.as_ref().or(defaults.working_directory.as_ref());
                names.extend(dir.and_then(|dir| top(dir.raw())));
                if dir.is_none_or(|dir| matches!(dir.raw(), "." | "./")) {
                    names.extend(words(script.raw()));
                }
            }
            // none of them begins: `support` refuses them
            StepAction::Computed { .. }
            | StepAction::Wait(_)
            | StepAction::WaitAll
            | StepAction::Cancel(_)
            | StepAction::Parallel(_) => {}
        }
    }
    Reads::If(names)
}

/// The tops of what the words of a script may name.
fn words(script: &str) -> impl Iterator<Item = String> {
    let script = ROOTS.iter().fold(script.to_owned(), |script, root| script.replace(root, "./"));
    commands_here(&script).into_iter().flat_map(command).collect::<Vec<_>>().into_iter()
}

/// The same of one command.
fn command(command: &str) -> Vec<String> {
    let in_path = |c: char| c.is_alphanumeric() || "._/@+-~".contains(c);
    let mut words = Vec::new();
    let mut rest = command;
    while let Some(start) = rest.find(in_path) {
        let (before, behind) = rest.split_at(start);
        let end = behind.find(|c| !in_path(c)).unwrap_or(behind.len());
        words.push((before, &behind[..end]));
        rest = &behind[end..];
    }
    let Some(((_, program), mut arguments)) = words.split_first() else { return Vec::new() };
    if MAKERS.contains(program) {
        return Vec::new();
    }
    if COPIERS.contains(program) {
        arguments = arguments.split_last().map_or(arguments, |(_, from)| from);
    }
    let read = |(before, _): &&(&str, &str)| {
        let variable = before.ends_with('$') || before.ends_with("${");
        !variable && !before.trim_end_matches(['"', '\'', ' ']).ends_with('>')
    };
    let program = Some(*program).filter(|program| program.contains('/'));
    let arguments = arguments.iter().filter(read).map(|(_, word)| *word);
    program.into_iter().chain(arguments).filter_map(top).collect()
}

/// The first part of a path that is relative to the workspace.
fn top(path: &str) -> Option<String> {
    let first = path.trim_start_matches("./").split('/').next()?;
    (!matches!(first, "" | "." | "..")).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_script_that_may_name_files() {
        let tops = |script| words(script).collect::<Vec<_>>().join(" ");
        for (script, expected) in [
            ("cc src/main.c -o x", "src -o x"),
            ("test -f a", "-f a"),
            ("scripts/run it", "scripts it"),
            ("echo test > README", ""),
            ("mkdir build && cp README.md build", "README.md"),
            ("# see README", ""),
            ("x=$(wc -l < \"$GITHUB_WORKSPACE/src/a\")", "wc -l src"),
            ("text = open('README.md').read()", "open README.md .read"),
            ("cat /etc/passwd ../x", ""),
            ("./build.sh && python3 setup.py", "build.sh setup.py"),
            ("cp /etc/hosts src", ""),
            ("sudo cp -r lib src", "-r lib"),
            ("sort /etc/hosts > src; cat a >>\"src\"", "a"),
            ("cat \"$src\" ${src}/a $src/b", ""),
            ("cat ${GITHUB_WORKSPACE}/src/a", "src"),
            ("cd build && cat src", "build"),
            ("cd /tmp\ncat src", ""),
            ("cd \"$GITHUB_WORKSPACE\" && cat src", "src"),
        ] {
            assert_eq!(tops(script), expected, "{script}");
        }
    }

    #[test]
    fn tops_of_paths() {
        for (path, first) in [("./a/b", Some("a")), ("a", Some("a")), ("/a", None), (".", None), ("", None)] {
            assert_eq!(top(path).as_deref(), first, "{path}");
        }
    }
}
