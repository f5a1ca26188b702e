//! Sandboxes that stay, forked of a template or of one that runs.
//!
//! Invariants: all are made or none, also where a signal comes; an id is printed when its sandbox is left to the
//! engine, never before; a sandbox whose id could not be printed is ended.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sandbox::{Bind, Engine, ForkSpec, Inherited, Kept, Lease, LeaseSpec, PoolLimits};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use vm::{OwnerLoss, SlotId};

use super::{MARK, Stop, find, millis, print, runtime, with_sandbox};
use crate::{
    class::End,
    cli::kept_args::{BranchArgs, CreateArgs},
    exec::{
        machine::{self, MachineError, Make, Use},
        warn,
    },
    limits,
    network::{self, Router},
    registry::Registry,
    sandbox_cmd::{SandboxCmdError, name, say, spec},
    sink::Look,
    state_dir,
};

/// When the first sandbox is not there after this time, why is told.
const SLOW: Duration = Duration::from_secs(2);

pub(super) fn run(args: &CreateArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    registry.needs(&args.machine.backend).map_err(MachineError::from)?;
    network::check_forwards(&args.forwards)?;
    let until = until(args.ttl)?;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    limits::raise_files();
    let look = Look::of(&io::stderr());
    let runtime = runtime()?;
    let made = runtime.block_on(async {
        // before anything is made that would have to be removed
        let stop = Stop::listen()?;
        let asked = args.network.network.as_ref();
        let make = Make { pool: PoolLimits::NONE, from: Use::Warm, router: Router::of(asked) };
        let opened = machine::open_image(&args.machine, &args.size.image, registry, &state_dir, make, look);
        let mut machine = tokio::select! {
            machine = opened => machine?,
            () = stop.cancel.cancelled() => return Err(SandboxCmdError::Cancelled),
        };
        args.network.settle(&mut machine, look)?;
        if !machine.missing.is_empty() {
            let missing = machine.missing.join(", ");
            warn(look, &format!("this host cannot give every part of the jail: {missing}"));
        }
        let spec = LeaseSpec {
            on_owner_loss: OwnerLoss::Keep { until },
            mark: Some(MARK.to_owned()),
            ..spec(&args.size, args.disk, &args.forwards, &machine)
        };
        let lease = async |cancel: &CancellationToken| machine.engine.lease(spec.clone(), cancel).await;
        let made = async {
            let ids = all(args.count, &machine.engine, &stop.cancel, look, &lease).await?;
            let names: Vec<_> = ids.iter().copied().map(name).collect();
            let text = if args.json { format!("{}\n", json!(names)) } else { lines(&names) };
            tell(&text, ids, &machine.engine, look).await
        };
        let made = made.await;
        machine.engine.close().await;
        made
    });
    runtime.shutdown_background();
    made
}

pub(super) fn branch(args: &BranchArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    let until = until(args.ttl)?;
    limits::raise_files();
    with_sandbox(&args.id, &args.machine, &args.state, registry, async |engine, sandbox, look| {
        let stop = Stop::listen()?;
        let branch = tokio::select! {
            branch = sandbox.branch() => branch.map_err(SandboxCmdError::Branch)?,
            () = stop.cancel.cancelled() => return Err(SandboxCmdError::Cancelled),
        };
        let began = Instant::now();
        let inherited = if args.kill_running { Inherited::Kill } else { Inherited::GoOn };
        // what the sandbox reaches: nothing by its card where that has gone with its engine
        let Kept { network, limits, forwards, .. } = find(Some(engine), &name(sandbox.id())).await?;
        let bind = Bind { network, limits, forwards, ..controller::guest::bind() };
        let fork = ForkSpec { bind, on_owner_loss: OwnerLoss::Keep { until }, inherited };
        let lease =
            async |cancel: &CancellationToken| engine.lease_branch(&branch, fork.clone(), cancel).await;
        let ids = all(args.count, engine, &stop.cancel, look, &lease).await?;
        let (times, forked) = (branch.times(), began.elapsed());
        let names: Vec<_> = ids.iter().copied().map(name).collect();
        let text = if args.json {
            let value = json!({
                "source": name(sandbox.id()),
                "ids": names,
                "pause_ms": millis(times.pause),
                "frozen_ms": millis(times.frozen),
                "branch_ms": millis(times.total),
                "total_ms": millis(times.total + forked),
            });
            format!("{value}\n")
        } else {
            lines(&names)
        };
        tell(&text, ids, engine, look).await
    })
}

