//! Sandboxes: spawn, list, look, run, delete.
//!
//! Of a spawn's further fields `per_child_netns` holds in any case (no VM shares a network: none has one), and
//! `prewarm`, `live_fork` and `hugepages` are about branches, which are not there yet: they change nothing.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use sandbox::{LeaseSpec, Stdin};
use serde::Deserialize;
use serde_json::{Value, json};
use vm::{Mebibytes, OwnerLoss};

use crate::{
    Config, Tag,
    command::{self, Command},
    failure::Failure,
    guest, python,
    sandboxes::{SandboxInfo, Wanted},
    server::Shared,
};

/// Most sandboxes of one spawn.
const MAX_COUNT: u64 = 1000;
/// Time-out of a command whose request names none.
const TIMEOUT: u64 = 30;
/// Longest time-out of a command.
const MAX_TIMEOUT: u64 = 24 * 3600;

/// The body of a spawn.
#[derive(Debug, Deserialize)]
pub(crate) struct Spawn {
    snapshot_tag: String,
    #[serde(default = "one")]
    n: u64,
    memory_limit_mib: Option<u64>,
    /// Ours.
    ttl_secs: Option<u64>,
}

/// The body of an exec. Arguments may hold secrets, so it cannot be printed.
#[derive(Deserialize)]
pub(crate) struct Exec {
    args: Vec<String>,
    #[serde(default = "timeout")]
    timeout_secs: u64,
}

/// The body of an eval. Code may hold secrets, so it cannot be printed.
#[derive(Deserialize)]
pub(crate) struct Eval {
    code: String,
    /// Ours.
    #[serde(default = "timeout")]
    timeout_secs: u64,
}

fn one() -> u64 {
    1
}

fn timeout() -> u64 {
    TIMEOUT
}

pub(crate) async fn spawn(
    State(shared): State<Shared>,
    Json(body): Json<Spawn>,
) -> Result<(StatusCode, Json<Vec<SandboxInfo>>), Failure> {
    if !(1..=MAX_COUNT).contains(&body.n) {
        return Err(Failure::Count(body.n));
    }
    let memory = memory(&shared.config, body.memory_limit_mib)?;
    let ttl = match body.ttl_secs {
        None => shared.config.ttl,
        Some(given) => Duration::from_secs(within("ttl_secs", given, 1, shared.config.max_ttl.as_secs())?),
    };
    let tag: Tag = body.snapshot_tag.parse()?;
    let boots = shared.images.boots(tag.clone()).await?.ok_or_else(|| Failure::NoSnapshot(tag.clone()))?;
    let size = shared.config.size;
    let (on_owner_loss, mark) = match &shared.config.keeping {
        Some(keeping) => (OwnerLoss::Keep { until: SystemTime::now() + ttl }, Some(keeping.mark.clone())),
        None => (OwnerLoss::Kill, None),
    };
    let spec = LeaseSpec {
        kernel: boots.kernel,
        initramfs: boots.initramfs,
        root: boots.root,
        cpus: size.cpus,
        memory,
        scratch_bytes: size.scratch_bytes,
        bind: guest::bind(),
        on_owner_loss,
        mark,
        start: sandbox::Start::Fork,
        when_full: sandbox::WhenFull::Refuse,
    };
    let made = shared.sandboxes.spawn(Wanted { tag, n: body.n, spec, ttl }).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

fn memory(config: &Config, given: Option<u64>) -> Result<Mebibytes, Failure> {
    let Some(given) = given else { return Ok(config.size.memory) };
    let (least, most) = (config.size.min_memory.0, config.size.max_memory.0);
    let memory = within("memory_limit_mib", given, least.into(), most.into())?;
    Ok(Mebibytes(u32::try_from(memory).unwrap_or(most)))
}

fn within(what: &'static str, given: u64, least: u64, most: u64) -> Result<u64, Failure> {
    if (least..=most).contains(&given) { Ok(given) } else { Err(Failure::Range { what, given, least, most }) }
}

pub(crate) async fn list(State(shared): State<Shared>) -> Json<Vec<SandboxInfo>> {
    Json(shared.sandboxes.list())
}

pub(crate) async fn info(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<SandboxInfo>, Failure> {
    shared.sandboxes.info(&id).map(Json)
}

pub(crate) async fn delete(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    shared.sandboxes.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn exec(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(body): Json<Exec>,
) -> Result<Json<command::Answer>, Failure> {
    let sandbox = shared.sandboxes.get(&id)?;
    command::check(&body.args)?;
    let timeout = Duration::from_secs(within("timeout_secs", body.timeout_secs, 1, MAX_TIMEOUT)?);
    let command = Command { args: body.args, stdin: Stdin::Null, timeout };
    command::run(&sandbox, command).await.map(Json)
}

pub(crate) async fn eval(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(body): Json<Eval>,
) -> Result<Json<python::Answer>, Failure> {
    let sandbox = shared.sandboxes.get(&id)?;
    let timeout = Duration::from_secs(within("timeout_secs", body.timeout_secs, 1, MAX_TIMEOUT)?);
    python::eval(&sandbox, body.code, timeout).await.map(Json)
}

pub(crate) async fn ping(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let sandbox = shared.sandboxes.get(&id)?;
    let took = sandbox.ping().await?;
    let info = sandbox.info();
    Ok(Json(json!({
        "pong": true,
        "pid": 1,
        "agent": info.agent,
        "kernel": info.kernel,
        "round_trip_us": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    })))
}
