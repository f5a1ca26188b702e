//! `cargo xtask bench validate`: how long it takes to look at workflows, beside actionlint.
//!
//! Purpose: both look at the same files in turn, without the tools that actionlint calls where they are there
//! (shellcheck, pyflakes), and once more at one workflow of a megabyte, which is made here: jobs that need each other,
//! matrices, and steps with expressions.
//!
//! Invariants: both looked at every file, or there is no figure; a time is that of a group of runs, each on average,
//! because the kernel counts in hundredths of a second.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    cost::{self, Cost},
    go::Pinned,
    versus::{middle, ms, ratio},
};
use crate::run::{cargo, root, run, target_dir};

pub(super) const ACTIONLINT: Pinned = Pinned {
    name: "actionlint",
    module: "github.com/rhysd/actionlint",
    package: "github.com/rhysd/actionlint/cmd/actionlint",
};

/// Where this repository has workflows, right ones and wrong ones.
const OWN: [&str; 5] =
    ["examples", "docs/faulty", "docs/mistakes", "crates/workflow/tests/good", "crates/workflow/tests/wrong"];
/// What actionlint panics at (1.7.12: two jobs that call the same file, and no repository around).
const PANICS: &str = "wrong/calls.yml";
/// Runs that are measured together.
const GROUP: u32 = 10;
/// A megabyte, which is just below what is read at all.
const LARGE: usize = 1_000_000;

