//! Health, version and metrics.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use serde_json::{Value, json};

use crate::{failure::Failure, server::Shared};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"ok": true}))
}

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": VERSION, "api": "v1"}))
}

/// The text form of Prometheus, with forkd's names. There are no branches, and none are allowed at a time.
pub(crate) async fn metrics(State(shared): State<Shared>) -> Result<impl IntoResponse, Failure> {
    let snapshots = shared.images.list().await?.len();
    let sandboxes = shared.sandboxes.count();
    let mut text = String::new();
    for (name, help, value) in [
        ("forkd_snapshots_total", "Snapshots that sandboxes can be made of.", snapshots),
        ("forkd_sandboxes_active", "Sandboxes that are there.", sandboxes),
        ("forkd_branches_in_flight", "Branches that are being made.", 0),
        ("forkd_branch_concurrency_cap", "Most branches that are made at a time.", 0),
    ] {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
    }
    text.push_str(&format!(
        "# HELP forkd_build_info The version, as a label.\n# TYPE forkd_build_info gauge\n\
         forkd_build_info{{version=\"{VERSION}\"}} 1\n"
    ));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
