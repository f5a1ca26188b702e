//! The three forms, paths, exit codes, levels, and what the docs say of them.

use std::{fs, path::PathBuf};

use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::args::{Cli, Command};

const CI: &str = "on: push
jobs:
  build:
    runs-on: debian
    steps:
      - run: echo \"${{ github.event.issue.title }}\"
      - run: make
        timeout: 5
  deploy:
    needs: biuld
    uses: ./.forgejo/workflows/deploy.yml
    with: {tagret: x}
";
const DEPLOY: &str = "on:
  workflow_call:
    inputs: {target: {type: string}}
jobs: {a: {runs-on: debian, environment: prod, steps: [{run: make}]}}
";
const ACTION: &str = "name: a\nruns: {using: composite, steps: [{run: make}]}\n";

/// A repository, and what is said of paths in it, which are shown from there.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new(files: &[(&str, &str)]) -> Repository {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Repository(dir)
    }

    fn usual() -> Repository {
        Repository::new(&[
            (".forgejo/workflows/ci.yml", CI),
            (".forgejo/workflows/sub/deploy2.yaml", DEPLOY),
            (".forgejo/workflows/deploy.yml", DEPLOY),
            (".forgejo/workflows/notes.txt", "x: ["),
            (".github/workflows/b.yml", "on: push\njobs: {a: {runs-on: debian, steps: [{run: make}]}}\n"),
            (".forgejo/actions/x/action.yml", ACTION),
            ("action.yaml", ACTION),
            ("deep/action.yml", "a: ["),
        ])
    }

    fn report(&self, paths: &[&str], more: &[&str]) -> Report {
        let paths: Vec<String> =
            paths.iter().map(|path| self.0.path().join(path).display().to_string()).collect();
        let words = ["ampoule", "validate"].into_iter().chain(paths.iter().map(String::as_str));
        let Command::Validate(args) = Cli::parse_from(words.chain(more.iter().copied())).command else {
            panic!("validate")
        };
        let mut levels = Levels::default();
        args.levels.iter().for_each(|given| levels.set(given.rule, given.level));
        report(&args, &levels)
    }

    /// Without the directory, which has another name each time.
    fn shown(&self, text: &str) -> String {
        let dir = self.0.path().display().to_string();
        text.replace(&format!("{dir}/"), "").replace(&dir, ".")
    }
}

#[test]
fn a_repository_in_three_forms() {
    let repository = Repository::usual();
    let report = repository.report(&[""], &[]);
    assert_eq!((report.files, report.end()), (6, End::Failed));
    insta::assert_snapshot!("validate_text", repository.shown(&report.text(Rendering::Plain)));
    insta::assert_snapshot!("validate_json", repository.shown(&format!("{:#}", json::json(&report))));
    let mut sarif = sarif::sarif(&report, &Levels::default(), "https://docs.example/");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array_mut().unwrap();
    assert_eq!(rules.len(), Rule::all().count());
    rules.truncate(1);
    sarif["runs"][0]["tool"]["driver"]["version"] = "0".into();
    insta::assert_snapshot!("validate_sarif", repository.shown(&format!("{sarif:#}")).replace("file://", ""));
}

#[test]
fn paths() {
    let repository = Repository::usual();
    fs::create_dir_all(repository.0.path().join("root/.git")).unwrap();
    fs::write(repository.0.path().join("root/x.yml"), CI).unwrap();
    assert_eq!(repository.report(&["root"], &[]).end(), End::User, "a repository without workflows");
    let rows: [(&[&str], usize); 11] = [
        (&["action.yaml"], 1),
        (&[".forgejo/workflows"], 3),
        (&[".forgejo/workflows/ci.yml", "", ".forgejo/workflows/ci.yml"], 6),
        (&[".forgejo/actions/x"], 1),
        (&[".github/workflows/b.yml"], 1),
        (&["deep"], 1),
        (&[".forgejo/actions"], 1),
        (&[".forgejo/workflows/sub"], 1),
        (&[".forgejo"], 4),
        (&[".github"], 1),
        (&[".forgejo/workflows/../"], 4),
    ];
    for (paths, files) in rows {
        assert_eq!(repository.report(paths, &[]).files, files, "{paths:?}");
    }
}

