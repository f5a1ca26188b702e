//! Plans and expansions.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use doc::Source;
use workflow::{
    Conclusion, ContextName, Contexts, ExpandedJob, FailFast, FileUse, JobResult, MatrixFilter, OnError,
    Plan, Results, RunState, Surroundings, Value, Verdict, parse,
};

#[track_caller]
fn plan(text: &str) -> Plan {
    let (workflow, _) = parse(&Source::new("t.yml", text)).into_result().unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    Plan::new(Arc::new(workflow)).expect("a plan")
}

fn result(conclusion: Conclusion, outputs: &[(&str, &str)]) -> JobResult {
    let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    JobResult { conclusion, outputs }
}

fn show(job: &ExpandedJob) -> String {
    let mut text = format!("{} [{}]", job.name, job.runs_on.join(", "));
    if job.verdict == Verdict::Skip {
        text += " skipped";
    }
    write!(text, " matrix={}", job.matrix.to_json()).expect("text");
    if let Some(timeout) = job.timeout {
        write!(text, " timeout={timeout:?}").expect("text");
    }
    if job.continue_on_error == OnError::Continue {
        text += " continues";
    }
    text
}

struct Run {
    plan: Plan,
    results: Results,
    contexts: Contexts,
    filters: Vec<MatrixFilter>,
    state: RunState,
}

impl Run {
    fn new(text: &str) -> Run {
        let mut contexts = Contexts::new();
        contexts.set(ContextName::Github, Value::from_json(&serde_json::json!({"ref": "main"})));
        Run {
            plan: plan(text),
            results: Results::new(),
            contexts,
            filters: Vec::new(),
            state: RunState::Running,
        }
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings {
            results: &self.results,
            contexts: &self.contexts,
            run: self.state,
            filters: &self.filters,
        }
    }

    fn done(mut self, id: &str, conclusion: Conclusion, outputs: &[(&str, &str)]) -> Run {
        self.results.insert(id.to_owned(), result(conclusion, outputs));
        self
    }

