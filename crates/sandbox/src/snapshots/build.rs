//! Making a template: a VM boots, does ahead what all forks would do alike, and is saved with its link closed.
//!
//! ```text
//!   slot ──▶ boot on a memory of ours ──▶ Hello ──▶ Warm ──▶ link closed ──▶ saved ──▶ VM ended, slot removed
//! ```
//! Owner: one task of the engine, which ends by itself, with nothing left, when the engine closes.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use vm::Saved;

use crate::{
    Error, Gone, LeaseSpec, Result,
    boot::{self, Boot, From},
    clock::Clock,
    local::Inner,
    owner::tear_down,
};

/// VMs that are booted for one template.
const TRIES: u32 = 2;
/// Between the end of the link and the saving: the guest sees the end, and is idle again.
const SETTLE: Duration = Duration::from_millis(200);
/// The template's scratch disk is only there to be replaced.
const PLACEHOLDER: u64 = 16 << 20;

pub(super) async fn build(engine: &Arc<Inner>, spec: LeaseSpec) -> Result<Saved> {
    let spec = LeaseSpec { scratch_bytes: PLACEHOLDER, on_owner_loss: vm::OwnerLoss::Kill, ..spec };
    tracing::info!("making a template of the VM");
    let mut tries = 1;
    loop {
        match attempt(engine, &spec, tries).await {
            Err(Error::NoHello { .. } | Error::Boot { why: Gone::Silent(_), .. }) if tries < TRIES => {
                tries += 1
            }
            outcome => return outcome,
        }
    }
}

async fn attempt(engine: &Arc<Inner>, spec: &LeaseSpec, tries: u32) -> Result<Saved> {
    let (held, disks) = boot::place(engine, spec, None).await?;
    let saved = match disks {
        Err(error) => Err(error),
        Ok(disks) => {
            let boot = Boot {
                backend: Arc::clone(&engine.backend),
                patience: engine.patience,
                spec: spec.clone(),
                slot: held.slot().clone(),
                disks,
                clock: Arc::new(Clock::starting_now()),
                from: From::Memory(
                    super::ram_file(spec.memory)
                        .map_err(Error::state("make a memory for", engine.journal.state_dir()))?,
                ),
                tries,
            };
            // A task of its own, so that a panic in a backend does not skip the teardown.
            let mut boots = JoinSet::new();
            boots.spawn(save(boot));
            let saved = tokio::select! {
                biased;
                () = engine.closing.cancelled() => Err(Error::Closed),
                saved = boots.join_next() => saved.and_then(std::result::Result::ok).unwrap_or(Err(Error::Lost)),
            };
            boots.shutdown().await;
            saved
        }
    };
    // its memory can be sealed only when nobody has it any more
    let removed = tear_down(engine, held).await;
    let saved = saved?;
    removed.map(|()| saved)
}

async fn save(boot: Boot) -> Result<Saved> {
    let (mut machine, opened) = boot.warm().await?;
    opened.close().await;
    tokio::time::sleep(SETTLE).await;
    Ok(machine.save(&mut vm::Nobody).await?)
}
