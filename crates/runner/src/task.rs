//! A task of the server to a job that can run.
//!
//! Purpose: the payload, what the task says beside it, and the server's facts, as `job` wants them.
//! Owner: the daemon, once per task. Invariants: whatever a server sends makes a job or rows that say why not;
//! the runner's own credential is in nothing that a job sees.

use std::{collections::BTreeMap, sync::Arc};

use doc::{Diagnostic, Rendering, Source};
use forgejo::{Task, TaskResult};
use job::{Authorities, JobContext, Repository, RunnerFacts, WorkingTree, Workspace};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};
use workflow::{
    Conclusion, ContextName, Contexts, ExpandedJob, JobResult, Object, Results, Value, expand_payload,
    parse_payload, payload_inputs,
};

use crate::ways;

/// Names of the job's token among the secrets, the first that is there counts.
const TOKENS: [&str; 3] = ["FORGEJO_TOKEN", "GITEA_TOKEN", "GITHUB_TOKEN"];

/// Keys of the task's context that are no part of the `github` context: they are set as environment.
const RUNTIME_TOKENS: [&str; 2] = ["forgejo_runtime_token", "gitea_runtime_token"];

/// A job that can run.
pub(crate) struct Ready {
    /// The job.
    pub(crate) job: ExpandedJob,
    /// What surrounds it, but for its tree.
    pub(crate) around: Around,
    /// What is to be told before it begins.
    pub(crate) warnings: Vec<String>,
}

/// What surrounds a job.
pub(crate) struct Around {
    /// Where its repository is.
    pub(crate) origin: Origin,
    repository: Repository,
    github: Value,
    vars: Value,
    inputs: Value,
    secrets: BTreeMap<String, SecretString>,
    masks: Vec<SecretString>,
    env: Vec<(String, String)>,
    forwards: Vec<sandbox::Forward>,
}

/// Where a job's repository is, and what of it the job runs for.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The instance, without a slash at its end.
    pub(crate) server: String,
    /// `owner/name`.
    pub(crate) repository: String,
    /// The commit.
    pub(crate) sha: String,
    /// The full name of the branch, tag or pull request.
    pub(crate) reference: String,
    /// The job's token.
    pub(crate) token: Option<SecretString>,
}

impl Around {
    /// With the job's files.
    pub(crate) fn with(
        self,
        tree: Arc<dyn WorkingTree>,
        runner: RunnerFacts,
        services: sandbox::Services,
        authorities: Option<Authorities>,
    ) -> JobContext {
        JobContext {
            github: self.github,
            vars: self.vars,
            inputs: self.inputs,
            secrets: self.secrets,
            masks: self.masks,
            env: self.env,
            repository: self.repository,
            tree,
            workspace: Workspace::Empty,
            runner,
            failures: None,
            forwards: self.forwards,
            services,
            authorities,
        }
    }
}

/// What the runner adds to each job.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    /// The instance as this runner reaches it.
    pub(crate) instance: &'a str,
    /// Variables of the configuration.
    pub(crate) env: &'a [(String, String)],
    /// Ways of each job's VM beside those to its forge.
    pub(crate) forwards: &'a [sandbox::Forward],
    /// The longest that a job may take.
    pub(crate) timeout: std::time::Duration,
}

