//! Properties that nothing has: where each is found, with its column, and where nothing is said.

use doc::Source;
use workflow::{
    Resolved, WorkflowRef,
    rules::{FileKind, Levels, check},
};

/// `LINE:COLUMN message` of all that is said.
fn said(text: &str, kind: FileKind) -> Vec<String> {
    let source = Source::new("x.yml", text);
    let found = check(&source, kind, "x.yml", &Levels::default(), &mut |_: &WorkflowRef| Resolved::Elsewhere);
    found.iter().map(|fault| fault.to_string().trim_start_matches("x.yml:").to_owned()).collect()
}

const HEAD: &str = "on:
  workflow_dispatch: {inputs: {target: {}}}
  workflow_call: {inputs: {level: {type: string}}, outputs: {o: {value: '${{ jobs.b.outputs.o }}'}}}
jobs:
  a: {runs-on: d, steps: [{run: x}], outputs: {image: x}}
  c: {uses: o/r/.forgejo/workflows/x.yml@v1}
  b:
    needs: [a, c]
    runs-on: d
    strategy: {matrix: {os: [x], include: [{os: x, extra: 1}]}}
    outputs: {o: '${{ steps.last.outputs.o }}'}
    steps:
      - id: first
        run: x
      - run: ";
const TAIL: &str = "
      - id: last
        run: x
";

#[test]
fn of_expressions_in_a_step() {
    let none = [
        "steps.first.outputs.x",
        "steps.FIRST.outcome",
        "steps['first'].conclusion",
        "steps[github.job].outputs.x",
        "join(steps.*.outcome)",
        "toJSON(steps)",
        "needs.a.outputs.image",
        "needs.a.result",
        "needs.c.outputs.whatever",
        "needs[format('{0}', 'a')].outputs.image",
        "matrix.os",
        "matrix.Extra",
        "inputs.target",
        "inputs.level",
        "github.event.inputs.target",
        "github.event.anything.at_all",
        "github.forgejo_server_version",
        "github.something_new_entirely",
        "runner.tool_cache",
        "strategy.job-index",
        "env.X",
        "vars.X",
        "secrets.X",
        "job.container.id",
        "format('{0} {{}} {1}', 1, 2)",
        "format(env.X, 1)",
        "fromJSON('[1]')[0]",
        "fromJSON(env.X)",
    ];
    for expr in none {
        assert_eq!(said(&format!("{HEAD}${{{{ {expr} }}}}{TAIL}"), FileKind::Workflow), [""; 0], "{expr}");
    }
    let rows = [
        ("steps.fist.outputs.x", "15:24: warning: no step has the id `fist`"),
        ("steps['fist'].outputs.x", "15:25: warning: no step has the id `fist`"),
        ("steps.last.outputs.x", "15:24: warning: the step `last` has not run yet"),
        ("steps.first.output.x", "15:30: warning: a step has no property `output`"),
        ("needs.b.result", "15:24: warning: the job `b` does not need `b`"),
        ("needs.x.result", "15:24: warning: there is no need `x`"),
        ("needs.a.output", "15:26: warning: a job has no property `output` here"),
        ("needs.a.outputs.imgae", "15:34: warning: the job `a` has no output `imgae`"),
        ("matrix.so", "15:25: warning: the matrix has no `so`"),
        ("inputs.taget", "15:25: warning: the workflow has no input `taget`"),
        ("github.event.inputs.taget", "15:38: warning: the workflow has no input `taget`"),
        ("github.refname", "15:25: warning: `github` has no property `refname`"),
        ("runner.toolcache", "15:25: warning: `runner` has no property `toolcache`"),
        ("contains(needs.a.outputs.imgae, 'x')", "15:43: warning: the job `a` has no output `imgae`"),
        ("fromJSON('{a}')", "15:27: warning: `fromJSON` was given text that is not JSON (line 1, column 2)"),
        ("format('{0} {1}', 1)", "15:25: error: `format` has no argument 1: there are 1, counted from 0"),
    ];
    for (expr, expected) in rows {
        assert_eq!(said(&format!("{HEAD}${{{{ {expr} }}}}{TAIL}"), FileKind::Workflow), [expected], "{expr}");
    }
}

