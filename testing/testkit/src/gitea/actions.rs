//! Runs, their jobs and logs, runners, secrets and variables.

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{Api, Job, JobId, Repo, Result, Run, RunId, Runner, RunnerId, State, Task, Variable, chain};

/// How long a test may wait for anything, on a machine that emulates VMs.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Entries of a list: more than a test makes.
const PAGE: &str = "limit=50";

/// Where a runner belongs to, and where secrets and variables are kept.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// The whole server; for administrators.
    Instance,
    /// An organisation.
    Org(&'a str),
    /// A repository.
    Repo(&'a Repo),
}

impl Scope<'_> {
    fn path(self) -> String {
        match self {
            Self::Instance => "admin/actions".to_owned(),
            Self::Org(name) => format!("orgs/{name}/actions"),
            Self::Repo(repo) => format!("repos/{repo}/actions"),
        }
    }
}

#[derive(Deserialize)]
struct Runs {
    workflow_runs: Vec<Run>,
}

impl Api {
    /// The token that a new runner of this scope registers with.
    ///
    /// # Errors
    /// When the account may not have it.
    pub async fn registration_token(&self, scope: Scope<'_>) -> Result<SecretString> {
        #[derive(Deserialize)]
        struct Token {
            token: SecretString,
        }
        let path = format!("{}/runners/registration-token", scope.path());
        let Token { token } = self.call(Method::POST, &path, None).await?.parse()?;
        Ok(token)
    }

    /// The runners of a scope.
    ///
    /// # Errors
    /// When the account may not see them.
    pub async fn runners(&self, scope: Scope<'_>) -> Result<Vec<Runner>> {
        #[derive(Deserialize)]
        struct Runners {
            #[serde(default)]
            runners: Option<Vec<Runner>>,
        }
        let list: Runners = self.get(&format!("{}/runners?{PAGE}", scope.path())).await?;
        Ok(list.runners.unwrap_or_default())
    }

