//! Forks one after the other: each alone on the host, as far as we are concerned.

use std::time::{Duration, Instant};

use sandbox::Origin;
use serde_json::{Value, json};

use crate::{
    figures::Figure,
    process,
    subject::{Failure, Subject, exec},
};

/// Moments of a fork since it was asked for, each with the processor time until then.
#[derive(Default)]
pub(crate) struct OneByOne {
    /// Slot and disk are there.
    pub(crate) placed: Figure,
    /// QEMU has loaded it and its processor runs.
    pub(crate) runs: Figure,
    /// Its agent has said Hello.
    pub(crate) hello: Figure,
    /// It is prepared and has answered a ping.
    pub(crate) ping: Figure,
    pub(crate) ping_cpu: Figure,
    /// Its first command has ended.
    pub(crate) exec: Figure,
    pub(crate) exec_cpu: Figure,
    /// Its second command, alone.
    pub(crate) again: Figure,
    pub(crate) again_cpu: Figure,
    /// Its end.
    pub(crate) destroy: Figure,
    /// MiB that it has for itself after two commands.
    pub(crate) private: Figure,
}

impl OneByOne {
    pub(crate) fn json(&self) -> Value {
        json!({
            "placed_ms": self.placed.json(),
            "runs_ms": self.runs.json(),
            "hello_ms": self.hello.json(),
            "ping_ms": self.ping.json(),
            "ping_cpu_ms": self.ping_cpu.json(),
            "exec_ms": self.exec.json(),
            "exec_cpu_ms": self.exec_cpu.json(),
            "second_exec_ms": self.again.json(),
            "second_exec_cpu_ms": self.again_cpu.json(),
            "destroy_ms": self.destroy.json(),
            "private_mib": self.private.json(),
        })
    }
}

pub(crate) async fn measure(subject: &Subject, runs: usize) -> Result<OneByOne, Failure> {
    let mut all = OneByOne::default();
    let host = subject.host(0).await?;
    // the first fork has its page cache to fill
    host.lease(Origin::Forked).await?.destroy().await?;
    for _ in 0..runs {
        // what the one before left to do
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (began, cpu) = (Instant::now(), process::used());
        let lease = host.lease(Origin::Forked).await?;
        let sandbox = lease.sandbox();
        sandbox.ping().await?;
        all.ping.time(began.elapsed());
        all.ping_cpu.time(process::used().saturating_sub(cpu));
        exec(&sandbox).await?;
        all.exec.time(began.elapsed());
        all.exec_cpu.time(process::used().saturating_sub(cpu));
        let (again, cpu) = (Instant::now(), process::used());
        exec(&sandbox).await?;
        all.again.time(again.elapsed());
        all.again_cpu.time(process::used().saturating_sub(cpu));
        let moments = subject.moments(&sandbox);
        let parts = [
            (&mut all.placed, moments.asked),
            (&mut all.runs, moments.runs),
            (&mut all.hello, moments.hello),
        ];
        for (figure, moment) in parts {
            figure.time(moment.ok_or("a fork that was not seen")?.duration_since(began));
        }
        let private = process::private_mib(subject.vmm(&sandbox)?);
        all.private.number(private.ok_or("a VMM that is gone")?);
        let ending = Instant::now();
        lease.destroy().await?;
        all.destroy.time(ending.elapsed());
    }
    host.close().await;
    Ok(all)
}