#[test]
fn of_what_cannot_be_known() {
    let job = |strategy: &str, expr: &str| {
        let text = format!(
            "on: push\njobs:\n  a:\n    runs-on: d\n{strategy}    steps: [{{run: '${{{{ {expr} }}}}'}}]\n"
        );
        said(&text, FileKind::Workflow)
    };
    for strategy in [
        "    strategy: ${{ fromJSON(vars.S) }}\n",
        "    strategy: {matrix: '${{ fromJSON(vars.M) }}'}\n",
        "    strategy: {matrix: {os: [x], include: '${{ fromJSON(vars.I) }}'}}\n",
        "    strategy: {matrix: {os: [x], include: ['${{ fromJSON(vars.I) }}']}}\n",
    ] {
        assert_eq!(job(strategy, "matrix.whatever"), [""; 0], "{strategy}");
    }
    assert_eq!(job("", "matrix.os").len(), 1, "there is no matrix");
    assert_eq!(job("", "inputs.x").len(), 1, "nothing has inputs");
    assert_eq!(job("", "github.event.inputs.x"), [""; 0], "of another event it may be anything");
    let maps = "    strategy: {matrix: {db: [{name: x}, {name: y, port: 1}]}}\n";
    assert_eq!(job(maps, "matrix.db.port"), [""; 0], "one has it");
    assert_eq!(job(maps, "matrix.db.prt"), ["6:34: warning: no value of `db` has a `prt`"]);
    assert_eq!(job("    strategy: {matrix: {db: [{name: x}, z]}}\n", "matrix.db.prt"), [""; 0]);
    let included = "    strategy: {matrix: {db: [{name: x}], include: [{db: {prt: 1}}]}}\n";
    assert_eq!(job(included, "matrix.db.prt"), [""; 0]);
    // where something is wrong, a part that is missing here may be there
    assert_eq!(job("    stategy: {}\n", "matrix.os").len(), 1);
}

/// What is said besides errors of a job whose steps and keys these are.
fn besides_errors(text: &str) -> Vec<String> {
    let mut found = said(text, FileKind::Workflow);
    let all = found.len();
    found.retain(|said| !said.contains("error: "));
    assert!(found.len() < all, "nothing is wrong with {text}");
    found
}

