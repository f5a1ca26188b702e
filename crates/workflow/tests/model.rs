//! The model: every key that Forgejo reads is where it belongs.

use std::path::Path;

use doc::Source;
use workflow::{
    Access, CallSecrets, InputKind, OrExpr, Permissions, Queue, StepAction, Uses, WorkflowRef, parse_only,
};

fn workflow(text: &str) -> workflow::Workflow {
    let parsed = parse_only(&Source::new("t.yml", text));
    let shown: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    parsed.workflow.unwrap_or_else(|| panic!("{}", shown.join("\n")))
}

#[test]
fn the_whole_language() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good/whole.yml");
    let text = std::fs::read_to_string(file).expect("file");
    let parsed = parse_only(&Source::new("whole.yml", text));
    let shown: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    let only_github = [
        "whole.yml:25:6: warning: only GitHub takes an expression in place of `env`",
        "whole.yml:49:15: warning: only GitHub takes an expression in place of `with`",
        "whole.yml:56:14: warning: an expression in place of `env` is ignored",
    ];
    assert_eq!(shown, only_github);
    let whole = parsed.workflow.expect("good");
    assert!(whole.env.expr().is_some() && whole.env.list().is_empty());
    assert_eq!(whole.email_notifications.map(|flag| flag.value), Some(true));
    assert_eq!(whole.openid_connect.map(|flag| flag.value), Some(false));
    assert!(whole.concurrency.as_ref().is_some_and(|key| key.group.is_some() && key.queue.is_none()));

    let dispatch = &whole.trigger("workflow_dispatch").expect("dispatch").inputs;
    assert_eq!(dispatch[0].kind, InputKind::Environment);
    assert_eq!(dispatch[0].deprecation.as_ref().map(|text| text.value.as_str()), Some("gone soon"));
    assert_eq!(dispatch[2].kind, InputKind::Choice(vec!["a".to_owned(), "b".to_owned()]));
    let call = whole.callable().expect("callable");
    assert!(call.inputs[0].computed.is_some() && call.inputs[0].default.is_none());
    assert_eq!(call.inputs[2].default.as_ref().map(workflow::Value::to_number), Some(3.0));
    assert_eq!(call.secrets.iter().map(|secret| secret.required).collect::<Vec<_>>(), [true, false]);
    assert_eq!(call.outputs[0].value.raw(), "${{ jobs.build.outputs.version }}");

    let build = whole.job("build").expect("build");
    let container =
        build.container.as_ref().and_then(|container| container.value.written()).expect("written");
    assert_eq!((container.ports.len(), container.cmd.len()), (2, 2));
    assert_eq!(container.env.list().len(), 2);
    let services = build.services.as_ref().and_then(|services| services.value.written()).expect("written");
    assert_eq!(
        services[0].container.written().and_then(|db| db.image.as_ref()).map(|i| i.raw()),
        Some("postgres:17")
    );
    assert!(matches!(&build.steps[0].action, StepAction::Uses { with: OrExpr::Expr(_), .. }));
    assert!(
        matches!(&build.steps[1].action, StepAction::Uses { uses, .. } if uses.value == Uses::Image("alpine:3".into()))
    );
    assert!(matches!(&build.steps[2].action, StepAction::Computed { .. }));

    let computed = whole.job("computed").expect("computed");
    assert!(computed.strategy.as_ref().is_some_and(|strategy| strategy.whole.is_some()));
    assert!(computed.container.as_ref().is_some_and(|container| container.value.expr().is_some()));

    let call = whole.job("call").and_then(|job| job.call.as_ref()).expect("call");
    let expected = WorkflowRef::Repository {
        host: None,
        repository: "o/r".to_owned(),
        path: ".forgejo/workflows/x.yml".to_owned(),
        reference: "v1".to_owned(),
    };
    assert_eq!(call.uses.written().map(|uses| &uses.value), Some(&expected));
    assert_eq!(call.with.len(), 2);
    assert!(matches!(&call.secrets, Some(CallSecrets::Named(named)) if named.len() == 1));
    let inherit = whole.job("inherit").and_then(|job| job.call.as_ref()).expect("call");
    assert!(inherit.uses.expr().is_some() && matches!(inherit.secrets, Some(CallSecrets::Inherit(_))));
}

#[test]
fn what_only_github_has_is_modelled() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong/github_only.yml");
    let whole = workflow(&std::fs::read_to_string(file).expect("file"));
    let Some(Permissions::Listed(listed)) = whole.permissions.map(|all| all.value) else {
        panic!("no permissions")
    };
    assert_eq!((listed[0].scope.value, listed[0].access.value), ("contents", Access::Read));
    assert_eq!(whole.concurrency.and_then(|key| key.queue).map(|queue| queue.value), Some(Queue::Max));
    let job = &whole.jobs[0];
    assert_eq!(job.permissions.as_ref().map(|all| &all.value), Some(&Permissions::Listed(Vec::new())));
    assert!(job.environment.as_ref().is_some_and(|environment| environment.deployment.is_some()));
    assert_eq!(job.snapshot.as_ref().map(|image| image.name.value.as_str()), Some("mine"));
    assert!(job.steps[0].background.is_some_and(|flag| flag.value));
    assert!(matches!(&job.steps[1].action, StepAction::Wait(steps) if steps[0].value == "a"));
    assert!(matches!(&job.steps[4].action, StepAction::Parallel(steps) if steps.len() == 2));
}

/// Spans: what is pointed at is what was written.
#[test]
fn places_are_those_of_the_file() {
    let text = "on: push\njobs:\n  a:\n    uses: ./x.yml\n    secrets: inherit\n";
    let source = Source::new("t.yml", text);
    let whole = parse_only(&source).workflow.expect("good");
    let call = whole.jobs[0].call.as_ref().expect("call");
    assert_eq!(call.uses.written().map(|uses| source.slice(uses.span)), Some("./x.yml"));
    let Some(CallSecrets::Inherit(span)) = call.secrets else { panic!("no secrets") };
    assert_eq!(source.slice(span), "inherit");
}
