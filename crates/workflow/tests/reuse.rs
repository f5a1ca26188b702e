//! Workflows that jobs call: found, checked, expanded, and what they give out.

use std::{collections::BTreeMap, sync::Arc};

use doc::{Diagnostic, Rendering, Source};
use workflow::{
    Conclusion, ContextName, Contexts, ExpandedCall, JobResult, Plan, Resolved, Results, RunState,
    Surroundings, Value, Verdict, WorkflowRef, parse,
};

/// The files of a repository, the first of which is run.
struct Files(BTreeMap<String, String>);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        Files(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    fn plan(&self, first: &str) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        let text = self.0.get(first).expect("there");
        let (workflow, _) = parse(&Source::new(first, text.as_str())).into_result()?;
        let mut resolve = |uses: &WorkflowRef| match self.0.get(uses.to_string().trim_start_matches("./")) {
            Some(text) => {
                Resolved::Text(Source::new(uses.to_string().trim_start_matches("./"), text.as_str()))
            }
            None if uses.to_string().starts_with("else/") => Resolved::Elsewhere,
            None => Resolved::Missing("the repository has no such file".to_owned()),
        };
        Plan::with_calls(Arc::new(workflow), &mut resolve)
    }

    fn faults(&self) -> String {
        match self.plan("a.yml") {
            Ok((_, warnings)) => shown(&warnings),
            Err(faults) => shown(&faults),
        }
    }
}

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(|fault| fault.render(Rendering::Plain)).collect::<Vec<_>>().join("\n\n")
}

