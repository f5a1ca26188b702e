//! Forgejo's answers.
//!
//! Purpose: each call as a change of the state and an answer, with no socket in sight.
//! Owner: the server, which holds the state in a lock and applies one call at a time.
//!
//! Invariants: what a call may not do it is refused before anything changes.

use std::collections::BTreeSet;

use forgejo::{
    Code, Credential, Lifetime, TaskId, TaskResult,
    messages::{ping, runner},
};
use prost::Message;

use super::{
    FirstTask, REGISTRATION_TOKEN, Settings, Summaries,
    faults::{self, Call, Fault, Method, Request},
    log::Append,
    task::{Record, TaskSpec, When, wire},
};

/// A runner on the server.
#[derive(Debug, Clone)]
pub(super) struct RunnerRecord {
    id: i64,
    uuid: String,
    token: String,
    name: String,
    version: String,
    labels: Vec<String>,
    lifetime: Lifetime,
}

impl RunnerRecord {
    pub(super) fn credential(&self) -> Credential {
        Credential { uuid: self.uuid.clone(), token: self.token.clone().into() }
    }

    fn wire(&self) -> runner::Runner {
        runner::Runner {
            id: self.id,
            uuid: self.uuid.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            labels: self.labels.clone(),
            ephemeral: self.lifetime == Lifetime::Ephemeral,
            ..runner::Runner::default()
        }
    }
}

/// A no of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) Code, pub(super) &'static str);

/// An internal error, with which Forgejo also answers what a runner may not do.
fn internal<T>(message: &'static str) -> Result<T, Refused> {
    Err(Refused(Code::Internal, message))
}

/// Who calls, by the headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    pub(super) uuid: Option<String>,
    pub(super) token: Option<String>,
    pub(super) request_key: Option<String>,
}

/// All that the server knows.
pub(super) struct State {
    settings: Settings,
    server_url: String,
    runners: Vec<RunnerRecord>,
    tasks: Vec<Record>,
    /// The version of the queue; it grows with every job that can be fetched.
    version: i64,
    redeliver: Vec<TaskId>,
    deleted: Vec<TaskId>,
    numbers: u64,
    record: faults::Record,
}

impl State {
    pub(super) fn new(settings: Settings, server_url: String) -> Self {
        Self {
            settings,
            server_url,
            runners: Vec::new(),
            tasks: Vec::new(),
            version: 1,
            redeliver: Vec::new(),
            deleted: Vec::new(),
            numbers: 0,
            record: faults::Record::default(),
        }
    }

    pub(super) fn record(&mut self) -> &mut faults::Record {
        &mut self.record
    }

    pub(super) fn calls(&self) -> &[Call] {
        &self.record.calls
    }

    pub(super) fn count(&self, method: Method) -> usize {
        self.record.count(method)
    }

    pub(super) fn plan(&mut self, method: Method, calls: std::ops::RangeInclusive<usize>, fault: Fault) {
        self.record.plan(method, calls, fault);
    }

    pub(super) fn forget_plans(&mut self) {
        self.record.forget_plans();
    }

    /// Forty digits that were never given before.
    fn token(&mut self) -> String {
        self.numbers += 1;
        format!("{:040x}", 0xa000_0000_0000_0000_0000_u128 + u128::from(self.numbers))
    }

    pub(super) fn add_runner(&mut self, name: &str, labels: Vec<String>, lifetime: Lifetime) -> RunnerRecord {
        let token = self.token();
        let record = RunnerRecord {
            id: i64::try_from(self.numbers).unwrap_or(i64::MAX),
            uuid: format!("00000000-0000-4000-8000-{:012x}", self.numbers),
            token,
            name: name.to_owned(),
            version: String::new(),
            labels,
            lifetime,
        };
        self.runners.push(record.clone());
        record
    }

    pub(super) fn knows(&self, uuid: &str) -> bool {
        self.runners.iter().any(|runner| runner.uuid == uuid)
    }

    pub(super) fn add(&mut self, spec: TaskSpec) -> TaskId {
        let number = i64::try_from(self.tasks.len()).unwrap_or(i64::MAX).saturating_add(1);
        let id = TaskId::new(number).expect("a positive number");
        self.tasks.push(Record::new(id, spec));
        self.version += 1;
        id
    }

