//! Many forks at once, until every one has answered a command.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use sandbox::{Lease, Origin};
use serde_json::{Value, json};

use crate::{
    figures::Figure,
    process,
    subject::{Failure, Host, Subject, exec},
};

/// How long idle VMs are looked at.
const IDLE: Duration = Duration::from_secs(10);
/// Until they are idle.
const SETTLE: Duration = Duration::from_secs(2);
/// More would say nothing else of what one costs while it does nothing.
const MOST_IDLE: usize = 10;

/// Some that were asked for in one moment.
pub(crate) struct AtOnce {
    pub(crate) count: usize,
    /// Until each was leased and had answered a ping.
    pub(crate) ping: Figure,
    /// Until each had answered a command.
    pub(crate) exec: Figure,
    /// Until all had, in seconds.
    pub(crate) all: f64,
    /// Processor time of all together until then, in seconds.
    pub(crate) cpu: f64,
    /// MiB that each has for itself.
    pub(crate) private: Figure,
    /// Processor time of each while nothing happens, in percent of a processor.
    pub(crate) idle: Option<Figure>,
    /// Until nothing was left of any, in seconds.
    pub(crate) destroy: f64,
}

impl AtOnce {
    pub(crate) fn json(&self) -> Value {
        json!({
            "count": self.count,
            "ping_ms": self.ping.json(),
            "exec_ms": self.exec.json(),
            "all_s": self.all,
            "cpu_s": self.cpu,
            "private_mib": self.private.json(),
            "idle_percent": self.idle.as_ref().map(Figure::json),
            "destroy_s": self.destroy,
        })
    }
}

/// Forks of the template.
pub(crate) async fn cold(subject: &Subject, count: usize) -> Result<AtOnce, Failure> {
    let host = subject.host(0).await?;
    let measured = measure(&host, count, Origin::Forked).await;
    host.close().await;
    measured
}

/// Forks that stood by; they are replaced meanwhile, as they always are.
pub(crate) async fn pooled(subject: &Subject, count: usize) -> Result<AtOnce, Failure> {
    let host = subject.host(count).await?;
    let measured = measure(&host, count, Origin::Pooled).await;
    host.close().await;
    measured
}

async fn measure(host: &Host<'_>, count: usize, origin: Origin) -> Result<AtOnce, Failure> {
    let (began, cpu) = (Instant::now(), process::used());
    let one = || async {
        let lease = host.lease(origin).await?;
        let sandbox = lease.sandbox();
        sandbox.ping().await?;
        let ping = began.elapsed();
        exec(&sandbox).await?;
        Ok::<_, Failure>((lease, ping, began.elapsed()))
    };
    let leased: Vec<(Lease, Duration, Duration)> = try_join_all((0..count).map(|_| one())).await?;
    let all = began.elapsed().as_secs_f64();
    let cpu = process::used().saturating_sub(cpu).as_secs_f64();
    let (mut ping, mut exec, mut private) = (Figure::default(), Figure::default(), Figure::default());
    let (mut leases, mut vmms) = (Vec::new(), Vec::new());
    for (lease, pinged, executed) in leased {
        ping.time(pinged);
        exec.time(executed);
        let vmm = host.subject.vmm(&lease.sandbox())?;
        private.number(process::private_mib(vmm).ok_or("a VMM that is gone")?);
        vmms.push(vmm);
        leases.push(lease);
    }
    let idle = if count <= MOST_IDLE { Some(idle(&vmms).await) } else { None };
    let ending = Instant::now();
    for ended in join_all(leases.into_iter().map(Lease::destroy)).await {
        ended?;
    }
    let destroy = ending.elapsed().as_secs_f64();
    Ok(AtOnce { count, ping, exec, all, cpu, private, idle, destroy })
}

async fn idle(vmms: &[u32]) -> Figure {
    tokio::time::sleep(SETTLE).await;
    let before: Vec<_> = vmms.iter().map(|pid| process::used_by(*pid)).collect();
    tokio::time::sleep(IDLE).await;
    let mut figure = Figure::default();
    for (pid, before) in vmms.iter().zip(before) {
        let used = process::used_by(*pid).saturating_sub(before);
        figure.number(100.0 * used.as_secs_f64() / IDLE.as_secs_f64());
    }
    figure
}
