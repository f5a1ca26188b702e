//! A test's own view of a real Gitea, before any runner of ours: what the runner's tests stand on.
//!
//! A runner of five calls, written by hand in JSON, plays a job, so that each helper is shown what it reads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use libtest_mimic::Trial;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use testkit::gitea::{
    self, Api, Cursor, File, Gitea, Job, PATIENCE, Repo, Scope, State, Variable, Visibility, chain,
};

/// The tests.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_push_queues_a_run_that_its_page_cancels", cancel),
        trial("a_dispatch_names_its_run_and_wants_its_trigger", dispatch),
        trial("secrets_and_variables_are_stored", values),
        trial("a_private_repository_is_its_owners", private),
        trial("a_wrong_password_is_no_session", wrong_password),
        trial("a_played_job_is_seen_with_steps_rows_and_log", played),
    ]
}

/// A test on the shared server; an error of a helper fails it.
pub(crate) fn trial<T>(name: &str, test: T) -> Trial
where
    T: AsyncFnOnce(&Gitea) -> gitea::Result<()> + Send + 'static,
{
    on(name, gitea::shared, test)
}

/// The same on the shared server of TLS.
pub(crate) fn tls_trial<T>(name: &str, test: T) -> Trial
where
    T: AsyncFnOnce(&Gitea) -> gitea::Result<()> + Send + 'static,
{
    on(name, gitea::shared_tls, test)
}

fn on<T>(name: &str, shared: fn() -> Arc<Gitea>, test: T) -> Trial
where
    T: AsyncFnOnce(&Gitea) -> gitea::Result<()> + Send + 'static,
{
    Trial::test(format!("gitea::{name}"), move || {
        let gitea = shared();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        if let Err(error) = runtime.block_on(test(&gitea)) {
            panic!("{}; Gitea's log:\n{}", chain(&error), gitea.log_tail());
        }
        Ok(())
    })
}

/// A repository of this test alone.
async fn repository(api: &Api, visibility: Visibility) -> gitea::Result<Repo> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("helpers-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    api.create_repo(&name, visibility).await
}

const WAITS: &str = "on: push\njobs:\n  a:\n    runs-on: nobody-has-this\n    steps:\n      - run: make\n";

async fn cancel(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, Visibility::Public).await?;
    let files = [File::text(".forgejo/workflows/ci.yml", WAITS), File::text("other/file", "text")];
    let commit = api.commit(&repo, "two files", &files).await?;
    assert_eq!(api.read_file(&repo, "other/file").await?, b"text");

    let run = api.wait_for_run_of(&repo, &commit.sha, "ci.yml").await;
    assert_eq!((run.state, run.event.as_str()), (State::Waiting, "push"));
    let jobs = api.jobs(&repo, run.id).await?;
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].state, &*jobs[0].labels), (State::Waiting, &["nobody-has-this".to_owned()][..]));
    assert!(jobs[0].steps.is_empty() && jobs[0].runner_name.is_empty());
    assert!(api.tasks(&repo).await?.is_empty(), "nobody has it");
    let error = api.job_log(&repo, jobs[0].id).await.expect_err("no log yet");
    assert_eq!(error.status(), Some(404), "{error}");
    assert!(error.to_string().contains("job not started"), "the answer is shown: {error}");

    let session = gitea.log_in(gitea.admin()).await?;
    let page = session.page(&repo, run.id, Some(jobs[0].id), &[]).await?;
    assert_eq!((page.state, page.can_cancel, page.steps.len()), (State::Waiting, true, 0));
    session.cancel(&repo, run.id).await?;
    let run = api.wait_for_state(&repo, run.id, State::Cancelled, PATIENCE).await;
    let page = session.page(&repo, run.id, None, &[]).await?;
    assert_eq!(
        (page.state, page.can_cancel, page.jobs[0].state),
        (State::Cancelled, false, State::Cancelled)
    );

    // a second version of the file is one more run, and so is the first one again
    let changed = format!("{WAITS}#\n");
    let commit = api.commit(&repo, "again", &[File::text(".forgejo/workflows/ci.yml", &changed)]).await?;
    let second = api.wait_for_run_of(&repo, &commit.sha, "ci.yml").await;
    assert_eq!(api.runs(&repo).await?.iter().map(|run| run.id).collect::<Vec<_>>(), [second.id, run.id]);
    api.rerun(&repo, run.id).await?;
    api.wait_for_state(&repo, run.id, State::Waiting, PATIENCE).await;
    Ok(())
}

