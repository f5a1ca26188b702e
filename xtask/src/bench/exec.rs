//! `cargo xtask bench exec`: the figures of a local run.
//!
//! Purpose: how fast a job's log comes out of its VM, with how much memory on the host; how long a cold
//! boot takes until the first step; and the same workflows beside act ([`versus`]). Measured from outside, through
//! `ampoule exec --json`, so that they are what a person gets.
//!
//! Invariants: a row that is missing, doubled or out of order is an error, not a slower figure.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::versus;
use crate::{
    run::{run, target_dir},
    up::{self, Ampoule},
};

/// Runs the task with the words after its name.
pub(crate) fn task(words: &[String]) -> Result<()> {
    let (mut lines, mut boots, mut runs) = (1_000_000, 10, 5);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let wanted = match word.as_str() {
            "--lines" => &mut lines,
            "--boots" => &mut boots,
            "--runs" => &mut runs,
            other => bail!("`bench exec` takes --lines N, --boots N and --runs N, got {other:?}"),
        };
        *wanted = words.next().context("a number must follow")?.parse::<u64>().context("not a number")?;
    }
    let ampoule = up::build()?;
    run(&mut ampoule.command(&["setup"]))?;
    let boot = cold_boots(&ampoule, boots)?;
    let log = throughput(&ampoule, lines)?;
    let versus = versus::compare(&ampoule, usize::try_from(runs).context("too many runs")?)?;
    let file = target_dir()?.join("bench.json");
    let figures = json!({
        "host": { "cpus": std::thread::available_parallelism().map_or(0, usize::from) },
        "cold_boot_to_first_step_ms": boot.iter().map(Duration::as_millis).map(clamp).collect::<Vec<_>>(),
        "log": {
            "lines": lines,
            "seconds": log.took.as_secs_f64(),
            "lines_per_second": log.rate(lines),
            "max_rss_kib": log.max_rss_kib,
        },
        "beside_act": versus.json(),
    });
    fs::write(&file, format!("{figures:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    println!("\n| what | value |\n|---|---|");
    println!(
        "| a run from its start to its first step, its VM forked, median of {boots} | {:.2} s |",
        median(&boot).as_secs_f64()
    );
    println!("| the same, slowest | {:.2} s |", boot.last().copied().unwrap_or_default().as_secs_f64());
    println!("| {lines} log lines | {:.1} s, {:.0} lines/s |", log.took.as_secs_f64(), log.rate(lines));
    println!("| host process meanwhile, at most | {} MiB |", log.max_rss_kib / 1024);
    versus.print();
    println!("\nalso in {}", file.display());
    Ok(())
}

fn clamp(ms: u128) -> u64 {
    u64::try_from(ms).unwrap_or(u64::MAX)
}

fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Times from the start of `ampoule exec` to its first step, sorted.
fn cold_boots(ampoule: &Ampoule, runs: u64) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for run in 1..=runs {
        let begun = Instant::now();
        let mut child = ampoule
            .command(&["exec", "--json", "-C", "examples/hello"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut first = None;
        for line in reader(&mut child)?.lines() {
            if line?.contains(r#""type":"step_start""#) && first.is_none() {
                first = Some(begun.elapsed());
            }
        }
        ended_well(&mut child)?;
        let first = first.context("no step began")?;
        println!("cold boot {run} of {runs}: first step after {:.2} s", first.as_secs_f64());
        times.push(first);
    }
    times.sort();
    Ok(times)
}

struct Throughput {
    took: Duration,
    max_rss_kib: u64,
}

impl Throughput {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn rate(&self, lines: u64) -> f64 {
        lines as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

/// A step that prints so many rows, which were made before it, so that the guest's share is one `cat`.
fn throughput(ampoule: &Ampoule, lines: u64) -> Result<Throughput> {
    let project = Project::new(&format!(
        "on: push\njobs:\n  rows:\n    runs-on: debian\n    steps:\n      \
         - run: seq -f 'row %09.0f of a log, as long as the rows of a build often are' {lines} > /tmp/rows\n      \
         - run: cat /tmp/rows\n"
    ))?;
    let mut child = ampoule
        .command(&["exec", "--json", "-C"])
        .arg(&project.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut next, mut max_rss_kib) = (1, 0);
    let (mut begun, mut took) = (None, None);
    for line in reader(&mut child)?.lines() {
        let line = line?;
        if line.contains(r#""type":"step_start""#) && line.contains(r#""step":1"#) {
            begun = Some(Instant::now());
        }
        if let Some(row) = row_of(&line) {
            if row != next {
                bail!("row {row} came where row {next} was due");
            }
            next += 1;
            if row % 1000 == 0 {
                max_rss_kib = max_rss_kib.max(high_water(child.id()));
            }
            took = begun.map(|begun| begun.elapsed());
        }
    }
    ended_well(&mut child)?;
    if next != lines + 1 {
        bail!("{} rows came, {lines} were printed", next - 1);
    }
    Ok(Throughput { took: took.context("the step never began")?, max_rss_kib })
}

fn reader(child: &mut Child) -> Result<BufReader<std::process::ChildStdout>> {
    Ok(BufReader::with_capacity(1 << 20, child.stdout.take().context("no standard output")?))
}

fn ended_well(child: &mut Child) -> Result<()> {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("ampoule exec ended with {status}") }
}

/// The row's number, if this is a log line of ours. No JSON parser: it would be the slowest part.
fn row_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(r#""line":"row "#)?;
    rest.get(..9)?.parse().ok()
}

/// The most memory that the process ever had, in KiB; 0 once it is gone.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// A directory with one workflow, gone when it is dropped.
struct Project {
    dir: PathBuf,
}

impl Project {
    fn new(workflow: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("ampoule-bench-{}", std::process::id()));
        let workflows = dir.join(".forgejo/workflows");
        fs::create_dir_all(&workflows).with_context(|| format!("making {}", workflows.display()))?;
        let project = Self { dir };
        fs::write(workflows.join("rows.yml"), workflow)?;
        Ok(project)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(Path::new(&self.dir)) {
            println!("{} stays behind: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_from_its_event() {
        let event = r#"{"type":"log","time":"t","job":"rows","step":1,"line":"row 000000042 of a log"}"#;
        assert_eq!(row_of(event), Some(42));
        assert_eq!(row_of(r#"{"type":"log","line":"another"}"#), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        let times: Vec<Duration> = (1..=5).map(Duration::from_secs).collect();
        assert_eq!(median(&times), Duration::from_secs(3));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