fn contexts() -> Contexts {
    let mut contexts = Contexts::new();
    let json = |text: &str| Value::from_json(&serde_json::from_str(text).expect("JSON"));
    contexts.set(ContextName::Github, json(r#"{"ref": "main", "event_name": "push"}"#));
    contexts.set(ContextName::Vars, json(r#"{"N": "7", "MAP": "{\"a\": 1}"}"#));
    contexts.set(ContextName::Secrets, json(r#"{"GITHUB_TOKEN": "t", "KEY": "k", "OTHER": "o"}"#));
    contexts
}

/// The calls of job `c`, one of each matrix job.
fn calls(files: &Files) -> Result<Vec<(String, ExpandedCall)>, String> {
    let (plan, _) = files.plan("a.yml").map_err(|faults| shown(&faults))?;
    let (results, contexts) = (Results::new(), contexts());
    let around =
        Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
    let expansion = plan.expand("c", around).map_err(|faults| shown(&faults))?;
    Ok(expansion.jobs.into_iter().filter_map(|job| Some((job.name, job.call?))).collect())
}

const CALLED: &str = "on:
  workflow_call:
    inputs:
      text: {type: string}
      flag: {type: boolean, default: true}
      count: {type: number}
      made: {type: string, default: 'of ${{ inputs.text }} on ${{ github.ref }}'}
    secrets:
      KEY: {required: false}
    outputs:
      version: {value: '${{ jobs.build.outputs.v }}'}
      how: {value: '${{ jobs.build.result }} ${{ inputs.count }}'}
jobs:
  build: {runs-on: x, steps: [{run: a}], outputs: {v: '1'}}
  test: {needs: build, runs-on: '${{ inputs.text }}', steps: [{run: a}]}
";

fn with(with: &str) -> Files {
    let caller = format!("on: push\njobs:\n  c:\n    uses: ./b.yml\n{with}\n");
    Files::new(&[("a.yml", &caller), ("b.yml", CALLED)])
}

/// The inputs that the called jobs see, or the first fault.
fn inputs(with_: &str) -> String {
    match calls(&with(&format!("    with: {{{with_}}}"))) {
        Ok(calls) => calls[0].1.contexts.get(ContextName::Inputs).to_json().to_string(),
        Err(faults) => faults.lines().next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn inputs_have_their_types() {
    for (given, expected) in [
        ("", r#"{"text":"","flag":true,"count":0,"made":"of  on main"}"#),
        ("text: x", r#"{"text":"x","flag":true,"count":0,"made":"of x on main"}"#),
        ("TEXT: x, count: 3", r#"{"text":"x","flag":true,"count":3,"made":"of x on main"}"#),
        ("text: 3.10", r#"{"text":"3.10","flag":true,"count":0,"made":"of 3.10 on main"}"#),
        ("flag: false", r#"{"text":"","flag":false,"count":0,"made":"of  on main"}"#),
        ("flag: 'false', count: '2.5'", r#"{"text":"","flag":false,"count":2.5,"made":"of  on main"}"#),
        ("flag: '${{ github.ref == 1 }}'", r#"{"text":"","flag":false,"count":0,"made":"of  on main"}"#),
        ("count: '${{ vars.N }}'", r#"{"text":"","flag":true,"count":7,"made":"of  on main"}"#),
        ("count: '${{ vars.NONE }}'", r#"{"text":"","flag":true,"count":0,"made":"of  on main"}"#),
        ("text: '${{ 1 == 1 }}'", r#"{"text":"true","flag":true,"count":0,"made":"of true on main"}"#),
        ("made: ''", r#"{"text":"","flag":true,"count":0,"made":""}"#),
        ("flag: yes", "error: the input `flag` is not of its type"),
        ("count: many", "error: the input `count` is not of its type"),
        ("count: ''", "error: the input `count` is not of its type"),
        ("flag: '${{ github.ref }}'", "error: the input `flag` of job `c` is text"),
        ("flag: '${{ fromJSON(vars.N) }}'", "error: the input `flag` of job `c` is a number"),
        ("count: '${{ true }}'", "error: the input `count` of job `c` is a boolean"),
        ("text: '${{ fromJSON(vars.MAP) }}'", "error: the input `text` of job `c` is an object"),
        ("txt: x", "error: `b.yml` has no input `txt`"),
    ] {
        assert_eq!(inputs(given), expected, "{given}");
    }
}

#[test]
fn secrets_are_those_that_are_passed() {
    for (given, expected) in [
        ("", r#"{"GITHUB_TOKEN":"t"}"#),
        ("    secrets: inherit", r#"{"GITHUB_TOKEN":"t","KEY":"k","OTHER":"o"}"#),
        ("    secrets: {KEY: '${{ secrets.OTHER }}'}", r#"{"GITHUB_TOKEN":"t","KEY":"o"}"#),
        ("    secrets: {key: '${{ secrets.NONE }}'}", r#"{"GITHUB_TOKEN":"t","key":""}"#),
    ] {
        let calls = calls(&with(given)).expect("good");
        let secrets = calls[0].1.contexts.get(ContextName::Secrets);
        assert_eq!(secrets.to_json().to_string(), expected, "{given}");
        assert!(!format!("{:?}", calls[0]).contains("\"t\""), "secrets are not shown");
    }
}

#[test]
fn a_call_for_each_matrix_job() {
    let files = with(
        "    strategy: {matrix: {n: [x, y]}}\n    with: {text: '${{ matrix.n }}'}\n    if: github.ref == 'main'",
    );
    let calls = calls(&files).expect("good");
    let names: Vec<_> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["c (x)", "c (y)"]);
    for (nth, label) in ["x", "y"].into_iter().enumerate() {
        let call = &calls[nth].1;
        let mut results = Results::new();
        results.insert("build".to_owned(), JobResult::new(Conclusion::Success));
        let around = Surroundings {
            results: &results,
            contexts: &call.contexts,
            run: RunState::Running,
            filters: &[],
        };
        let inner = call.plan.expand("test", around).expect("good");
        assert_eq!((inner.jobs[0].runs_on[0].as_str(), inner.jobs[0].verdict), (label, Verdict::Run));
    }
    assert_eq!(&*calls[0].1.contexts.get(ContextName::Github).get("event_name").to_text(), "workflow_call");
}

#[test]
fn what_a_call_comes_to() {
    let call = &calls(&with("    with: {count: 2}")).expect("good")[0].1;
    let result = |build: Conclusion, test: Conclusion| {
        let outputs = [("v".to_owned(), "1.2".to_owned())].into();
        let build = JobResult { conclusion: build, outputs };
        let results: Results =
            [("build".to_owned(), build), ("test".to_owned(), JobResult::new(test))].into();
        call.result(&results).expect("good")
    };
    use Conclusion::{Failure, Skipped, Success};
    let good = result(Success, Skipped);
    assert_eq!(good.conclusion, Success);
    let outputs: Vec<_> = good.outputs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(outputs, ["how=success 2", "version=1.2"]);
    assert_eq!(result(Success, Failure).conclusion, Failure);
    assert_eq!(result(Skipped, Skipped).conclusion, Skipped);
}

#[test]
fn what_is_wrong_with_calls() {
    let caller = |job: &str| format!("on: push\njobs:\n  c: {{uses: ./b.yml{job}}}\n");
    let required = "on: {workflow_call: {inputs: {a: {type: string, required: true}}, secrets: {KEY: {required: true}}}}\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n";
    let plain = "on: push\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n";
    let said = [
        Files::new(&[("a.yml", &caller(""))]).faults(),
        Files::new(&[("a.yml", &caller("")), ("b.yml", plain)]).faults(),
        Files::new(&[
            ("a.yml", &caller("")),
            ("b.yml", "on: workflow_call\njobs: {j: {steps: [{run: a}]}}\n"),
        ])
        .faults(),
        Files::new(&[("a.yml", &caller("")), ("b.yml", required)]).faults(),
        Files::new(&[("a.yml", &caller(", with: {A: b}, secrets: inherit")), ("b.yml", required)]).faults(),
        with("    with: {txt: x, flag: 3, banana: 1}\n    secrets: {KEI: a}").faults(),
    ];
    insta::assert_snapshot!(said.join("\n\n----\n\n"));
}

#[test]
fn circles_and_depth() {
    let calls = |next: &str| format!("on: [push, workflow_call]\njobs:\n  c: {{uses: ./{next}}}\n");
    let circle =
        Files::new(&[("a.yml", &calls("b.yml")), ("b.yml", &calls("c.yml")), ("c.yml", &calls("a.yml"))]);
    let itself = Files::new(&[("a.yml", &calls("a.yml"))]);
    let below = Files::new(&[("a.yml", &calls("b.yml")), ("b.yml", &calls("b.yml"))]);
    let last = "on: workflow_call\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n".to_owned();
    let chain = |depth: usize| {
        let mut files: BTreeMap<String, String> =
            (1..=depth).map(|at| (format!("w{at}.yml"), calls(&format!("w{}.yml", at + 1)))).collect();
        files.insert("a.yml".to_owned(), calls("w1.yml"));
        files.insert(format!("w{}.yml", depth + 1), last.clone());
        Files(files)
    };
    assert!(chain(4).plan("a.yml").is_ok(), "five calls");
    insta::assert_snapshot!(
        [circle.faults(), itself.faults(), below.faults(), chain(5).faults()].join("\n\n----\n\n")
    );
}

#[test]
fn many_calls_are_counted_and_read_once() {
    let jobs = |count: usize, job: &str| -> String {
        (0..count).map(|nth| format!("  j{nth}: {{{job}}}\n")).collect()
    };
    let head = "on: [push, workflow_call]\njobs:\n";
    let text = |count: usize, next: &str| format!("{head}{}", jobs(count, &format!("uses: ./{next}")));
    let leaf = format!("{head}{}", jobs(30, "runs-on: x, steps: [{run: a}]"));
    let good = Files::new(&[("a.yml", &text(30, "b.yml")), ("b.yml", &leaf)]);
    let mut asked = 0;
    let (workflow, _) = parse(&Source::new("a.yml", good.0["a.yml"].as_str())).into_result().expect("good");
    let plan = Plan::with_calls(Arc::new(workflow), &mut |_| {
        asked += 1;
        Resolved::Text(Source::new("b.yml", leaf.as_str()))
    });
    assert!(plan.is_ok());
    assert_eq!(asked, 1);
    let bomb = Files::new(&[
        ("a.yml", &text(900, "b.yml")),
        ("b.yml", &text(900, "c.yml")),
        ("c.yml", &text(900, "d.yml")),
        ("d.yml", &leaf),
    ]);
    assert!(
        bomb.faults()
            .starts_with("error: more than 1000 jobs, with those of called workflows\n --> c.yml:3:3")
    );
}

#[test]
fn other_repositories() {
    let caller = "on: push\njobs:\n  c: {uses: o/r/w/b.yml@v1}\n  d: {uses: else/r/w/x.yml@v1}\n  e: {uses: './${{ github.ref }}.yml'}\n";
    let local = "on: workflow_call\njobs: {c: {uses: ./w/c.yml}}\n";
    let files = Files::new(&[
        ("a.yml", caller),
        ("o/r/w/b.yml@v1", local),
        ("o/r/w/c.yml@v1", "on: workflow_call\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n"),
    ]);
    let (plan, _) = files.plan("a.yml").unwrap_or_else(|faults| panic!("{}", shown(&faults)));
    let inner = plan.called("c").expect("found");
    assert_eq!(inner.called("c").expect("found").workflow().source.name(), "o/r/w/c.yml@v1");
    assert!(plan.called("d").is_none() && plan.called("e").is_none());
}

/// Forgejo has `env` and `secrets` in a job's `if`, and `env` in what a call passes on.
#[test]
fn env_before_a_job_runs() {
    let files = with(
        "    strategy: {matrix: {n: [x, y]}}\n    env: {B: '${{ matrix.n }}${{ vars.N }}'}\n    if: env.A == 'a' && env.B == 'x7' && secrets.KEY\n    with: {text: '${{ env.B }}'}",
    );
    let mut files = files;
    let caller = files.0["a.yml"].replace("on: push\n", "on: push\nenv: {A: a}\n");
    files.0.insert("a.yml".to_owned(), caller);
    let calls = calls(&files).expect("good");
    let names: Vec<_> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["c (x)"]);
    assert_eq!(&*calls[0].1.contexts.get(ContextName::Inputs).get("text").to_text(), "x7");
}
