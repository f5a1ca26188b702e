//! Snapshots: the root images of the host.
//!
//! A VM of ours boots from one, and nothing of its memory is in it: the sizes of memory are 0, and there are no
//! chains. `root_bytes` is ours.

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{Snapshot, Tag, failure::Failure, server::Shared};

pub(crate) async fn list(State(shared): State<Shared>) -> Result<Json<Vec<Value>>, Failure> {
    let snapshots = shared.images.list().await?;
    let value = |snapshot: &Snapshot| {
        json!({
            "tag": snapshot.tag.as_str(),
            "dir": snapshot.dir,
            "created_at_unix": snapshot.created.as_second(),
            "status": "ready",
            "bootable": true,
        })
    };
    Ok(Json(snapshots.iter().map(value).collect()))
}

pub(crate) async fn info(
    State(shared): State<Shared>,
    Path(tag): Path<String>,
) -> Result<Json<Value>, Failure> {
    let snapshot = find(&shared, tag.parse()?).await?;
    Ok(Json(json!({
        "tag": snapshot.tag.as_str(),
        "dir": snapshot.dir,
        "created_at_unix": snapshot.created.as_second(),
        "memory_logical_bytes": 0,
        "memory_physical_bytes": 0,
        "vmstate_bytes": 0,
        "chain_depth": 0,
        "dependents": [],
        "ancestors": [],
        "root_bytes": snapshot.root_bytes,
    })))
}

/// Deletes an image: its sandboxes with it (`cascade`), or its name under them (`force`); neither, and it is
/// refused as long as it is needed.
pub(crate) async fn delete(
    State(shared): State<Shared>,
    Path(tag): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Failure> {
    let query = query.unwrap_or_default();
    let (cascade, force) = (is_set(&query, "cascade"), is_set(&query, "force"));
    if cascade && force {
        return Err(Failure::CascadeAndForce);
    }
    let tag: Tag = tag.parse()?;
    let snapshot = find(&shared, tag.clone()).await?;
    if let Some(by) = snapshot.needed_by.filter(|_| !force) {
        return Err(Failure::Needed { tag, by: by.to_owned(), hint: "" });
    }
    let running = shared.sandboxes.of(&tag);
    if cascade {
        let names: Vec<String> = running.iter().map(ToString::to_string).collect();
        for end in join_all(names.iter().map(|id| shared.sandboxes.delete(id))).await {
            match end {
                // it ended by itself meanwhile
                Ok(()) | Err(Failure::SandboxGone { .. } | Failure::NoSandbox) => {}
                Err(failure) => return Err(failure),
            }
        }
    } else if !running.is_empty() && !force {
        let by = format!("{} sandboxes", running.len());
        return Err(Failure::Needed { tag, by, hint: ", `?cascade` deletes them too" });
    }
    if shared.images.remove(tag.clone()).await? {
        tracing::info!(%tag, "a snapshot was deleted");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::NoSnapshot(tag))
    }
}

async fn find(shared: &Shared, tag: Tag) -> Result<Snapshot, Failure> {
    let snapshots = shared.images.list().await?;
    snapshots.into_iter().find(|snapshot| snapshot.tag == tag).ok_or(Failure::NoSnapshot(tag))
}

/// Whether a flag stands in a query: alone, or with any value but `false` and `0`.
fn is_set(query: &str, flag: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        name == flag && value != "false" && value != "0"
    })
}

#[cfg(test)]
mod tests {
    use super::is_set;

    #[test]
    fn a_flag_may_stand_alone() {
        for set in ["force", "force=true", "force=1", "a=b&force", "force="] {
            assert!(is_set(set, "force"), "{set}");
        }
        for unset in ["", "force=false", "force=0", "forced", "cascade=force"] {
            assert!(!is_set(unset, "force"), "{unset}");
        }
    }
}