    fn expand(&self, id: &str) -> Vec<String> {
        match self.plan.expand(id, self.around()) {
            Ok(expansion) => expansion.jobs.iter().map(show).collect(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    fn verdict(&self, id: &str) -> Verdict {
        self.plan.expand(id, self.around()).expect("expands").jobs[0].verdict
    }
}

const DIAMOND: &str = "on: push
jobs:
  last: {needs: [left, right], runs-on: x, steps: [{run: a}]}
  left: {needs: first, runs-on: x, steps: [{run: a}]}
  right: {needs: first, runs-on: x, steps: [{run: a}]}
  alone: {runs-on: x, steps: [{run: a}]}
  first: {runs-on: x, steps: [{run: a}]}
";

fn ids(plan: &Plan) -> Vec<&str> {
    plan.jobs().map(|job| job.id.value.as_str()).collect()
}

#[test]
fn order_and_selection() {
    let plan = plan(DIAMOND);
    assert_eq!(ids(&plan), ["alone", "first", "left", "right", "last"]);
    assert_eq!(ids(&plan.select("left").expect("there")), ["first", "left"]);
    assert_eq!(ids(&plan.select("last").expect("there")), ["first", "left", "right", "last"]);
    assert_eq!(
        plan.select("lats").expect_err("not there").to_string(),
        "there is no job `lats` in t.yml; did you mean `last`?"
    );
    assert_eq!(
        plan.select("banana").expect_err("not there").to_string(),
        "there is no job `banana` in t.yml; there are alone, first, left, right, last"
    );
    let mut results = Results::new();
    let ready = |results: &Results| plan.ready(results).map(|job| job.id.value.clone()).collect::<Vec<_>>();
    assert_eq!(ready(&results), ["alone", "first"]);
    results.insert("first".to_owned(), JobResult::new(Conclusion::Success));
    assert_eq!(ready(&results), ["alone", "left", "right"]);
}

/// `success()` and `failure()` look at everything that a job needs, directly or not.
#[test]
fn conditions_walk_transitive_needs() {
    use Conclusion::{Cancelled, Failure, Skipped, Success};
    let text = |condition: &str| {
        format!(
            "on: push
jobs:
  a: {{runs-on: x, steps: [{{run: a}}]}}
  b: {{needs: a, if: always(), runs-on: x, steps: [{{run: a}}]}}
  c: {{needs: b, if: \"{condition}\", runs-on: x, steps: [{{run: a}}]}}
"
        )
    };
    let table = [
        ("", Success, Success, true),
        ("", Failure, Success, false),
        ("", Skipped, Success, false),
        ("", Success, Skipped, false),
        ("true", Failure, Success, false),
        ("failure()", Failure, Success, true),
        ("failure()", Success, Failure, true),
        ("failure()", Success, Success, false),
        ("failure()", Skipped, Skipped, false),
        ("always()", Failure, Cancelled, true),
        ("!failure()", Cancelled, Skipped, true),
        ("success() || failure()", Failure, Success, true),
        ("needs.b.result == 'success'", Failure, Success, false),
        ("always() && needs.b.result == 'success'", Failure, Success, true),
        ("${{ always() && needs.a.result == null }}", Failure, Success, true),
        ("github.ref == 'main'", Success, Success, true),
        ("github.ref == 'other'", Success, Success, false),
    ];
    for (condition, a, b, runs) in table {
        let run = Run::new(&text(condition)).done("a", a, &[]).done("b", b, &[]);
        assert_eq!(run.verdict("c") == Verdict::Run, runs, "{condition:?} after {a} and {b}");
    }
    let mut run = Run::new(&text("cancelled()")).done("a", Success, &[]).done("b", Success, &[]);
    assert_eq!(run.verdict("c"), Verdict::Skip);
    run.state = RunState::Cancelled;
    assert_eq!(run.verdict("c"), Verdict::Run);
    let mut run = Run::new(&text("")).done("a", Success, &[]).done("b", Success, &[]);
    run.state = RunState::Cancelled;
    assert_eq!(run.verdict("c"), Verdict::Skip);
}

#[test]
fn names_labels_and_settings() {
    let text = "on: push
jobs:
  plain:
    runs-on: [self-hosted, x64]
    timeout-minutes: 1.5
    continue-on-error: true
    steps: [{run: a}]
  m:
    strategy:
      fail-fast: false
      max-parallel: '2'
      matrix: {os: [a, b], o: [{k: v, l: [1, true]}], e: ['']}
    runs-on: ${{ matrix.os }}
    timeout-minutes: ${{ fromJSON('{\"a\":1,\"b\":\"2\"}')[matrix.os] }}
    continue-on-error: ${{ matrix.os == 'b' }}
    steps: [{run: a}]
  named:
    name: N ${{ matrix.v }} of ${{ strategy.job-total }}, ${{ strategy.job-index }}
    strategy: {matrix: {v: [x, y]}}
    runs-on: ${{ fromJSON('[\"a\",\"b\"]') }}
    steps: [{run: a}]
  same:
    name: constant
    strategy: {matrix: {v: [x, y]}}
    runs-on: {group: g, labels: l}
    steps: [{run: a}]
";
    let run = Run::new(text);
    let all: Vec<_> = run.plan.jobs().flat_map(|job| run.expand(&job.id.value)).collect();
    insta::assert_snapshot!(all.join("\n"));
    let expansion = run.plan.expand("m", run.around()).expect("expands");
    assert_eq!((expansion.fail_fast, expansion.max_parallel), (FailFast::RunOn, Some(2)));
    let expansion = run.plan.expand("named", run.around()).expect("expands");
    assert_eq!((expansion.fail_fast, expansion.max_parallel), (FailFast::Cancel, None));
}

#[test]
fn an_empty_label_is_told_where_it_stands() {
    let text = |labels: &str| format!("on: push\njobs: {{m: {{runs-on: {labels}, steps: [{{run: a}}]}}}}\n");
    for (labels, column) in [
        ("[a, '${{ vars.NONE }}', b]", 25),
        ("'${{ vars.NONE }}'", 21),
        ("[a, '${{ fromJSON(''[\"b\", \"\"]'') }}']", 25),
        ("{group: a, labels: [b, '${{ vars.NONE }}']}", 44),
        ("'${{ fromJSON(''[]'') }}'", 21),
    ] {
        let said = format!("t.yml:2:{column}: error: the label is empty");
        assert_eq!(Run::new(&text(labels)).expand("m"), [said], "{labels}");
    }
    for (labels, column) in [("['', x]", 22), ("[x, ' ']", 25), ("[x, ~]", 25), ("''", 21)] {
        let faults = parse(&Source::new("t.yml", text(labels))).into_result().expect_err(labels);
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said, [format!("t.yml:2:{column}: error: the label is empty")]);
    }
}

#[test]
fn filters() {
    let mut run = Run::new(
        "on: push\njobs:\n  m:\n    strategy: {matrix: {os: [a, b, c], n: [1, 2]}}\n    runs-on: x\n    steps: [{run: a}]\n",
    );
    let filter = |key: &str, value: &str| MatrixFilter { key: key.to_owned(), value: value.to_owned() };
    run.filters = vec![filter("os", "b"), filter("n", "2")];
    assert_eq!(run.expand("m"), [r#"m (b, 2) [x] matrix={"os":"b","n":2}"#]);
    run.filters = vec![filter("OS", "b"), filter("os", "c"), filter("n", "1")];
    assert_eq!(run.expand("m").len(), 2);
    run.filters = vec![filter("os", "d")];
    assert_eq!(run.expand("m"), ["t.yml:3:3: error: no matrix job of `m` is left by `--matrix`"]);
}

#[test]
fn outputs_of_needs() {
    let text = "on: push
jobs:
  a: {runs-on: x, steps: [{run: a}]}
  b:
    needs: a
    name: after ${{ needs.a.outputs.V }} (${{ needs.a.result }})
    runs-on: ${{ needs.a.outputs.label }}
    strategy: {matrix: '${{ fromJSON(needs.a.outputs.m) }}'}
    steps: [{run: a}]
";
    let run = Run::new(text);
    assert!(matches!(run.plan.foresee("b", run.around()), Ok(None)));
    let run = run.done("a", Conclusion::Success, &[("v", "1"), ("label", "l"), ("m", "{\"x\":[1,2]}")]);
    assert_eq!(
        run.expand("b"),
        [r#"after 1 (success) [l] matrix={"x":1}"#, r#"after 1 (success) (2) [l] matrix={"x":2}"#]
    );
    let run = Run::new(text).done("a", Conclusion::Failure, &[]);
    assert_eq!(run.expand("b"), ["after  (failure) [] skipped matrix=null"], "nothing else is looked at");
}

#[test]
fn titles_of_runs() {
    let title = |name: &str| {
        let run = Run::new(&format!(
            "run-name: {name}\non: push\njobs: {{j: {{runs-on: x, steps: [{{run: a}}]}}}}\n"
        ));
        run.plan.workflow().run_title(&run.contexts)
    };
    assert_eq!(title("").expect("no fault"), None);
    assert_eq!(title("${{ vars.nothing }}").expect("no fault"), None);
    let found =
        title("\"Deploy of ${{ github.ref }}\\n by ${{ inputs.who || 'nobody' }}\"").expect("no fault");
    assert_eq!(found.as_deref(), Some("Deploy of main by nobody"), "one line");
    assert_eq!(title(&"ä".repeat(300)).expect("no fault"), Some("ä".repeat(255)));
    let faults = title("a ${{ fromJSON('{') }}").expect_err("no JSON");
    assert!(faults[0].to_string().starts_with("t.yml:1:"), "{}", faults[0]);
}

#[test]
fn conditions_by_cell() {
    let run = Run::new(
        "on: push\njobs:\n  m:\n    if: matrix.n > 1\n    strategy: {matrix: {n: [1, 2]}}\n    runs-on: x\n    steps: [{run: a}]\n",
    );
    assert_eq!(run.expand("m"), [r#"m (1) [x] skipped matrix={"n":1}"#, r#"m (2) [x] matrix={"n":2}"#]);
}

#[test]
fn results_of_a_matrix_are_one() {
    use Conclusion::{Cancelled, Failure, Skipped, Success};
    let all = JobResult::of_all([
        result(Success, &[("a", "1"), ("b", "1")]),
        result(Success, &[("a", "2"), ("b", "")]),
        result(Skipped, &[]),
    ]);
    assert_eq!(all, result(Success, &[("a", "2"), ("b", "1")]));
    assert_eq!(Conclusion::of_all([Success, Cancelled]), Cancelled);
    assert_eq!(Conclusion::of_all([Cancelled, Failure, Success]), Failure);
    assert_eq!(Conclusion::of_all([Skipped, Skipped]), Skipped);
    assert!(!format!("{all:?}").contains('2'), "outputs are not shown");
}

#[test]
fn file_use() {
    let run = Run::new(
        "on: push
jobs:
  out: {runs-on: x, steps: [{uses: actions/checkout@v4}, {run: make}]}
  late: {runs-on: x, steps: [{run: echo}, {run: make}, {uses: 'https://a.b/actions/checkout@v4'}]}
  none: {runs-on: x, steps: [{run: echo hello}]}
",
    );
    let job = |id: &str| run.plan.job(id).expect("there");
    assert_eq!(job("out").file_use(), FileUse::CheckedOut);
    assert_eq!(job("late").file_use(), FileUse::Unchecked(1));
    assert!(job("late").has_checkout());
    assert_eq!(job("none").file_use(), FileUse::None);
}

#[test]
fn large_workflows_are_quick_enough_to_test() {
    let mut text = "on: push\njobs:\n".to_owned();
    for index in 0..1000 {
        let needs = if index == 0 { String::new() } else { format!("needs: j{}, ", index - 1) };
        writeln!(text, "  j{index}: {{{needs}runs-on: x, steps: [{{run: a}}]}}").expect("text");
    }
    let plan = plan(&text);
    assert_eq!(plan.jobs().count(), 1000);
    assert_eq!(plan.ancestors("j999").len(), 999);
    let one_more = text + "  more: {runs-on: x, steps: [{run: a}]}\n";
    let faults = parse(&Source::new("t.yml", one_more)).into_result().expect_err("too many");
    assert_eq!(faults[0].to_string(), "t.yml:1003:3: error: a workflow has at most 1000 jobs");
}

#[test]
fn inputs_keep_their_types() {
    let plan = plan(
        "on:\n  workflow_dispatch:\n    inputs:\n      a: {type: boolean, default: true}\n      b: {type: number, default: '3.5'}\n      c: {type: choice, options: [x, y], default: y}\n      d: {default: 1.10, required: 'true', description: D}\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n",
    );
    let trigger = plan.workflow().trigger("workflow_dispatch").expect("there");
    let shown: BTreeMap<_, _> = trigger
        .inputs
        .iter()
        .map(|input| {
            let default = input.default.as_ref().map(|value| value.to_json().to_string());
            (input.name.value.as_str(), format!("{:?} {:?} {}", input.kind, default, input.required))
        })
        .collect();
    insta::assert_snapshot!(shown.iter().map(|(name, text)| format!("{name}: {text}\n")).collect::<String>());
}

/// A whole `strategy` may be one expression, in Forgejo.
#[test]
fn strategies_of_an_expression() {
    let run = |value: &str| {
        Run::new(&format!(
            "on: push\njobs:\n  m:\n    strategy: >-\n      ${{{{ fromJSON('{value}') }}}}\n    runs-on: x\n    steps: [{{run: a}}]\n"
        ))
    };
    let one =
        run(r#"{"matrix": {"a": [1, 2], "exclude": [{"a": 1}]}, "fail-fast": false, "max-parallel": "3"}"#);
    assert_eq!(one.expand("m"), [r#"m (2) [x] matrix={"a":2}"#]);
    let expansion = one.plan.expand("m", one.around()).expect("expands");
    assert_eq!((expansion.fail_fast, expansion.max_parallel), (FailFast::RunOn, Some(3)));
    for none in ["0", "-1", "null"] {
        let run = run(&format!("{{\"max-parallel\": {none}}}"));
        let expansion = run.plan.expand("m", run.around()).expect("expands");
        assert_eq!(expansion.max_parallel, None, "{none}");
    }
    assert_eq!(run("{}").expand("m"), ["m [x] matrix=null"]);
    assert_eq!(run("null").expand("m"), ["m [x] matrix=null"]);
    for (value, fault) in [
        ("[1]", "this is a list"),
        (r#"{"matrix": [1]}"#, "a matrix is a map of lists, this is a list"),
        (r#"{"fail-fast": 5}"#, "this is a number"),
        (r#"{"max-parallel": 1.5}"#, "this is no count"),
    ] {
        assert_eq!(run(value).expand("m"), [format!("t.yml:5:7: error: {fault}")], "{value}");
    }
}
