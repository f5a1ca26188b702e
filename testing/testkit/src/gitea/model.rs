//! What a Gitea tells of repositories, runs and jobs.
//!
//! Purpose: the few fields that tests look at, with names for states instead of the two spellings that Gitea's
//! API and its web page have for them.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// Someone who can log in.
#[derive(Clone)]
pub struct Account {
    /// The log-in name.
    pub name: String,
    /// The password of the log-in form.
    pub password: SecretString,
    /// A token for everything that the account may do.
    pub token: SecretString,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who sees a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody who reaches the server.
    Public,
    /// Its owner and whoever was let in.
    Private,
}

/// A repository's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repo {
    /// User or organisation.
    pub owner: String,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A file of a commit.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// From the repository's root.
    pub path: &'a str,
    /// The whole content.
    pub content: &'a [u8],
}

impl<'a> File<'a> {
    /// One of text.
    #[must_use]
    pub fn text(path: &'a str, content: &'a str) -> Self {
        Self { path, content: content.as_bytes() }
    }
}

/// A commit that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Commit {
    /// Its id.
    pub sha: String,
}

/// A run's id on its server; not its number in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct RunId(pub i64);

/// A job's id on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct JobId(pub i64);

/// A runner's id on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct RunnerId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a run, a job or a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not said yet.
    Unknown,
    /// For a runner.
    Waiting,
    /// By other jobs.
    Blocked,
    /// Being run.
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failure,
    /// Ended by somebody.
    Cancelled,
    /// Never begun, and it never will be.
    Skipped,
}

impl State {
    /// Is this one final?
    #[must_use]
    pub fn is_done(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled | Self::Skipped)
    }

    /// The API says GitHub's words: `queued` waits for a runner, `waiting` for other jobs.
    fn of_api(status: &str, conclusion: &str) -> Option<Self> {
        Some(match (status, conclusion) {
            ("queued", _) => Self::Waiting,
            ("waiting", _) => Self::Blocked,
            ("in_progress", _) => Self::Running,
            ("completed", "success") => Self::Success,
            ("completed", "failure") => Self::Failure,
            ("completed", "cancelled") => Self::Cancelled,
            ("completed", "skipped") => Self::Skipped,
            ("completed", "") => Self::Unknown,
            _ => return None,
        })
    }
}

/// `status` and `conclusion`, which are one thing.
fn api_state<'de, D: Deserializer<'de>>(from: D) -> Result<State, D::Error> {
    #[derive(Deserialize)]
    struct Said {
        status: String,
        #[serde(default)]
        conclusion: String,
    }
    let Said { status, conclusion } = Said::deserialize(from)?;
    State::of_api(&status, &conclusion)
        .ok_or_else(|| serde::de::Error::custom(format!("no state is {status:?} with {conclusion:?}")))
}

/// A run of a workflow.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its number in the repository, as the page shows it.
    #[serde(rename = "run_number")]
    pub number: i64,
    /// What started it.
    pub event: String,
    /// Its title.
    #[serde(rename = "display_title")]
    pub title: String,
    /// The workflow's file and ref: `ci.yml@refs/heads/main`.
    pub path: String,
    /// The commit.
    pub head_sha: String,
    /// The page of it.
    pub html_url: String,
    /// How far it is.
    #[serde(flatten, deserialize_with = "api_state")]
    pub state: State,
}

/// A job of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The run.
    #[serde(rename = "run_id")]
    pub run: RunId,
    /// Its name, with the cell of a matrix.
    pub name: String,
    /// What it runs on.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: Vec<String>,
    /// Who has it; empty for nobody.
    #[serde(default)]
    pub runner_name: String,
    /// Its steps, once a runner has it, with "Set up job" and "Complete job".
    #[serde(default, deserialize_with = "null_is_empty")]
    pub steps: Vec<Step>,
    /// How far it is.
    #[serde(flatten, deserialize_with = "api_state")]
    pub state: State,
}

/// A step of a job.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// How far it is.
    #[serde(flatten, deserialize_with = "api_state")]
    pub state: State,
}

/// An entry of the list of tasks: a job that a runner has or had.
#[derive(Clone, Debug, Deserialize)]
pub struct Task {
    /// Its id: the one that the runner's protocol knows.
    pub id: i64,
    /// The job's name.
    pub name: String,
    /// How far it is.
    #[serde(rename = "status")]
    pub state: State,
}

/// A registered runner.
#[derive(Clone, Debug, Deserialize)]
pub struct Runner {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: String,
    /// `online` or `offline`.
    pub status: String,
    /// Does it run a job?
    pub busy: bool,
    /// Does it get one job only?
    pub ephemeral: bool,
    /// What it offers.
    #[serde(deserialize_with = "label_names")]
    pub labels: Vec<String>,
}

