//! What the system allows this process, raised as far as it may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a process with as many sandboxes and connections as there may be.
const MAX_FILES: u64 = 16 << 10;

/// Each sandbox takes six descriptors and each connection one: what many systems allow at first is too few.
pub(crate) fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(MAX_FILES, |maximum| maximum.min(MAX_FILES));
    if limit.current.is_some_and(|current| current < most) {
        // if it is refused, then there are fewer
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
        if let Err(error) = raised {
            tracing::debug!(%error, "the limit of open files stays");
        }
    }
}