/// Makes a job of a task, or rows that say why there is none.
pub(crate) fn ready(task: &Task, own: Own<'_>) -> Result<Ready, Vec<String>> {
    let source = Source::from_bytes("payload", &task.payload).map_err(|found| rows(&[*found]))?;
    let (workflow, mut warnings) = parse_payload(&source).into_result().map_err(|found| rows(&found))?;
    let mut context = task.context.clone();
    let runtime = RUNTIME_TOKENS.into_iter().find_map(|name| text(&context, name));
    for name in RUNTIME_TOKENS {
        context.remove(name);
    }
    let server = text(&context, "server_url").unwrap_or_else(|| own.instance.to_owned());
    let server = server.trim_end_matches('/').to_owned();
    context.insert("server_url".to_owned(), server.clone().into());
    let (to_forge, unreached) = ways::to_forge(own.instance, &server);
    let forwards = ways::of_job(own.forwards, to_forge);
    let token = token(task, &context);
    let shown = token.as_ref().map(|token| token.expose_secret().to_owned()).unwrap_or_default();
    context.insert("token".to_owned(), shown.into());
    // servers say the name of the file there; the workflow's own name counts where it has one
    if let Some(name) = workflow.name.as_ref().filter(|name| !name.value.is_empty()) {
        context.insert("workflow".to_owned(), name.value.clone().into());
    }

    let name = text(&context, "repository").unwrap_or_default();
    let repository = Repository::parse(&name).map_err(|error| vec![format!("the task is {error}")])?;
    let event = text(&context, "event_name").unwrap_or_default();
    let payload = context.get("event").map(Value::from_json).unwrap_or(Value::Null);
    let inputs: Value = payload_inputs(&workflow, &event, &payload).into();
    let github = Value::from_json(&Json::Object(context.clone()));
    let vars: Value = task.vars.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Object>().into();
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Github, github.clone());
    contexts.set(ContextName::Vars, vars.clone());
    contexts.set(ContextName::Inputs, inputs.clone());
    let secrets = task.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
    contexts.set(ContextName::Secrets, secrets.collect::<Object>());
    let (mut job, more) = expand_payload(workflow, &needs(task), &contexts).map_err(|found| rows(&found))?;
    warnings.extend(more);
    job.timeout = Some(job.timeout.map_or(own.timeout, |timeout| timeout.min(own.timeout)));

    let mut masks = Vec::new();
    let mut env = own.env.to_vec();
    env.extend(services(own.instance, runtime.as_deref(), &context));
    masks.extend(runtime.map(SecretString::from));
    masks.extend(id_token(&context).map(SecretString::from));
    let origin = Origin {
        server,
        repository: name,
        sha: text(&context, "sha").unwrap_or_default(),
        reference: text(&context, "ref").unwrap_or_default(),
        token,
    };
    let around = Around {
        origin,
        repository,
        github,
        vars,
        inputs,
        secrets: task.secrets.clone(),
        masks,
        env,
        forwards,
    };
    let warnings = rows(&warnings).into_iter().chain(unreached).collect();
    Ok(Ready { job, around, warnings })
}

