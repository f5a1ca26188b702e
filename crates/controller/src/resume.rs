//! The sandboxes of the controller before this one.
//!
//! ```text
//!   kept VMs with our mark ──┬── known, its time is not up ──▶ adopted ──▶ live
//!                            └── not known, or too old ──▶ ended
//!   known and no VM ──▶ remembered as gone
//! ```
//! Owner: the service, once, before it answers anybody.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use sandbox::Lease;

use crate::{
    Error, Result,
    ledger::Line,
    sandboxes::{SandboxId, SandboxInfo, Sandboxes},
};

/// VMs that are adopted at a time.
const AT_ONCE: usize = 16;

/// What became of a VM that is kept.
enum Outcome {
    Adopted(Lease, Line),
    Ended(vm::SlotId, String),
}

impl Sandboxes {
    /// Takes over what the last controller of this name left.
    pub(crate) async fn resume(&self) -> Result<()> {
        let Some((keeping, ledger)) = self.keeping() else { return Ok(()) };
        let known = ledger.read().await.map_err(Error::Ledger)?;
        let mut known: BTreeMap<_, _> = known.into_iter().map(|line| (line.id, line)).collect();
        let kept = self.engine().kept().await.map_err(|error| Error::Kept(Box::new(error)))?;
        let ours = kept.into_iter().filter(|kept| kept.mark.as_deref() == Some(&keeping.mark));
        let found: Vec<_> = ours.map(|kept| (kept.id, known.remove(&kept.id))).collect();
        let mut outcomes =
            stream::iter(found).map(|(id, line)| self.outcome(id, line)).buffer_unordered(AT_ONCE);
        let (mut adopted, mut ended) = (0, 0);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Outcome::Adopted(lease, line) => {
                    adopted += 1;
                    self.keep_again(lease, SandboxInfo::from(line));
                }
                Outcome::Ended(id, why) => {
                    ended += 1;
                    tracing::info!(id = %SandboxId::of(id), why, "a sandbox of the last controller is gone");
                    self.remember(SandboxId::of(id), &why);
                }
            }
        }
        drop(outcomes);
        let lost = known.len();
        for id in known.into_keys() {
            self.remember(SandboxId::of(id), "it ended while no controller was there");
        }
        if adopted + ended + lost > 0 {
            tracing::info!(adopted, ended, lost, "sandboxes of the last controller");
        }
        self.write_down().await.map_err(Error::Ledger)
    }

    async fn outcome(&self, id: vm::SlotId, line: Option<Line>) -> Outcome {
        let why = match line {
            None => "no client was told of it".to_owned(),
            Some(line) if line.expires_at_unix <= Timestamp::now().as_second() => {
                "its time to live was over while no controller was there".to_owned()
            }
            Some(line) => match self.engine().adopt(id).await {
                Ok(lease) => return Outcome::Adopted(lease, line),
                Err(error) => format!("it could not be taken over: {error}"),
            },
        };
        // one that could not be taken over may still be there
        if let Err(error) = self.engine().end(id).await {
            tracing::warn!(id = %SandboxId::of(id), %error, "something of a sandbox is left");
        }
        Outcome::Ended(id, why)
    }
}

/// How long a sandbox still has.
pub(crate) fn left_of(info: &SandboxInfo) -> Duration {
    let now = Timestamp::now().as_millisecond();
    let left = info.expires_at_unix.saturating_mul(1000).saturating_sub(now);
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
