//! The workflows that jobs call.
//!
//! Purpose: finds each called file through a resolver that the caller gives, plans it, and checks the call
//! against what the file declares. Owner: [`Plan::with_calls`]. Invariants: a file is read once; what calls each
//! other in a circle is a fault; calls are at most [`MAX_CALLS`] deep, and all jobs together, those of a file
//! once for each call of it, at most [`MAX_JOBS`].
//!
//! ```text
//! Workflow ──job with `uses`──▶ Resolver ──Source──▶ Workflow ──▶ … ──▶ Plan, with the plans that it calls
//! ```

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use doc::{Diagnostic, Source, Span, Spanned, did_you_mean};

use crate::{
    Call, CallSecrets, Job, OrExpr, Plan, Trigger, Variable, Workflow, WorkflowRef, inputs, lower,
    matrix::some, model::MAX_JOBS, rules::Rule,
};

/// How deep calls may lie in each other, as Forgejo has it. GitHub allows nine.
pub(crate) const MAX_CALLS: usize = 5;

/// What a resolver says of a workflow that is called.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// Its file.
    Text(Source),
    /// It is not looked for: the job that calls it stays as it is.
    Elsewhere,
    /// It is not there, and why, as a fragment.
    Missing(String),
}

/// Gives the files of called workflows. A local one that a workflow of another repository calls is asked for as a
/// file of that repository.
pub type Resolver<'a> = &'a mut dyn FnMut(&WorkflowRef) -> Resolved;

impl Plan {
    /// All jobs of a workflow, with those of the workflows that they call; and the warnings about these.
    /// `exec` runs no such job yet: [`crate::support`] refuses it.
    ///
    /// # Errors
    /// As [`Plan::new`], of every file; a file that is not there, is no good workflow, or cannot be called; a
    /// call that does not fit it; a circle.
    pub fn with_calls(
        workflow: Arc<Workflow>,
        resolve: Resolver<'_>,
    ) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        let name = format!("./{}", workflow.source.name());
        Plan::with_calls_of(workflow, name, resolve)
    }

    /// The same of a workflow that others call by this name.
    pub(crate) fn with_calls_of(
        workflow: Arc<Workflow>,
        name: String,
        resolve: Resolver<'_>,
    ) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut finder = Finder { resolve, plans: HashMap::new(), stack: Vec::new(), found: Vec::new() };
        finder.stack.push(Frame { name, place: Place::Own, call: None });
        let plan = finder.plan(workflow);
        let mut found = finder.found;
        found.dedup();
        match plan {
            Some(plan) if !found.iter().any(Diagnostic::is_error) => Ok((plan, found)),
            _ => Err(found),
        }
    }
}

/// Which repository a file is of.
#[derive(Clone)]
enum Place {
    /// That of the first workflow.
    Own,
    /// Another.
    Other { host: Option<String>, repository: String, reference: String },
}

impl Place {
    /// What is called, as seen from the first workflow, and the place that it is of.
    fn join(&self, uses: &WorkflowRef) -> (WorkflowRef, Place) {
        match (uses, self) {
            (WorkflowRef::Local(_), Place::Own) => (uses.clone(), Place::Own),
            (WorkflowRef::Local(path), Place::Other { host, repository, reference }) => {
                let absolute = WorkflowRef::Repository {
                    host: host.clone(),
                    repository: repository.clone(),
                    path: path.clone(),
                    reference: reference.clone(),
                };
                (absolute, self.clone())
            }
            (WorkflowRef::Repository { host, repository, path, reference }, _) => {
                let base = match self {
                    Place::Other { host, .. } => host.clone(),
                    Place::Own => None,
                };
                let host = host.clone().or(base);
                let place = Place::Other {
                    host: host.clone(),
                    repository: repository.clone(),
                    reference: reference.clone(),
                };
                let absolute = WorkflowRef::Repository {
                    host,
                    repository: repository.clone(),
                    path: path.clone(),
                    reference: reference.clone(),
                };
                (absolute, place)
            }
        }
    }
}

/// A file that is being looked at.
struct Frame {
    name: String,
    place: Place,
    /// Where it was called.
    call: Option<(Source, Span)>,
}

struct Finder<'a> {
    resolve: Resolver<'a>,
    /// By the name of what is called; none if it is no good.
    plans: HashMap<String, Option<Arc<Plan>>>,
    stack: Vec<Frame>,
    found: Vec<Diagnostic>,
}