/// Runs the task with the words after its name.
pub(super) fn task(words: &[String]) -> Result<()> {
    let (mut runs, mut paths) = (7, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => {
                runs = words.next().context("a number must follow")?.parse().context("not a number")?;
            }
            option if option.starts_with('-') => {
                bail!("`bench validate` takes --runs N and paths, got {option:?}")
            }
            path => paths.push(PathBuf::from(path)),
        }
    }
    if paths.is_empty() {
        paths.extend(OWN.iter().map(|path| root().join(path)));
    }
    run(&mut cargo(&["build", "--release", "--locked", "-p", "ampoule"]))?;
    let ampoule = target_dir()?.join("release/ampoule");
    let actionlint = ACTIONLINT.ensure()?;
    let both = Both { ampoule: &ampoule, actionlint: &actionlint.program };
    let mut files = Vec::new();
    for path in &paths {
        workflows(path, &mut files)
            .with_context(|| format!("looking for workflows in {}", path.display()))?;
    }
    files.retain(|file| !file.ends_with(PANICS));
    let mut lines = 0;
    for file in &files {
        lines += fs::read_to_string(file).unwrap_or_default().lines().count();
    }
    let large = std::env::temp_dir().join(format!("ampoule-validate-{}.yml", std::process::id()));
    fs::write(&large, workflow_of(LARGE)).with_context(|| format!("writing {}", large.display()))?;
    let name = format!("{} files, {lines} lines", files.len());
    let rows = both.row(name, &files, runs).and_then(|first| {
        let name = format!("one file, {:.2} MB", LARGE as f64 / 1e6);
        Ok([first, both.row(name, std::slice::from_ref(&large), runs)?])
    });
    fs::remove_file(&large).with_context(|| format!("removing {}", large.display()))?;
    let rows = rows?;
    println!(
        "\nbeside actionlint {}, medians of {runs} groups of {GROUP} runs (wall / CPU, ms)",
        actionlint.version
    );
    println!("| what | ampoule | actionlint | ratio |\n|---|---|---|---|");
    for row in &rows {
        row.print();
    }
    let file = target_dir()?.join("bench-validate.json");
    let figures = json!({
        "actionlint": actionlint.version,
        "group": GROUP,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    fs::write(&file, format!("{figures:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

/// The workflows of a file or a directory, in order.
fn workflows(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        let yaml = entry.extension().is_some_and(|end| end == "yml" || end == "yaml");
        let action = entry.file_stem().is_some_and(|name| name == "action");
        if entry.is_dir() || (yaml && !action) {
            workflows(&entry, found)?;
        }
    }
    Ok(())
}

/// The two programs.
struct Both<'a> {
    ampoule: &'a Path,
    actionlint: &'a Path,
}

/// What both took for the same files.
struct Row {
    name: String,
    ampoule: Vec<Cost>,
    actionlint: Vec<Cost>,
}

impl Both<'_> {
    fn ours(&self, files: &[PathBuf]) -> Command {
        let mut command = Command::new(self.ampoule);
        command.arg("validate").args(files);
        command
    }

    /// Options come first: what stands behind a file is one.
    fn theirs(&self, options: &[&str], files: &[PathBuf]) -> Command {
        let mut command = Command::new(self.actionlint);
        command.args(["-shellcheck=", "-pyflakes=", "-no-color"]).args(options).args(files);
        command
    }

    fn row(&self, name: String, files: &[PathBuf], runs: usize) -> Result<Row> {
        self.check(files)?;
        let mut row = Row { name, ampoule: Vec::new(), actionlint: Vec::new() };
        for number in 1..=runs {
            let ours = cost::on_average(GROUP, &mut self.ours(files))?;
            let theirs = cost::on_average(GROUP, &mut self.theirs(&[], files))?;
            let (our, their) = (ms(Some(ours.wall)), ms(Some(theirs.wall)));
            println!("{}, {number} of {runs}: {our:.1} ms, actionlint {their:.1} ms", row.name);
            row.ampoule.push(ours);
            row.actionlint.push(theirs);
        }
        Ok(row)
    }

    /// That both look at every file.
    fn check(&self, files: &[PathBuf]) -> Result<()> {
        let said = self.ours(files).output().context("running ampoule validate")?;
        let said = String::from_utf8_lossy(&said.stdout);
        let last = said.lines().last().unwrap_or_default();
        let looked = last.rsplit(" in ").next().and_then(|rest| rest.split(' ').next());
        if looked != Some(files.len().to_string().as_str()) {
            bail!("ampoule did not look at {} files: {last:?}", files.len());
        }
        let said = self.theirs(&["-verbose"], files).output().context("running actionlint")?;
        let said = String::from_utf8_lossy(&said.stderr);
        let linted = said.lines().filter(|line| is_file_linted(line)).count();
        if linted != files.len() {
            bail!("actionlint did not look at {} files but at {linted}:\n{said}", files.len());
        }
        Ok(())
    }
}

/// Whether a row of actionlint's log says that it is done with a file. It writes them from several threads, so that the
/// word in front may stand in another row.
fn is_file_linted(line: &str) -> bool {
    line.contains("Found total ") && line.contains(" for ")
}

impl Row {
    fn print(&self) {
        let (ours, theirs) = (middle(&self.ampoule), middle(&self.actionlint));
        let of = |time: Duration| ms(Some(time));
        println!(
            "| {} | {:.1} / {:.1} | {:.1} / {:.1} | {:.2} / {:.2} |",
            self.name,
            of(ours.wall),
            of(ours.cpu),
            of(theirs.wall),
            of(theirs.cpu),
            ratio(ours.wall, theirs.wall),
            ratio(ours.cpu, theirs.cpu),
        );
    }

    fn json(&self) -> Value {
        let each = |costs: &[Cost]| -> Vec<Value> {
            let of = |time: Duration| ms(Some(time));
            costs.iter().map(|cost| json!({ "wall_ms": of(cost.wall), "cpu_ms": of(cost.cpu) })).collect()
        };
        json!({ "what": self.name, "ampoule": each(&self.ampoule), "actionlint": each(&self.actionlint) })
    }
}

/// A workflow of as many bytes, of which both find nothing to say: comments fill what no job fits into.
fn workflow_of(bytes: usize) -> String {
    let mut text = String::from(
        "name: Everything\non:\n  push:\n    branches: [main, 'release/**']\nenv:\n  CI: 'true'\njobs:\n",
    );
    for number in 0.. {
        let job = job(number);
        if text.len() + job.len() + 2 > bytes {
            break;
        }
        text += &job;
    }
    let left = bytes - text.len();
    text + "#" + &"-".repeat(left.saturating_sub(2)) + "\n"
}

fn job(number: usize) -> String {
    let mut job = format!(
        "  job-{number}:\n    name: Part {number} on ${{{{ matrix.os }}}}\n    runs-on: ubuntu-latest\n"
    );
    let image = match number.checked_sub(1) {
        Some(before) => {
            // a String takes everything
            let _ = writeln!(
                job,
                "    needs: [job-{before}]\n    if: needs.job-{before}.result == 'success' || always()"
            );
            format!("${{{{ needs.job-{before}.outputs.image }}}}")
        }
        None => "debian".to_owned(),
    };
    let _ = write!(
        job,
        r#"    timeout-minutes: 30
    strategy:
      fail-fast: false
      matrix:
        os: [debian, alpine]
        version: ['3.10', '3.11', '3.12']
        exclude:
          - os: alpine
            version: '3.10'
    env:
      IMAGE: {image}
      TARGET: part-{number}
    outputs:
      image: ${{{{ steps.publish.outputs.image }}}}
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - name: Restore what was downloaded
        uses: actions/cache@v4
        with:
          path: ~/.cache
          key: ${{{{ runner.os }}}}-${{{{ matrix.version }}}}-${{{{ hashFiles('**/*.lock') }}}}
"#
    );
    for step in 0..6 {
        let _ = write!(
            job,
            r#"      - name: Step {step} of part {number}
        if: github.ref == 'refs/heads/main' && !cancelled() && contains(github.event_name, 'push')
        run: |
          echo "step {step} on ${{{{ matrix.os }}}} with ${{{{ matrix.version }}}}"
          make part-{number} STEP={step} REF="${{{{ github.sha }}}}" \
            NAME=${{{{ format('{{0}}-{{1}}', matrix.os, github.run_id) }}}}
          test -s build/part-{number}
        env:
          LEVEL: ${{{{ startsWith(github.ref, 'refs/tags/') && 'release' || 'debug' }}}}
"#
        );
    }
    job += "      - id: publish\n        run: echo \"image=$TARGET\" >> \"$GITHUB_OUTPUT\"\n        working-directory: build\n";
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workflow_has_its_size() {
        for bytes in [10_000, LARGE] {
            let text = workflow_of(bytes);
            assert_eq!(text.len(), bytes);
            assert!(text.contains("needs: [job-0]") && !text.contains("{{{"), "{text:.4000}");
        }
        let jobs = workflow_of(LARGE).matches("\n    runs-on: ").count();
        assert!((200..1000).contains(&jobs), "{jobs}");
    }

    #[test]
    fn there_are_own_workflows() {
        let mut files = Vec::new();
        for path in OWN {
            workflows(&root().join(path), &mut files).unwrap();
        }
        assert!(files.len() > 70, "{}", files.len());
        assert!(!files.iter().any(|file| file.ends_with("action.yml")));
    }
}
