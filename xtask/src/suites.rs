//! `cargo xtask test` and `cargo xtask ci`: which stages there are, and in which order.
//!
//! Purpose: one list. `test` is what has to pass before a change lands, within 30 minutes on 2 cores from a
//! clean clone; `ci` puts the fresh machine before it and the long suites behind it, within 75 minutes.
//!
//! Invariants: cheap checks come first; nothing here needs a terminal or answers a question.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    book, console, examples, fuzz, host, house,
    run::{Report, Tally, Weight, cargo, command, root, run, run_counted},
    up::{self, Ampoule},
};

/// How long each fuzz target runs in `ci`.
const FUZZ_SECONDS: u32 = 6;

/// What has to pass before a change lands.
pub(crate) fn test() -> Result<()> {
    let mut report = Report::new();
    quick(&mut report);
    report.close()
}

/// What .ci/run runs.
pub(crate) fn ci() -> Result<()> {
    let mut report = Report::new();
    fresh(&mut report);
    if let Some(ampoule) = quick(&mut report) {
        long(&mut report, &ampoule);
    }
    report.close()
}

fn plain(result: Result<()>) -> Result<Tally> {
    result.map(|()| Tally::default())
}

/// The README's first command where nothing of ours was ever installed, as root and as a plain user.
fn fresh(report: &mut Report) {
    let tool = root().join("../shared/testing/fresh-machine/fresh-machine");
    let Some(tool) = usable(tool) else {
        report.skip("fresh machine", "it needs root, and fresh-machine beside the checkout");
        return;
    };
    for (name, who) in [("fresh machine, root", None), ("fresh machine, plain user", Some("--user"))] {
        report.stage(name, Weight::Check, || {
            let mut fresh = command(&tool, &[]);
            fresh.args(who).arg(root()).args(["--", "cargo", "xtask", "up", "--yes"]);
            without_cargo(&mut fresh);
            plain(run(&mut fresh))
        });
    }
}

/// Takes away what cargo and rustup told this task of this machine (`RUSTUP_TOOLCHAIN`, `CARGO_HOME`, …): in
/// another root it names toolchains and directories that are not there.
fn without_cargo(command: &mut std::process::Command) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH" {
            command.env_remove(&key);
        }
    }
}

fn usable(tool: PathBuf) -> Option<PathBuf> {
    let root = host::output("id", &["-u"]).is_ok_and(|id| id.trim() == "0");
    (root && tool.is_file()).then_some(tool)
}

fn quick(report: &mut Report) -> Option<Ampoule> {
    report.stage("tools", Weight::Gate, || {
        plain(host::check_machine().and_then(|()| host::checkers()).and_then(|()| host::go()))
    });
    report.stage("format", Weight::Check, || plain(run(&mut cargo(&["fmt", "--all", "--check"]))));
    report.stage("house rules", Weight::Check, || plain(house::task()));
    report.stage("book", Weight::Check, || plain(book::task()));
    report.stage("clippy", Weight::Check, || {
        let args = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        plain(run(&mut cargo(&args)))
    });
    let mut ampoule = None;
    report.stage("build", Weight::Gate, || plain(up::build_dev().map(|built| ampoule = Some(built))));
    let ampoule = ampoule?;
    // some unit tests call programs that it installs
    report.stage("setup", Weight::Gate, || plain(run(&mut ampoule.command(&["setup", "--yes"]))));
    report.stage("gitea", Weight::Check, || plain(run(&mut gitea("build"))));
    report.stage("unit tests", Weight::Check, || {
        let args = ["test", "--locked", "--workspace", "--exclude", "vm-tests", "--no-fail-fast"];
        run_counted(&mut cargo(&args))
    });
    report.stage("fork action", Weight::Check, || plain(host::node().and_then(|()| fork_action())));
    report.stage("clients' tools", Weight::Check, || plain(host::pip()));
    report.stage("tests in VMs", Weight::Check, || run_counted(&mut vm_tests(&ampoule, &[])));
    report.stage("examples", Weight::Check, || examples::all(&ampoule));
    report.stage("documents", Weight::Check, || console::all(&ampoule));
    Some(ampoule)
}

fn long(report: &mut Report, ampoule: &Ampoule) {
    report.stage("dependencies", Weight::Check, || plain(deny()));
    report.stage("long tests in VMs", Weight::Check, || run_counted(&mut vm_tests(ampoule, &["--ignored"])));
    report.stage("engines killed on fake", Weight::Check, || {
        let mut many =
            cargo(&["test", "--locked", "-p", "sandbox", "--test", "forks", "--test", "kept", "killed"]);
        // 200 rounds
        run_counted(many.env("AMPOULE_TEST_ROUNDS", "10"))
    });
    report.stage("fuzz", Weight::Check, || {
        let targets = fuzz::targets()?;
        fuzz::fuzz(&targets, FUZZ_SECONDS)?;
        Ok(Tally { passed: u64::try_from(targets.len())?, ..Tally::default() })
    });
}

/// The Gitea of the tests: `build` makes what they would otherwise make first, `run` starts one.
pub(crate) fn gitea(word: &str) -> std::process::Command {
    cargo(&["run", "--quiet", "--locked", "-p", "testkit", "--bin", "test-gitea", "--", word])
}

/// The tests that boot real VMs; the long ones are marked as ignored.
fn vm_tests(ampoule: &Ampoule, args: &[&str]) -> std::process::Command {
    let mut tests = cargo(&["test", "--locked", "-p", "vm-tests", "--"]);
    tests.args(args);
    ampoule.name_agent(&mut tests);
    tests
}

/// The fork action's own tests, by node's test runner.
fn fork_action() -> Result<()> {
    let mut tests = command("node", &["--test"]);
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("actions/fork/test"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    // a directory means something else to each version of node
    files.retain(|file| file.to_string_lossy().ends_with(".test.js"));
    files.sort();
    run(tests.args(files))
}

/// Licences, sources and doubles of everything we depend on. Advisories need the network of their database:
/// `cargo deny check` looks at them too.
fn deny() -> Result<()> {
    if host::output("cargo", &["deny", "--version"]).is_err() {
        run(&mut cargo(&["install", "--quiet", "--locked", "cargo-deny"]))?;
    }
    run(&mut cargo(&["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}