impl Finder<'_> {
    fn plan(&mut self, workflow: Arc<Workflow>) -> Option<Plan> {
        let mut plan = Plan::new(Arc::clone(&workflow)).map_err(|faults| self.found.extend(faults)).ok()?;
        let mut calls = BTreeMap::new();
        let mut good = true;
        for job in &workflow.jobs {
            let Some(call) = &job.call else { continue };
            let OrExpr::Written(uses) = &call.uses else { continue };
            match self.called(&workflow.source, uses) {
                Some(Called::Plan(called)) => {
                    good &= self.fits(&workflow.source, job, call, uses.span, &called);
                    calls.insert(job.id.value.clone(), called);
                }
                Some(Called::Elsewhere) => {}
                None => good = false,
            }
        }
        plan.set_calls(calls);
        if plan.size() > MAX_JOBS {
            let at = workflow.jobs.iter().find(|job| job.call.is_some()).map(|job| job.id.span);
            self.found.push(
                Diagnostic::error(format!("more than {MAX_JOBS} jobs, with those of called workflows"))
                    .at(&workflow.source, at.unwrap_or_default())
                    .label("the first call"),
            );
            return None;
        }
        good.then_some(plan)
    }

    fn called(&mut self, source: &Source, uses: &Spanned<WorkflowRef>) -> Option<Called> {
        let (absolute, place) = match self.stack.last() {
            Some(frame) => frame.place.join(&uses.value),
            None => Place::Own.join(&uses.value),
        };
        let name = absolute.to_string();
        if let Some(at) = self.stack.iter().position(|frame| frame.name == name) {
            let fault = self.circle(at, source, uses.span);
            self.found.push(fault);
            return None;
        }
        if self.stack.len() > MAX_CALLS {
            self.found.push(
                Diagnostic::error(format!(
                    "workflows that call each other more than {MAX_CALLS} levels deep"
                ))
                .at(source, uses.span)
                .label("one level too many")
                .note("Forgejo stops here as well"),
            );
            return None;
        }
        if let Some(known) = self.plans.get(&name) {
            return known.clone().map(Called::Plan);
        }
        let plan = match (self.resolve)(&absolute) {
            Resolved::Elsewhere => return Some(Called::Elsewhere),
            Resolved::Missing(why) => {
                self.found.push(
                    Diagnostic::error(format!("there is no workflow `{absolute}`"))
                        .at(source, uses.span)
                        .label("called here")
                        .note(why),
                );
                None
            }
            Resolved::Text(text) => self.read(&text).and_then(|workflow| {
                let call = Some((source.clone(), uses.span));
                self.stack.push(Frame { name: name.clone(), place, call });
                let plan = self.plan(workflow);
                self.stack.pop();
                plan.map(Arc::new)
            }),
        };
        // How deep it lies is a matter of its caller: what ended there may be good elsewhere.
        if plan.is_some() || self.stack.len() < MAX_CALLS {
            self.plans.insert(name, plan.clone());
        }
        plan.map(Called::Plan)
    }

    fn read(&mut self, text: &Source) -> Option<Arc<Workflow>> {
        match lower::parse_only(text).into_result() {
            Ok((workflow, warnings)) => {
                self.found.extend(warnings);
                Some(Arc::new(workflow))
            }
            Err(faults) => {
                self.found.extend(faults);
                None
            }
        }
    }

    /// Files that call each other, from the one at `at` of the stack around to itself.
    fn circle(&self, at: usize, source: &Source, span: Span) -> Diagnostic {
        let circle = self.stack.get(at..).unwrap_or_default();
        let mut names: Vec<_> = circle.iter().map(|frame| format!("`{}`", frame.name)).collect();
        names.extend(names.first().cloned());
        let message = match circle {
            [only] => format!("the workflow `{}` calls itself", only.name),
            _ => format!("the workflows call each other: {}", names.join(" → ")),
        };
        let fault = Diagnostic::error(message).at(source, span).label("which closes the circle");
        let calls = circle.iter().skip(1).filter_map(|frame| frame.call.as_ref());
        calls.fold(fault, |fault, (source, span)| fault.also(source, *span, "called here"))
    }

    /// Whether a call gives what the called file declares; the faults are noted.
    fn fits(&mut self, source: &Source, job: &Job, call: &Call, uses: Span, called: &Plan) -> bool {
        let before = self.found.len();
        let workflow = called.workflow();
        let Some(trigger) = workflow.callable() else {
            self.found.push(
                Diagnostic::error(format!("`{}` cannot be called", workflow.source.name()))
                    .at(source, uses)
                    .label(format!("job `{}` calls it", job.id.value))
                    .help("add `workflow_call` to its `on`"),
            );
            return false;
        };
        self.found.extend(wrong_inputs(source, call, uses, trigger, &workflow.source));
        self.found.extend(wrong_secrets(source, call, uses, trigger, &workflow.source));
        !self.found.get(before..).unwrap_or_default().iter().any(Diagnostic::is_error)
    }
}

