//! A task's payload: one job, as a server sends it to a runner.
//!
//! Purpose: the job that runs, from the payload's workflow and what the task says of its needs; the inputs of
//! the run. Owner: the runner. Invariants: the server has expanded needs and matrix, so one job comes out;
//! what the task says of a need is taken as it is.

use std::sync::Arc;

use doc::{Diagnostic, Spanned};

use crate::{
    Contexts, ExpandedJob, Object, Plan, Results, RunState, Surroundings, Value, Workflow, inputs, support,
};

/// The job of a payload, with the warnings about it. `needs` has what the task says of the jobs that it needs,
/// `contexts` has `github`, `vars` and `inputs`.
///
/// # Errors
/// Everything that is wrong with the job, or not possible yet; a payload that has not exactly one job.
pub fn expand_payload(
    mut workflow: Workflow,
    needs: &Results,
    contexts: &Contexts,
) -> Result<(ExpandedJob, Vec<Diagnostic>), Vec<Diagnostic>> {
    let [job] = workflow.jobs.as_mut_slice() else {
        let message = format!("a task has one job, and this payload has {}", workflow.jobs.len());
        return Err(vec![Diagnostic::error(message)]);
    };
    // the server took them out of the text and says them beside it
    job.needs = needs.keys().map(|need| Spanned::new(need.clone(), job.id.span)).collect();
    let id = job.id.value.clone();
    let plan = Plan::of_one(Arc::new(workflow));
    let mut found = support::check(&plan);
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    let around = Surroundings { results: needs, contexts, run: RunState::Running, filters: &[] };
    let expansion = plan.expand(&id, around)?;
    match <[ExpandedJob; 1]>::try_from(expansion.jobs) {
        Ok([job]) => Ok((job, found)),
        Err(jobs) => {
            found.push(Diagnostic::error(format!("a task is one job, and its matrix has {}", jobs.len())));
            Err(found)
        }
    }
}

/// The `inputs` context of a task: what its event carries, or what the server wrote into the payload as the
/// defaults of a called workflow, in the types that the payload declares.
pub fn payload_inputs(workflow: &Workflow, event: &str, payload: &Value) -> Object {
    let mut found = Object::new();
    let Some(trigger) = workflow.trigger(event) else { return found };
    let given = payload.get("inputs");
    for input in &trigger.inputs {
        let value = match given.get(&input.name.value) {
            Value::Null => input.default.clone().unwrap_or(Value::Null),
            // the server has checked it; what it let through stays text
            Value::String(text) => {
                inputs::typed(&input.kind, &text).unwrap_or_else(|_| Value::String(Arc::clone(&text)))
            }
            other => other,
        };
        found.insert(input.name.value.as_str(), value);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use doc::Source;

    use super::*;
    use crate::{Conclusion, JobResult, Verdict, parse_payload};

    fn payload(text: &str) -> Workflow {
        parse_payload(&Source::new("payload", text)).into_result().unwrap().0
    }

    fn expand(text: &str, needs: &Results) -> Result<ExpandedJob, Vec<Diagnostic>> {
        expand_payload(payload(text), needs, &Contexts::new()).map(|(job, _)| job)
    }

    #[test]
    fn what_a_server_sends_is_one_job() {
        let text = "\
name: ci
on: {push: {branches: ['[']}, novel: {}}
env: {A: b}
jobs:
  call.inner:
    name: m (1, map[x:1], e)
    runs-on: docker
    timeout-minutes: '1.5'
    strategy: {fail-fast: 'false', max-parallel: '2', matrix: {a: [1]}}
    if: needs.one.outputs.o == 'x'
    steps: [{run: 'echo ${{ matrix.a }}'}]
__metadata: {workflow_call_parent: abc}
brand-new: [1]
";
        let mut needs = Results::new();
        needs.insert(
            "one".to_owned(),
            JobResult { conclusion: Conclusion::Success, outputs: [("o".to_owned(), "x".to_owned())].into() },
        );
        let job = expand(text, &needs).unwrap();
        assert_eq!(job.name, "m (1, map[x:1], e)");
        assert_eq!(job.verdict, Verdict::Run);
        assert_eq!(job.timeout, Some(Duration::from_secs(90)));
        assert_eq!(job.needs.get("one").get("result").to_text().as_ref(), "success");
        needs.insert("one".to_owned(), JobResult::new(Conclusion::Failure));
        assert_eq!(expand(text, &needs).unwrap().verdict, Verdict::Skip);
    }

    #[test]
    fn two_jobs_or_a_matrix_of_two_are_refused() {
        let two =
            "on: push\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  b: {runs-on: x, steps: [{run: a}]}\n";
        assert!(expand(two, &Results::new()).is_err());
        let matrix =
            "on: push\njobs:\n  a: {runs-on: x, strategy: {matrix: {a: [1, 2]}}, steps: [{run: a}]}\n";
        assert!(expand(matrix, &Results::new()).unwrap_err()[0].message.contains("one job"));
    }

    #[test]
    fn inputs_have_their_types() {
        let text = "\
on:
  workflow_dispatch:
    inputs:
      yes: {type: boolean, default: true}
      no: {type: boolean}
      text: {default: d}
jobs: {a: {runs-on: x, steps: [{run: a}]}}
";
        let workflow = payload(text);
        let event = Value::from_json(&serde_json::json!({"inputs": {"no": "false", "text": "t"}}));
        let inputs: Value = payload_inputs(&workflow, "workflow_dispatch", &event).into();
        assert_eq!(inputs.to_json(), serde_json::json!({"yes": true, "no": false, "text": "t"}));
        assert!(payload_inputs(&workflow, "push", &event).is_empty());
    }
}
