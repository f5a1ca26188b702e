//! The runner: it takes jobs from a forge, runs each in a VM, and reports.
//!
//! Purpose: the official runner's part for a Forgejo (or Gitea) instance, on the engine.
//! Owner: the commands `register`, `daemon`, `one-job` and `config check`.
//!
//! ```text
//!  server ◀──fetch── daemon ──Task──▶ task (payload, contexts) ──▶ job::run in a VM
//!     ▲                                                                 │ job::Event
//!     └──────── rows, states, outputs ── report ◀───────────────────────┘
//! ```
//! Invariants
//! - A task that was received is run once and reported to its end, or the server is told why not.
//! - The runner's own credential is in no job's context, environment, file or log.
//! - What a server sends is foreign input: it makes a job, or an error in that job's log.

mod backoff;
pub mod config;
mod daemon;
mod error;
mod label;
mod one_job;
pub mod registration;
mod repo;
mod report;
mod run;
mod task;
mod ways;

pub use config::{Config, ConfigError};
pub use daemon::daemon;
pub use error::Error;
pub use label::{BadLabel, Label, Scheme, parse_all};
pub use one_job::{OneJob, Wait, one_job};
pub use registration::{Registration, RegistrationError};
pub use report::ReportError;
pub use run::{Machines, Runner, Stop, check_authorities, register};
