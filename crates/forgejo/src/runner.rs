//! A forge as a registered runner sees it.
//!
//! Purpose: the calls of a runner's life: declare, fetch, report.
//! Owner: the runner's loops; a [`Runner`] is cheap to clone and shares its connections.
//!
//! Invariants: each call carries the credential; nothing of it is in a Debug output.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    Error, Instance, Lifetime, Result, Task, TaskId, TaskResult, TaskState,
    client::RUNNER,
    connect::{Connect, Headers, Limit},
    convert,
    messages::runner,
};

/// What a runner proves itself with.
#[derive(Clone)]
pub struct Credential {
    /// Which runner it is.
    pub uuid: String,
    /// That it is the one.
    pub token: SecretString,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// What a forge knows of a runner that declared itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// For how many tasks it is.
    pub lifetime: Lifetime,
}

/// What a runner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetch {
    /// The version that the last answer named; 0 at first and after work was received.
    pub tasks_version: i64,
    /// How many tasks it takes. A forge gives one even for 0.
    pub capacity: Option<u32>,
    /// Makes the call one that can be made again: the forge gives the same tasks for the same key.
    pub request_key: Option<Uuid>,
}

/// What a runner got.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The tasks; often none.
    pub tasks: Vec<Task>,
    /// The version to send with the next call.
    pub tasks_version: i64,
}

/// What a forge has of a task after a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// Its end there: cancelled or failed, for one, while the runner still works.
    pub result: TaskResult,
    /// The names of the outputs that it has.
    pub sent_outputs: Vec<String>,
}

/// One row of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// When it was written.
    pub time: Timestamp,
    /// The text, without an end of line; a forge cuts it at 64 KiB.
    pub content: String,
}

/// Whether a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// It does.
    More,
    /// It ends with these rows. Forgejo ignores this where there is no new row.
    NoMore,
}

/// A forge as a registered runner sees it.
#[derive(Clone)]
pub struct Runner {
    connect: Connect,
    credential: Credential,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("instance", self.connect.instance())
            .field("uuid", &self.credential.uuid)
            .finish_non_exhaustive()
    }
}

impl Runner {
    pub(crate) fn new(connect: Connect, credential: Credential) -> Self {
        Self { connect, credential }
    }

    /// Where the forge is.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        self.connect.instance()
    }

    /// Says which labels (without their schemes) this runner has now.
    pub async fn declare(&self, version: &str, labels: &[String]) -> Result<Declared> {
        let request = runner::DeclareRequest { version: version.to_owned(), labels: labels.to_vec() };
        convert::declared(self.call("Declare", &request, None, Limit::SMALL).await?)
    }

    /// Asks for work. The forge answers at once, also when there is none.
    pub async fn fetch_task(&self, fetch: &Fetch) -> Result<Fetched> {
        let request = runner::FetchTaskRequest {
            tasks_version: fetch.tasks_version,
            task_capacity: fetch.capacity.map(i64::from),
        };
        convert::fetched(self.call("FetchTask", &request, fetch.request_key, Limit::TASKS).await?)
    }

    /// Asks for one task: the one with this handle, or any.
    pub async fn fetch_single_task(
        &self,
        tasks_version: i64,
        handle: Option<&str>,
        request_key: Option<Uuid>,
    ) -> Result<Fetched> {
        let request = runner::FetchSingleTaskRequest { tasks_version, handle: handle.map(str::to_owned) };
        convert::fetched_single(self.call("FetchSingleTask", &request, request_key, Limit::TASKS).await?)
    }

    /// Reports a task's state, and outputs that the forge has not acknowledged.
    pub async fn update_task(
        &self,
        state: &TaskState,
        outputs: &BTreeMap<String, String>,
    ) -> Result<Updated> {
        let request =
            runner::UpdateTaskRequest { state: Some(convert::task_state(state)), outputs: outputs.clone() };
        convert::updated(self.call("UpdateTask", &request, None, Limit::SMALL).await?)
    }

    /// Appends rows to a task's log from this row on; gives the number of the row that the forge wants next.
    pub async fn update_log(&self, task: TaskId, index: i64, rows: &[LogRow], more: More) -> Result<i64> {
        let request = runner::UpdateLogRequest {
            task_id: task.get(),
            index,
            rows: rows.iter().map(convert::log_row).collect(),
            no_more: more == More::NoMore,
        };
        convert::acknowledged(self.call("UpdateLog", &request, None, Limit::SMALL).await?)
    }

    /// Stores the whole summary of each of these steps. An older forge says `unimplemented`.
    pub async fn update_step_summary(&self, task: TaskId, summaries: &[(i64, String)]) -> Result<()> {
        let summaries = summaries.iter().map(|(step_number, content)| runner::StepSummary {
            step_number: *step_number,
            content: content.clone(),
        });
        let request =
            runner::UpdateStepSummaryRequest { task_id: task.get(), summaries: summaries.collect() };
        let runner::UpdateStepSummaryResponse {} =
            self.call("UpdateStepSummary", &request, None, Limit::SMALL).await?;
        Ok(())
    }

    async fn call<A: crate::measure::Measured>(
        &self,
        method: &'static str,
        request: &impl prost::Message,
        request_key: Option<Uuid>,
        limit: Limit,
    ) -> Result<A, Error> {
        let headers = Headers::of(&self.credential, request_key)?;
        self.connect.call(RUNNER, method, &headers, request, limit).await
    }
}
