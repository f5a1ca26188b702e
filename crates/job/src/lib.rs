//! A job: its steps, its files, its events; it knows no server.
//!
//! Purpose: [`run`] makes a VM for one job, runs its steps in it one after the other, and says everything
//! that happens as [`Event`]s.
//! Owner: `exec` and the runner call it, each with its own sinks; the job's VM lives as long as the call.
//!
//! Invariants
//! - The VM is destroyed before [`run`] returns; when its future is dropped the engine destroys it.
//! - Text leaves this crate only through [`Event`] (and [`JobOutcome`]), masked.
//! - Memory is bounded whatever the guest prints: a slow reader of events stops the guest.
//!
//! ```text
//!             set up            steps               always(), cancelled()
//!  JobStart ─────────▶ running ────────▶ outputs ──▶ VM destroyed ──▶ JobEnd
//!                │        │ cancel, time-out ▲
//!                │        └──▶ ending ───────┘        Now, guest gone: from anywhere to `VM destroyed`
//!                └── cancel ──▶ VM destroyed
//! ```

mod authorities;
mod cancel;
mod checkout;
mod drive;
mod effects;
mod environ;
mod error;
pub mod event;
mod failure;
mod files;
mod guest;
mod hash;
mod introduce;
mod log;
mod output;
mod packed;
mod problems;
mod reads;
mod refused;
mod resolve;
pub mod rows;
mod run;
pub mod sanitise;
mod scope;
mod spec;
mod steps;
mod tree;

pub use authorities::Authorities;
pub use cancel::{Cancel, Cancellation, Canceller, How, Reason};
pub use error::Error;
pub use event::{Event, EventKind, Outcome};
pub use failure::{FailedStep, Failures};
pub use packed::packed;
pub use spec::{JobContext, JobImage, JobOutcome, JobSpec, Machinery, RunnerFacts, Size, Stopped, Workspace};
pub use tree::{Archive, BadRepository, Repository, TreeError, Wanted, WorkingTree};

/// Runs a job in a VM of its own. Returns when nothing of that VM is left.
///
/// A reader of `events` that is slow stops the guest's output; one that is gone is not missed.
///
/// # Errors
/// When the job could not be run to its end; a job that fails is no error, nor is one that ends its VM. `JobEnd` is sent in any case.
pub async fn run(
    spec: JobSpec,
    context: JobContext,
    machine: Machinery<'_>,
    events: tokio::sync::mpsc::Sender<Event>,
    cancel: Cancel,
) -> Result<JobOutcome, Error> {
    run::run(spec, context, machine, events, cancel).await
}