/// A variable of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Variable {
    /// Its name, in capitals.
    pub name: String,
    /// Its value.
    #[serde(rename = "data")]
    pub value: String,
}

/// Which rows of a step the web page should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The step's index on the page: 0 is "Set up job".
    pub step: usize,
    /// The first row that is wanted.
    pub row: i64,
}

/// What the web page of a run is made of.
#[derive(Clone, Debug)]
pub struct Page {
    /// How far the run is.
    pub state: State,
    /// May the one who looks cancel it?
    pub can_cancel: bool,
    /// All its jobs.
    pub jobs: Vec<PageJob>,
    /// The steps of the job that is looked at.
    pub steps: Vec<PageStep>,
    /// The rows that were asked for.
    pub logs: Vec<StepLog>,
}

/// A job on the page of its run.
#[derive(Clone, Debug, Deserialize)]
pub struct PageJob {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// How far it is.
    #[serde(rename = "status")]
    pub state: State,
}

/// A step on the page of its run.
#[derive(Clone, Debug, Deserialize)]
pub struct PageStep {
    /// What the page calls it.
    #[serde(rename = "summary")]
    pub name: String,
    /// How far it is.
    #[serde(rename = "status")]
    pub state: State,
}

/// Rows of a step.
#[derive(Clone, Debug, Deserialize)]
pub struct StepLog {
    /// The step's index on the page.
    pub step: usize,
    /// The row after the last one here.
    #[serde(rename = "cursor")]
    pub next: i64,
    /// The rows.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub lines: Vec<Line>,
}

/// A row.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Its number in the step, from 1.
    pub index: i64,
    /// Its text.
    #[serde(rename = "message")]
    pub text: String,
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let PageForm { state, logs } = PageForm::deserialize(from)?;
        Ok(Self {
            state: state.run.status,
            can_cancel: state.run.can_cancel,
            jobs: state.run.jobs,
            steps: state.job.steps,
            logs: logs.steps,
        })
    }
}

#[derive(Deserialize)]
struct PageForm {
    state: PageState,
    logs: PageLogs,
}

#[derive(Deserialize)]
struct PageState {
    run: PageRun,
    #[serde(rename = "currentJob")]
    job: PageSteps,
}

#[derive(Deserialize)]
struct PageRun {
    status: State,
    #[serde(rename = "canCancel")]
    can_cancel: bool,
    jobs: Vec<PageJob>,
}

#[derive(Deserialize)]
struct PageSteps {
    #[serde(default, deserialize_with = "null_is_empty")]
    steps: Vec<PageStep>,
}

#[derive(Deserialize)]
struct PageLogs {
    #[serde(default, rename = "stepsLog", deserialize_with = "null_is_empty")]
    steps: Vec<StepLog>,
}

/// Gitea writes an empty list as `null` in places.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn label_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    struct Label {
        name: String,
    }
    Ok(null_is_empty::<D, Label>(from)?.into_iter().map(|label| label.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_as_the_api_writes_it() {
        let text = r#"{"id":7,"run_id":3,"name":"a","labels":["debian"],"status":"completed","conclusion":"failure",
            "runner_name":"r","steps":[{"name":"Set up job","number":0,"status":"completed","conclusion":"success"},
            {"name":"x","number":1,"status":"waiting"}]}"#;
        let job: Job = serde_json::from_str(text).expect("a job");
        assert_eq!((job.id, job.run, job.state), (JobId(7), RunId(3), State::Failure));
        assert_eq!(
            job.steps.iter().map(|step| step.state).collect::<Vec<_>>(),
            [State::Success, State::Blocked]
        );
        let text = text.replace("completed", "lost");
        assert!(serde_json::from_str::<Job>(&text).is_err(), "an unknown state is no silence");
    }

    #[test]
    fn a_page_is_read_as_the_web_route_writes_it() {
        let text = r#"{"state":{"run":{"status":"running","canCancel":true,"jobs":[{"id":7,"name":"a","status":"blocked"}]},
            "currentJob":{"steps":null}},"logs":{"stepsLog":[{"step":1,"cursor":2,"lines":[{"index":1,"message":"m",
            "timestamp":1.5}]}]}}"#;
        let page: Page = serde_json::from_str(text).expect("a page");
        assert_eq!((page.state, page.jobs[0].state, page.steps.len()), (State::Running, State::Blocked, 0));
        assert_eq!(page.logs[0].lines[0].text, "m");
    }

    #[test]
    fn an_account_shows_no_secret() {
        let account = Account { name: "me".into(), password: "pass-1".into(), token: "token-2".into() };
        let shown = format!("{account:?}");
        assert!(shown.contains("me") && !shown.contains("pass-1") && !shown.contains("token-2"), "{shown}");
    }
}
