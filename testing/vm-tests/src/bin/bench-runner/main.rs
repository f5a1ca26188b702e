//! `cargo xtask bench runner`: what a job of a real forge takes, from outside.
//!
//! Purpose: `ampoule daemon` as a process, in its release build and with its defaults, against the tests' Gitea:
//! how long small jobs take until their rows and their end are at the server, and how fast the rows of a large one
//! come through mask and report. The same on the fake backend shows the runner's own price, without a VM.
//! Owner: `xtask`, which builds `ampoule` and its harness beside this program first.
//!
//! Invariants
//! - The server is not asked while a job runs: the moments are those of the daemon's own log.
//! - Every log is downloaded and each row looked at, and the server's state is asked for after the job.
#![expect(clippy::print_stdout, reason = "a program for the person who typed its name")]

mod figures;
mod hello;
mod rows;
mod subject;
mod told;

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Map, Value, json};
use testkit::gitea::{self, Gitea, chain};
use vm_tests::program::On;

use self::{hello::Hello, rows::Rows, subject::Subject};

struct Args {
    runs: usize,
    rows: usize,
    accel: String,
    json: Option<PathBuf>,
}

/// What one runner took.
struct Measured {
    hello: Hello,
    rows: Rows,
}

fn main() -> ExitCode {
    let args = match args(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            println!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(bench(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn args(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { runs: 10, rows: 100_000, accel: "auto".to_owned(), json: None };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("something must follow {word:?}"))?;
        let number = || match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{value:?} is no number of something")),
        };
        match word.as_str() {
            "--runs" => args.runs = number()?,
            "--lines" => args.rows = number()?,
            "--accel" => args.accel = value,
            "--json" => args.json = Some(value.into()),
            _ => {
                return Err(format!(
                    "`bench runner` takes --runs N, --lines N and --accel auto|kvm|tcg, got {word:?}"
                ));
            }
        }
    }
    Ok(args)
}

async fn bench(args: &Args) -> gitea::Result<()> {
    let gitea = Gitea::start()?;
    let mut all = Vec::new();
    for on in [On::Fake, On::Qemu] {
        let subject = Subject::start(gitea.api(), on, &args.accel).await?;
        let rows = rows::WORKFLOW.replace("COUNT", &args.rows.to_string());
        subject.commit(&[(hello::FILE, hello::WORKFLOW), (rows::FILE, &rows)]).await?;
        rows::prepare(&subject).await?;
        let hello = hello::measure(&subject, args.runs).await?;
        let rows = rows::measure(&subject, args.rows, args.runs).await?;
        all.push((subject.name, Measured { hello, rows }));
        subject.end();
    }
    println!("{}", table(&all, args));
    if let Some(path) = &args.json {
        let written = std::fs::write(path, format!("{:#}\n", json_of(&all)));
        written.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        println!("also in {}", path.display());
    }
    Ok(())
}

fn table(all: &[(&str, Measured)], args: &Args) -> String {
    let mut lines = Vec::new();
    for (name, measured) in all {
        let Hello { figures, backend, origins } = &measured.hello;
        let origins: Vec<_> = origins.iter().map(|(how, count)| format!("{count} {how}")).collect();
        lines.push(format!("\n{name}, {backend}; {} runs; VMs: {}\n", args.runs, origins.join(", ")));
        lines.push("| what | p50 | p95 |\n|---|---|---|".to_owned());
        for figure in figures {
            let (p50, p95) = (figure.percentile(50), figure.percentile(95));
            lines.push(format!("| {} | {p50:.3} s | {p95:.3} s |", figure.what));
        }
        let rows = &measured.rows;
        lines.push(format!(
            "\n{} rows, a fifth of them with secrets: {:.2} s from the first to the answer to the last, \
             {:.0} rows/s, in {} calls; the first answer after {:.2} s; the daemon had {} MiB at most",
            rows.count,
            rows.seconds,
            rows.rate(),
            rows.calls,
            rows.first,
            rows.memory >> 20
        ));
    }
    lines.join("\n")
}

fn json_of(all: &[(&str, Measured)]) -> Value {
    let mut out = Map::new();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    out.insert("host".to_owned(), json!({ "cpus": cpus }));
    for (name, measured) in all {
        let figures: Map<_, _> =
            measured.hello.figures.iter().map(|figure| (figure.key.to_owned(), figure.json())).collect();
        let value = json!({
            "backend": measured.hello.backend,
            "vms": measured.hello.origins,
            "hello_seconds": figures,
            "log": measured.rows.json(),
        });
        out.insert((*name).to_owned(), value);
    }
    Value::Object(out)
}

/// Says how far it is.
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_are_refused() {
        let of = |words: &[&str]| args(words.iter().map(|&word| word.to_owned()));
        let read = of(&["--runs", "3", "--lines", "7", "--accel", "tcg"]).expect("good");
        assert_eq!((read.runs, read.rows, read.accel.as_str()), (3, 7, "tcg"));
        for bad in [&["--runs"][..], &["--runs", "0"], &["--runs", "x"], &["--boots", "3"]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
