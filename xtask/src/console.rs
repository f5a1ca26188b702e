//! The documents' console blocks, run: what README.md and the book show is what one gets.
//!
//! Purpose: a block that begins with ```` ```console ```` holds commands (`$ ampoule …`), what each prints, and
//! `? N` where its exit code is not 0. `[..]` stands for any text of a line, a line `...` for any lines.
//! Owner: `cargo xtask test` runs them as a stage, in the repository's root, with the binary it has built.
//!
//! Invariants: a console block that holds another program than `ampoule` is a failure, since nobody would know
//! whether it is true.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{Tally, root},
    up::{self, Ampoule},
};

/// One command of a console block.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    line: usize,
    command: String,
    output: Vec<String>,
    exit: i32,
}

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    let ampoule = up::build()?;
    let tally = all(&ampoule)?;
    println!("{} commands of the documents ok, {} not", tally.passed, tally.failed);
    if tally.failed > 0 { bail!("{} commands print something else", tally.failed) } else { Ok(()) }
}

/// Runs the commands of every document; each counts as a test.
pub(crate) fn all(ampoule: &Ampoule) -> Result<Tally> {
    let mut tally = Tally::default();
    for document in documents()? {
        let name = document.strip_prefix(root()).unwrap_or(&document).display().to_string();
        let text = fs::read_to_string(&document).with_context(|| format!("reading {name}"))?;
        for shown in parse(&text) {
            match one(ampoule, &shown) {
                Ok(()) => {
                    println!("test {name}:{} {} ... ok", shown.line, shown.command);
                    tally.passed += 1;
                }
                Err(error) => {
                    println!("test {name}:{} {} ... FAILED\n{error:#}", shown.line, shown.command);
                    tally.failed += 1;
                }
            }
        }
    }
    Ok(tally)
}

fn documents() -> Result<Vec<PathBuf>> {
    let mut found = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs/src")).context("reading docs/src")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn one(ampoule: &Ampoule, shown: &Shown) -> Result<()> {
    let mut words = shown.command.split_whitespace();
    if words.next() != Some("ampoule") || shown.command.contains(['\'', '"', '|', '>', '$', '\\']) {
        bail!("a console block holds plain `ampoule` commands only; use a `sh` block for what is not run");
    }
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = ampoule.command(&words.collect::<Vec<_>>());
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("starting ampoule")?;
    // its copies of the writing end would keep the pipe open
    drop::<Command>(command);
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    let status = child.wait()?;
    let output = String::from_utf8_lossy(&output);
    let printed: Vec<&str> = output.lines().map(str::trim_end).collect();
    let wanted: Vec<&str> = shown.output.iter().map(String::as_str).collect();
    if !lines_match(&wanted, &printed) {
        bail!("it shows:\n{}\nit prints:\n{}", wanted.join("\n"), printed.join("\n"));
    }
    if status.code() != Some(shown.exit) {
        bail!("it shows exit code {}, it ends with {status}", shown.exit);
    }
    Ok(())
}

fn parse(text: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line.trim_end() == "```console";
        } else if !inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            let command = command.trim().to_owned();
            found.push(Shown { line: index + 1, command, output: Vec::new(), exit: 0 });
        } else if let Some(shown) = found.last_mut() {
            match line.strip_prefix("? ").and_then(|code| code.trim().parse().ok()) {
                Some(code) => shown.exit = code,
                None => shown.output.push(line.trim_end().to_owned()),
            }
        }
    }
    found
}

fn lines_match(wanted: &[&str], printed: &[&str]) -> bool {
    match wanted.split_first() {
        None => printed.is_empty(),
        Some((&"...", rest)) => (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..])),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, after)| line_matches(line, first) && lines_match(rest, after)),
    }
}

fn line_matches(wanted: &str, printed: &str) -> bool {
    let Some((before, after)) = wanted.split_once("[..]") else { return wanted == printed };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|skipped| rest.get(skipped..).is_some_and(|rest| line_matches(after, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_with_their_output_and_exit_code_are_read() {
        let text = "text\n```console\n$ ampoule a\none\n\ntwo\n? 2\n$ ampoule b\n```\n```sh\n$ no\n```\n";
        let found = parse(text);
        let shown = |line, command: &str, output: &[&str], exit| Shown {
            line,
            command: command.to_owned(),
            output: output.iter().map(|&line| line.to_owned()).collect(),
            exit,
        };
        assert_eq!(found, [shown(3, "ampoule a", &["one", "", "two"], 2), shown(8, "ampoule b", &[], 0)]);
    }

    #[test]
    fn wildcards_stand_for_text_and_for_lines() {
        assert!(line_matches("took [..] s, [..]", "took 1.2 s, done"));
        assert!(!line_matches("took [..] s", "took 1.2 m"));
        assert!(lines_match(&["a", "...", "d"], &["a", "b", "c", "d"]));
        assert!(lines_match(&["a", "..."], &["a"]));
        assert!(!lines_match(&["a", "...", "d"], &["a", "b"]));
        assert!(!lines_match(&["a"], &["a", "b"]));
    }
}