    /// Removes a runner: its next call is unauthenticated.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_runner(&self, scope: Scope<'_>, runner: RunnerId) -> Result<()> {
        let path = format!("{}/runners/{runner}", scope.path());
        self.call(Method::DELETE, &path, None).await.map(drop)
    }

    /// Sets a secret.
    ///
    /// # Errors
    /// When the server refuses its name or value.
    pub async fn set_secret(&self, scope: Scope<'_>, name: &str, value: &SecretString) -> Result<()> {
        let path = format!("{}/secrets/{name}", scope.path());
        self.call(Method::PUT, &path, Some(&json!({ "data": value.expose_secret() }))).await.map(drop)
    }

    /// The names of the secrets; nobody reads their values back.
    ///
    /// # Errors
    /// When the account may not see them.
    pub async fn secrets(&self, scope: Scope<'_>) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Secret {
            name: String,
        }
        let list: Vec<Secret> = self.get(&format!("{}/secrets?{PAGE}", scope.path())).await?;
        Ok(list.into_iter().map(|secret| secret.name).collect())
    }

    /// Makes a variable.
    ///
    /// # Errors
    /// When there is one of that name, or the server refuses it.
    pub async fn create_variable(&self, scope: Scope<'_>, name: &str, value: &str) -> Result<()> {
        let path = format!("{}/variables/{name}", scope.path());
        self.call(Method::POST, &path, Some(&json!({ "value": value }))).await.map(drop)
    }

    /// The variables.
    ///
    /// # Errors
    /// When the account may not see them.
    pub async fn variables(&self, scope: Scope<'_>) -> Result<Vec<Variable>> {
        self.get(&format!("{}/variables?{PAGE}", scope.path())).await
    }

    /// Starts a workflow by hand, on a branch or tag; `workflow` is the file's name.
    ///
    /// # Errors
    /// When there is no such workflow, or it is not `on: workflow_dispatch`.
    pub async fn dispatch(
        &self,
        repo: &Repo,
        workflow: &str,
        on: &str,
        inputs: &BTreeMap<&str, &str>,
    ) -> Result<RunId> {
        #[derive(Deserialize)]
        struct Started {
            workflow_run_id: RunId,
        }
        let path = format!("repos/{repo}/actions/workflows/{workflow}/dispatches?return_run_details=true");
        let started: Started = self.post(&path, &json!({ "ref": on, "inputs": inputs })).await?;
        Ok(started.workflow_run_id)
    }

    /// The runs of a repository, the newest first.
    ///
    /// # Errors
    /// When the account may not see them.
    pub async fn runs(&self, repo: &Repo) -> Result<Vec<Run>> {
        let list: Runs = self.get(&format!("repos/{repo}/actions/runs?{PAGE}")).await?;
        Ok(list.workflow_runs)
    }

    /// A run.
    ///
    /// # Errors
    /// When there is none.
    pub async fn run(&self, repo: &Repo, run: RunId) -> Result<Run> {
        self.get(&format!("repos/{repo}/actions/runs/{run}")).await
    }

    /// The jobs of a run.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn jobs(&self, repo: &Repo, run: RunId) -> Result<Vec<Job>> {
        #[derive(Deserialize)]
        struct Jobs {
            jobs: Vec<Job>,
        }
        let list: Jobs = self.get(&format!("repos/{repo}/actions/runs/{run}/jobs?{PAGE}")).await?;
        Ok(list.jobs)
    }

    /// What runners of this repository's jobs have or had, the newest first.
    ///
    /// # Errors
    /// When the account may not see it.
    pub async fn tasks(&self, repo: &Repo) -> Result<Vec<Task>> {
        #[derive(Deserialize)]
        struct Tasks {
            workflow_runs: Option<Vec<Task>>,
        }
        let list: Tasks = self.get(&format!("repos/{repo}/actions/tasks?{PAGE}")).await?;
        Ok(list.workflow_runs.unwrap_or_default())
    }

    /// The whole log of a job: each row with its time before it.
    ///
    /// # Errors
    /// When no runner has had it yet.
    pub async fn job_log(&self, repo: &Repo, job: JobId) -> Result<Vec<u8>> {
        let path = format!("repos/{repo}/actions/jobs/{job}/logs");
        Ok(self.call(Method::GET, &path, None).await?.body)
    }

    /// Runs every job of a run that has ended again.
    ///
    /// # Errors
    /// When it has not.
    pub async fn rerun(&self, repo: &Repo, run: RunId) -> Result<()> {
        self.call(Method::POST, &format!("repos/{repo}/actions/runs/{run}/rerun"), None).await.map(drop)
    }

    /// Waits for the run that an event on a commit makes.
    ///
    /// # Panics
    /// When none comes.
    pub async fn wait_for_run_of(&self, repo: &Repo, sha: &str, workflow: &str) -> Run {
        let what = format!("a run of {workflow} in {repo} for {sha}");
        self.wait(&what, PATIENCE, async || {
            let runs = self.runs(repo).await?;
            Ok(runs.into_iter().find(|run| run.head_sha == sha && run.path.starts_with(workflow)))
        })
        .await
    }

    /// Waits until a run is in this state.
    ///
    /// # Panics
    /// When it ends in another, or does not get there in time: with its jobs and the end of the server's log.
    pub async fn wait_for_state(&self, repo: &Repo, run: RunId, state: State, patience: Duration) -> Run {
        let what = format!("run {run} of {repo} to be {state:?}");
        let run = self
            .wait(&what, patience, async || {
                let run = self.run(repo, run).await?;
                Ok((run.state == state || run.state.is_done()).then_some(run))
            })
            .await;
        if run.state != state {
            let jobs = self.jobs(repo, run.id).await;
            panic!("run {} of {repo} is {:?}, not {state:?}; its jobs: {jobs:#?}", run.id, run.state);
        }
        run
    }

    /// Looks again and again until there is something.
    ///
    /// # Panics
    /// When a look fails, or there is nothing in time: with the end of the server's log.
    pub async fn wait<T, F>(&self, what: &str, patience: Duration, mut look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let begun = Instant::now();
        loop {
            match look().await {
                Ok(Some(found)) => return found,
                Ok(None) if begun.elapsed() < patience => tokio::time::sleep(LOOK).await,
                Ok(None) => {
                    panic!("waited {} s for {what}; Gitea's log:\n{}", patience.as_secs(), self.log_tail())
                }
                Err(error) => {
                    panic!("waiting for {what}: {}; Gitea's log:\n{}", chain(&error), self.log_tail())
                }
            }
        }
    }
}