#[test]
fn of_files_with_errors() {
    let text = |job: &str, step: &str, expr: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: d\n{job}    steps:\n{step}      - run: ${{{{ {expr} }}}}\n"
        )
    };
    // what costs no name
    let whole = [
        ("    timeout: 5\n", ""),
        ("    timeout-minutes: soon\n", ""),
        ("    env: [A]\n", ""),
        ("    name: ${{ github. }}\n", ""),
        ("", "      - {id: x, run: make, timeout: 5}\n"),
        ("", "      - {id: x, run: make, shell: bahs}\n"),
        ("", "      - {id: x, run: '${{ nothing.here }}'}\n"),
        ("", "      - {id: x y, run: make}\n"),
    ];
    for (job, step) in whole {
        let found = besides_errors(&text(job, step, "steps.y.outcome"));
        assert!(matches!(found.as_slice(), [one] if one.contains("no step has the id `y`")), "{found:?}");
    }
    // what may have cost the step
    let lost = [
        ("", "      - {idd: y, run: make}\n"),
        ("", "      - {identifier: y, run: make}\n"),
        ("", "      - {id: [y], run: make}\n"),
        ("", "      - {id: y, rnu: make}\n"),
        ("", "      - {id: y, run: make, uses: a/b@v1}\n"),
        ("", "      - {id: y, uses: a/b}\n"),
        ("", "      -\n"),
        ("    step: [{id: y, run: make}]\n", ""),
    ];
    for (job, step) in lost {
        assert_eq!(besides_errors(&text(job, step, "steps.y.outcome")), [""; 0], "{job}{step}");
    }
    // the matrix, the needs, and those of no job
    for (job, expr) in [
        ("    matrix: {os: [x]}\n", "matrix.os"),
        ("    strategy: {os: [x]}\n", "matrix.os"),
        ("    strategy: {matrix: x}\n", "matrix.os"),
        ("    needs: {b: c}\n", "needs.b.result"),
        ("    depends_on: b\n", "needs.b.result"),
    ] {
        assert_eq!(besides_errors(&text(job, "", expr)), [""; 0], "{job}");
        let more = besides_errors(&text(job, "", "github.refname"));
        assert_eq!(more.len(), 1, "what hangs on no name of the job is said: {job}");
    }
    let on = |on: &str| text("", "", "inputs.x").replace("on: push", on);
    for wrong in ["no: push", "on: {workflow_dispatch: {input: {x: {}}}}", "on: {push: {branch: x}}"] {
        assert_eq!(besides_errors(&on(wrong)), [""; 0], "{wrong}");
    }
    // another job
    let two = text("    needs: b\n", "", "needs.b.outputs.x");
    for (other, said) in [
        ("{runs-on: d, timeout: 5, outputs: {y: z}, steps: [{run: x}]}", 1),
        ("{runs-on: d, output: {x: z}, steps: [{run: x}]}", 0),
        ("{runs-on: d, outputs: {x: [z]}, steps: [{run: x}]}", 0),
        ("{uses: 'a b'}", 0),
        ("", 0),
    ] {
        assert_eq!(besides_errors(&format!("{two}  b: {other}\n")).len(), said, "{other}");
    }
    let called = "on: {workflow_call: {outputs: {o: {value: '${{ jobs.b.outputs.x }}'}}}}\njobs: ";
    assert_eq!(besides_errors(&format!("{called}{{b: }}\n")), [""; 0]);
    assert_eq!(besides_errors(&format!("{called}[b]\n")), [""; 0]);
}

#[test]
fn of_jobs_outputs_and_actions() {
    let text = format!("{HEAD}x{TAIL}");
    assert_eq!(said(&text, FileKind::Workflow), [""; 0]);
    let wrong = text.replace("jobs.b.outputs.o ", "jobs.b.outputs.p ").replace("steps.last", "steps.lst");
    assert_eq!(
        said(&wrong, FileKind::Workflow),
        ["3:93: warning: the job `b` has no output `p`", "11:29: warning: no step has the id `lst`"]
    );
    let action = "name: x
inputs: {target: {}}
outputs: {o: {value: '${{ steps.a.outputs.o }}'}}
runs:
  using: composite
  steps:
    - {id: a, shell: bash, run: '${{ inputs.target }} ${{ matrix.any }}'}
";
    assert_eq!(said(action, FileKind::Action), [""; 0]);
    let wrong = action.replace("steps.a", "steps.b").replace("inputs.target", "inputs.t");
    assert_eq!(
        said(&wrong, FileKind::Action),
        ["3:33: warning: no step has the id `b`", "7:45: warning: the action has no input `t`"]
    );
    let faulty = |from: &str, to: &str| said(&wrong.replace(from, to), FileKind::Action).len();
    assert_eq!(faulty("shell: bash", "shell: bahs"), 3, "of a file with an error");
    assert_eq!(faulty("id: a", "id: [a]"), 2, "whose steps are not all there");
    assert_eq!(faulty("inputs: {target: {}}", "inputs: [target]"), 2, "or its inputs");
}

#[test]
fn shells() {
    let of = |shell: &str| {
        let text = format!("on: push\njobs: {{a: {{runs-on: d, steps: [{{run: x, shell: '{shell}'}}]}}}}\n");
        said(&text, FileKind::Workflow)
    };
    for good in ["bash", "pwsh", "node", "perl {0}", "${{ vars.X || ''sh'' }}", ""] {
        assert!(!of(good).iter().any(|fault| fault.contains("shell")), "{good}: {:?}", of(good));
    }
    assert_eq!(of("bahs"), ["2:48: error: the shell `bahs` is unknown"]);
    assert_eq!(of("fish"), ["2:48: error: the shell `fish` is unknown"]);
}
