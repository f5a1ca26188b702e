//! A call of a workflow, when its job's needs are done.
//!
//! Purpose: the inputs and secrets that the called jobs see, and what the calling job gives out when they have
//! ended. Owner: `expand`; whoever runs the jobs of the call. Invariants: every declared input has a value of its
//! type; of the caller's secrets only those that it passes are there, and the token.

use std::{collections::HashMap, fmt, sync::Arc};

use doc::Diagnostic;

use crate::{
    Call, CallSecrets, ContextName, Contexts, Input, InputKind, Job, JobResult, Object, Plan, Results,
    Template, Value, Variable, inputs,
    settings::{fault, settled, text},
};

/// The names under which a job finds its token.
const TOKENS: [&str; 3] = ["GITHUB_TOKEN", "FORGEJO_TOKEN", "GITEA_TOKEN"];

/// The jobs that a job calls.
#[derive(Clone)]
pub struct ExpandedCall {
    /// They.
    pub plan: Arc<Plan>,
    /// Their `github`, `vars`, `inputs` and `secrets`.
    pub contexts: Contexts,
}

/// The contexts hold secrets: the file only.
impl fmt::Debug for ExpandedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpandedCall")
            .field("file", &self.plan.workflow().source.name())
            .finish_non_exhaustive()
    }
}

impl ExpandedCall {
    /// What the calling job comes to when the called jobs have ended with these results.
    ///
    /// # Errors
    /// An output whose expression has no value.
    pub fn result(&self, results: &Results) -> Result<JobResult, Vec<Diagnostic>> {
        let ended = self.plan.jobs().filter_map(|job| results.get(&job.id.value));
        let mut result = JobResult::of_all(ended.cloned());
        result.outputs.clear();
        let jobs: Object = results.iter().map(|(id, result)| (id.as_str(), result.to_value())).collect();
        let mut contexts = self.contexts.clone();
        contexts.set(ContextName::Jobs, jobs);
        let declared = self.plan.workflow().callable().map(|trigger| trigger.outputs.as_slice());
        for output in declared.unwrap_or_default() {
            result.outputs.insert(output.name.value.clone(), text(&output.value, &contexts)?);
        }
        Ok(result)
    }
}

/// The call of a job as its contexts make it; `contexts` has all that a job's `with` and `secrets` can see.
pub(crate) fn expand(
    job: &Job,
    call: &Call,
    plan: &Arc<Plan>,
    contexts: &Contexts,
) -> Result<ExpandedCall, Vec<Diagnostic>> {
    let mut inner = Contexts::new();
    inner.set(ContextName::Github, called(&contexts.get(ContextName::Github)));
    inner.set(ContextName::Vars, contexts.get(ContextName::Vars));
    inner.set(ContextName::Secrets, secrets(call, contexts)?);
    let mut given = Object::new();
    let declared = plan.workflow().callable().map(|trigger| trigger.inputs.as_slice());
    let with: HashMap<String, &Variable> =
        call.with.iter().rev().map(|given| (given.name.value.to_ascii_lowercase(), given)).collect();
    for input in declared.unwrap_or_default() {
        let passed = with.get(&input.name.value.to_ascii_lowercase()).copied();
        if passed.is_none() && input.default.is_none() && input.computed.is_some() {
            // a default sees the inputs before it
            inner.set(ContextName::Inputs, given.clone());
        }
        given.insert(input.name.value.as_str(), value(job, passed, input, contexts, &inner)?);
    }
    inner.set(ContextName::Inputs, given);
    Ok(ExpandedCall { plan: Arc::clone(plan), contexts: inner })
}

/// What Forgejo's server says to the jobs of a call: all as it is but the event's name.
fn called(github: &Value) -> Value {
    let Value::Object(github) = github else { return github.clone() };
    let mut changed = github.as_ref().clone();
    if changed.get("event_name").is_some() {
        changed.insert("event_name", "workflow_call");
    }
    changed.into()
}

fn value(
    job: &Job,
    given: Option<&Variable>,
    input: &Input,
    outer: &Contexts,
    inner: &Contexts,
) -> Result<Value, Vec<Diagnostic>> {
    let (template, value) = match (given, &input.default, &input.computed) {
        (Some(given), ..) => (&given.value, settled(given.value.eval(outer))?),
        (None, Some(default), _) => return Ok(default.clone()),
        (None, None, Some(computed)) => (computed, settled(computed.eval(inner))?),
        (None, None, None) => return Ok(absent(&input.kind)),
    };
    typed(job, input, template, value)
}

/// A value in an input's type. Text means what it says, since a server sends all values as text.
fn typed(job: &Job, input: &Input, template: &Template, value: Value) -> Result<Value, Vec<Diagnostic>> {
    let wrong = |wanted: &str| {
        let what = format!("the input `{}` of job `{}` is {}", input.name.value, job.id.value, value.kind());
        fault(template, what, wanted)
    };
    match (&input.kind, &value) {
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => Ok(value),
        (InputKind::Text | InputKind::Environment, _) if value.is_primitive() => {
            Ok(value.to_text().as_ref().into())
        }
        (kind, Value::String(text)) => inputs::typed(kind, text).map_err(|wanted| wrong(&wanted)),
        // an input that is passed on and was not given
        (kind, Value::Null) => Ok(absent(kind)),
        (InputKind::Boolean, _) => Err(wrong("`true` or `false`")),
        (InputKind::Number, _) => Err(wrong("a number")),
        (InputKind::Text | InputKind::Environment | InputKind::Choice(_), _) => Err(wrong("text")),
    }
}

/// An input that nobody gave.
fn absent(kind: &InputKind) -> Value {
    match kind {
        InputKind::Text | InputKind::Environment | InputKind::Choice(_) => "".into(),
        InputKind::Boolean => false.into(),
        InputKind::Number => Value::Number(0.0),
    }
}

fn secrets(call: &Call, contexts: &Contexts) -> Result<Value, Vec<Diagnostic>> {
    let all = contexts.get(ContextName::Secrets);
    let named = match &call.secrets {
        Some(CallSecrets::Inherit(_)) => return Ok(all),
        Some(CallSecrets::Named(named)) => named.as_slice(),
        None => &[],
    };
    let mut passed = Object::new();
    for token in TOKENS {
        match all.get(token) {
            Value::Null => {}
            value => passed.insert(token, value),
        }
    }
    for secret in named {
        passed.insert(secret.name.value.as_str(), text(&secret.value, contexts)?);
    }
    Ok(passed.into())
}
