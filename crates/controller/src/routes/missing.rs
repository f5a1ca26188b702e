//! What forkd's API has and this one lacks: 501 and why, for whoever may ask.

use crate::failure::Failure;

const SNAPSHOTS: &str = "the engine forks its own templates and does not save by name";

pub(crate) async fn create_snapshot() -> Failure {
    Failure::Missing {
        what: "making a snapshot",
        why: "every root image of the host is one; `ampoule image build` makes images",
    }
}

pub(crate) async fn compact() -> Failure {
    Failure::Missing { what: "compacting a snapshot", why: SNAPSHOTS }
}

pub(crate) async fn branch() -> Failure {
    Failure::Missing { what: "branching a sandbox", why: SNAPSHOTS }
}

pub(crate) async fn workspaces() -> Failure {
    Failure::Missing { what: "a workspace", why: SNAPSHOTS }
}
