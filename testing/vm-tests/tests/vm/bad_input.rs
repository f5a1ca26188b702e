//! What is wrong is told before a VM starts, with its place, and the right exit code.

use std::process::Command;

use libtest_mimic::Trial;
use vm_tests::{
    program::{On, Place},
    workflow::{project, script},
};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| {
        Trial::test(format!("bad_input::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        test("a_cycle_of_needs_is_named", cycle),
        test("what_is_not_there_yet_is_an_error_with_its_place", unsupported),
        test("an_unknown_job_is_the_users_error", unknown_job),
        test("a_job_that_waits_is_looked_at_before_anything_runs", waiting_job),
        test("one_bad_workflow_of_a_directory_keeps_the_others_from_running", bad_neighbour),
        test("a_container_image_is_told_to_mean_nothing", container_image),
        test("a_full_state_directory_is_told", full_state_directory),
    ]
}

#[track_caller]
fn refused(workflow: &str, words: &[&str], expected: &[&str]) {
    let place = Place::new(On::Fake);
    let dir = project(workflow);
    let ended = place.exec(dir.path(), words);
    ended.expect(2);
    for text in expected {
        assert!(ended.stderr.contains(text), "{text:?} is not in:\n{}", ended.stderr);
    }
    assert!(ended.event("job_start").is_none());
    place.assert_clean();
}

fn cycle() {
    refused(
        "on: push
jobs:
  a:
    needs: c
    runs-on: debian
    steps: [{run: 'true'}]
  b:
    needs: a
    runs-on: debian
    steps: [{run: 'true'}]
  c:
    needs: b
    runs-on: debian
    steps: [{run: 'true'}]
",
        &[],
        &["test.yml:4:12", "needs"],
    );
}

fn unsupported() {
    refused(
        "on: push
jobs:
  a:
    runs-on: debian
    container: alpine
    steps:
      - uses: actions/setup-go@v5
",
        &[],
        &["test.yml:5:", "test.yml:7:", "container", "actions/setup-go"],
    );
    refused(
        "on: push\njobs:\n  a:\n    runs-on: debian\n    steps:\n      - runn: 'true'\n",
        &[],
        &["test.yml:6:9", "unknown key", "`run`"],
    );
    refused(
        "on: push
jobs:
  a:
    runs-on: debian
    steps:
      - uses: actions/checkout@v4
        with: {repository: other/it}
      - uses: actions/checkout@v4
        with: {path: ../out}
",
        &[],
        &["test.yml:7:28", "other/it", "test.yml:9:22", "below the workspace"],
    );
    refused(
        "on: push\njobs:\n  a:\n    runs-on: windows-latest\n    steps: [{run: 'true'}]\n",
        &[],
        &["test.yml:4:14", "windows"],
    );
}

fn unknown_job() {
    refused(&script("true"), &["-j", "jj"], &["jj", "`j`"]);
}

fn waiting_job() {
    let workflow = "on: push
jobs:
  first:
    runs-on: debian
    steps: [{run: 'true'}]
  second:
    needs: first
    runs-on: ${{ matrix.os }}
    strategy: {matrix: {os: [debian, SECOND]}}
    steps: [{run: 'true'}]
";
    refused(&workflow.replace("SECOND", "windows-latest"), &[], &["test.yml:8:14", "windows"]);
    refused(&workflow.replace("SECOND", "ubuntu"), &["--matrix", "os:arch"], &["test.yml:6:3", "`--matrix`"]);
}

fn bad_neighbour() {
    let place = Place::new(On::Fake);
    let dir = project(&script("true"));
    let workflows = dir.path().join(".forgejo/workflows");
    std::fs::write(workflows.join("bad.yml"), "on: push\njobs: {a: {steps: []}}\n").expect("a file");
    let ended = place.exec(dir.path(), &[] as &[&str]);
    ended.expect(2);
    assert!(ended.stderr.contains("bad.yml:2:") && ended.stderr.contains("-W"), "{}", ended.stderr);
    assert!(ended.event("run_start").is_none(), "{:?}", ended.stdout);
    place.exec(dir.path(), &["-W", ".forgejo/workflows/test.yml"]).expect(0);
    // a job that no file has: all of them are named
    std::fs::write(workflows.join("bad.yml"), script("true").replace("j:", "other:")).expect("a file");
    let ended = place.exec(dir.path(), &["-j", "jj"]);
    ended.expect(2);
    for text in ["`jj`", "j in ", "other in ", "bad.yml", "test.yml"] {
        assert!(ended.stderr.contains(text), "{text:?} is not in:\n{}", ended.stderr);
    }
    place.assert_clean();
}

fn container_image() {
    let place = Place::new(On::Fake);
    let ended = place.exec(project(&script("true")).path(), &["-i", "node:24"]);
    ended.expect(0);
    assert!(ended.stderr.contains("node:24 names a container image"), "{}", ended.stderr);
    let place = Place::new(On::Qemu);
    let ended = place.exec(project(&script("true")).path(), &["-i", "small"]);
    ended.expect(2);
    assert!(ended.stderr.contains("no root image `small`"), "{}", ended.stderr);
}

/// In a mount namespace of its own with a state directory on a disk that is full. What then fails is the
/// engine's, before a step could meet it.
fn full_state_directory() {
    let place = Place::new(On::Fake);
    let dir = project(&script("echo never"));
    let exec = place.command(&["exec", "--json"]);
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c"]);
    let full = "mount -t tmpfs -o size=256k full \"$AMPOULE_STATE_DIR\"
        head -c 1M /dev/zero 2>&- > \"$AMPOULE_STATE_DIR/full\"
        exec \"$@\"";
    command.args([full, "sh"]);
    command.arg(exec.get_program()).args(exec.get_args()).arg("-C").arg(dir.path());
    command.env("AMPOULE_STATE_DIR", place.path());
    let out = command.output().expect("unshare runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(3), "{stdout}\n{stderr}");
    assert!(!stdout.contains("never"), "{stdout}");
    assert!(format!("{stdout}{stderr}").to_lowercase().contains("no space left"), "{stdout}\n{stderr}");
    place.assert_clean();
}
