//! What happens to a call beside the rules.
//!
//! Purpose: the faults of networks and servers, at a chosen call; and the record of all calls.
//! Owner: the state; a test plans and reads.
//!
//! Invariants: at most one fault for a call: the one that was planned last.

use std::{ops::RangeInclusive, time::Duration};

use forgejo::{
    Code,
    messages::{ping, runner},
};

/// A call of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the protocol")]
pub enum Method {
    Ping,
    Register,
    Declare,
    FetchTask,
    FetchSingleTask,
    UpdateTask,
    UpdateLog,
    UpdateStepSummary,
}

impl Method {
    /// By the end of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/api/actions/")? {
            "ping.v1.PingService/Ping" => Self::Ping,
            "runner.v1.RunnerService/Register" => Self::Register,
            "runner.v1.RunnerService/Declare" => Self::Declare,
            "runner.v1.RunnerService/FetchTask" => Self::FetchTask,
            "runner.v1.RunnerService/FetchSingleTask" => Self::FetchSingleTask,
            "runner.v1.RunnerService/UpdateTask" => Self::UpdateTask,
            "runner.v1.RunnerService/UpdateLog" => Self::UpdateLog,
            "runner.v1.RunnerService/UpdateStepSummary" => Self::UpdateStepSummary,
            _ => return None,
        })
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names of the protocol")]
pub enum Request {
    Ping(ping::PingRequest),
    Register(runner::RegisterRequest),
    Declare(runner::DeclareRequest),
    FetchTask(runner::FetchTaskRequest),
    FetchSingleTask(runner::FetchSingleTaskRequest),
    UpdateTask(runner::UpdateTaskRequest),
    UpdateLog(runner::UpdateLogRequest),
    UpdateStepSummary(runner::UpdateStepSummaryRequest),
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is applied, and the connection drops before the answer.
    LoseAnswer,
    /// The connection drops, and it is not applied.
    LoseRequest,
    /// It is applied, and the connection drops in the middle of the answer's body.
    CutAnswer,
    /// It is not applied; the server refuses it with this code and the status that belongs to it.
    Refuse(Code),
    /// It is applied, and refused all the same.
    ApplyAndRefuse(Code),
    /// It is not applied, and this is the answer, as something before a forge would give it.
    Answer(Answer),
    /// It is applied, and the answer comes so much later.
    Delay(Duration),
    /// It arrives twice; the answer is that to the second.
    Twice,
}

/// An answer that is not the server's own.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which.
    pub method: Method,
    /// What it said; nothing if the body was not that of a request.
    pub request: Option<Request>,
    /// The uuid of the runner that made it.
    pub runner: Option<String>,
    /// Its key.
    pub request_key: Option<String>,
    /// The status that the server meant to answer with; nothing if it was not asked.
    pub status: Option<u16>,
}

/// What was planned and what there was.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    plans: Vec<(Method, RangeInclusive<usize>, Fault)>,
}

impl Record {
    pub(super) fn plan(&mut self, method: Method, calls: RangeInclusive<usize>, fault: Fault) {
        self.plans.push((method, calls, fault));
    }

    pub(super) fn forget_plans(&mut self) {
        self.plans.clear();
    }

    pub(super) fn count(&self, method: Method) -> usize {
        self.calls.iter().filter(|call| call.method == method).count()
    }

    /// Writes a call down; gives its place and what happens to it.
    pub(super) fn enter(&mut self, call: Call) -> (usize, Option<Fault>) {
        let method = call.method;
        self.calls.push(call);
        let number = self.count(method);
        let planned = self.plans.iter().rev().find(|(of, calls, _)| *of == method && calls.contains(&number));
        (self.calls.len() - 1, planned.map(|(_, _, fault)| fault.clone()))
    }

    pub(super) fn answered(&mut self, place: usize, status: u16) {
        if let Some(call) = self.calls.get_mut(place) {
            call.status = Some(status);
        }
    }
}

/// The status that Connect gives a code.
pub(super) fn status(code: Code) -> u16 {
    match code {
        Code::Canceled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}
