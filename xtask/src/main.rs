//! The repository's own tasks, run as `cargo xtask <task>`.
//!
//! Purpose: one place that knows in which order things are built, checked and measured. Tasks are thin: what
//! a host needs is known by `ampoule setup`, what a test checks is known by the test.
//! Owner: whoever types the command; nothing of the product depends on this crate.
//!
//! Invariants:
//! - every task does its own set-up, on a machine that has only git, gcc, curl and rustup;
//! - a command that changes the host is printed before it runs;
//! - a task that checks something ends with a line in the form of `cargo test`'s, and fails if any stage does.
#![expect(clippy::print_stdout, reason = "a task talks to the person who typed it")]

mod bench;
mod book;
mod console;
mod examples;
mod fuzz;
mod host;
mod house;
mod proto;
mod run;
mod schema;
mod secrets;
mod suites;
mod up;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The repository's own tasks.

Usage: cargo xtask <task> [options]

  up [--yes]             from nothing to a workflow in a microVM: builds, installs what the host lacks
                         (asks first, unless --yes), makes the image, runs examples/hello
  test                   everything that has to pass before a change lands, with real VMs
  ci                     what .ci/run runs: `up` in a fresh machine where that tool stands beside the
                         checkout, then `test`, then the long suites
  build                  the release binary and the agent, as `up` builds them
  house                  the house rules that no compiler checks
  examples               runs every example in its VMs and looks at its result
  console                runs the console blocks of README.md and the book, and compares
  proto                  writes crates/forgejo/src/generated anew from the .proto files
  schema                 writes schemas/*.json anew from the language's table of keys
  fuzz [--seconds N] [TARGET]...
                         fuzzes each target for N seconds (60)
  gitea                  starts the tests' Gitea and tells how to log in, until Control-D
  book                   checks the book's pages and links, builds it where mdbook is installed
  bench [exec] [--lines N] [--boots N] [--runs N]
                         a local run's log throughput and cold boots, and three workflows beside act in
                         host mode (built when it is missing); a table, and target/bench.json
  bench fork [--runs N] [--at-once N,N,...] [--accel auto|kvm|tcg]
                         forks one by one, at once and from the pool; a table, and target/bench-fork.json
  bench forward [--mib N]
                         what a forward and the card carry, and their way there and back; a table, and
                         target/bench-forward.json
  bench runner [--runs N] [--lines N] [--accel auto|kvm|tcg]
                         a forge's jobs, in VMs and without: how long until row and end are at the
                         server, and the log's throughput; a table, and target/bench-runner.json
  bench validate [--runs N] [PATH]...
                         `validate` beside actionlint over the same files, by default our own, and over
                         one of a megabyte; a table, and target/bench-validate.json
";

fn main() -> ExitCode {
    match task(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(args: Vec<String>) -> Result<()> {
    let mut words = args.into_iter();
    let Some(task) = words.next() else {
        print!("{HELP}");
        bail!("no task given");
    };
    let rest: Vec<String> = words.collect();
    match task.as_str() {
        "up" => up::task(&rest),
        "test" => none(&rest).and_then(|()| suites::test()),
        "ci" => none(&rest).and_then(|()| suites::ci()),
        "build" => none(&rest).and_then(|()| up::build().map(drop)),
        "house" => none(&rest).and_then(|()| house::task()),
        "examples" => none(&rest).and_then(|()| examples::task()),
        "console" => none(&rest).and_then(|()| console::task()),
        "proto" => none(&rest).and_then(|()| proto::task()),
        "schema" => none(&rest).and_then(|()| schema::task()),
        "fuzz" => fuzz::task(&rest),
        "gitea" => none(&rest).and_then(|()| host::go()).and_then(|()| run::run(&mut suites::gitea("run"))),
        "book" => none(&rest).and_then(|()| book::task()),
        "bench" => bench::task(&rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no task {other:?}; `cargo xtask help` names them"),
    }
}

fn none(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(word) => bail!("this task takes no arguments, got {word:?}"),
    }
}