/// What became of the file of a call.
enum Called {
    Plan(Arc<Plan>),
    Elsewhere,
}

fn wrong_inputs(
    source: &Source,
    call: &Call,
    uses: Span,
    trigger: &Trigger,
    called: &Source,
) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let names = || trigger.inputs.iter().map(|input| input.name.value.as_str());
    let declared: HashMap<String, &crate::Input> =
        trigger.inputs.iter().rev().map(|input| (input.name.value.to_ascii_lowercase(), input)).collect();
    let mut given = lowered(&call.with);
    for Variable { name, value } in &call.with {
        if faults.len() >= MAX_FAULTS {
            break;
        }
        let Some(input) = declared.get(&name.value.to_ascii_lowercase()) else {
            let what = format!("`{}` has no input `{}`", called.name(), name.value);
            faults.push(unknown(Diagnostic::error(what).at(source, name.span), &name.value, names()));
            continue;
        };
        let literal = value.literal().map(|text| inputs::typed(&input.kind, text));
        if let Some(Err(wanted)) = literal {
            faults.push(
                Diagnostic::error(format!("the input `{}` is not of its type", name.value))
                    .at(source, value.span())
                    .label(format!("expected {wanted}"))
                    .also(called, input.name.span, "declared here"),
            );
        }
    }
    // one that is misspelt is told above
    let strange =
        call.with.iter().filter(|with| !declared.contains_key(&with.name.value.to_ascii_lowercase()));
    let meant =
        strange.take(MAX_FAULTS).filter_map(|with| did_you_mean(&with.name.value, names().take(1000)));
    given.extend(meant.map(str::to_ascii_lowercase));
    for input in &trigger.inputs {
        if faults.len() >= MAX_FAULTS {
            break;
        }
        let given = given.contains(&input.name.value.to_ascii_lowercase());
        if input.required && !given && input.default.is_none() && input.computed.is_none() {
            faults.push(
                Diagnostic::error(format!("the input `{}` is missing", input.name.value))
                    .at(source, uses)
                    .label("this workflow requires it")
                    .also(called, input.name.span, "declared here")
                    .help(format!("add it to `with`: `{}: …`", input.name.value)),
            );
        }
    }
    faults
}

fn wrong_secrets(
    source: &Source,
    call: &Call,
    uses: Span,
    trigger: &Trigger,
    called: &Source,
) -> Vec<Diagnostic> {
    let given: &[Variable] = match &call.secrets {
        Some(CallSecrets::Inherit(_)) => return Vec::new(),
        Some(CallSecrets::Named(named)) => named,
        None => &[],
    };
    let has = lowered(given);
    let names = || trigger.secrets.iter().map(|secret| secret.name.value.as_str());
    let declared: HashSet<String> = names().map(str::to_ascii_lowercase).collect();
    let mut faults = Vec::new();
    for Variable { name, .. } in given {
        if faults.len() >= MAX_FAULTS {
            break;
        }
        if !declared.contains(&name.value.to_ascii_lowercase()) {
            // Forgejo passes it on, GitHub refuses it.
            let what = format!("`{}` declares no secret `{}`", called.name(), name.value);
            faults.push(unknown(
                Rule::UndeclaredSecret.warning(what).at(source, name.span),
                &name.value,
                names(),
            ));
        }
    }
    let wanted = |secret: &&crate::CallSecret| {
        secret.required && !has.contains(&secret.name.value.to_ascii_lowercase())
    };
    for secret in trigger.secrets.iter().filter(wanted).take(MAX_FAULTS) {
        faults.push(
            Diagnostic::error(format!("the secret `{}` is missing", secret.name.value))
                .at(source, uses)
                .label("this workflow requires it")
                .also(called, secret.name.span, "declared here")
                .help("add it to `secrets`, or write `secrets: inherit`"),
        );
    }
    faults
}

/// Names as they compare: without case.
fn lowered(variables: &[Variable]) -> HashSet<String> {
    variables.iter().map(|variable| variable.name.value.to_ascii_lowercase()).collect()
}

/// Most faults of the inputs, and of the secrets, of one call; each may list what there is.
const MAX_FAULTS: usize = 100;

fn unknown<'n>(fault: Diagnostic, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> Diagnostic {
    let fault = fault.label("not declared there");
    match did_you_mean(name, known.clone().take(1000)) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => match some(&known.map(str::to_owned).collect::<Vec<_>>()) {
            none if none.is_empty() => fault.note("it declares none"),
            some => fault.note(format!("it declares {some}")),
        },
    }
}
