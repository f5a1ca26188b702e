//! The client of Forgejo's runner protocol.
//!
//! Purpose: every call that a runner makes to a forge (Forgejo, or Gitea, which speaks an older form), as a
//! method with types that say what may stand there. It knows no job and keeps no state: what to fetch, what to
//! send again and what an answer means for a task is the runner's.
//! Owner: the caller owns a [`Client`] or a [`Runner`]; both are cheap to clone and share their connections.
//!
//! Invariants
//! - This crate alone knows the HTTP client and the encoding. The messages of the wire ([`messages`]) are public
//!   for the test server's sake.
//! - An answer is foreign input: its size, the number of its fields and its depth are capped before it is
//!   decoded ([`Error::TooLarge`], [`Error::TooMany`]), every number is checked, and no answer panics.
//! - A credential goes to the instance that it belongs to and nowhere else: redirects are not followed. No Debug
//!   output and no error has one in it.
//! - One call is one request. Nothing is sent a second time behind the caller's back, unless no byte of it was
//!   sent the first time.

mod client;
mod connect;
mod convert;
mod error;
pub mod fuzz_targets;
mod instance;
mod measure;
pub mod messages;
mod runner;
mod task;

pub use client::{Certificates, Client, Lifetime, Options, Registered, Registration};
pub use error::{Code, Error, Result};
pub use instance::Instance;
pub use runner::{Credential, Declared, Fetch, Fetched, LogRow, More, Runner, Updated};
pub use task::{Need, StepState, Task, TaskId, TaskResult, TaskState};