#[test]
fn several_repositories_below_a_directory() {
    let good = "on: push\njobs: {a: {runs-on: debian, steps: [{run: make}]}}\n";
    let repository = Repository::new(&[
        ("all/a/.forgejo/workflows/ci.yml", CI),
        ("all/a/.forgejo/workflows/deploy.yml", DEPLOY),
        ("all/a/notes/action.yml", ACTION),
        ("all/group/b/.github/workflows/b.yml", good),
        ("all/group/b/.github/actions/x/action.yml", ACTION),
        ("all/c/action.yml", ACTION),
        ("all/d/.git/action.yml", ACTION),
        ("all/1/2/3/4/5/6/7/8/.forgejo/workflows/deep.yml", good),
        ("all/1/2/3/4/5/6/7/8/9/.forgejo/workflows/deeper.yml", good),
        ("all/1/2/3/4/5/6/7/s/9/.forgejo/workflows/deeper.yml", good),
        ("none/a/x.txt", ""),
        ("mono/.git/HEAD", ""),
        ("mono/sub/.forgejo/workflows/ci.yml", good),
    ]);
    let report = repository.report(&["all"], &[]);
    assert_eq!((report.files, report.unreadable.len()), (6, 0));
    let said = repository.shown(&report.text(Rendering::Plain));
    assert!(said.contains("--> all/a/.forgejo/workflows/ci.yml:10:12"), "{said}");
    let why = |path: &str| {
        let report = repository.report(&[path], &[]);
        assert_eq!(report.end(), End::User);
        repository.shown(&report.unreadable[0].why)
    };
    assert_eq!(why("none"), "there is no workflow and no action in it");
    assert_eq!(
        why("mono"),
        "there is no workflow and no action in it; if those below it are meant, name `mono/sub/.forgejo/workflows`"
    );
    // what cannot be read is told, and the rest is looked at
    let many = repository.0.path().join("all/many/.forgejo/workflows");
    fs::create_dir_all(&many).unwrap();
    for number in 0..=1000 {
        fs::write(many.join(format!("{number}.yml")), good).unwrap();
    }
    let report = repository.report(&["all"], &[]);
    assert_eq!((report.files, report.end()), (6, End::User));
    assert!(report.unreadable[0].path.ends_with("all/many"), "{:?}", report.unreadable);
}

#[test]
fn ends() {
    let repository = Repository::usual();
    let end = |paths: &[&str], more: &[&str]| repository.report(paths, more).end();
    assert_eq!(end(&[".github/workflows/b.yml"], &[]), End::Success);
    assert_eq!(end(&[".forgejo/workflows/deploy.yml"], &[]), End::Success, "a warning");
    assert_eq!(end(&[".forgejo/workflows/deploy.yml"], &["--rule", "ignored-by-forgejo=error"]), End::Failed);
    assert_eq!(end(&[".forgejo/workflows/ci.yml"], &[]), End::Failed);
    assert_eq!(end(&["deep"], &[]), End::Failed);
    let report = repository.report(&["nowhere", ".forgejo/workflows/ci.yml"], &[]);
    assert_eq!((report.end(), report.files), (End::User, 1));
    assert_eq!(report.unreadable.len(), 1);
    let sarif = sarif::sarif(&report, &Levels::default(), "");
    assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], json!(false));
    assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"][0].get("helpUri"), None);
    fs::create_dir(repository.0.path().join("empty")).unwrap();
    assert_eq!(end(&["empty"], &[]), End::User);
}

