//! What a script of a shell says, line by line.
//!
//! Purpose: commands that servers have retired, and pipes whose failure is lost. Owner: [`super::steps`].
//! Invariant: this is no shell: what is not sure is not said.

use doc::{Diagnostic, Source};

use super::Rule;
use crate::Template;

/// A command of old, and what takes its place.
struct Retired {
    name: &'static str,
    why: &'static str,
    file: &'static str,
}

const RETIRED: [Retired; 4] = [
    Retired {
        name: "set-output",
        why: "GitHub has retired it, and Forgejo only bears it",
        file: "GITHUB_OUTPUT",
    },
    Retired {
        name: "save-state",
        why: "GitHub has retired it, and Forgejo only bears it",
        file: "GITHUB_STATE",
    },
    Retired {
        name: "set-env",
        why: "it is refused: any program's output could set variables",
        file: "GITHUB_ENV",
    },
    Retired {
        name: "add-path",
        why: "it is refused: any program's output could add programs",
        file: "GITHUB_PATH",
    },
];

/// Commands of old in a script.
pub(super) fn retired(script: &Template, source: &Source, found: &mut Vec<Diagnostic>) {
    let text = script.raw();
    if !text.contains("::") && !text.contains("##[") {
        return;
    }
    let mut start = 0;
    let mut locator = None;
    for line in text.split_inclusive('\n') {
        let begin = start;
        start += line.len();
        if is_comment(line) {
            continue;
        }
        for command in &RETIRED {
            let Some((at, end, rest)) = place(line, command.name) else { continue };
            let locator = locator.get_or_insert_with(|| script.locator());
            found.push(
                Rule::RetiredCommand
                    .warning(format!("the command `{}` is retired", command.name))
                    .at(source, locator.locate(begin + at, begin + end))
                    .label(format!("use `${}`", command.file))
                    .note(command.why)
                    .help(instead(command, rest)),
            );
        }
    }
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('#') && !line.starts_with("##[")
}

/// Where a command stands in a line, and what follows its name.
fn place<'l>(line: &'l str, name: &str) -> Option<(usize, usize, &'l str)> {
    [("::", ["::", " "]), ("##[", ["]", " "])].into_iter().find_map(|(open, ends)| {
        let whole = format!("{open}{name}");
        let at = line.find(&whole)?;
        // `::notice::set-output` only speaks of it
        if line[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let rest = &line[at + whole.len()..];
        ends.iter().any(|end| rest.starts_with(end)).then_some((at, at + whole.len(), rest))
    })
}

/// The line to write: with the names of this one where it is simple.
fn instead(command: &Retired, rest: &str) -> String {
    let file = command.file;
    let plain = |text: &str| !text.is_empty() && !text.contains(['"', '\'', '`', '\\', '\n']);
    if command.name == "add-path" {
        let path = rest.trim_start_matches([':', ']']).trim_end().trim_end_matches(['"', '\'']);
        let path = if plain(path) { path } else { "DIRECTORY" };
        return format!("write `echo \"{path}\" >> \"${file}\"`");
    }
    let written = rest.trim_start().strip_prefix("name=").and_then(|rest| {
        let (name, value) = rest.split_once("::").or_else(|| rest.split_once(']'))?;
        Some((name, value.trim_end().trim_end_matches(['"', '\''])))
    });
    match written.filter(|(name, value)| plain(name) && plain(value)) {
        Some((name, value)) => format!("write `echo \"{name}={value}\" >> \"${file}\"`"),
        None => format!("write `echo \"NAME=VALUE\" >> \"${file}\"`"),
    }
}

/// The first pipe of a script whose failing part may go unseen.
pub(super) fn pipe(script: &Template, source: &Source) -> Option<Diagnostic> {
    let text = script.raw();
    if !text.contains('|') || text.contains("pipefail") {
        return None;
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begin = start;
        start += line.len();
        if is_comment(line) {
            continue;
        }
        // what follows may be the text of a here-document
        if line.contains("<<") {
            return None;
        }
        let Some(at) = piped(line) else { continue };
        return Some(
            Rule::LostPipeFailure
                .warning("where the left side of this pipe fails, the step goes on")
                .at(source, script.locator().locate(begin + at, begin + at + 1))
                .label("only the right side is looked at")
                .note("without `shell` a step runs `bash -e`, without `pipefail`")
                .help("write `shell: bash` below the step, or `set -o pipefail` at the top of the script"),
        );
    }
    None
}

/// Programs whose failure is no news.
const SAFE: [&str; 6] = ["echo", "printf", "cat", "true", "yes", "ls"];

/// A pipe of a line, outside of quotes, tests and substitutions, behind something that can fail.
fn piped(line: &str) -> Option<usize> {
    let trimmed = line.trim_start();
    if ["if ", "elif ", "while ", "until ", "! ", "- ", "case "].iter().any(|word| trimmed.starts_with(word))
    {
        return None;
    }
    if trimmed.trim_end().ends_with([';', ')']) && trimmed.contains(')') {
        // `a|b) …;;`
        return None;
    }
    let bytes = line.as_bytes();
    let mut quote = None;
    let mut command = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (quote, byte) {
            (None | Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if open == *byte => quote = None,
            (None, b'"' | b'\'' | b'`') => quote = Some(*byte),
            // a substitution or a pattern of `case`
            (None, b'(' | b')') => return None,
            (None, b'#') if at > 0 && bytes[at - 1] == b' ' => return None,
            (None, b';' | b'&') => command = at + 1,
            (None, b'|') if bytes.get(at + 1) == Some(&b'|') => {
                at += 1;
                command = at + 1;
            }
            (None, b'|') if at > 0 && bytes[at - 1] == b'>' => {}
            (None, b'|') => {
                let left = line.get(command..at).unwrap_or_default();
                let program = left.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
                if !program.is_empty() && !SAFE.contains(&program) {
                    return Some(at);
                }
                command = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}
