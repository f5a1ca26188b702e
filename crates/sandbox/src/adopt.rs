//! Keeping a VM for the next owner, and becoming that.
//!
//! ```text
//!   ready ──▶ kept.json written ──▶ shim told ──▶ handed out     owner gone, or it left
//!   locks of slot and user id ──▶ shim ──▶ link, Hello in a new epoch, Thaw, Ping ──▶ ready ◀──┘
//! ```
//! Owner: the owner task of the VM. Invariant: after an adoption that fails the VM is as it was, unless it was found to
//! be of no use: then nothing of it is left.

use std::sync::Arc;

use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use vm::{Machine, Slot, SlotId};

use crate::{
    Error, LeaseSpec, Result,
    boot::{Boot, Disks, From},
    clock::Clock,
    kept,
    local::Inner,
    owner::{Up, carried_out, tear_down},
};

/// Writes down that a VM is kept, and tells it: in this order, so that one whose shim waits for an owner is found.
pub(crate) async fn keep(
    engine: &Arc<Inner>,
    slot: &Slot,
    machine: &mut dyn Machine,
    record: kept::Record,
) -> Result<()> {
    let (journal, slot, until) = (Arc::clone(engine), slot.clone(), record.until);
    let written = spawn_blocking(move || journal.journal.keep(&slot, &record));
    written.await.unwrap_or(Err(Error::Lost))?;
    Ok(machine.keep(until).await?)
}

/// Takes over a VM that nobody owns. After an error it is as it was, unless it was found to be of no use.
pub(crate) async fn adopted(
    engine: &Arc<Inner>,
    id: SlotId,
    destroy: &CancellationToken,
) -> Result<(Up, LeaseSpec, Option<kept::Record>)> {
    let began = Instant::now();
    let journal = Arc::clone(engine);
    let taken = spawn_blocking(move || journal.journal.take_over(id, journal.backend.name()));
    let Some((held, record)) = taken.await.unwrap_or(Err(Error::Lost))? else {
        return Err(Error::NotKept { id });
    };
    let admission = engine.gate.admit_running(record.memory());
    let clock = Arc::new(Clock::starting_now());
    let spec = record.spec();
    let boot = Boot {
        backend: Arc::clone(&engine.backend),
        patience: engine.patience,
        spec: spec.clone(),
        slot: held.slot().clone(),
        disks: Disks { root: None, scratch: None },
        // what its card led to has gone with its engine
        network: None,
        clock: Arc::clone(&clock),
        from: From::Running(record.info.clone()),
        tries: record.info.tries,
    };
    match carried_out(boot, destroy).await {
        Ok(booted) => {
            tracing::info!(slot = %id, took = ?began.elapsed(), "a VM was adopted");
            Ok((Up { held, booted, clock, admission, binding: None }, spec, Some(record)))
        }
        Err(error) if is_of_no_use(&error) => {
            tracing::warn!(slot = %id, %error, "a VM that was kept is of no use any more; it is ended");
            // What failed first is what the caller needs; what is left is swept later.
            let _ = tear_down(engine, held).await;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Whether the VM that was to be adopted is to blame.
fn is_of_no_use(error: &Error) -> bool {
    match error {
        Error::NoHello { .. } | Error::Boot { .. } | Error::Prepare { .. } | Error::Version { .. } => true,
        Error::Backend(error) => matches!(error, vm::Error::Gone(_) | vm::Error::Ended { .. }),
        _ => false,
    }
}
