//! What is known of a job before its needs are done.

use std::sync::Arc;

use doc::Source;
use workflow::{
    ContextName, Contexts, MatrixFilter, Plan, Prospect, Results, RunState, Surroundings, Value, Verdict,
    parse,
};

/// What is foreseen of job `b`, which needs `a` unless it says otherwise.
struct Seen {
    plan: Plan,
    contexts: Contexts,
    filters: Vec<MatrixFilter>,
}

impl Seen {
    #[track_caller]
    fn of(job: &str) -> Seen {
        let job = job.replace('\n', "\n    ");
        let text = format!(
            "on: push\njobs:\n  a: {{runs-on: x, steps: [{{run: a}}]}}\n  b:\n    {job}\n    steps: [{{run: a}}]\n"
        );
        let workflow = parse(&Source::new("t.yml", text)).into_result().expect("a good workflow").0;
        let mut contexts = Contexts::new();
        contexts.set(ContextName::Github, Value::from_json(&serde_json::json!({"ref": "main"})));
        Seen { plan: Plan::new(Arc::new(workflow)).expect("a plan"), contexts, filters: Vec::new() }
    }

    fn only(mut self, key: &str, value: &str) -> Seen {
        self.filters.push(MatrixFilter { key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// The jobs that it becomes, `later`, or the faults.
    fn say(&self) -> String {
        let results = Results::new();
        match self.plan.foresee("b", self.around(&results)) {
            Ok(None) => "later".to_owned(),
            Ok(Some(expansion)) => {
                let job = |job: &workflow::ExpandedJob| match job.verdict {
                    Verdict::Run => job.name.clone(),
                    Verdict::Skip => format!("-{}", job.name),
                };
                expansion.jobs.iter().map(job).collect::<Vec<_>>().join(", ")
            }
            Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    fn prospect(&self) -> Prospect {
        let results = Results::new();
        self.plan.prospect("b", self.around(&results))
    }

    fn around<'a>(&'a self, results: &'a Results) -> Surroundings<'a> {
        Surroundings { results, contexts: &self.contexts, run: RunState::Running, filters: &self.filters }
    }
}

const WINDOWS: &str = "error: no machine for `windows-latest`: jobs run on Linux";

#[test]
fn matrix_filters() {
    let job = "needs: a\nruns-on: x\nstrategy: {matrix: {os: [u, v]}}";
    assert_eq!(Seen::of(job).say(), "b (u), b (v)");
    assert_eq!(Seen::of(job).only("os", "v").say(), "b (v)");
    let nothing = "t.yml:4:3: error: no matrix job of `b` is left by `--matrix`";
    assert_eq!(Seen::of(job).only("os", "w").say(), nothing);
    // other parts of the job wait for the needs, the matrix does not
    let named = job.to_owned() + "\nname: ${{ needs.a.outputs.name }}";
    assert_eq!(Seen::of(&named).say(), "later");
    assert_eq!(Seen::of(&named).only("os", "w").say(), nothing);
    let labels = "needs: a\nruns-on: '${{ needs.a.outputs.l }}'\nstrategy: {max-parallel: '${{ needs.a.outputs.m }}', matrix: {os: [u]}}";
    assert_eq!(Seen::of(labels).only("os", "w").say(), nothing);
    // a job that does not run at all is no fault
    let other = job.to_owned() + "\nif: github.ref == 'other'";
    assert_eq!(Seen::of(&other).only("os", "w").say(), "-b");
    assert_eq!(Seen::of(&(named + "\nif: github.ref == 'other'")).only("os", "w").say(), "-b");
    // nor is a matrix that the needs make
    let later = "needs: a\nruns-on: x\nstrategy: {matrix: {os: '${{ fromJSON(needs.a.outputs.os) }}'}}";
    assert_eq!(Seen::of(later).only("os", "w").say(), "later");
    let added =
        "needs: a\nruns-on: x\nstrategy: {matrix: {os: [u], include: '${{ fromJSON(needs.a.outputs.i) }}'}}";
    assert_eq!(Seen::of(added).only("os", "w").say(), "later");
}

#[test]
fn what_a_matrix_has_instead() {
    let job = "runs-on: x\nstrategy: {matrix: {os: [u, v], version: [1.0, 12, '12.0'], n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], exclude: [{os: v, version: 12}]}}";
    for (filters, help) in [
        (&[("os", "w")][..], "`os` is one of `u`, `v`"),
        (&[("n", "0")], "`n` is one of `1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, `9`, `10`, 2 more"),
        (
            &[("version", "1.0")],
            "`version` is `1` here: a number that is not in quotes is taken by its value",
        ),
        (&[("verson", "1")], "the matrix has no `verson`: did you mean `version`?"),
        (&[("python", "3")], "the matrix has no `python`: it has `os`, `version`, `n`"),
        (&[("os", "v"), ("version", "12")], "each of these values is there, but no job has all of them"),
    ] {
        let seen = filters.iter().fold(Seen::of(job), |seen, (key, value)| seen.only(key, value));
        let results = Results::new();
        let faults = seen.plan.foresee("b", seen.around(&results)).expect_err("nothing is left");
        assert_eq!(faults[0].help, [help], "{filters:?}");
    }
    assert_eq!(Seen::of("runs-on: x\nstrategy: {fail-fast: true}").only("os", "u").say(), "b");
}

#[test]
fn other_systems() {
    let job = "needs: a\nruns-on: '${{ matrix.os }}'\nstrategy: {matrix: {os: [ubuntu, windows-latest]}}";
    let fault = format!("t.yml:6:14: {WINDOWS}");
    assert_eq!(Seen::of(job).say(), fault);
    assert_eq!(Seen::of(job).only("os", "ubuntu").say(), "b (ubuntu)");
    assert_eq!(Seen::of(&format!("{job}\nname: '${{{{ needs.a.outputs.n }}}}'")).say(), fault);
    assert_eq!(Seen::of(&format!("{job}\nif: needs.a.outputs.x")).say(), fault, "it may run");
    assert_eq!(Seen::of(&format!("{job}\nif: failure()")).say(), fault, "it may run");
    assert_eq!(Seen::of(&format!("{job}\nif: always() && github.ref == 'other'")).say(), "-b");
    let by_cell = format!("{job}\nif: always() && matrix.os == 'ubuntu'");
    assert_eq!(Seen::of(&by_cell).say(), "b (ubuntu), -b (windows-latest)");
    assert_eq!(Seen::of(&format!("{by_cell}\nname: '${{{{ needs.a.outputs.n }}}}'")).say(), "later");
    // what the needs say may leave it out
    let excluded = "needs: a\nruns-on: '${{ matrix.os }}'\nstrategy: {matrix: {os: [ubuntu, windows-latest], exclude: '${{ fromJSON(needs.a.outputs.e) }}'}}";
    assert_eq!(Seen::of(excluded).say(), "later");
    let chosen = "needs: a\nruns-on: \"${{ needs.a.outputs.w && 'windows-latest' || 'ubuntu' }}\"";
    assert_eq!(Seen::of(chosen).say(), "later");
}

/// Nothing of what a need gives out is taken for empty.
#[test]
fn outputs_are_never_reported() {
    for part in [
        "runs-on: '${{ needs.a.outputs.l }}'",
        "runs-on: '${{ fromJSON(needs.a.outputs.l) }}'",
        "runs-on: {group: '${{ needs.a.outputs.l }}'}",
        "runs-on: x\ntimeout-minutes: ${{ needs.a.outputs.l }}",
        "runs-on: x\ncontinue-on-error: ${{ fromJSON(needs.a.outputs.l) }}",
        "runs-on: x\nname: ${{ fromJSON(needs.a.outputs.l) }}",
        "runs-on: x\nstrategy: {fail-fast: '${{ fromJSON(needs.a.outputs.l) }}'}",
        "runs-on: x\nstrategy: {max-parallel: '${{ needs.a.outputs.l }}', matrix: {a: [1]}}",
        "runs-on: x\nstrategy: {matrix: '${{ fromJSON(needs.a.outputs.l) }}'}",
        "runs-on: '${{ fromJSON(matrix.a) }}'\nstrategy: {matrix: {a: ['${{ needs.a.outputs.l }}']}}",
        "runs-on: x\nif: fromJSON(needs.a.outputs.l)\nname: ${{ needs.a.outputs.l }}",
        "runs-on: x\nif: matrix.a == 1\nstrategy: {matrix: {a: '${{ fromJSON(needs.a.outputs.l) }}'}}",
    ] {
        let seen = Seen::of(&format!("needs: a\n{part}"));
        assert_eq!(seen.say(), "later", "{part}");
    }
    assert_eq!(Seen::of("needs: a\nruns-on: x\nif: fromJSON(needs.a.outputs.l)").say(), "b");
    // an `if` with a fault of its own is reported
    let faulty = "needs: a\nruns-on: '${{ needs.a.outputs.l }}'\nif: fromJSON('{')";
    assert!(Seen::of(faulty).say().starts_with("t.yml:7:"), "{}", Seen::of(faulty).say());
}

#[test]
fn prospects() {
    use Prospect::{Open, Runs, Skipped};
    let matrix = "strategy: {matrix: {n: [1, 2]}}";
    let dynamic = "strategy: {matrix: {n: '${{ fromJSON(needs.a.outputs.n) }}'}}";
    for (condition, extra, expected) in [
        ("", "", Runs),
        ("success()", "", Runs),
        ("always()", "", Runs),
        ("failure()", "", Open),
        ("cancelled()", "", Open),
        ("!success()", "", Open),
        ("github.ref == 'main'", "", Runs),
        ("github.ref == 'other'", "", Skipped),
        ("failure() && github.ref == 'other'", "", Skipped),
        ("needs.a.outputs.x == 'y'", "", Open),
        ("github.ref == 'main' && needs.a.result == 'success'", "", Open),
        ("matrix.n > 1", matrix, Runs),
        ("matrix.n > 2", matrix, Skipped),
        ("failure() && matrix.n > 1", matrix, Open),
        ("always() && matrix.n > 1", matrix, Runs),
        ("failure() && matrix.n > 2", matrix, Skipped),
        ("matrix.n > 1", dynamic, Open),
        ("needs.a.outputs.x == matrix.n", matrix, Open),
        ("github.ref == 'other'", dynamic, Skipped),
        ("fromJSON('{')", "", Open),
    ] {
        let seen = Seen::of(&format!("needs: a\nruns-on: x\nif: \"{condition}\"\n{extra}"));
        assert_eq!(seen.prospect(), expected, "{condition:?} {extra}");
    }
    // a job that waits for nothing knows how it stands
    assert_eq!(Seen::of("runs-on: x\nif: failure()").prospect(), Skipped);
    assert_eq!(Seen::of("runs-on: x\nif: always()").prospect(), Runs);
}

/// A dry run says of no job that it is skipped because nothing is known of what it needs.
#[test]
fn open_is_not_skipped() {
    for condition in ["needs.a.outputs.x == 'y'", "failure()", "needs.a.result != 'success'"] {
        let seen = Seen::of(&format!("needs: a\nruns-on: x\nif: \"{condition}\""));
        assert_eq!((seen.say(), seen.prospect()), ("b".to_owned(), Prospect::Open), "{condition}");
    }
}

/// The jobs `a`, `b` and so on, each with its `needs` and `if`, and what they will be.
#[track_caller]
fn chain(jobs: &[&str]) -> Vec<Prospect> {
    let mut text = "on: push\njobs:\n".to_owned();
    for (id, job) in ('a'..).zip(jobs) {
        text += &format!("  {id}: {{runs-on: x, steps: [{{run: a}}], {job}}}\n");
    }
    let workflow = parse(&Source::new("t.yml", text)).into_result().expect("a good workflow").0;
    let plan = Plan::new(Arc::new(workflow)).expect("a plan");
    let (results, mut contexts) = (Results::new(), Contexts::new());
    contexts.set(ContextName::Github, Value::from_json(&serde_json::json!({"ref": "main"})));
    let around =
        Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
    let all: Vec<_> = plan.prospects(around).into_values().collect();
    let one_by_one: Vec<_> = plan.jobs().map(|job| plan.prospect(&job.id.value, around)).collect();
    assert_eq!(all, one_by_one);
    all
}

#[test]
fn needs_that_are_skipped_for_sure() {
    use Prospect::{Open, Runs, Skipped};
    let never = "if: false";
    for (job, expected) in [
        ("needs: a", Skipped),
        ("needs: a, if: github.ref == 'main'", Skipped),
        ("needs: a, if: needs.a.outputs.x", Skipped),
        ("needs: a, if: always()", Runs),
        ("needs: a, if: '!cancelled()'", Runs),
        ("needs: a, if: failure()", Skipped),
        ("needs: a, if: success() || failure()", Skipped),
        ("needs: a, if: cancelled()", Open),
        ("needs: a, if: always() && needs.a.result == 'success'", Skipped),
        ("needs: a, if: \"always() && needs['A'].result == 'skipped'\"", Runs),
        ("needs: a, if: \"always() && contains(needs.*.result, 'skipped')\"", Runs),
        ("needs: a, if: always() && needs.a.outputs.x", Skipped),
        ("needs: a, strategy: {matrix: {x: [1, 2]}}, if: always() && matrix.x == 1", Runs),
        ("needs: a, strategy: {matrix: {x: [1, 2]}}, if: matrix.x == 1", Skipped),
    ] {
        assert_eq!(chain(&[never, job]), [Skipped, expected], "{job}");
    }
    for (job, expected) in [
        ("needs: [a, b]", Skipped),
        ("needs: [a, b], if: failure()", Open),
        ("needs: [a, b], if: always() && needs.b.result", Open),
        ("needs: [a, b], if: always() && needs.a.result == 'success'", Skipped),
        ("needs: [a, b], if: \"always() && contains(needs.*.result, 'success')\"", Open),
        ("needs: [a, b], if: \"always() && needs[github.ref].result\"", Open),
    ] {
        assert_eq!(chain(&[never, "name: b", job]), [Skipped, Runs, expected], "{job}");
    }
    // status functions look at all that a job needs, directly or not
    assert_eq!(chain(&[never, "needs: a, if: always()", "needs: b"]), [Skipped, Runs, Skipped]);
    assert_eq!(chain(&[never, "needs: a, if: always()", "needs: b, if: failure()"]), [Skipped, Runs, Open]);
    assert_eq!(chain(&[never, "needs: a", "needs: b", "needs: c, if: failure()"]), [Skipped; 4]);
}

#[test]
fn prospects_of_steps() {
    use Prospect::{Open, Runs, Skipped};
    let prospect = |condition: &str| {
        let text =
            format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{run: a, if: \"{condition}\"}}]}}}}\n");
        let workflow = parse(&Source::new("t.yml", text)).into_result().expect("a good workflow").0;
        let mut contexts = Contexts::new();
        contexts
            .set(ContextName::Github, Value::from_json(&serde_json::json!({"ref": "main", "event": {}})))
            .set(ContextName::Matrix, Value::from_json(&serde_json::json!({"os": "u"})));
        workflow.jobs[0].steps[0].prospect(&contexts)
    };
    for (condition, expected) in [
        ("", Runs),
        ("false", Skipped),
        ("always() && false", Skipped),
        ("github.ref == 'main'", Runs),
        ("forgejo.ref == 'other'", Skipped),
        ("github.event.head.fork", Skipped),
        ("github['job'] == 'b'", Open),
        ("github.workspace == '/x'", Open),
        ("toJSON(github) == ''", Open),
        ("matrix.os == 'v'", Skipped),
        ("vars.X", Open),
        ("failure()", Open),
        ("failure() && github.ref == 'other'", Skipped),
        ("env.X", Open),
        ("steps.x.outcome == 'success'", Open),
        ("runner.os == 'Linux'", Open),
        ("hashFiles('*') != ''", Open),
    ] {
        assert_eq!(prospect(condition), expected, "{condition}");
    }
}

/// Forgejo has `env` and `secrets` in a job's `if`.
#[test]
fn env_in_a_condition() {
    use Prospect::{Open, Runs, Skipped};
    for (job, said, prospect) in [
        ("env: {A: x}\nif: env.A == 'x'", "b", Runs),
        ("env: {A: x}\nif: env.A == 'y'", "-b", Skipped),
        ("env: {A: '${{ github.ref }}'}\nif: env.A == 'main'", "b", Runs),
        ("if: env.NONE", "-b", Skipped),
        ("if: failure() && env.NONE", "-b", Skipped),
        ("env: {A: '${{ needs.a.outputs.x }}'}\nif: env.A == 'x'", "later", Open),
        ("env: {A: '${{ fromJSON(needs.a.outputs.x) }}'}\nif: env.A == 'x'", "later", Open),
        ("env: {A: '${{ fromJSON(needs.a.outputs.x) }}'}", "b", Runs),
        (
            "strategy: {matrix: {n: [1, 2]}}\nenv: {A: '${{ matrix.n }}'}\nif: env.A == 2",
            "-b (1), b (2)",
            Runs,
        ),
        (
            "strategy: {matrix: {n: [1, 2]}}\nenv: {A: '${{ matrix.n }}'}\nif: env.A == 3",
            "-b (1), -b (2)",
            Skipped,
        ),
        ("if: secrets.KEY", "-b", Skipped),
    ] {
        let seen = Seen::of(&format!("needs: a\nruns-on: x\n{job}"));
        assert_eq!((seen.say().as_str(), seen.prospect()), (said, prospect), "{job}");
    }
}