/// Prints what tells the ids; where that cannot be, nobody could end these sandboxes, and they are ended.
async fn tell(text: &str, ids: Vec<SlotId>, engine: &Engine, look: Look) -> Result<End, SandboxCmdError> {
    let told = print(text);
    if told.is_err() {
        end(ids, engine, look).await;
    }
    told
}

async fn end(ids: Vec<SlotId>, engine: &Engine, look: Look) {
    for id in ids {
        if let Err(error) = engine.end(id).await {
            warn(look, &format!("{} could not be ended: {error}", name(id)));
        }
    }
}

fn lines(ids: &[String]) -> String {
    ids.iter().map(|id| format!("{id}\n")).collect()
}

fn until(ttl: Duration) -> Result<SystemTime, SandboxCmdError> {
    SystemTime::now().checked_add(ttl).ok_or(SandboxCmdError::TooLong)
}

/// So many sandboxes, left to the engine, or none; their ids.
async fn all(
    count: u16,
    engine: &Engine,
    stop: &CancellationToken,
    look: Look,
    lease: &impl AsyncFn(&CancellationToken) -> sandbox::Result<Lease>,
) -> Result<Vec<SlotId>, SandboxCmdError> {
    let leases = tokio::select! {
        biased;
        leases = leases(count, stop, look, lease) => leases?,
        () = hints(engine, look) => return Err(SandboxCmdError::Cancelled),
    };
    let mut ids = Vec::with_capacity(leases.len());
    let mut left = Ok(());
    for lease in leases {
        let id = lease.sandbox().id();
        // the first that cannot be left ends it for all
        match left {
            Ok(()) => left = lease.leave().await.map(|()| ids.push(id)),
            Err(_) => destroy(lease, look).await,
        }
    }
    let Err(source) = left else { return Ok(ids) };
    let index = u16::try_from(ids.len()).unwrap_or(u16::MAX);
    end(ids, engine, look).await;
    Err(SandboxCmdError::Fork { index, count, source })
}

async fn leases(
    count: u16,
    stop: &CancellationToken,
    look: Look,
    lease: &impl AsyncFn(&CancellationToken) -> sandbox::Result<Lease>,
) -> Result<Vec<Lease>, SandboxCmdError> {
    // also cancelled by the first that cannot be made
    let cancel = stop.child_token();
    let mut under_way: FuturesUnordered<_> = (0..count)
        .map(|index| {
            let lease = lease(&cancel);
            async move { (index, lease.await) }
        })
        .collect();
    let mut made = Vec::with_capacity(usize::from(count));
    let mut failed = None;
    while let Some((index, outcome)) = under_way.next().await {
        match outcome {
            Ok(lease) => made.push((index, lease)),
            Err(sandbox::Error::Cancelled) => {
                failed.get_or_insert(SandboxCmdError::Cancelled);
            }
            Err(source) => {
                // those after it are cancelled for the first
                failed.get_or_insert(SandboxCmdError::Fork { index, count, source });
                cancel.cancel();
            }
        }
    }
    // it may come when the last is ready
    if failed.is_none() && stop.is_cancelled() {
        failed = Some(SandboxCmdError::Cancelled);
    }
    made.sort_by_key(|(index, _)| *index);
    let made = made.into_iter().map(|(_, lease)| lease);
    let Some(failed) = failed else { return Ok(made.collect()) };
    for lease in made {
        destroy(lease, look).await;
    }
    Err(failed)
}

async fn destroy(lease: Lease, look: Look) {
    let id = lease.sandbox().id();
    if let Err(error) = lease.destroy().await {
        warn(look, &format!("something of {} is left, for the next start: {error}", name(id)));
    }
}

/// Says why it takes its time, for ever.
async fn hints(engine: &Engine, look: Look) {
    let slow = tokio::time::sleep(SLOW);
    tokio::pin!(slow);
    let mut hinted = false;
    let mut waiting = engine.waiting();
    loop {
        tokio::select! {
            () = &mut slow, if !hinted => {
                hinted = true;
                say(look, "the first sandbox of a kind takes some seconds: its snapshot is made");
            }
            Ok(()) = waiting.changed() => {
                if let Some(reason) = waiting.borrow_and_update().clone() {
                    say(look, &format!("waiting for room on this host: {reason}"));
                }
            }
        }
    }
}
