//! Making a template: a VM boots, is made ready, runs a command, and is saved with its link closed.
//!
//! ```text
//!   slot ──▶ boot on a memory of ours ──▶ Hello ──▶ Warm, Prepare ──▶ a shell ──▶ link closed ──▶ saved, disk copied
//! ```
//! All that a fork does after that is translated anew by an emulator, however often it ran before: what is left to
//! it is its name.
//!
//! Owner: one task of the engine, which ends by itself, with nothing left, when the engine closes.

use std::{fs::File, sync::Arc, time::Duration};

use tokio::task::{JoinSet, spawn_blocking};

use super::{Built, Guest};
use crate::{
    Bind, Error, Gone, LeaseSpec, Result, Start,
    boot::{self, Boot, From},
    clock::Clock,
    local::Inner,
    owner::tear_down,
    pool::exercise,
    text::printable,
};

/// VMs that are booted for one template.
const TRIES: u32 = 2;
/// Between the end of the link and the saving: the guest sees the end, and is idle again.
const SETTLE: Duration = Duration::from_millis(200);
/// The name of its guest. A file that gets a longer name is not cut.
const NAME: &str = "vm";
/// Of the name of its kernel.
const MAX_TEXT: usize = 256;

pub(super) async fn build(engine: &Arc<Inner>, spec: LeaseSpec) -> Result<Built> {
    let spec = LeaseSpec {
        bind: Bind { hostname: NAME.to_owned(), directories: spec.bind.common(), ..Bind::default() },
        on_owner_loss: vm::OwnerLoss::Kill,
        mark: None,
        start: Start::Boot,
        ..spec
    };
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

async fn attempt(engine: &Arc<Inner>, spec: &LeaseSpec, tries: u32) -> Result<Built> {
    let ram = super::ram_file(spec.memory);
    let from = From::Memory(ram.map_err(Error::state("make a memory for", engine.journal.state_dir()))?);
    let (held, disks) = boot::place(engine, spec, &from).await?;
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
                from,
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

async fn save(boot: Boot) -> Result<Built> {
    let scratch = boot.disks.scratch.clone();
    let (mut machine, opened, prepared) = boot.template().await?;
    if prepared.is_some() {
        exercise(&opened.connection).await?;
    }
    opened.close().await;
    tokio::time::sleep(SETTLE).await;
    let saved = machine.save(&mut vm::Nobody).await?;
    // it stands still from now on
    let guest = match (prepared, scratch) {
        (Some(prepared), Some(scratch)) => {
            let copied = spawn_blocking(move || {
                let copied = File::open(&scratch).and_then(|file| super::copy_of_disk(&file));
                copied.map_err(Error::state("copy", &scratch))
            });
            let disk = copied.await.unwrap_or(Err(Error::Lost))?;
            Some(Guest { kernel: printable(&prepared.kernel, MAX_TEXT), disk })
        }
        _ => None,
    };
    Ok(Built { saved, guest })
}