async fn dispatch(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, Visibility::Public).await?;
    let by_hand = "on:\n  workflow_dispatch:\n    inputs:\n      colour:\n        type: string\njobs:\n  a:\n    \
                   runs-on: nobody-has-this\n    steps:\n      - run: echo ${{ inputs.colour }}\n";
    let by_request = WAITS.replace("push", "pull_request");
    let files = [
        File::text(".forgejo/workflows/hand.yml", by_hand),
        File::text(".forgejo/workflows/push.yml", &by_request),
    ];
    api.commit(&repo, "two workflows", &files).await?;
    let inputs = BTreeMap::from([("colour", "green")]);
    let id = api.dispatch(&repo, "hand.yml", "main", &inputs).await?;
    let run = api.wait_for_state(&repo, id, State::Waiting, PATIENCE).await;
    assert_eq!(run.event, "workflow_dispatch");
    api.create_branch(&repo, "side", "main").await?;
    let id = api.dispatch(&repo, "hand.yml", "side", &inputs).await?;
    assert!(api.run(&repo, id).await?.path.ends_with("refs/heads/side"));
    let error = api.dispatch(&repo, "push.yml", "main", &inputs).await.expect_err("not by hand");
    assert!(error.status().is_some_and(|status| (400..500).contains(&status)), "{error}");
    Ok(())
}

async fn values(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, Visibility::Public).await?;
    let here = Scope::Repo(&repo);
    api.create_org("values").await?;
    for (scope, name) in [(here, "OF_REPO"), (Scope::Org("values"), "OF_ORG")] {
        api.set_secret(scope, name, &SecretString::from("the value")).await?;
        assert_eq!(api.secrets(scope).await?, [name]);
        api.create_variable(scope, name, "plain").await?;
        assert_eq!(api.variables(scope).await?, [Variable { name: name.into(), value: "plain".into() }]);
    }
    let error = api.set_secret(here, "GITHUB_X", &SecretString::from("v")).await.expect_err("a kept name");
    assert_eq!(error.status(), Some(400), "{error}");
    assert!(!format!("{error:?}").contains("the value"));
    Ok(())
}

async fn private(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let owner = gitea.api_of(&api.create_user("owner").await?);
    let other = gitea.api_of(&api.create_user("other").await?);
    let repo = repository(&owner, Visibility::Private).await?;
    assert_eq!(repo.owner, "owner");
    owner.commit(&repo, "a file", &[File::text("file", "mine")]).await?;
    assert_eq!(owner.read_file(&repo, "file").await?, b"mine");
    let error = other.read_file(&repo, "file").await.expect_err("not theirs");
    assert_eq!(error.status(), Some(404), "{error}");
    owner.create_org("owners").await?;
    let of_org = owner.create_repo_in("owners", "tool", Visibility::Public).await?;
    assert!(!other.read_file(&of_org, "README.md").await?.is_empty());
    owner.delete_repo(&repo).await?;
    let error = owner.runs(&repo).await.expect_err("it is gone");
    assert_eq!(error.status(), Some(404), "{error}");
    Ok(())
}

async fn wrong_password(gitea: &Gitea) -> gitea::Result<()> {
    let mut account = gitea.admin().clone();
    account.password = "not-the-password".into();
    let error = gitea.log_in(&account).await.expect_err("refused");
    assert!(matches!(error, gitea::Error::Login { .. }), "{error}");
    Ok(())
}