/// The addresses of the server's own services, for actions.
fn services(instance: &str, runtime: Option<&str>, context: &Map<String, Json>) -> Vec<(String, String)> {
    let instance = instance.trim_end_matches('/');
    let mut env = vec![
        ("ACTIONS_RUNTIME_URL".to_owned(), format!("{instance}/api/actions_pipeline/")),
        ("ACTIONS_RESULTS_URL".to_owned(), instance.to_owned()),
    ];
    env.extend(runtime.map(|token| ("ACTIONS_RUNTIME_TOKEN".to_owned(), token.to_owned())));
    if let (Some(url), Some(token)) =
        (text(context, "forgejo_actions_id_token_request_url"), id_token(context))
    {
        env.push(("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), url));
        env.push(("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), token));
    }
    env
}

fn id_token(context: &Map<String, Json>) -> Option<String> {
    text(context, "forgejo_actions_id_token_request_token")
}

/// The job's token: that of the secrets, else the context's.
fn token(task: &Task, context: &Map<String, Json>) -> Option<SecretString> {
    let of_secrets = TOKENS.iter().find_map(|name| task.secrets.get(*name)).cloned();
    of_secrets.or_else(|| text(context, "token").map(SecretString::from))
}

/// A text of the context that is not empty.
fn text(context: &Map<String, Json>, key: &str) -> Option<String> {
    context.get(key).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// What the task says of the jobs that it needs.
fn needs(task: &Task) -> Results {
    let result = |need: &forgejo::Need| JobResult {
        conclusion: match need.result {
            TaskResult::Success => Conclusion::Success,
            TaskResult::Failure => Conclusion::Failure,
            TaskResult::Cancelled => Conclusion::Cancelled,
            // nobody said how it ended: then it did not run
            TaskResult::Skipped | TaskResult::Unspecified => Conclusion::Skipped,
        },
        outputs: need.outputs.clone(),
    };
    task.needs.iter().map(|(name, need)| (name.clone(), result(need))).collect()
}

/// Diagnostics as rows of a log, the message of each first.
fn rows(found: &[Diagnostic]) -> Vec<String> {
    let mut rows = Vec::new();
    for fault in found {
        let mark = if fault.is_error() { "##[error]" } else { "##[warning]" };
        let shown = fault.render(Rendering::Plain);
        for (at, line) in shown.lines().enumerate() {
            let line =
                line.strip_prefix("error: ").or_else(|| line.strip_prefix("warning: ")).unwrap_or(line);
            rows.push(if at == 0 { format!("{mark}{line}") } else { line.to_owned() });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forgejo::TaskId;

    use super::*;

    const PAYLOAD: &str = "\
on: {push: null}
jobs:
  b:
    runs-on: docker
    timeout-minutes: '600'
    steps: [{run: 'echo ${{ needs.a.outputs.o }}'}]
";

    fn task(payload: &str) -> Task {
        let context = serde_json::json!({
            "repository": "o/r", "server_url": "http://h:3000/", "event_name": "push", "sha": "abc",
            "ref": "refs/heads/main", "token": "of-context", "gitea_runtime_token": "runtime", "event": {},
        });
        let need =
            forgejo::Need { outputs: [("o".to_owned(), "v".to_owned())].into(), result: TaskResult::Success };
        Task {
            id: TaskId::new(1).unwrap(),
            payload: payload.as_bytes().to_vec(),
            context: context.as_object().unwrap().clone(),
            secrets: [("GITEA_TOKEN".to_owned(), "of-secrets".into())].into(),
            needs: [("a".to_owned(), need)].into(),
            vars: BTreeMap::new(),
        }
    }

    fn own() -> Own<'static> {
        Own { instance: "http://h:3000/", env: &[], forwards: &[], timeout: Duration::from_secs(3600) }
    }

    #[test]
    fn a_task_is_a_job_with_what_surrounds_it() {
        let ready = ready(&task(PAYLOAD), own()).map_err(|rows| rows.join("\n")).unwrap();
        assert_eq!(
            ready.job.timeout,
            Some(Duration::from_secs(3600)),
            "the runner's limit is the smaller one"
        );
        assert_eq!(ready.job.needs.get("a").get("outputs").get("o").to_text().as_ref(), "v");
        let around = ready.around;
        let to: Vec<_> = around.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(to, ["h:3000=h:3000"], "the forge's own host is reached whatever the network is");
        assert_eq!(around.origin.server, "http://h:3000");
        assert_eq!(around.origin.token.as_ref().unwrap().expose_secret(), "of-secrets");
        assert_eq!(around.github.get("token").to_text().as_ref(), "of-secrets");
        assert!(matches!(around.github.get("gitea_runtime_token"), Value::Null));
        let env: BTreeMap<_, _> = around.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env["ACTIONS_RUNTIME_TOKEN"], "runtime");
        assert_eq!(env["ACTIONS_RUNTIME_URL"], "http://h:3000/api/actions_pipeline/");
        assert!(!env.contains_key("ACTIONS_ID_TOKEN_REQUEST_URL"));
        assert_eq!(around.masks.len(), 1);
    }

    #[test]
    fn a_workflow_has_its_own_name_and_else_that_of_its_file() {
        for (first, said) in [("name: The build", "The build"), ("name: ''", "ci.yml"), ("", "ci.yml")] {
            let mut task = task(&format!("{first}\n{PAYLOAD}"));
            task.context.insert("workflow".to_owned(), "ci.yml".into());
            let ready = ready(&task, own()).map_err(|rows| rows.join("\n")).unwrap();
            assert_eq!(ready.around.github.get("workflow").to_text().as_ref(), said, "{first:?}");
        }
    }

    #[test]
    fn what_makes_no_job_makes_rows_that_say_why() {
        for (payload, said) in [
            ("", "empty"),
            ("jobs: {a: {runs-on: x, steps: [{rn: a}]}}", "unknown key"),
            ("jobs: {a: {runs-on: x, steps: [{uses: a/b@v1}]}}", "does not work yet"),
            (
                "jobs: {a: {runs-on: x, container: alpine, steps: [{run: a}]}}",
                "`container` does not work yet",
            ),
            ("jobs: {}", "there are no jobs"),
            ("\u{0}", "payload"),
        ] {
            let rows = ready(&task(payload), own()).err().unwrap().join("\n");
            assert!(rows.contains(said) && rows.contains("##[error]"), "{payload:?}: {rows}");
        }
        let mut nowhere = task(PAYLOAD);
        nowhere.context.remove("repository");
        assert!(ready(&nowhere, own()).is_err());
    }
}
