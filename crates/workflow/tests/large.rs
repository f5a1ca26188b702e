//! Documents that are large in one way: each takes time and memory as it is large, not as the square of it.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use doc::Source;
use workflow::{Plan, Resolved, fuzz_targets, parse};

/// Far more than any of these takes, unoptimised and beside other tests; a quadratic one would take minutes.
const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn within<T>(what: &str, made: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let made = made();
    assert!(begun.elapsed() < LONG, "{what}: {:?}", begun.elapsed());
    made
}

/// So many rows.
fn rows(count: usize, row: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut all, at| {
        // writing to a string does not fail
        let _ = writeln!(all, "{}", row(at));
        all
    })
}

/// A workflow with one job that has these rows below its keys.
fn job(rows: &str) -> String {
    format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{{run: a}}]\n{rows}")
}

#[test]
fn workflows() {
    let table = [
        ("keys that are unknown", job(&rows(40_000, |at| format!("    k{at:05}: 1")))),
        ("variables", job(&format!("    env:\n{}", rows(40_000, |at| format!("      K{at:05}: x"))))),
        (
            "outputs",
            job(&format!("    outputs:\n{}", rows(30_000, |at| format!("      k{at:05}: ${{{{ x }}}}")))),
        ),
        ("quotes that nothing closes", {
            let quotes = format!("{}'", "${{ ' }} ' ".repeat(85_000));
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          {quotes}\n")
        }),
        ("needs that are not there", {
            let needs = rows(900, |at| format!("    - need{at:05}"));
            let of =
                |at| format!("  job{at:05}:\n    runs-on: x\n    steps: [{{run: a}}]\n    needs:\n{needs}");
            format!("on: push\njobs:\n{}", rows(70, of))
        }),
        ("needs of needs", {
            let needs = |count: usize| (0..count).map(|at| format!("j{at}")).collect::<Vec<_>>().join(", ");
            let of = |at| format!("  j{at}: {{runs-on: x, steps: [{{run: a}}], needs: [{}]}}", needs(at));
            format!("on: push\njobs:\n{}", rows(400, of))
        }),
        ("steps within a step", {
            let steps = rows(20_000, |at| format!("      - {{id: s{at:05}, run: a}}"));
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n    - parallel:\n{steps}")
        }),
        ("variables of a matrix", {
            let axes = rows(30_000, |at| format!("        k{at:05}: [1]"));
            job(&format!("    strategy:\n      matrix:\n{axes}"))
        }),
        ("entries of a matrix that name none of its variables", {
            let axes = rows(12_000, |at| format!("        k{at:05}: [1]"));
            let include = rows(12_000, |at| format!("        - q{at:05}: 1"));
            job(&format!("    strategy:\n      matrix:\n{axes}        include:\n{include}"))
        }),
        ("an entry for every job of a matrix", {
            let keys = rows(30_000, |at| format!("          k{at:05}: 1"));
            let values = (0..32).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
            let axes = format!("        a: [{values}]\n        b: [{values}]\n");
            job(&format!("    strategy:\n      matrix:\n{axes}        include:\n        -\n{keys}"))
        }),
        ("entries that add up", {
            let include = rows(1000, |at| {
                let keys = (0..40).map(|key| format!("k{at}_{key}: 1")).collect::<Vec<_>>().join(", ");
                format!("        - {{{keys}}}")
            });
            job(&format!("    strategy:\n      matrix:\n        a: [1, 2]\n        include:\n{include}"))
        }),
        ("patterns", {
            let patterns = rows(65_000, |at| format!("    - '{at:05}'"));
            job("").replace("on: push", &format!("on:\n  push:\n    branches:\n{patterns}"))
        }),
        ("patterns in one line without blanks", {
            let patterns = (0..60_000).map(|at| format!("'{at:05}'")).collect::<Vec<_>>().join(",");
            job("").replace("on: push", &format!("on:\n  push:\n    branches: [{patterns}]"))
        }),
        ("activities", {
            let words = rows(40_000, |at| format!("    - word{at:05}"));
            job("").replace("on: push", &format!("on:\n  issues:\n    types:\n{words}"))
        }),
        ("inputs", {
            let inputs = rows(20_000, |at| format!("      i{at:05}: {{type: number, default: x}}"));
            job("").replace("on: push", &format!("on:\n  workflow_call:\n    inputs:\n{inputs}"))
        }),
        ("text of strangers, and here-documents", {
            let line =
                |_| "          echo ${{ toJSON(github.event) }} <<'E'\n          x\n          E".to_owned();
            let script = format!("        run: |\n{}", rows(14_000, line));
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - name: x\n{script}")
        }),
        ("expressions with faults", {
            let script = format!("      - run: \"{}\"\n", "${{ a }}\\n".repeat(60_000));
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{script}")
        }),
        ("expressions that are not closed", {
            let script = format!("{}}}}} ", "${{ a } ".repeat(500)).repeat(200);
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: \"{script}\"\n")
        }),
        ("properties of texts", {
            let script = format!("      - run: \"{}\"\n", "${{ github.sha.x.y }}\\n".repeat(45_000));
            format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n{script}")
        }),
        ("properties of values of a matrix", {
            let keys = rows(20_000, |at| format!("            k{at:05}: {{l: 1}}"));
            let script = format!("{}\n", "${{ matrix.a.b.k00001.x }} ".repeat(15_000));
            job(&format!("    name: {script}    strategy:\n      matrix:\n        a:\n        - b:\n{keys}"))
        }),
        ("comments that silence", {
            let comment = |_| "# ampoule: allow untrusted-input: because".to_owned();
            format!("{}{}", rows(20_000, comment), job(""))
        }),
        ("anchors, and one that is not there", {
            format!("{}z: *b\n", rows(40_000, |at| format!("k{at:05}: &a{at:05} 1")))
        }),
        ("maps that are merged", {
            let map = rows(400, |at| format!("  k{at:05}: 1"));
            format!("a: &a\n{map}b:\n{}", rows(200, |_| "- <<: [*a, *a]".to_owned()))
        }),
        ("tags", rows(40_000, |at| format!("k{at:05}: !x 1"))),
        ("maps for keys", rows(40_000, |at| format!("{{{{a{at}: 1}}}}: 1"))),
        ("braces in brackets", format!("a: [{}", "{{ a }}, ".repeat(100_000))),
        ("quotes", format!("a: \"{}", "\\x41\\\n".repeat(100_000))),
    ];
    for (what, text) in table {
        assert!(text.len() <= 1 << 20, "{what}: {} bytes", text.len());
        within(what, || fuzz_targets::workflow(text.as_bytes()));
    }
}