async fn played(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, Visibility::Public).await?;
    let token = api.registration_token(Scope::Repo(&repo)).await?;
    assert_ne!(api.registration_token(Scope::Instance).await?.expose_secret(), token.expose_secret());
    assert!(api.runners(Scope::Repo(&repo)).await?.is_empty());
    let player = Player::register(&api, &token).await;
    let runners = api.runners(Scope::Repo(&repo)).await?;
    assert_eq!((runners[0].name.as_str(), &*runners[0].labels), ("player", &["stage".to_owned()][..]));

    let workflow = WAITS.replace("nobody-has-this", "stage");
    let commit = api.commit(&repo, "play", &[File::text(".forgejo/workflows/play.yml", &workflow)]).await?;
    let run = api.wait_for_run_of(&repo, &commit.sha, "play.yml").await;
    let task = api.wait("a task", PATIENCE, async || Ok(player.fetch().await)).await;
    let rows = ["::first", "second row", "third: ü"];
    player.log(&task, &rows).await;
    player.state(&task, "RESULT_UNSPECIFIED", rows.len()).await;
    api.wait_for_state(&repo, run.id, State::Running, PATIENCE).await;
    player.state(&task, "RESULT_FAILURE", rows.len()).await;

    api.wait_for_state(&repo, run.id, State::Failure, PATIENCE).await;
    let tasks = api.tasks(&repo).await?;
    assert_eq!((tasks[0].id.to_string().as_str(), tasks[0].state), (task.as_str(), State::Failure));
    let jobs = api.jobs(&repo, run.id).await?;
    assert_eq!(jobs[0].runner_name, "player");
    assert_eq!(steps(&jobs[0]), [("Run make", State::Failure)]);
    let log = String::from_utf8(api.job_log(&repo, jobs[0].id).await?).expect("text");
    let texts: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    assert_eq!(texts, rows);

    let session = gitea.log_in(gitea.admin()).await?;
    let page = session.page(&repo, run.id, Some(jobs[0].id), &[Cursor { step: 1, row: 1 }]).await?;
    let names: Vec<&str> = page.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["Set up job", "Run make", "Complete job"]);
    assert_eq!(page.steps[1].state, State::Failure);
    let shown: Vec<&str> = page.logs[0].lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!((shown.as_slice(), page.logs[0].next), (&rows[1..], 3));

    api.delete_runner(Scope::Repo(&repo), runners[0].id).await?;
    assert!(api.runners(Scope::Repo(&repo)).await?.is_empty());
    Ok(())
}

/// Names and states.
pub(crate) fn steps(job: &Job) -> Vec<(&str, State)> {
    job.steps.iter().map(|step| (step.name.as_str(), step.state)).collect()
}

/// A runner in five calls.
struct Player {
    http: reqwest::Client,
    url: String,
    uuid: String,
    token: String,
}

impl Player {
    async fn register(api: &Api, token: &SecretString) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut player = Self { http, url: api.url().to_owned(), uuid: String::new(), token: String::new() };
        let wanted = json!({ "name": "player", "token": token.expose_secret(), "labels": ["stage"] });
        let runner = player.call("Register", &wanted).await["runner"].take();
        player.uuid = runner["uuid"].as_str().expect("a uuid").to_owned();
        player.token = runner["token"].as_str().expect("a token").to_owned();
        player.call("Declare", &json!({ "version": "v0", "labels": ["stage"] })).await;
        player
    }

    /// The id of its task, once there is one.
    async fn fetch(&self) -> Option<String> {
        let answer = self.call("FetchTask", &json!({ "tasksVersion": "0" })).await;
        answer["task"]["id"].as_str().map(str::to_owned)
    }

    async fn log(&self, task: &str, rows: &[&str]) {
        let row = |text: &&str| json!({ "time": "2026-01-02T03:04:05Z", "content": text });
        let rows: Vec<Value> = rows.iter().map(row).collect();
        self.call("UpdateLog", &json!({ "taskId": task, "index": "0", "rows": rows, "noMore": true })).await;
    }

    async fn state(&self, task: &str, result: &str, rows: usize) {
        let mut step = json!({
            "id": "0", "result": result, "startedAt": "2026-01-02T03:04:05Z",
            "logIndex": "0", "logLength": rows.to_string(),
        });
        let mut state = json!({ "id": task, "result": result, "startedAt": "2026-01-02T03:04:05Z" });
        if result != "RESULT_UNSPECIFIED" {
            step["stoppedAt"] = "2026-01-02T03:04:06Z".into();
            state["stoppedAt"] = "2026-01-02T03:04:06Z".into();
        }
        state["steps"] = json!([step]);
        self.call("UpdateTask", &json!({ "state": state })).await;
    }

    async fn call(&self, method: &str, message: &Value) -> Value {
        let url = format!("{}/api/actions/runner.v1.RunnerService/{method}", self.url);
        let request = self.http.post(url).header("content-type", "application/json");
        let request = request.header("x-runner-uuid", &self.uuid).header("x-runner-token", &self.token);
        let response = request.body(message.to_string()).send().await.expect("an answer");
        let status = response.status();
        let body = response.bytes().await.expect("a whole answer");
        assert!(status.is_success(), "{method}: {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }
}