#[test]
fn levels() {
    let repository = Repository::usual();
    let warnings = |more: &[&str]| repository.report(&[".forgejo/workflows/deploy.yml"], more).warnings();
    assert_eq!(warnings(&[]), 1);
    assert_eq!(warnings(&["--rule", "ignored-by-forgejo=off"]), 0);
    assert_eq!(warnings(&["--rule", "ignored-by-forgejo=off", "--rule", "ignored-by-forgejo=warn"]), 1);
    for (bad, why) in [
        ("ignored-by-forgjo=off", "did you mean `ignored-by-forgejo`?"),
        ("ignored-by-forgejo=loud", "a level is error, warn or off"),
        ("ignored-by-forgejo", "expected NAME=LEVEL"),
    ] {
        let error = Cli::try_parse_from(["ampoule", "validate", "x", "--rule", bad]).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    for bad in
        [&["validate"][..], &["validate", "--rules", "x"], &["validate", "--rules", "--format", "json"]]
    {
        let words = ["ampoule"].iter().chain(bad);
        assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{bad:?}");
    }
    let mut levels = Levels::default();
    levels.set(Rule::UnpinnedAction, Level::Error);
    let table = list(&levels);
    assert_eq!(table.lines().count(), Rule::all().count() + 1);
    assert!(table.lines().any(|line| line.starts_with("unpinned-action          error  ")), "{table}");
}

/// The problem matcher of the docs reads what is printed.
#[test]
fn an_editor_finds_every_place() {
    let page = include_str!("../../../../docs/src/validate.md");
    let tasks = page.split("```json\n").find(|block| block.contains("problemMatcher")).unwrap();
    let tasks: serde_json::Value = serde_json::from_str(tasks.split("```").next().unwrap()).unwrap();
    let mut matcher = tasks["tasks"][0]["problemMatcher"].clone();
    matcher.as_object_mut().unwrap().remove("fileLocation");
    let file = json!({"problemMatcher": [matcher]}).to_string();
    let mut matchers = workflow::matcher::Matchers::new();
    matchers.add(workflow::matcher::parse("validate.md", file.as_bytes()).unwrap()).unwrap();
    let repository = Repository::usual();
    let report = repository.report(&[""], &[]);
    let text = repository.shown(&report.text(Rendering::Plain));
    let places = text.lines().filter(|row| matchers.read(row).is_some()).count();
    assert_eq!(places, report.found.len(), "{text}");
}

/// `.github` is full of what only GitHub reads, and often read by GitHub alone.
#[test]
fn what_is_about_forgejo_is_said_once_for_a_github_and_not_at_all_where_forgejo_does_not_look() {
    let text = "on: [push, merge_group]\npermissions: {}\njobs: {a: {runs-on: d, steps: [{run: x}], environment: e}}\n";
    let github = [".github/workflows/a.yml", ".github/workflows/b.yml", ".github/workflows/c.yml"];
    let mut files: Vec<_> = github.iter().map(|name| (*name, text)).collect();
    let rules = |repository: &Repository, more: &[&str]| -> Vec<String> {
        let found = repository.report(&[""], more).found;
        found
            .iter()
            .map(|fault| format!("{} {}", fault.rule.unwrap_or_default(), fault.notes.len()))
            .collect()
    };
    let repository = Repository::new(&files);
    let once = ["github-only-event 1", "ignored-by-forgejo 2", "ignored-by-forgejo 2"];
    assert_eq!(rules(&repository, &[]), once);
    let note = &repository.report(&[""], &[]).found[1].notes[1];
    assert_eq!(note, "so it is in 2 more files of `.github`");
    assert_eq!(
        rules(&repository, &["--rule", "ignored-by-forgejo=error"]).len(),
        1 + 2 * 3,
        "errors are all there"
    );
    files.push((".forgejo/workflows/x.yml", "on: push\njobs: {a: {runs-on: d, steps: [{run: x}]}}\n"));
    let repository = Repository::new(&files);
    assert_eq!(rules(&repository, &[]), [""; 0]);
    assert_eq!(rules(&repository, &["--rule", "ignored-by-forgejo=warn"]), once[1..]);
}

#[test]
fn bytes_that_are_no_text_are_an_error_of_the_file() {
    let repository = Repository::new(&[]);
    fs::write(repository.0.path().join("x.yml"), b"on: \xff").unwrap();
    fs::write(repository.0.path().join("y.yml"), b"\xff\xfeo\0n\0").unwrap();
    fs::write(repository.0.path().join("z.yml"), "# x\n".repeat(1 << 19)).unwrap();
    let report = repository.report(&["x.yml", "y.yml", "z.yml"], &[]);
    assert_eq!((report.end(), report.errors()), (End::Failed, 3));
    // code hosts refuse a result without a place
    let sarif = sarif::sarif(&report, &Levels::default(), "");
    for (at, name) in ["x.yml", "y.yml", "z.yml"].into_iter().enumerate() {
        let place = &sarif["runs"][0]["results"][at]["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with(name), "{place}");
        assert_eq!(place["region"]["startLine"], json!(1));
    }
}

#[test]
fn a_link_that_leads_out_of_the_repository_is_not_read() {
    let caller = "on: push\njobs: {a: {uses: ./.forgejo/workflows/secret.yml}}\n";
    let repository = Repository::new(&[
        ("in/.forgejo/workflows/a.yml", caller),
        ("in/elsewhere.yml", "on: push\njobs: {a: {runs-on: d, steps: [{run: a}]}}\n"),
        ("secret", "a: [secret"),
    ]);
    let workflows = repository.0.path().join("in/.forgejo/workflows");
    std::os::unix::fs::symlink("../../../secret", workflows.join("secret.yml")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere.yml", workflows.join("within.yml")).unwrap();
    let report = repository.report(&["in"], &[]);
    let [Unreadable { path, why }] = &report.unreadable[..] else { panic!("{report:?}") };
    assert!(path.ends_with("secret.yml") && why == files::LEADS_OUT, "{path}: {why}");
    assert_eq!((report.end(), report.files), (End::User, 2));
    let said = report.text(Rendering::Plain);
    assert!(said.contains(files::LEADS_OUT) && !said.contains("[secret"), "{said}");
}

#[test]
fn a_called_file_is_named_as_the_caller_is_and_its_errors_come_once() {
    let caller = "on: push\njobs: {a: {uses: ./.forgejo/workflows/c.yml}}\n";
    let repository = Repository::new(&[
        (".forgejo/workflows/a.yml", caller),
        (".forgejo/workflows/b.yml", caller),
        (".forgejo/workflows/c.yml", "on: workflow_call\njobs: {a: {runs-on: d, step: []}}\n"),
    ]);
    let all = repository.report(&[""], &[]);
    let one = repository.report(&[".forgejo/workflows/a.yml"], &[]);
    let shown: Vec<_> = one.found.iter().map(|fault| repository.shown(&fault.to_string())).collect();
    assert_eq!(shown, [".forgejo/workflows/c.yml:2:24: error: a job has no key `step`"]);
    assert_eq!(all.found.len(), 1, "{:?}", all.found);
    let file = files::file(&PathBuf::from("some/.forgejo/workflows/x.yml"));
    assert_eq!((file.shown_root.to_str(), file.inside.as_str()), (Some("some"), ".forgejo/workflows/x.yml"));
}

#[test]
fn actions_of_the_repository_are_looked_at_for_the_steps_that_use_them() {
    let steps = |path: &str| {
        let uses = ["actions/checkout@v4", path].map(|uses| format!("{{uses: {uses}}}")).join(", ");
        format!("on: push\njobs: {{a: {{runs-on: d, steps: [{uses}]}}}}\n")
    };
    let action = "name: a\ninputs: {x: {required: true}}\nruns: {using: docker, image: Dockerfile}\n";
    let outer = Repository::new(&[
        ("secret/action.yml", action),
        ("in/one/action.yaml", action),
        ("in/wrong/action.yml", "runs: ["),
        ("in/bare/Dockerfile", "FROM x"),
        ("in/.forgejo/workflows/a.yml", ""),
        ("loose/a.yml", &steps("./none")),
    ]);
    let inside = outer.0.path().join("in");
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let said = |path: &str| {
        fs::write(inside.join(".forgejo/workflows/a.yml"), steps(path)).unwrap();
        let found = outer.report(&["in/.forgejo/workflows/a.yml"], &[]).found;
        found.iter().map(|fault| outer.shown(&fault.to_string())).collect::<Vec<_>>()
    };
    let at = "in/.forgejo/workflows/a.yml:2:68: warning: ";
    assert_eq!(said("./one"), [format!("{at}the action `./one` needs the input `x`")]);
    assert_eq!(said("./none"), [format!("{at}there is no action `./none` when this step begins")]);
    for path in ["./wrong", "./bare", "./link", "./../secret", "./"] {
        assert_eq!(said(path), [""; 0], "{path}");
    }
    let loose = outer.report(&["loose/a.yml"], &[]).found;
    assert!(loose.is_empty(), "who knows where the repository begins: {loose:?}");
}
