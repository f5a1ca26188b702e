//! Filters of `on`: what the server would start a workflow for, and what a person is told.

use doc::{Rendering, Source};
use workflow::{Admission, ContextName, Contexts, RefFacts, Value, Workflow, parse};

#[track_caller]
fn workflow(on: &str) -> Workflow {
    let text = format!("on:\n{on}\njobs: {{j: {{runs-on: x, steps: [{{run: a}}]}}}}\n");
    parse(&Source::new("t.yml", text)).into_result().expect("a good workflow").0
}

fn pushed(name: &str) -> RefFacts {
    RefFacts { pushed: Some(name.to_owned()), ..RefFacts::default() }
}

fn pull(base: &str, activity: &str) -> RefFacts {
    RefFacts { base: Some(base.to_owned()), activity: Some(activity.to_owned()), pushed: None }
}

/// `yes`, `no: reason`, or the filters of which nothing is known.
#[track_caller]
fn admits(on: &str, facts: &RefFacts) -> String {
    let workflow = workflow(on);
    match workflow.on[0].admits(facts) {
        Admission::Yes => "yes".to_owned(),
        Admission::No { span, reason, .. } => {
            assert!(!workflow.source.slice(span).is_empty(), "a place");
            format!("no: {reason}")
        }
        Admission::Unknown { filters } => {
            filters.iter().map(|key| key.value.as_str()).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn pushes() {
    let on = |filters: &str, name: &str| admits(&format!("  push: {{{filters}}}"), &pushed(name));
    assert_eq!(admits("  push:", &pushed("refs/heads/main")), "yes");
    assert_eq!(on("branches: [main, 'r/**']", "refs/heads/main"), "yes");
    assert_eq!(on("branches: [main, 'r/**']", "refs/heads/r/1/2"), "yes");
    assert_eq!(on("branches: [main, 'r/*']", "refs/heads/r/1/2"), "no: `branches` admits only `main`, `r/*`");
    assert_eq!(on("branches: main", "refs/heads/Main"), "no: `branches` admits only `main`");
    assert_eq!(
        on("branches: [a, b, c, d, e, f, g]", "refs/heads/x"),
        "no: `branches` admits only `a`, `b`, `c`, `d`, `e` and 2 more"
    );
    assert_eq!(on("branches: []", "refs/heads/x"), "yes", "an empty list lets everything through");

    // the last pattern that fits decides
    assert_eq!(on("branches: ['**', '!wip']", "refs/heads/a/b"), "yes");
    assert_eq!(
        on("branches: ['**', '!wip']", "refs/heads/wip"),
        "no: this pattern of `branches` takes it out"
    );
    assert_eq!(on("branches: ['**', '!r/**', r/1]", "refs/heads/r/1"), "yes");
    assert_eq!(on("branches: ['!wip', '**']", "refs/heads/wip"), "yes");

    assert_eq!(on("branches-ignore: ['wip/**']", "refs/heads/main"), "yes");
    assert_eq!(on("branches-ignore: [a, 'wip/**']", "refs/heads/wip/1"), "no: `branches-ignore` names it");

    // a filter of branches alone keeps tags out, and the other way round; of both one is enough
    let only = |key: &str, what: &str| format!("no: with `{key}` alone only {what} start it");
    assert_eq!(on("branches: ['**']", "refs/tags/v1"), only("branches", "branches"));
    assert_eq!(on("branches-ignore: [a]", "refs/tags/v1"), only("branches-ignore", "branches"));
    assert_eq!(on("tags: ['**']", "refs/heads/main"), only("tags", "tags"));
    assert_eq!(on("tags-ignore: [a]", "refs/heads/main"), only("tags-ignore", "tags"));
    assert_eq!(on("tags: ['v*']", "refs/tags/v1"), "yes");
    assert_eq!(on("branches: [main], tags: ['v*']", "refs/tags/v1"), "yes");
    assert_eq!(on("branches: [main], tags: ['v*']", "refs/heads/main"), "yes");
    assert_eq!(on("branches: [main], tags: ['v*']", "refs/tags/x"), "no: `tags` admits only `v*`");
    assert_eq!(on("branches: [main], tags: ['v*']", "refs/heads/v1"), "no: `branches` admits only `main`");

    // paths: not known of a branch, not asked of a tag
    assert_eq!(on("paths: [src], branches: [main]", "refs/heads/main"), "paths");
    assert_eq!(on("paths-ignore: [src]", "refs/heads/main"), "paths-ignore");
    assert_eq!(on("paths: [src], branches: [main]", "refs/heads/x"), "no: `branches` admits only `main`");
    assert_eq!(on("paths: [src]", "refs/tags/v1"), "yes");
    assert_eq!(on("branches: [main]", "refs/pull/1/head"), "branches");
    assert_eq!(admits("  push: {branches: [main], paths: [a]}", &RefFacts::default()), "branches paths");
}

#[test]
fn pull_requests() {
    let on = |filters: &str, facts: &RefFacts| admits(&format!("  pull_request: {{{filters}}}"), facts);
    assert_eq!(on("branches: [main]", &pull("main", "opened")), "yes");
    assert_eq!(on("branches: [main]", &pull("refs/heads/main", "synchronized")), "yes");
    assert_eq!(on("branches: [main]", &pull("dev", "opened")), "no: `branches` admits only `main`");
    assert_eq!(on("branches: [main]", &RefFacts::default()), "branches");
    assert_eq!(
        admits("  pull_request:", &pull("main", "labeled")),
        "no: without `types` only opened, synchronize and reopened start it"
    );
    assert_eq!(on("types: [labeled]", &pull("main", "label_updated")), "yes");
    assert_eq!(on("types: [labeled]", &pull("main", "opened")), "no: `types` admits only `labeled`");
    assert_eq!(on("types: ['*']", &pull("main", "opened")), "types");
    assert_eq!(on("types: [labeled]", &RefFacts::default()), "types");
    assert_eq!(on("types: [opened], paths: [a]", &pull("main", "opened")), "paths");
}

#[test]
fn other_events() {
    assert_eq!(admits("  issues: {types: [opened]}", &RefFacts::default()), "types");
    assert_eq!(
        admits("  issues: {types: [opened]}", &pull("", "closed")),
        "no: `types` admits only `opened`"
    );
    assert_eq!(admits("  schedule: [{cron: '@daily'}]", &RefFacts::default()), "yes");
    assert_eq!(admits("  workflow_dispatch:", &pushed("refs/heads/x")), "yes");
    let run = "  workflow_run: {workflows: [CI], types: [completed], branches: [main]}";
    assert_eq!(admits(run, &pushed("refs/heads/x")), "workflows types branches");
}

#[test]
fn facts_of_a_context() {
    let mut contexts = Contexts::new();
    assert_eq!(RefFacts::of_contexts(&contexts), RefFacts::default());
    let github = serde_json::json!({"ref": "refs/heads/a", "base_ref": "", "event": {"action": "opened"}});
    contexts.set(ContextName::Github, Value::from_json(&github));
    let facts = RefFacts { activity: Some("opened".to_owned()), ..pushed("refs/heads/a") };
    assert_eq!(RefFacts::of_contexts(&contexts), facts);
}

#[test]
fn what_is_said() {
    let say = |on: &str, facts: &RefFacts| -> Vec<String> {
        let workflow = workflow(on);
        let found = workflow.on[0].admits(facts).to_diagnostics(&workflow.source);
        assert!(found.iter().all(|warning| !warning.is_error()), "a filter stops no local run");
        found.iter().map(|warning| warning.render(Rendering::Plain)).collect()
    };
    assert_eq!(say("  push: {branches: [main]}", &pushed("refs/heads/main")), Vec::<String>::new());
    let all = [
        say("  push: {branches: [main, 'release/**']}", &pushed("refs/heads/feature")),
        say("  push: {branches: ['**', '!wip']}", &pushed("refs/heads/wip")),
        say("  push: {branches: [main]}", &pushed("refs/tags/v1")),
        say("  push:\n    paths: [src]\n    branches: [main]", &pushed("refs/heads/main")),
        say("  pull_request: {branches: [main]}", &pull("dev", "opened")),
        say("  pull_request: {types: [closed]}", &pull("dev", "synchronized")),
    ];
    insta::assert_snapshot!(all.concat().join("\n\n"));
}
