//! Whether a job looks at the repository's files.
//!
//! Purpose: on a server the workspace is empty until a checkout; here it is not, and the user should
//! know. Owner: `job` asks for its warning. Invariant: a guess that would rather be silent than wrong.

use crate::{Job, StepAction};

/// What a job does with the repository's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUse {
    /// It has a checkout step.
    CheckedOut,
    /// A step before any checkout plausibly reads them: its index from 0.
    Unchecked(usize),
    /// Nothing points at it.
    None,
}

/// Programs that are of no use without the repository's files when called without further words.
const READERS: [&str; 24] = [
    "make", "cmake", "meson", "ninja", "cargo", "go", "npm", "pnpm", "yarn", "npx", "pytest", "tox", "pip",
    "mvn", "gradle", "bundle", "rake", "composer", "dotnet", "git", "ls", "cat", "tree", "find",
];

impl Job {
    /// Whether a step is a checkout, of any version.
    pub fn has_checkout(&self) -> bool {
        self.steps.iter().any(|step| is_checkout(&step.action))
    }

    /// What the job does with the repository's files, by a look at its scripts.
    pub fn file_use(&self) -> FileUse {
        for (index, step) in self.steps.iter().enumerate() {
            match &step.action {
                action if is_checkout(action) => return FileUse::CheckedOut,
                StepAction::Run { script, working_directory, .. } => {
                    let elsewhere = working_directory.as_ref().is_some_and(|dir| dir.raw().starts_with('/'));
                    if !elsewhere && script.raw().lines().any(reads) {
                        return FileUse::Unchecked(index);
                    }
                }
                StepAction::Uses { .. } => {}
            }
        }
        FileUse::None
    }
}

fn is_checkout(action: &StepAction) -> bool {
    matches!(action, StepAction::Uses { uses, .. } if uses.value.is_checkout())
}

/// Whether a line of a script begins with something that reads the repository, or runs a file of it.
fn reads(line: &str) -> bool {
    let line = line.trim_start();
    let commands = line.split(['|', ';', '&']).map(str::trim_start);
    commands.into_iter().any(|command| {
        let mut words = command.split_whitespace();
        let Some(program) = words.next() else { return false };
        if program.starts_with("./") || program.starts_with("../") {
            return true;
        }
        let second = words.next();
        let harmless = match (program, second) {
            (_, Some("--version" | "-v" | "-V" | "version" | "--help")) => true,
            ("git", Some(word)) => matches!(word, "clone" | "init" | "config" | "ls-remote"),
            ("pip" | "npm" | "cargo" | "go", Some("install")) => {
                let rest: Vec<_> = words.collect();
                rest.iter().any(|word| !word.starts_with('-') && *word != "." && !word.ends_with(".txt"))
            }
            ("cat", second) => second.is_none_or(|word| word.starts_with(['<', '/', '$', '"', '-'])),
            ("ls" | "find" | "tree", Some(word)) => word.starts_with(['/', '$', '"']),
            ("bash" | "sh" | "python" | "python3" | "node", second) => {
                second.is_none_or(|word| word.starts_with(['-', '/', '$', '<']))
            }
            _ => false,
        };
        let runs_file = matches!(program, "bash" | "sh" | "python" | "python3" | "node");
        !harmless && (runs_file || READERS.contains(&program))
    })
}

#[cfg(test)]
mod tests {
    use super::reads;

    #[test]
    fn plausible_readers() {
        for line in [
            "make test",
            "./build.sh",
            "  cargo build",
            "python3 setup.py",
            "cd x && npm ci",
            "ls",
            "cat README.md",
            "git log",
            "pip install -r requirements.txt",
            "echo a; pytest",
        ] {
            assert!(reads(line), "{line}");
        }
        for line in [
            "echo hello",
            "git clone https://x",
            "python3 -c 'print(1)'",
            "node --version",
            "ls /tmp",
            "cat /etc/os-release",
            "cat <<EOF",
            "pip install requests",
            "cargo --version",
            "",
            "makefile",
            "echo make",
        ] {
            assert!(!reads(line), "{line}");
        }
    }
}
