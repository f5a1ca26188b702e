//! Stages: commands that are printed, timed, counted, and added up to one closing line.
//!
//! Purpose: the same form for `test` and `ci`, so that a log says what ran, for how long, and what failed.
//! Owner: the task that makes a [`Report`]; it closes it with [`Report::close`].
//!
//! Invariants:
//! - a stage that fails makes the task fail; a failed gate also ends it at once, because the stages after it
//!   need what it makes;
//! - a stage counts as the tests that its harnesses report, or as one if they report none.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A command that runs in the repository's root.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The cargo that runs this task.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading cargo's metadata")?;
    match metadata["target_directory"].as_str() {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => bail!("cargo's metadata names no target directory"),
    }
}

/// The words of a command, as one would type them.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", key.display(), value.display()));
        }
    }
    let root = root();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let word = Path::new(word);
        let word = if word.is_absolute() && word.ends_with("bin/cargo") { Path::new("cargo") } else { word };
        words.push(word.strip_prefix(&root).unwrap_or(word).display().to_string());
    }
    words.join(" ")
}

/// Prints and runs a command; a failure is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("starting {shown}"))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{shown}` ended with {status}")
}

/// How many tests a stage ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Reads a harness's closing line, `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Tally> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Tally::default();
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((n, "passed")) => tally.passed = n.parse().ok()?,
                Some((n, "failed")) => tally.failed = n.parse().ok()?,
                Some((n, "ignored")) => tally.ignored = n.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }
}

/// Runs a command whose standard output may hold harnesses' closing lines, passes it on, and counts.
pub(crate) fn run_counted(command: &mut Command) -> Result<Tally> {
    let shown = shown(command);
    println!("$ {shown}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {shown}"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            out.write_all(&line)?;
            out.write_all(b"\n")?;
            out.flush()?;
            if let Some(more) = Tally::of_line(&String::from_utf8_lossy(&line)) {
                tally.add(more);
            }
        }
    }
    let status = child.wait()?;
    if status.success() || tally.failed > 0 {
        return Ok(tally);
    }
    // no harness says that a test failed: whatever it was counts as one, beside those that passed
    println!("`{shown}` ended with {status}");
    Ok(Tally { failed: 1, ..tally })
}

/// What a stage's failure means for those after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// They cannot run.
    Gate,
    /// They run all the same, so that one run tells everything that is wrong.
    Check,
}

struct Stage {
    name: String,
    took: Duration,
    error: Option<String>,
}

/// The stages of one task.
pub(crate) struct Report {
    begun: Instant,
    tally: Tally,
    stages: Vec<Stage>,
    shut: bool,
}

impl Report {
    /// An empty one; its clock starts.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), tally: Tally::default(), stages: Vec::new(), shut: false }
    }

    /// Runs one stage, unless a gate before it failed.
    pub(crate) fn stage(&mut self, name: &str, weight: Weight, body: impl FnOnce() -> Result<Tally>) {
        if self.shut {
            return;
        }
        println!("\n==> {name}");
        let begun = Instant::now();
        let result = body();
        let took = begun.elapsed();
        let error = match result {
            Ok(tally) if tally == Tally::default() => {
                self.tally.passed += 1;
                None
            }
            Ok(tally) => {
                self.tally.add(tally);
                (tally.failed > 0).then(|| format!("{} tests failed", tally.failed))
            }
            Err(error) => {
                self.tally.failed += 1;
                Some(format!("{error:#}"))
            }
        };
        let outcome = if error.is_none() { "ok" } else { "FAILED" };
        println!("<== {name}: {outcome}, {:.1} s", took.as_secs_f64());
        self.shut = error.is_some() && weight == Weight::Gate;
        self.stages.push(Stage { name: name.to_owned(), took, error });
    }

    /// Notes a stage that this machine cannot run, with the reason.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        if !self.shut {
            println!("\n==> {name}\n<== {name}: not run: {reason}");
            self.tally.ignored += 1;
        }
    }

    /// Prints each stage's time and the closing line; an error if any stage failed.
    pub(crate) fn close(self) -> Result<()> {
        println!("\nstage{:>35}", "seconds");
        for stage in &self.stages {
            println!("{:<30}{:>10.1}", stage.name, stage.took.as_secs_f64());
        }
        let failed: Vec<&Stage> = self.stages.iter().filter(|stage| stage.error.is_some()).collect();
        if !failed.is_empty() {
            println!("\nfailures:");
        }
        for stage in &failed {
            println!("    {}: {}", stage.name, stage.error.as_deref().unwrap_or_default());
        }
        println!("\n{}", closing(self.tally, failed.is_empty(), self.begun.elapsed()));
        if failed.is_empty() {
            Ok(())
        } else {
            bail!("{} of {} stages failed", failed.len(), self.stages.len())
        }
    }
}

fn closing(tally: Tally, ok: bool, took: Duration) -> String {
    format!(
        "test result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if ok { "ok" } else { "FAILED" },
        tally.passed,
        tally.failed,
        tally.ignored,
        took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_line_is_read_and_other_lines_are_not() {
        let line =
            "test result: ok. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 12, failed: 3, ignored: 1 }));
        assert_eq!(Tally::of_line("test result is fine"), None);
        assert_eq!(Tally::of_line("test result: ok. many passed; 0 failed"), None);
    }

    #[test]
    fn the_closing_line_is_one_that_we_would_read_ourselves() {
        let tally = Tally { passed: 7, failed: 1, ignored: 2 };
        let line = closing(tally, false, Duration::from_millis(1500));
        assert!(line.starts_with("test result: FAILED. "), "{line}");
        assert_eq!(Tally::of_line(&line), Some(tally));
    }

    #[test]
    fn a_failed_gate_ends_the_task_and_a_failed_check_does_not() {
        let mut report = Report::new();
        report.stage("one", Weight::Check, || bail!("no"));
        report.stage("two", Weight::Gate, || Ok(Tally { passed: 4, ..Tally::default() }));
        report.stage("three", Weight::Gate, || bail!("no"));
        report.stage("four", Weight::Check, || Ok(Tally::default()));
        assert_eq!(report.stages.len(), 3);
        assert_eq!(report.tally, Tally { passed: 4, failed: 2, ignored: 0 });
        assert!(report.close().is_err());
    }
}