#[test]
fn actions() {
    let runs = "runs:\n  using: composite\n  steps:\n  - {run: a, shell: bash}\n";
    for (what, text) in [
        ("inputs", format!("{runs}inputs:\n{}", rows(45_000, |at| format!("  i{at:05}:")))),
        ("outputs", format!("{runs}outputs:\n{}", rows(45_000, |at| format!("  o{at:05}:")))),
        ("keys that are unknown", format!("{runs}{}", rows(45_000, |at| format!("k{at:05}: 1")))),
        ("steps", format!("{runs}{}", rows(1000, |at| format!("  - {{id: s{at}, run: a, shell: bash}}")))),
    ] {
        within(what, || fuzz_targets::action(text.as_bytes()));
    }
}

/// What a call gives and what is declared, both large.
#[test]
fn calls() {
    let many =
        |indent: &str, name: &str, value: &str| rows(25_000, |at| format!("{indent}{name}{at:05}: {value}"));
    for (what, with, inputs) in [
        ("as declared", many("      ", "i", "x"), many("      ", "i", "{type: string}")),
        ("in another case", many("      ", "I", "x"), many("      ", "i", "{type: string}")),
        (
            "nothing of it declared",
            many("      ", "q", "x"),
            many("      ", "i", "{type: string, required: true}"),
        ),
        ("with defaults", "      q: x\n".to_owned(), many("      ", "i", "{type: string, default: x}")),
    ] {
        let called = format!(
            "on:\n  workflow_call:\n    inputs:\n{inputs}jobs: {{b: {{runs-on: x, steps: [{{run: a}}]}}}}\n"
        );
        let calls = format!("on: push\njobs:\n  a:\n    uses: ./.forgejo/workflows/b.yml\n    with:\n{with}");
        let said = within(what, || {
            let parsed = parse(&Source::new("a.yml", calls)).workflow.expect("a good workflow");
            let called = Source::new("b.yml", called);
            let mut resolve = |_: &workflow::WorkflowRef| Resolved::Text(called.clone());
            match Plan::with_calls(Arc::new(parsed), &mut resolve) {
                Ok((plan, _)) => {
                    let (results, contexts) = (workflow::Results::new(), workflow::Contexts::new());
                    let run = workflow::RunState::Running;
                    let around =
                        workflow::Surroundings { results: &results, contexts: &contexts, run, filters: &[] };
                    plan.expand("a", around).expect("an expansion").jobs.len()
                }
                Err(faults) => faults.iter().map(|fault| fault.render(doc::Rendering::Plain).len()).sum(),
            }
        });
        assert!(said < 1 << 20, "{what}: {said} bytes are said");
    }
}
