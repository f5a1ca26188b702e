//! Between the messages of the wire and the types of ours.
//!
//! Purpose: the only place where a message of a forge becomes something that a runner acts on.
//! Owner: the calls.
//!
//! Invariants: pure, and total: what cannot be right is [`Error::Malformed`]; a word of a newer forge that is
//! not known here reads as unspecified.

use jiff::Timestamp;
use prost_types::{Struct, value::Kind};
use secrecy::SecretString;
use serde_json::{Map, Number, Value};

use crate::{
    Declared, Error, Fetched, Lifetime, LogRow, Need, Result, StepState, Task, TaskId, TaskResult, TaskState,
    Updated, messages::runner,
};

/// The whole numbers that a double holds exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(crate) fn declared(answer: runner::DeclareResponse) -> Result<Declared> {
    let runner = answer.runner.ok_or(Error::Malformed { part: "runner" })?;
    let lifetime = if runner.ephemeral { Lifetime::Ephemeral } else { Lifetime::Persistent };
    Ok(Declared { name: runner.name, labels: runner.labels, lifetime })
}

pub(crate) fn fetched(answer: runner::FetchTaskResponse) -> Result<Fetched> {
    let tasks = answer.task.into_iter().chain(answer.additional_tasks);
    Ok(Fetched { tasks: tasks.map(task).collect::<Result<_>>()?, tasks_version: answer.tasks_version })
}

pub(crate) fn fetched_single(answer: runner::FetchSingleTaskResponse) -> Result<Fetched> {
    let tasks = answer.task.into_iter().map(task).collect::<Result<_>>()?;
    Ok(Fetched { tasks, tasks_version: answer.tasks_version })
}

pub(crate) fn updated(answer: runner::UpdateTaskResponse) -> Result<Updated> {
    let state = answer.state.ok_or(Error::Malformed { part: "state of the task" })?;
    Ok(Updated { result: result(state.result()), sent_outputs: answer.sent_outputs })
}

pub(crate) fn acknowledged(answer: runner::UpdateLogResponse) -> Result<i64> {
    if answer.ack_index < 0 {
        return Err(Error::Malformed { part: "number of rows" });
    }
    Ok(answer.ack_index)
}

fn task(task: runner::Task) -> Result<Task> {
    let id = TaskId::new(task.id).ok_or(Error::Malformed { part: "number of the task" })?;
    let needs = task.needs.into_iter().map(|(job, need)| {
        let result = result(need.result());
        (job, Need { outputs: need.outputs, result })
    });
    Ok(Task {
        id,
        payload: task.workflow_payload.unwrap_or_default(),
        context: task.context.map(object).unwrap_or_default(),
        secrets: task.secrets.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect(),
        needs: needs.collect(),
        vars: task.vars,
    })
}

fn object(fields: Struct) -> Map<String, Value> {
    fields.fields.into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// The depth was checked before the message was decoded.
fn value(field: prost_types::Value) -> Value {
    match field.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(is)) => Value::Bool(is),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
    }
}

/// A whole number reads as one: the number of a run is `7` and not `7.0`. What JSON has no number for is null.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number in the range of an i64")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn result(result: runner::Result) -> TaskResult {
    match result {
        runner::Result::Unspecified => TaskResult::Unspecified,
        runner::Result::Success => TaskResult::Success,
        runner::Result::Failure => TaskResult::Failure,
        runner::Result::Cancelled => TaskResult::Cancelled,
        runner::Result::Skipped => TaskResult::Skipped,
    }
}

fn wire_result(result: TaskResult) -> i32 {
    let result = match result {
        TaskResult::Unspecified => runner::Result::Unspecified,
        TaskResult::Success => runner::Result::Success,
        TaskResult::Failure => runner::Result::Failure,
        TaskResult::Cancelled => runner::Result::Cancelled,
        TaskResult::Skipped => runner::Result::Skipped,
    };
    result.into()
}

pub(crate) fn task_state(state: &TaskState) -> runner::TaskState {
    runner::TaskState {
        id: state.id.get(),
        result: wire_result(state.result),
        started_at: state.started_at.map(time),
        stopped_at: state.stopped_at.map(time),
        steps: state.steps.iter().map(step_state).collect(),
    }
}

fn step_state(step: &StepState) -> runner::StepState {
    runner::StepState {
        id: step.id,
        result: wire_result(step.result),
        started_at: step.started_at.map(time),
        stopped_at: step.stopped_at.map(time),
        log_index: step.log_index,
        log_length: step.log_length,
    }
}

pub(crate) fn log_row(row: &LogRow) -> runner::LogRow {
    runner::LogRow { time: Some(time(row.time)), content: row.content.clone() }
}

/// On the wire the part below a second counts forwards, also before 1970.
fn time(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (from, to) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (-1.0, "-1"),
            (1.5, "1.5"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(number(from).to_string(), to);
        }
    }

    #[test]
    fn times_count_forwards() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-01-02T03:04:05.000000006Z", 1_767_323_045, 6),
            ("1969-12-31T23:59:59.25Z", -1, 250_000_000),
        ] {
            let wire = time(text.parse().unwrap());
            assert_eq!((wire.seconds, wire.nanos), (seconds, nanos), "{text}");
        }
    }

    #[test]
    fn results_are_the_same_both_ways() {
        for wire in 0..5 {
            let wire = runner::Result::try_from(wire).unwrap();
            assert_eq!(wire_result(result(wire)), i32::from(wire));
        }
        let newer = runner::TaskState { result: 77, ..runner::TaskState::default() };
        assert_eq!(result(newer.result()), TaskResult::Unspecified);
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let nameless = runner::FetchTaskResponse {
            additional_tasks: vec![runner::Task::default()],
            ..runner::FetchTaskResponse::default()
        };
        assert!(matches!(fetched(nameless), Err(Error::Malformed { .. })));
        assert!(matches!(updated(runner::UpdateTaskResponse::default()), Err(Error::Malformed { .. })));
        assert!(matches!(declared(runner::DeclareResponse::default()), Err(Error::Malformed { .. })));
        assert!(matches!(
            acknowledged(runner::UpdateLogResponse { ack_index: -1 }),
            Err(Error::Malformed { .. })
        ));
    }

    #[test]
    fn additional_tasks_come_also_without_a_first_one() {
        let answer = runner::FetchTaskResponse {
            tasks_version: 3,
            additional_tasks: vec![runner::Task { id: 4, ..runner::Task::default() }],
            task: None,
        };
        let fetched = fetched(answer).unwrap();
        assert_eq!((fetched.tasks.len(), fetched.tasks[0].id.get(), fetched.tasks_version), (1, 4, 3));
    }
}
