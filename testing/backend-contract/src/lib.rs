//! What every backend must do, as one suite.
//!
//! Purpose: the contract of `vm` in a form that can fail. Owner: a test harness, which says how its backend
//! is made ([`Subject`]) and runs [`trials`]; the fake backend and every real one run the same list.
//!
//! A harness is also a process that owns a VM and is killed: its `main` calls [`dispatch`] before its tests.
//! Nothing here measures time; limits only end a test that hangs.

mod client;
mod forks;
mod keep;
mod lifecycle;
mod stage;
mod talk;

use std::{
    any::Any,
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
};

use libtest_mimic::Trial;
use vm::{Backend, BootSpec, Ids};
use wire::message::Root;

/// A backend under test, and what it boots.
#[derive(Clone)]
pub struct Subject {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// What to boot: agent included, its root and scratch disk fresh for each call. Whatever it makes goes
    /// into the directory.
    pub spec: fn(&Path) -> BootSpec,
    /// What the agent is told about its root.
    pub root: Root,
    /// The identity of its VMs, where the harness may give one.
    pub ids: Option<Ids>,
    /// A program that is in the guest and does what `sh` does.
    pub shell: PathBuf,
    /// Makes a tap that leads nowhere.
    pub tap: MakeTap,
}

/// A tap, and what it needs to be one.
pub struct Tap {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    /// Dropped when no machine has it any more.
    pub needs: Box<dyn Any>,
}

/// How a harness makes a tap. Runs in a tokio runtime.
pub type MakeTap = fn() -> Pin<Box<dyn Future<Output = Tap>>>;

/// How a harness makes its backend: in each process, and for each test anew. Runs in a tokio runtime.
pub type Make = fn() -> Pin<Box<dyn Future<Output = Subject>>>;

/// The first argument of a harness that is to own a VM until it is killed.
const OWNER: &str = "contract-owner";

/// Becomes the owner of a VM where this process was started as one. `subjects` are all backends that the
/// harness tests, by the names it gives to [`trials`].
#[must_use]
pub fn dispatch(subjects: &[(&str, Make)]) -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != OWNER {
        return None;
    }
    let name = args.next()?;
    let (_, make) = subjects.iter().find(|(subject, _)| name == *subject)?;
    let rest: Vec<OsString> = args.collect();
    Some(stage::own_until_killed(*make, &rest))
}

/// The suite for one backend, each test under `name::`.
#[must_use]
pub fn trials(name: &'static str, make: Make) -> Vec<Trial> {
    let all = lifecycle::tests().into_iter().chain(keep::tests()).chain(talk::tests()).chain(forks::tests());
    all.map(|(test, run)| {
        Trial::test(format!("{name}::contract::{test}"), move || {
            stage::run(name, make, run);
            Ok(())
        })
    })
    .collect()
}