    /// A task that the test added.
    pub(super) fn task(&self, id: TaskId) -> &Record {
        self.tasks.iter().find(|task| task.id == id).expect("a task of this forge")
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Record {
        self.tasks.iter_mut().find(|task| task.id == id).expect("a task of this forge")
    }

    pub(super) fn stop(&mut self, id: TaskId, result: TaskResult) {
        let task = self.task_mut(id);
        let was_final = task.is_final();
        task.stop(result);
        if let (false, Some(runner)) = (was_final, task.runner) {
            self.forget_ephemeral(runner);
        }
    }

    pub(super) fn archive(&mut self, id: TaskId) {
        self.task_mut(id).log.archive();
    }

    /// The record stays for the test to read.
    pub(super) fn delete(&mut self, id: TaskId) {
        self.deleted.push(id);
    }

    pub(super) fn redeliver(&mut self, id: TaskId) {
        self.redeliver.push(id);
    }

    fn forget_ephemeral(&mut self, runner: i64) {
        self.runners.retain(|known| known.id != runner || known.lifetime == Lifetime::Persistent);
    }

    /// Applies a call; gives the bytes of its answer.
    pub(super) fn apply(&mut self, request: &Request, caller: &Caller) -> Result<Vec<u8>, Refused> {
        match request {
            Request::Ping(request) => {
                let data = format!("Hello, {}!", request.data);
                return Ok(ping::PingResponse { data }.encode_to_vec());
            }
            Request::Register(request) => return self.register(request),
            _ => {}
        }
        let runner = self.authenticate(caller)?;
        let key = caller.request_key.as_deref();
        match request {
            Request::Ping(_) | Request::Register(_) => internal("answered above"),
            Request::Declare(request) => self.declare(&runner, request),
            Request::FetchTask(request) => self.fetch(&runner, key, request),
            Request::FetchSingleTask(request) => self.fetch_single(&runner, key, request),
            Request::UpdateTask(request) => self.update_task(&runner, request),
            Request::UpdateLog(request) => self.update_log(&runner, request),
            Request::UpdateStepSummary(request) => self.update_summary(&runner, request),
        }
    }

    fn authenticate(&self, caller: &Caller) -> Result<RunnerRecord, Refused> {
        self.runners
            .iter()
            .find(|runner| caller.uuid.as_ref() == Some(&runner.uuid))
            .filter(|runner| caller.token.as_ref() == Some(&runner.token))
            .cloned()
            .ok_or(Refused(Code::Unauthenticated, "unregistered runner"))
    }

    fn register(&mut self, request: &runner::RegisterRequest) -> Result<Vec<u8>, Refused> {
        if request.token.is_empty() || request.name.is_empty() {
            return Err(Refused(Code::InvalidArgument, "missing runner token, name"));
        }
        if request.token != REGISTRATION_TOKEN {
            return Err(Refused(Code::InvalidArgument, "runner registration token not found"));
        }
        let lifetime = if request.ephemeral { Lifetime::Ephemeral } else { Lifetime::Persistent };
        let record = self.add_runner(&request.name, request.labels.clone(), lifetime);
        // the only answer that has the token: the server keeps a hash of it
        let runner =
            runner::Runner { token: record.token.clone(), version: request.version.clone(), ..record.wire() };
        Ok(runner::RegisterResponse { runner: Some(runner) }.encode_to_vec())
    }

    fn declare(&mut self, me: &RunnerRecord, request: &runner::DeclareRequest) -> Result<Vec<u8>, Refused> {
        let Some(record) = self.runners.iter_mut().find(|runner| runner.id == me.id) else {
            return internal("update runner");
        };
        record.version.clone_from(&request.version);
        record.labels.clone_from(&request.labels);
        Ok(runner::DeclareResponse { runner: Some(record.wire()) }.encode_to_vec())
    }

    fn fetch(
        &mut self,
        me: &RunnerRecord,
        key: Option<&str>,
        request: &runner::FetchTaskRequest,
    ) -> Result<Vec<u8>, Refused> {
        let mut tasks = self.recover(me, key);
        let mut tasks_version = 0;
        if tasks.is_empty() {
            tasks_version = self.version;
            let changed = request.tasks_version != tasks_version;
            // one is handed out whatever the capacity is
            let wanted = usize::try_from(request.task_capacity()).unwrap_or_default().max(1);
            while changed && tasks.len() < wanted {
                let Some(task) = self.pick(me, key, None) else { break };
                tasks.push(task);
            }
        }
        for id in self.take_redeliveries(me) {
            let task = self.deliver(id);
            tasks.push(task);
        }
        let mut tasks = tasks.into_iter();
        let task = match self.settings.first_task {
            FirstTask::InTask => tasks.next(),
            FirstTask::InAdditional => None,
        };
        Ok(runner::FetchTaskResponse { task, tasks_version, additional_tasks: tasks.collect() }
            .encode_to_vec())
    }

    fn fetch_single(
        &mut self,
        me: &RunnerRecord,
        key: Option<&str>,
        request: &runner::FetchSingleTaskRequest,
    ) -> Result<Vec<u8>, Refused> {
        let mut recovered = self.recover(me, key);
        if recovered.len() > 1 {
            return internal("cannot recover more than one task because the runner requested only one");
        }
        if let Some(task) = recovered.pop() {
            return Ok(runner::FetchSingleTaskResponse { tasks_version: 0, task: Some(task) }.encode_to_vec());
        }
        let handle = request.handle.as_deref().filter(|handle| !handle.is_empty());
        let changed = request.tasks_version != self.version;
        let task = if changed { self.pick(me, key, handle) } else { None };
        Ok(runner::FetchSingleTaskResponse { tasks_version: self.version, task }.encode_to_vec())
    }

    /// What this runner got for this key before, whatever became of it; each with a new token.
    fn recover(&mut self, me: &RunnerRecord, key: Option<&str>) -> Vec<runner::Task> {
        let of_key = |task: &&Record| task.runner == Some(me.id) && task.request_key.as_deref() == key;
        let ids: Vec<TaskId> = match key {
            Some(_) => self.tasks.iter().filter(of_key).map(|task| task.id).collect(),
            None => Vec::new(),
        };
        ids.into_iter().map(|id| self.deliver(id)).collect()
    }

    fn pick(&mut self, me: &RunnerRecord, key: Option<&str>, handle: Option<&str>) -> Option<runner::Task> {
        if me.lifetime == Lifetime::Ephemeral && self.tasks.iter().any(|task| task.runner == Some(me.id)) {
            return None;
        }
        let labels: BTreeSet<&str> = me.labels.iter().map(String::as_str).collect();
        let task = self.tasks.iter_mut().find(|task| task.suits(&labels, handle))?;
        task.runner = Some(me.id);
        task.request_key = key.map(str::to_owned);
        let id = task.id;
        Some(self.deliver(id))
    }

    fn take_redeliveries(&mut self, me: &RunnerRecord) -> Vec<TaskId> {
        let (mine, others): (Vec<_>, Vec<_>) = self
            .redeliver
            .drain(..)
            .collect::<Vec<_>>()
            .into_iter()
            .partition(|id| self.tasks.iter().any(|task| task.id == *id && task.runner == Some(me.id)));
        self.redeliver = others;
        mine
    }

    fn deliver(&mut self, id: TaskId) -> runner::Task {
        let token = self.token();
        let url = format!("{}/", self.server_url);
        self.task_mut(id).deliver(token, &url)
    }

    /// A task that this runner has; one of another runner is no other error than one that is not there.
    fn own(&mut self, me: &RunnerRecord, id: i64) -> Result<&mut Record, Refused> {
        let deleted = &self.deleted;
        let here =
            |task: &&mut Record| task.id.get() == id && task.runner.is_some() && !deleted.contains(&task.id);
        match self.tasks.iter_mut().find(here) {
            Some(task) if task.runner == Some(me.id) => Ok(task),
            Some(_) => internal("invalid runner for task"),
            None => internal("resource does not exist"),
        }
    }

    fn update_task(
        &mut self,
        me: &RunnerRecord,
        request: &runner::UpdateTaskRequest,
    ) -> Result<Vec<u8>, Refused> {
        let Some(state) = &request.state else { return internal("no state") };
        let task = self.own(me, state.id)?;
        let when = if task.is_final() { When::Late } else { When::InTime };
        task.report(state);
        task.take_outputs(&request.outputs, when);
        let kept = runner::TaskState {
            id: state.id,
            result: wire(task.result).into(),
            ..runner::TaskState::default()
        };
        let sent_outputs = task.sent_outputs();
        if state.result() != runner::Result::Unspecified {
            self.forget_ephemeral(me.id);
        }
        Ok(runner::UpdateTaskResponse { state: Some(kept), sent_outputs }.encode_to_vec())
    }

    fn update_log(
        &mut self,
        me: &RunnerRecord,
        request: &runner::UpdateLogRequest,
    ) -> Result<Vec<u8>, Refused> {
        let log = &mut self.own(me, request.task_id)?.log;
        match log.append(request.index, &request.rows, request.no_more) {
            Append::Acknowledged(ack_index) => Ok(runner::UpdateLogResponse { ack_index }.encode_to_vec()),
            Append::Archived => Err(Refused(Code::AlreadyExists, "log file has been archived")),
        }
    }

    fn update_summary(
        &mut self,
        me: &RunnerRecord,
        request: &runner::UpdateStepSummaryRequest,
    ) -> Result<Vec<u8>, Refused> {
        if self.settings.summaries == Summaries::Unimplemented {
            return Err(Refused(Code::Unimplemented, "UpdateStepSummary is not implemented"));
        }
        let task = self.own(me, request.task_id)?;
        for summary in &request.summaries {
            task.summaries.insert(summary.step_number, summary.content.clone());
        }
        Ok(runner::UpdateStepSummaryResponse {}.encode_to_vec())
    }
}
