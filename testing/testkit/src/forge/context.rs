//! The context of a task as Forgejo fills it.
//!
//! Purpose: every key that was seen on the wire, with the types that it has there.
//! Owner: a delivery; each has tokens of its own.
//!
//! Invariants: numbers of runs are strings, `ref_protected` is a boolean, `server_url` ends in a slash.

use prost_types::{ListValue, Struct, value::Kind};
use serde_json::{Map, Value, json};

/// The context of one delivery.
pub(super) fn fill(token: &str, run: i64, server_url: &str, overrides: &Map<String, Value>) -> Struct {
    let mut context = json!({
        "actor": "octocat",
        "actor_id": "1",
        "api_url": format!("{server_url}api/v1"),
        "event": { "ref": "refs/heads/main", "repository": { "full_name": "octocat/hello" } },
        "event_name": "push",
        "forgejo_server_version": "16.0.0",
        "gitea_default_actions_url": "https://data.forgejo.org",
        "gitea_runtime_token": format!("runtime.{token}.sig"),
        "job": "job",
        "ref": "refs/heads/main",
        "ref_name": "main",
        "ref_protected": false,
        "ref_type": "branch",
        "repository": "octocat/hello",
        "repositoryUrl": format!("{server_url}octocat/hello.git"),
        "repository_id": "1",
        "repository_owner": "octocat",
        "repository_owner_id": "1",
        "run_attempt": "1",
        "run_id": run.to_string(),
        "run_number": run.to_string(),
        "secret_source": "Actions",
        "server_url": server_url,
        "sha": "0123456789012345678901234567890123456789",
        "token": token,
        "workflow": "ci.yml",
        "workflow_ref": "octocat/hello/.forgejo/workflows/ci.yml@refs/heads/main",
    });
    for name in [
        "action",
        "action_path",
        "action_ref",
        "action_repository",
        "action_status",
        "base_ref",
        "env",
        "event_path",
        "graphql_url",
        "head_ref",
        "job_name",
        "path",
        "retention_days",
        "runner_perflog",
        "runner_tracking_id",
        "triggering_actor",
        "workspace",
    ] {
        context[name] = Value::from("");
    }
    for (name, value) in overrides {
        context[name] = value.clone();
    }
    match context {
        Value::Object(fields) => structure(&fields),
        _ => Struct::default(),
    }
}

fn structure(fields: &Map<String, Value>) -> Struct {
    Struct { fields: fields.iter().map(|(name, value)| (name.clone(), wire(value))).collect() }
}

fn wire(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(is) => Kind::BoolValue(*is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(wire).collect() }),
        Value::Object(fields) => Kind::StructValue(structure(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}
