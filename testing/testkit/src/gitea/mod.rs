//! A real Gitea for tests: built from its Go module, started on a loopback port, asked by a typed client.
//!
//! Purpose: the runner's protocol is Forgejo's and Gitea's alike, and a real server is the only judge of it.
//! Owner: a test binary. [`shared`] and [`shared_tls`] start one each for all its tests at the first call; its `main` ends
//! with [`stop`].
//! [`Gitea::start`] makes one that belongs to whoever holds it.
//!
//! Invariants
//! - It listens on loopback only, runs as no root, and has everything in one directory of its own.
//! - It ends with its owner, also with one that is killed; what a killed owner left on disk the next start
//!   removes.
//! - Waiting is for something to be seen, up to a deadline; a wait that fails shows the end of the server's log.

mod actions;
mod api;
mod error;
mod files;
mod ini;
mod keeper;
mod model;
mod program;
mod repos;
mod server;
mod user;
mod web;

use std::sync::{Arc, Mutex, PoisonError};

pub use actions::{PATIENCE, Scope};
pub use api::Api;
pub use error::{Error, Result};
pub use model::{
    Account, Commit, Cursor, File, Job, JobId, Line, Page, PageJob, PageStep, Repo, Run, RunId, Runner,
    RunnerId, State, Step, StepLog, Task, Variable, Visibility,
};
pub use program::{Program, version};
pub use server::Gitea;
pub use web::Session;

/// A server that all tests of this process share, or why there is none: one start that failed is enough.
type Shared = Mutex<Option<std::result::Result<Arc<Gitea>, String>>>;

static SHARED: Shared = Mutex::new(None);
static SHARED_TLS: Shared = Mutex::new(None);

/// What the shared server of TLS calls itself.
pub const TLS_NAME: &str = "forge.ampoule.test";
/// And at which port.
pub const TLS_PORT: u16 = 8443;

/// The Gitea of this test binary, started at the first call.
///
/// # Panics
/// When it cannot be built or started: no test that wants one can pass.
#[must_use]
pub fn shared() -> Arc<Gitea> {
    started(&SHARED, Gitea::start)
}

/// Another one, which serves TLS and calls itself `https://`[`TLS_NAME`]`:`[`TLS_PORT`], wherever it is.
///
/// # Panics
/// As [`shared`].
#[must_use]
pub fn shared_tls() -> Arc<Gitea> {
    started(&SHARED_TLS, || Gitea::start_tls(TLS_NAME, TLS_PORT))
}

fn started(shared: &Shared, start: impl FnOnce() -> Result<Gitea>) -> Arc<Gitea> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let started = shared.get_or_insert_with(|| start().map(Arc::new).map_err(|error| chain(&error)));
    let started = started.clone();
    // the panic is this test's, and not a poisoned lock for the next
    drop(shared);
    started.unwrap_or_else(|why| panic!("no Gitea: {why}"))
}

/// How the tests of a binary went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tests {
    /// All well: nothing is kept.
    Passed,
    /// Somebody will want to know what the server saw.
    Failed,
}

/// Ends the shared servers that were started; after a failure their whole logs are kept, and named. Statics are never
/// dropped: a test binary's `main` calls this.
pub fn stop(tests: Tests) {
    for shared in [&SHARED, &SHARED_TLS] {
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Ok(gitea)) = shared
            && tests == Tests::Failed
        {
            match gitea.keep_log() {
                Ok(kept) => program::say(&format!("gitea: its log is kept in {}", kept.display())),
                Err(error) => program::say(&format!("gitea: its log is lost: {}", chain(&error))),
            }
        }
    }
}

/// An error with its sources, as a panic shows it.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
