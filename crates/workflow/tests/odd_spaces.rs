//! A no-break space in place of each space that means something: always named, and where it stands.

use doc::Source;
use workflow::{
    Resolved, WorkflowRef,
    rules::{FileKind, Levels, check},
};

const GOOD: &str = "name: CI
on:
  push:
    branches: [main]
  workflow_dispatch:
    inputs:
      target: {type: string}
env:
  A: b
jobs:
  build:
    runs-on: debian
    needs: lint
    if: github.ref == 'refs/heads/main'
    strategy:
      matrix:
        os:
          - a
          - b
    steps:
      - uses: actions/checkout@v4
        with:
          path: x
      - name: Make
        run: make ${{ matrix.os }}
      - run: |
          make
        env:
          REF: ${{ github.ref }}
  lint:
    runs-on:
      - debian
      - small
    steps:
      - run: make lint
";

fn said(text: &str) -> Vec<String> {
    let source = Source::new("x.yml", text);
    let found = check(&source, FileKind::Workflow, "x.yml", &Levels::default(), &mut |_: &WorkflowRef| {
        Resolved::Elsewhere
    });
    found.iter().map(|fault| fault.to_string().trim_start_matches("x.yml:").to_owned()).collect()
}

/// Whether the space at this place parts what YAML, or an expression, is made of.
fn means_something(at: usize) -> bool {
    let line = GOOD[..at].rfind('\n').map_or(0, |before| before + 1);
    let before = &GOOD[line..at];
    let indentation = before.trim_start().is_empty();
    // the first one behind a key or a dash; a value may begin with more
    let parts = before.ends_with([':', '-']);
    let expression = before.contains("${{") || before.contains("if: ");
    // that of a block of text is text, and one between two words is one of a flow map
    let in_block = GOOD[line..].starts_with("          make\n");
    !in_block && (indentation || parts || expression) && !before.contains("type:")
}

#[test]
fn each_is_named() {
    assert_eq!(said(GOOD), [""; 0]);
    let spaces = GOOD.match_indices(' ').map(|(at, _)| at).filter(|at| means_something(*at));
    let (mut count, mut wrong) = (0, Vec::new());
    for at in spaces {
        count += 1;
        let text = format!("{}\u{a0}{}", &GOOD[..at], &GOOD[at + 1..]);
        let line = text[..at].matches('\n').count() + 1;
        let column = at - text[..at].rfind('\n').map_or(0, |before| before + 1) + 1;
        let found = said(&text);
        // GitHub takes those of expressions
        let places =
            ["error", "warning"].map(|level| format!("{line}:{column}: {level}: a no-break space (U+00A0)"));
        if !found.first().is_some_and(|first| places.iter().any(|place| first.starts_with(place))) {
            wrong.push(format!("{places:?}: {found:?}"));
        }
    }
    assert!(count > 100, "{count}");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn text_may_have_them() {
    let text = GOOD
        .replace("Make", "L\u{a0}a: b")
        .replace("A: b", "A: \u{a0}b\u{a0}")
        .replace("L\u{a0}a:", "'L\u{a0}: x' #");
    assert_eq!(said(&text), [""; 0]);
    assert_eq!(said(&GOOD.replace("make lint", "-a:\u{a0}b -\u{a0}c")), [""; 0]);
    assert_eq!(said(&GOOD.replace("          make\n", "          a:\u{a0}b\n          \u{a0}c\n")), [""; 0]);
    assert_eq!(said(&GOOD.replace("== '", "== '\u{a0}")), [""; 0]);
}

#[test]
fn labels_have_none() {
    let found = said(&GOOD.replace("- small", "- small\u{a0}"));
    assert_eq!(found, ["33:9: error: a no-break space (U+00A0) stands in a label"]);
}

#[test]
fn values_may_begin_with_a_dash_and_one() {
    let jobs = |value: &str| GOOD.replace("          path: x", value);
    for value in [
        "          path: -\u{a0}foo",
        "          path: \u{a0}- foo",
        "          path: '-\u{a0}foo'",
        "          path:\n            -\u{a0}foo",
        "          path:\n           \u{a0}- foo",
        "          path:\n            -\u{a0}foo\n             - x",
    ] {
        let wrong = said(&jobs(value)).iter().any(|said| said.contains("stands where a space is meant"));
        assert!(!wrong, "{value}");
    }
    assert_eq!(said(&GOOD.replace("name: Make", "name: -\u{a0}Make")), [""; 0]);
    assert_eq!(said(&GOOD.replace("os:\n          - a\n          - b", "os: [-\u{a0}a]")), [""; 0]);
    let list = said(&GOOD.replace("          - a\n", "          -\u{a0}a\n"));
    assert_eq!(list, ["18:12: error: a no-break space (U+00A0) stands where a space is meant"]);
}

#[test]
fn blamed_only_where_they_are_why() {
    let found = said(&GOOD.replace("        with:", "        wíth: “a”").replace("          path: x\n", ""));
    assert_eq!(found, ["22:9: error: a step has no key `wíth`"]);
    let found = said(&GOOD.replace("env:\n  A: b", "env: A：b"));
    assert_eq!(found, ["8:7: error: a wide colon (U+FF1A) stands where a `:` is meant"]);
    let found = said(&GOOD.replace("env:\n  A: b", "env: |\n  A：b"));
    assert_eq!(found, ["9:3: error: `env` is a map of keys"]);
}
