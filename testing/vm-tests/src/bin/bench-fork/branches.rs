//! Branches of a running VM, and forks of them.

use std::time::{Duration, Instant};

use sandbox::Origin;
use serde_json::{Value, json};

use crate::{
    figures::Figure,
    one_by_one::Part,
    process,
    subject::{Failure, Subject, exec},
};

/// What branches took.
#[derive(Default)]
pub(crate) struct Branches {
    /// The VM stood still.
    pub(crate) pause: Figure,
    /// What ran in it did.
    pub(crate) frozen: Figure,
    /// From the request to the branch.
    pub(crate) total: Figure,
    /// A fork of it, until it answered a ping.
    pub(crate) ping: Part,
    /// Until its first command had ended.
    pub(crate) exec: Part,
}

impl Branches {
    pub(crate) fn json(&self) -> Value {
        json!({
            "pause_ms": self.pause.json(),
            "frozen_ms": self.frozen.json(),
            "total_ms": self.total.json(),
            "fork_ping_ms": self.ping.wall.json(),
            "fork_ping_cpu_ms": self.ping.cpu.json(),
            "fork_exec_ms": self.exec.wall.json(),
            "fork_exec_cpu_ms": self.exec.cpu.json(),
        })
    }
}

/// Branches one VM again and again, and forks each branch once.
pub(crate) async fn measure(subject: &Subject, runs: usize) -> Result<Branches, Failure> {
    let mut all = Branches::default();
    let host = subject.host(0).await?;
    let source = host.lease(Origin::Forked).await?;
    let sandbox = source.sandbox();
    exec(&sandbox).await?;
    for _ in 0..runs {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let branch = sandbox.branch().await?;
        let times = branch.times();
        all.pause.time(times.pause);
        all.frozen.time(times.frozen);
        all.total.time(times.total);
        let (began, cpu) = (Instant::now(), process::used());
        let fork = host.lease_of(&branch).await?;
        fork.sandbox().ping().await?;
        all.ping.push((began.elapsed(), process::used().saturating_sub(cpu)));
        exec(&fork.sandbox()).await?;
        all.exec.push((began.elapsed(), process::used().saturating_sub(cpu)));
        fork.destroy().await?;
    }
    source.destroy().await?;
    host.close().await;
    Ok(all)
}
