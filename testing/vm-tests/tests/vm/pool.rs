//! The engine itself on real VMs: templates, forks, and those that stand by.

use std::{collections::HashSet, num::NonZeroU8, path::Path, sync::Arc, time::Duration};

use libtest_mimic::Trial;
use sandbox::{
    Account, Bind, Engine, EngineConfig, ExecRequest, LeaseSpec, Origin, OutputMode, Patience, PoolLimits,
    Root, Sandbox, Start, Stdin,
};
use tokio_util::sync::CancellationToken;
use vm::{Mebibytes, OwnerLoss};

use crate::contract;

/// More than any of it takes, on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("engine::forks_stand_by_and_each_is_another_guest", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(stand_by());
        Ok(())
    })]
}

fn spec(hostname: &str) -> LeaseSpec {
    let image = contract::image();
    LeaseSpec {
        kernel: image.kernel,
        initramfs: image.initramfs,
        root: Root::Image(image.root),
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(256),
        scratch_bytes: 256 << 20,
        bind: Bind { hostname: hostname.to_owned(), directories: Vec::new() },
        on_owner_loss: OwnerLoss::Kill,
        start: Start::Fork,
    }
}

async fn engine(dir: &Path, pool: PoolLimits) -> Engine {
    let backend = Arc::new(contract::backend().await);
    let config = EngineConfig {
        state_dir: dir.to_owned(),
        backend,
        patience: Patience::default(),
        pool,
        reserve: sandbox::Reserve::default(),
    };
    Engine::open(config).await.expect("an engine").0
}

async fn said(sandbox: &Sandbox, script: &str) -> String {
    let request = ExecRequest {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Merged,
        timeout: None,
    };
    let running = sandbox.exec(request).await.expect("a command");
    let collected = running.collect(1 << 20).await.expect("an end");
    assert_eq!(collected.exited.code, Some(0), "{script}");
    String::from_utf8_lossy(&collected.stdout).trim().to_owned()
}

async fn ready(engine: &Engine, count: usize) {
    let wait = async {
        while engine.ready() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the pool is filled");
}

async fn stand_by() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits { most: 2, memory: Mebibytes(4096) }).await;
    let cancel = CancellationToken::new();
    engine.keep_ready(&spec("any"), 2).await.expect("a template");
    ready(&engine, 2).await;
    let mut seen = HashSet::new();
    let mut leases = Vec::new();
    for name in ["one", "two", "three"] {
        let lease = engine.lease(spec(name), &cancel).await.expect("a lease");
        let sandbox = lease.sandbox();
        let facts = "hostname; cat /etc/hostname /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; \
                     head -c 16 /dev/random | od -An -tx1; cat /proc/sys/kernel/random/uuid";
        let facts = said(&sandbox, facts).await;
        let lines: Vec<&str> = facts.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (6, name, name), "{facts}");
        assert!(lines[2..].iter().all(|line| seen.insert((*line).to_owned())), "{facts}");
        let clock: f64 = said(&sandbox, "date +%s.%N").await.parse().expect("a time");
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
        assert!((now - clock).abs() < 5.0, "{clock} at {now}");
        // the disk is as large as was asked for, though the template's was not
        let disk: u64 = said(&sandbox, "df -B1 --output=size / | tail -1").await.parse().expect("a size");
        assert!(disk > 200 << 20, "{disk}");
        leases.push(lease);
    }
    let origins: Vec<Origin> = leases.iter().map(|lease| lease.sandbox().info().origin).collect();
    assert_eq!(origins[..2], [Origin::Pooled, Origin::Pooled]);
    // what was taken is replaced
    ready(&engine, 2).await;
    for lease in leases {
        lease.destroy().await.expect("nothing is left");
    }
    engine.close().await;
    let slots = std::fs::read_dir(dir.path().join("slots")).expect("slots").count();
    assert_eq!(slots, 0);
}
