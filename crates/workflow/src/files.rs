//! Whether a job looks at the repository's files.
//!
//! Purpose: on a server the workspace is empty until a checkout; here it is not, and the user should
//! know. Owner: `job` asks for its warning, and asks the tree for the names that scripts have: what is
//! found here needs no name. Invariant: a guess that would rather be silent than wrong.

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

/// Programs that are of no use without the repository's files.
const READERS: [&str; 20] = [
    "make", "cmake", "meson", "ninja", "cargo", "go", "npm", "pnpm", "yarn", "npx", "pytest", "tox", "pip",
    "mvn", "gradle", "bundle", "rake", "composer", "dotnet", "git",
];

/// Modules that Python runs on the files that lie around.
const MODULES: [&str; 4] = ["unittest", "pytest", "build", "tox"];

/// Words in front of a command.
const PREFIXES: [&str; 9] = ["sudo", "time", "exec", "if", "then", "else", "do", "!", "{"];

/// How a script names the workspace.
const HERE: [&str; 7] =
    [".", "./", "$PWD", "$GITHUB_WORKSPACE", "${PWD}", "${GITHUB_WORKSPACE}", "$FORGEJO_WORKSPACE"];

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
                    if !elsewhere && commands_here(script.raw()).into_iter().any(reads) {
                        return FileUse::Unchecked(index);
                    }
                }
                _ => {}
            }
        }
        FileUse::None
    }
}

/// The commands of a script that are run where it starts, without what stands in front of their program
/// and without comments: up to the first `cd` to anywhere else, which is the last.
pub fn commands_here(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let lines = script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    for command in lines.flat_map(|line| line.split(['|', ';', '&'])) {
        let command = bare(command);
        let mut words = command.split_whitespace();
        let leaves = matches!(words.next(), Some("cd" | "pushd")) && !words.next().is_some_and(is_here);
        if !command.is_empty() {
            found.push(command);
        }
        if leaves {
            break;
        }
    }
    found
}

/// A command without `sudo` and its like.
fn bare(command: &str) -> &str {
    let mut rest = command.trim().trim_start_matches('(');
    while let Some((first, behind)) = rest.split_once(char::is_whitespace) {
        if !PREFIXES.contains(&first) {
            break;
        }
        rest = behind.trim_start();
    }
    rest
}

fn is_checkout(action: &StepAction) -> bool {
    matches!(action, StepAction::Uses { uses, .. } if uses.value.is_checkout())
}

/// Whether a word of a script is the workspace.
fn is_here(word: &str) -> bool {
    HERE.contains(&word.trim_matches('"'))
}

/// Whether a word is the workspace, or all that lies in it.
fn is_all(word: &str) -> bool {
    is_here(word) || matches!(word, "*" | "./*")
}

/// Whether a command reads what lies around without saying a name.
fn reads(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return false };
    let words: Vec<&str> = words.collect();
    let named = || words.iter().filter(|word| !word.starts_with('-'));
    let flagged = |flag: char| words.iter().any(|word| word.starts_with('-') && word.contains(flag));
    match (program, words.first().copied()) {
        (_, Some("--version" | "-v" | "-V" | "version" | "--help")) => false,
        ("git", Some(word)) => !matches!(word, "clone" | "init" | "config" | "ls-remote"),
        ("pip" | "npm" | "cargo" | "go", Some("install")) => {
            let named: Vec<_> = words[1..].iter().filter(|word| !word.starts_with('-')).collect();
            named.is_empty() || named.iter().any(|word| is_here(word) || word.ends_with(".txt"))
        }
        ("go", Some("env")) => false,
        ("python" | "python3", Some("-m")) => words.get(1).is_some_and(|module| MODULES.contains(module)),
        ("ls" | "tree" | "du", _) => named().next().is_none() || named().any(|word| is_all(word)),
        ("find", _) => {
            let places = words.iter().take_while(|word| !word.starts_with(['-', '(', '!', '\\']));
            let places: Vec<_> = places.collect();
            places.is_empty() || places.into_iter().any(|word| is_all(word))
        }
        ("grep", _) if flagged('r') || flagged('R') => {
            let places: Vec<_> = named().skip(1).collect();
            places.is_empty() || places.into_iter().any(|word| is_all(word))
        }
        // what is made of an archive lies where it is said behind `-C`
        ("tar", Some(mode)) => mode.contains('c') && !mode.contains('x') && named().any(|word| is_all(word)),
        ("cp" | "mv" | "rsync", _) => {
            words.split_last().is_some_and(|(_, from)| from.iter().any(|word| is_all(word)))
        }
        ("cat" | "wc" | "head" | "tail" | "file" | "stat" | "zip" | "sha256sum" | "md5sum" | "for", _) => {
            named().any(|word| is_all(word))
        }
        _ => READERS.contains(&program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plausible_readers() {
        let finds = |script: &str| commands_here(script).into_iter().any(reads);
        for script in [
            "make test",
            "  cargo build",
            "sudo make install",
            "if make; then echo",
            "ls",
            "ls -la",
            "ls -l \"$GITHUB_WORKSPACE\"",
            "cat *",
            "wc -l *",
            "for f in *; do echo $f; done",
            "grep -rn needle .",
            "grep -R needle",
            "find . -name '*.rs'",
            "find -type f",
            "tar czf /tmp/x.tgz .",
            "cp -r . /tmp/x",
            "git log",
            "pip install -r requirements.txt",
            "cargo install --path .",
            "echo a; pytest",
            "python3 -m unittest",
            "go test ./...",
            "cd .\nmake",
        ] {
            assert!(finds(script), "{script}");
        }
        for script in [
            "echo hello",
            "git clone https://x",
            "python3 -c 'print(1)'",
            "python3 -m venv /tmp/v",
            "node --version",
            "ls /tmp",
            "ls -la \"$GITHUB_ENV\"",
            "cat \"$GITHUB_OUTPUT\"",
            "cat /etc/os-release",
            "cat",
            "cat <<EOF",
            "find / -name x",
            "grep . /etc/hosts",
            "tar xf /tmp/x.tgz -C .",
            "cp /etc/hosts .",
            "pip install requests",
            "cargo --version",
            "cargo install just",
            "cd /tmp && make",
            "cd\nmake",
            "cd \"$(mktemp -d)\"\ngit log\nls",
            "git clone https://x y\ncd y\nmake",
            "# make",
            "",
            "makefile",
            "echo make",
        ] {
            assert!(!finds(script), "{script}");
        }
    }
}
