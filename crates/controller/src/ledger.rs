//! What a controller knows of its sandboxes, on disk.
//!
//! Purpose: the next controller of the same name gives clients the sandboxes that they have. Owner: the table of
//! sandboxes; one file, in a directory that is one controller's at a time (whoever starts it sees to that).
//!
//! Invariants
//! - The file is whole or not there: it is written beside and renamed. Not synced: after an end of the host there is
//!   no sandbox left that it could tell of.
//! - Nothing secret is in it: no token, nothing that a client sent to run.
//! - A spawn is in it before its client hears of it, and all of it at once; a sandbox that is in it may be gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::spawn_blocking};

const FILE: &str = "sandboxes.json";
const BESIDE: &str = "sandboxes.json.new";
/// Of the format.
const VERSION: u32 = 1;

/// What is known of one sandbox, beside what its VM says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) id: vm::SlotId,
    pub(crate) snapshot_tag: String,
    pub(crate) created_at_unix: i64,
    pub(crate) expires_at_unix: i64,
    pub(crate) memory_limit_mib: u32,
    pub(crate) boot_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    sandboxes: Vec<Line>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    /// How often something changed.
    changes: AtomicU64,
    /// Which of the changes is written; held by whoever writes.
    written: Mutex<u64>,
}

impl Ledger {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, changes: AtomicU64::new(0), written: Mutex::new(0) }
    }

    /// What the last controller knew. A file that is damaged, or of another version, tells of nothing.
    pub(crate) async fn read(&self) -> io::Result<Vec<Line>> {
        let path = self.dir.join(FILE);
        match blocking(move || fs::read(path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(Content { version: VERSION, sandboxes }) => Ok(sandboxes),
                Ok(Content { version, .. }) => {
                    tracing::warn!(version, "what is known of sandboxes is of another version: they end");
                    Ok(Vec::new())
                }
                Err(error) => {
                    tracing::warn!(%error, "what is known of sandboxes is damaged: they end");
                    Ok(Vec::new())
                }
            },
        }
    }

    /// Writes what `now` gives, unless somebody else did since this was called.
    pub(crate) async fn write(&self, now: impl FnOnce() -> Vec<Line>) -> io::Result<()> {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut written = self.written.lock().await;
        if *written >= change {
            return Ok(());
        }
        // all changes so far are in what is looked up now
        let up_to = self.changes.load(Ordering::SeqCst);
        let content = Content { version: VERSION, sandboxes: now() };
        let dir = self.dir.clone();
        blocking(move || write(&dir, &content)).await?;
        *written = up_to;
        Ok(())
    }
}

fn write(dir: &Path, content: &Content) -> io::Result<()> {
    let beside = dir.join(BESIDE);
    fs::write(&beside, serde_json::to_vec(content)?)?;
    fs::rename(beside, dir.join(FILE))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(memory_limit_mib: u32) -> Line {
        Line {
            id: vm::SlotId::new(),
            snapshot_tag: "standard".to_owned(),
            created_at_unix: 1,
            expires_at_unix: 2,
            memory_limit_mib,
            boot_ms: 3,
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_damaged_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path().to_owned());
        assert_eq!(ledger.read().await.unwrap(), []);
        let lines = vec![line(1), line(2)];
        ledger.write(|| lines.clone()).await.unwrap();
        assert_eq!(ledger.read().await.unwrap(), lines);
        for text in ["", "{", "[]", "{\"version\":2,\"sandboxes\":[]}"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(ledger.read().await.unwrap(), [], "{text}");
        }
        fs::remove_dir_all(dir.path()).unwrap();
        ledger.write(Vec::new).await.unwrap_err();
    }

    #[tokio::test]
    async fn changes_at_once_are_written_together_and_none_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path().to_owned());
        let (known, writes) = (std::sync::Mutex::new(Vec::new()), AtomicU64::new(0));
        let changes = (0..100).map(|n| {
            let (ledger, known, writes) = (&ledger, &known, &writes);
            async move {
                known.lock().unwrap().push(line(n));
                let now = || {
                    writes.fetch_add(1, Ordering::SeqCst);
                    known.lock().unwrap().clone()
                };
                ledger.write(now).await.unwrap();
                assert!(ledger.read().await.unwrap().iter().any(|line| line.memory_limit_mib == n));
            }
        });
        futures_util::future::join_all(changes).await;
        assert!(writes.load(Ordering::SeqCst) < 10, "{writes:?} writes");
    }
}
