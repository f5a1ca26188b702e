//! What the expressions of a job see, and what they become.
//!
//! Purpose: the contexts, kept up to date while steps run; evaluation with the guest's help.
//! Owner: the job's task.
//!
//! ```text
//!   success ──a step fails──▶ failure
//!      └────── cancel, time-out ──┴──▶ cancelled        (never back)
//! ```

use workflow::{
    ContextName, Contexts, Eval, EvalError, ExpandedJob, Object, Status, Template, Value, Variable,
};

use crate::{
    JobContext, Outcome,
    environ::{Environ, Vars},
    guest::{Fault, Guest},
    hash,
};

/// How the job goes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    Success,
    Failure,
    Cancelled,
}

impl Progress {
    fn status(self) -> Status {
        match self {
            Self::Success => Status::SUCCESS,
            Self::Failure => Status::FAILURE,
            Self::Cancelled => Status::CANCELLED,
        }
    }

    /// As the job's result.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Success => Outcome::Success,
            Self::Failure => Outcome::Failure,
            Self::Cancelled => Outcome::Cancelled,
        }
    }
}

/// As expressions and the log name it.
pub(crate) const fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Cancelled => "cancelled",
        Outcome::Skipped => "skipped",
    }
}

/// What expressions see.
pub(crate) struct Scope {
    contexts: Contexts,
    github: Object,
    steps: Object,
    progress: Progress,
    /// The environment of the steps.
    pub(crate) environ: Environ,
}

impl Scope {
    /// The scope of a job before its first step. `github` has what the caller knows and the paths.
    pub(crate) fn new(job: &ExpandedJob, context: &JobContext, github: Object, environ: Environ) -> Self {
        use secrecy::ExposeSecret as _;
        let secrets: Object =
            context.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        let mut contexts = Contexts::new();
        contexts
            .set(ContextName::Vars, context.vars.clone())
            .set(ContextName::Inputs, context.inputs.clone())
            .set(ContextName::Secrets, secrets)
            .set(ContextName::Needs, job.needs.clone())
            .set(ContextName::Matrix, job.matrix.clone())
            .set(ContextName::Strategy, job.strategy.clone())
            .set(ContextName::Runner, environ.runner_context());
        let mut scope = Self { contexts, github, steps: Object::new(), progress: Progress::Success, environ };
        scope.enter("", &Vars::default(), |_| {});
        scope.advance(Progress::Success);
        scope
    }

    /// How the job goes so far.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Tells how something ended; the worst counts.
    pub(crate) fn advance(&mut self, progress: Progress) {
        self.progress = self.progress.max(progress);
        self.contexts.set_status(self.progress.status());
        let job: Object = [("status", name(self.progress.outcome()))].into_iter().collect();
        self.contexts.set(ContextName::Job, job);
    }

    /// Sees a step: its action's name, its own variables, what it has in `github`.
    pub(crate) fn enter(&mut self, action: &str, own: &Vars, add: impl FnOnce(&mut Object)) {
        let mut github = self.github.clone();
        github.insert("action", action);
        add(&mut github);
        self.contexts.set(ContextName::Github, github);
        let env: Object = self.environ.context(own).iter().collect();
        self.contexts.set(ContextName::Env, env);
        self.contexts.set(ContextName::Steps, self.steps.clone());
    }

    /// The `github` context as the step sees it.
    pub(crate) fn github(&self) -> Value {
        self.contexts.get(ContextName::Github)
    }

    /// Remembers a step that has ended, for the `steps` context. Files may have changed.
    pub(crate) fn leave(
        &mut self,
        id: Option<&str>,
        outcome: Outcome,
        conclusion: Outcome,
        outputs: &[(String, String)],
    ) {
        self.contexts.forget_answers();
        let Some(id) = id else { return };
        let outputs: Object = outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut step = Object::new();
        step.insert("outputs", outputs);
        step.insert("outcome", name(outcome));
        step.insert("conclusion", name(conclusion));
        self.steps.insert(id, step);
    }

    /// Evaluates, asking the guest for what only it knows.
    pub(crate) async fn settle<T>(
        &mut self,
        guest: &Guest,
        eval: impl Fn(&Contexts) -> Result<Eval<T>, EvalError> + Sync,
    ) -> Result<T, Fault> {
        loop {
            match eval(&self.contexts) {
                Ok(Eval::Value(value)) => return Ok(value),
                Ok(Eval::Need(query)) => {
                    let answer = hash::answer(guest, &query).await?;
                    self.contexts.answer(query, answer);
                }
                Err(error) => {
                    let text = error.to_diagnostic().render(doc::Rendering::Plain);
                    // Whoever says it marks the row as an error.
                    return Err(Fault::step(text.strip_prefix("error: ").unwrap_or(&text)));
                }
            }
        }
    }

    /// A template as text.
    pub(crate) async fn text(&mut self, guest: &Guest, template: &Template) -> Result<String, Fault> {
        self.settle(guest, |contexts| template.eval_text(contexts)).await
    }

    /// A template as text, if there is one and the text is not empty.
    pub(crate) async fn some_text(
        &mut self,
        guest: &Guest,
        template: Option<&Template>,
    ) -> Result<Option<String>, Fault> {
        match template {
            Some(template) => Ok(Some(self.text(guest, template).await?).filter(|text| !text.is_empty())),
            None => Ok(None),
        }
    }

    /// A template that has to be true or false.
    pub(crate) async fn flag(&mut self, guest: &Guest, template: Option<&Template>) -> Result<bool, Fault> {
        let Some(template) = template else { return Ok(false) };
        let value = self.settle(guest, |contexts| template.eval(contexts)).await?;
        match (&value, value.to_text().trim()) {
            (Value::Bool(value), _) => Ok(*value),
            (Value::Null, _) | (Value::String(_), "" | "false") => Ok(false),
            (Value::String(_), "true") => Ok(true),
            _ => Err(Fault::step(format!("`{}` is neither true nor false", template.raw()))),
        }
    }

    /// Variables of an `env`, none of which sees the others.
    pub(crate) async fn variables(&mut self, guest: &Guest, list: &[Variable]) -> Result<Vars, Fault> {
        let mut vars = Vars::default();
        for Variable { name, value } in list {
            vars.set(name.value.as_str(), self.text(guest, value).await?);
        }
        Ok(vars)
    }
}
