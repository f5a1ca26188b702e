//! Forks one after the other: each alone on the host, as far as we are concerned.

use std::time::{Duration, Instant};

use sandbox::{Lease, Origin, Sandbox};
use serde_json::Value;

use crate::{
    figures::Figure,
    process,
    subject::{Failure, Host, Subject, exec},
};

/// One moment of each run: how long it took, and how much processor time.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) wall: Figure,
    pub(crate) cpu: Figure,
}

impl Part {
    pub(crate) fn push(&mut self, (wall, cpu): (Duration, Duration)) {
        self.wall.time(wall);
        self.cpu.time(cpu);
    }
}

/// Moments of a fork since it was asked for.
pub(crate) struct OneByOne {
    began: Instant,
    /// What had been used then.
    cpu: Duration,
    /// Slot and disk are there.
    pub(crate) placed: Part,
    /// QEMU has loaded it and its processor runs.
    pub(crate) runs: Part,
    /// Its agent has said Hello.
    pub(crate) hello: Part,
    /// It is prepared and has answered a ping.
    pub(crate) ping: Part,
    /// Its first command has ended.
    pub(crate) exec: Part,
    /// Its second command, alone.
    pub(crate) again: Part,
    /// Its end.
    pub(crate) destroy: Figure,
    /// MiB that it has for itself after two commands.
    pub(crate) private: Figure,
}

impl Default for OneByOne {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            cpu: Duration::ZERO,
            placed: Part::default(),
            runs: Part::default(),
            hello: Part::default(),
            ping: Part::default(),
            exec: Part::default(),
            again: Part::default(),
            destroy: Figure::default(),
            private: Figure::default(),
        }
    }
}

impl OneByOne {
    /// What it does, in order.
    pub(crate) fn parts(&self) -> [(&'static str, &'static str, &Part); 6] {
        [
            ("placed", "slot and disk are made", &self.placed),
            ("runs", "QEMU runs it", &self.runs),
            ("hello", "its agent says Hello", &self.hello),
            ("ping", "ready, a ping answered", &self.ping),
            ("exec", "first command ended", &self.exec),
            ("second_exec", "(a second command alone)", &self.again),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let mut all = serde_json::Map::new();
        for (name, _, part) in self.parts().into_iter().filter(|(.., part)| !part.wall.is_empty()) {
            all.insert(format!("{name}_ms"), part.wall.json());
            all.insert(format!("{name}_cpu_ms"), part.cpu.json());
        }
        all.insert("destroy_ms".to_owned(), self.destroy.json());
        all.insert("private_mib".to_owned(), self.private.json());
        Value::Object(all)
    }
}

/// Forks of the template.
pub(crate) async fn cold(subject: &Subject, runs: usize) -> Result<OneByOne, Failure> {
    let host = subject.host(0).await?;
    // the first fork has its page cache to fill
    host.lease(Origin::Forked).await?.destroy().await?;
    let mut all = OneByOne::default();
    for _ in 0..runs {
        // what the one before left to do
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (sandbox, lease) = all.one(&host, Origin::Forked).await?;
        let moments = subject.moments(&sandbox);
        let parts = [
            (&mut all.placed, moments.asked, Duration::ZERO),
            (&mut all.runs, moments.runs, moments.runs_cpu),
            (&mut all.hello, moments.hello, moments.hello_cpu),
        ];
        for (part, moment, cpu) in parts {
            part.wall.time(moment.ok_or("a fork that was not seen")?.duration_since(all.began));
            part.cpu.time(cpu.saturating_sub(all.cpu));
        }
        all.ends(lease).await?;
    }
    host.close().await;
    Ok(all)
}

/// Forks that stood by. Each is replaced after a while, which is waited for.
pub(crate) async fn pooled(subject: &Subject, runs: usize) -> Result<OneByOne, Failure> {
    let host = subject.host(1).await?;
    let mut all = OneByOne::default();
    for _ in 0..runs {
        host.filled(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (_, lease) = all.one(&host, Origin::Pooled).await?;
        all.ends(lease).await?;
    }
    host.close().await;
    Ok(all)
}

impl OneByOne {
    async fn one(&mut self, host: &Host<'_>, origin: Origin) -> Result<(Sandbox, Lease), Failure> {
        (self.began, self.cpu) = (Instant::now(), process::used());
        let since = |began: Instant, cpu| (began.elapsed(), process::used().saturating_sub(cpu));
        let lease = host.lease(origin).await?;
        let sandbox = lease.sandbox();
        sandbox.ping().await?;
        self.ping.push(since(self.began, self.cpu));
        exec(&sandbox).await?;
        self.exec.push(since(self.began, self.cpu));
        let (began, cpu) = (Instant::now(), process::used());
        exec(&sandbox).await?;
        self.again.push(since(began, cpu));
        let private = process::private_mib(host.subject.vmm(&sandbox)?);
        self.private.number(private.ok_or("a VMM that is gone")?);
        Ok((sandbox, lease))
    }

    async fn ends(&mut self, lease: Lease) -> Result<(), Failure> {
        let ending = Instant::now();
        lease.destroy().await?;
        self.destroy.time(ending.elapsed());
        Ok(())
    }
}
