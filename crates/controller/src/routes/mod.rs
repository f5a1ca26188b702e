//! The routes, in forkd's exact forms.
//!
//! Errors of ours are `{"error": …}`; errors of the framework (a body that is no JSON, that lacks a field, that is
//! too long) are plain text, as forkd's are.

mod missing;
mod sandboxes;
mod snapshots;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};

use crate::{access, server::Shared};

/// Most bytes of a request's body.
const MAX_BODY: usize = 2 << 20;

pub(crate) fn router(shared: Shared) -> Router {
    let config = Arc::clone(&shared.config);
    let access = middleware::from_fn_with_state(config, access::check);
    Router::new()
        .route("/version", get(status::version))
        .route("/metrics", get(status::metrics))
        .route("/v1/snapshots", get(snapshots::list).post(missing::create_snapshot))
        .route("/v1/snapshots/{tag}", axum::routing::delete(snapshots::delete))
        .route("/v1/snapshots/{tag}/info", get(snapshots::info))
        .route("/v1/snapshots/{tag}/compact", post(missing::compact))
        .route("/v1/sandboxes", get(sandboxes::list).post(sandboxes::spawn))
        .route("/v1/sandboxes/{id}", get(sandboxes::info).delete(sandboxes::delete))
        .route("/v1/sandboxes/{id}/exec", post(sandboxes::exec))
        .route("/v1/sandboxes/{id}/eval", post(sandboxes::eval))
        .route("/v1/sandboxes/{id}/ping", post(sandboxes::ping))
        .route("/v1/sandboxes/{id}/branch", post(missing::branch))
        .route("/v1/workspaces", get(missing::workspaces).post(missing::workspaces))
        .route("/v1/workspaces/{name}", get(missing::workspaces).delete(missing::workspaces))
        .route("/v1/workspaces/{name}/suspend", post(missing::workspaces))
        .route("/v1/workspaces/{name}/resume", post(missing::workspaces))
        .route_layer(access)
        .route("/healthz", get(status::healthz))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}
