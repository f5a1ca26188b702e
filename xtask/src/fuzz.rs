//! `cargo xtask fuzz`: every fuzz target for a while.
//!
//! Purpose: what `cargo fuzz run` does, on the stable toolchain and with no tool to install: the coverage
//! passes of libFuzzer are plain code generation flags. A sanitizer would need nightly and buys little
//! in code without `unsafe`.
//!
//! A target `crate_name` calls `crate::fuzz_targets::name`; its kept corpus is `crates/crate/tests/corpus/name`,
//! which the crate's tests replay. `fuzz/dictionaries/crate_name.dict`, where there is one, has the words of its input.
//!
//! Invariants: a target that crashes makes the task fail and leaves its input in `fuzz/artifacts`; a run adds
//! to a scratch corpus below the target directory, never to the kept one.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    host,
    run::{cargo, command, root, run, shown, target_dir},
};

/// The coverage flags that `cargo fuzz` passes, without a sanitizer; assertions on.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions \
    -Coverflow-checks";

const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the task with the words after its name.
pub(crate) fn task(words: &[String]) -> Result<()> {
    let mut seconds = 60;
    let mut wanted = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                seconds = words.next().context("--seconds needs a number")?.parse().context("--seconds")?;
            }
            target => wanted.push(target.to_owned()),
        }
    }
    let all = targets()?;
    if let Some(unknown) = wanted.iter().find(|target| !all.contains(target)) {
        bail!("no fuzz target {unknown:?}; there are: {}", all.join(", "));
    }
    fuzz(if wanted.is_empty() { &all } else { &wanted }, seconds)
}

/// The names of the targets.
pub(crate) fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets")).context("reading fuzz/fuzz_targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the targets and runs each of these for so many seconds.
pub(crate) fn fuzz(names: &[String], seconds: u32) -> Result<()> {
    host::cxx()?;
    let target_dir = target_dir()?.join("fuzz");
    // with a named target the flags stay away from build scripts and macros
    let mut build = cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--bins"]);
    run(build
        .args(["--target", HOST_TARGET])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_TARGET_DIR", &target_dir))?;
    let mut crashed = Vec::new();
    for name in names {
        if let Err(error) = one(&target_dir, name, seconds) {
            println!("{name}: {error:#}");
            crashed.push(name.as_str());
        }
    }
    if crashed.is_empty() {
        Ok(())
    } else {
        bail!("inputs that crash, in fuzz/artifacts: {}", crashed.join(", "))
    }
}

fn one(target_dir: &Path, name: &str, seconds: u32) -> Result<()> {
    let scratch = target_dir.join("corpus").join(name);
    let artifacts = root().join("fuzz/artifacts").join(name);
    let (owner, target) = name.split_once('_').context("a target is named after its crate")?;
    let kept = root().join("crates").join(owner).join("tests/corpus").join(target);
    if !kept.is_dir() {
        bail!("{} has no corpus for it", kept.display());
    }
    for dir in [&scratch, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let mut fuzz = command(target_dir.join(HOST_TARGET).join("release").join(name), &[]);
    fuzz.arg(&scratch).arg(&kept).arg(format!("-artifact_prefix={}/", artifacts.display())).args([
        format!("-max_total_time={seconds}"),
        "-timeout=10".to_owned(),
        "-rss_limit_mb=2048".to_owned(),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    let dictionary = root().join("fuzz/dictionaries").join(name).with_extension("dict");
    if dictionary.is_file() {
        fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    println!("$ {}", shown(&fuzz));
    let output = fuzz.output().with_context(|| format!("starting {name}"))?;
    // what libFuzzer says on the way is thousands of lines of bytes: only a finding is worth them
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{said}");
        bail!("ended with {}", output.status);
    }
    let wanted = ["number_of_executed_units", "slowest_unit_time_sec"];
    for stat in said.lines().filter_map(|line| line.strip_prefix("stat::")) {
        if wanted.iter().any(|wanted| stat.starts_with(wanted)) {
            println!("{name}: {stat}");
        }
    }
    Ok(())
}
