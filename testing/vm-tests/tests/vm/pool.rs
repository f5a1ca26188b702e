//! The engine itself on real VMs: templates, forks, and those that stand by.

use std::{
    collections::HashSet,
    num::NonZeroU8,
    path::Path,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use sandbox::{
    Account, Bind, Engine, EngineConfig, ExecRequest, ForkSpec, Inherited, LeaseSpec, Origin, OutputMode,
    Patience, PoolLimits, Root, Sandbox, Start, Stdin,
};
use tokio_util::sync::CancellationToken;
use vm::{Mebibytes, OwnerLoss};

use vm_tests::{host, random::Random};

use crate::contract;

/// More than any of it takes, on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("forks_stand_by_and_each_is_another_guest", stand_by),
        trial("a_fork_without_a_network_has_a_card_that_leads_nowhere", card),
        trial("kills_at_random_points_leave_nothing", kills).with_ignored_flag(true),
        trial("many_forks_leave_nothing", many_alone).with_ignored_flag(true),
    ]
}

pub(crate) fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    Trial::test(format!("engine::{name}"), move || {
        run(test());
        Ok(())
    })
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// First argument of a process that leases, fills its pool, and is killed.
const VICTIM: &str = "engine-victim";
const POOL: PoolLimits = PoolLimits { most: 2, memory: Mebibytes(4096) };

/// First argument of a process that makes [`many`] forks: its descriptors are those of no other trial.
const MANY: &str = "many-forks";

/// Becomes the victim, or the one of many forks, where this process was started as one.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next()?;
    if first == MANY {
        run(many());
        return Some(ExitCode::SUCCESS);
    }
    if first != VICTIM {
        return None;
    }
    let state = args.next()?;
    run(async move {
        let engine = engine(Path::new(&state), POOL).await;
        engine.keep_ready(&spec("any"), 2).await.expect("a template");
        loop {
            // first, so that most of the time there is one
            let until = std::time::SystemTime::now() + Duration::from_secs(600);
            let kept = LeaseSpec { on_owner_loss: OwnerLoss::Keep { until }, ..spec("kept") };
            let kept = engine.lease(kept, &CancellationToken::new()).await.expect("a lease");
            let lease = engine.lease(spec("victim"), &CancellationToken::new()).await.expect("a lease");
            said(&lease.sandbox(), "setsid sleep 1000 > /dev/null 2>&1 & :").await;
            let branch = lease.sandbox().branch().await.expect("a branch");
            let fork = ForkSpec {
                bind: spec("fork").bind,
                on_owner_loss: OwnerLoss::Kill,
                inherited: Inherited::GoOn,
            };
            let fork = engine.lease_branch(&branch, fork, &CancellationToken::new()).await.expect("a fork");
            lease.destroy().await.expect("nothing is left");
            fork.destroy().await.expect("nothing is left");
            kept.destroy().await.expect("nothing is left");
        }
    });
    Some(ExitCode::FAILURE)
}

/// The card of a template is its forks'; where this host can make none there is none.
async fn card() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let expected = match &engine.capabilities().no_card {
        None => "eth0:0x1003 lo:0x9",
        Some(why) => {
            vm_tests::say(&format!("no network card here: {why}"));
            "lo:0x9"
        }
    };
    let lease = engine.lease(spec("card"), &CancellationToken::new()).await.expect("a lease");
    assert_eq!(lease.sandbox().info().origin, Origin::Forked);
    let script =
        "cd /sys/class/net; for card in *; do printf '%s:%s ' \"$card\" \"$(cat \"$card/flags\")\"; done";
    assert_eq!(said(&lease.sandbox(), script).await, expected, "interfaces and their flags; 1 is up");
    let routes = "cat /proc/net/route; grep -v ' lo$' /proc/net/ipv6_route || :";
    let routes = said(&lease.sandbox(), routes).await;
    let default =
        |line: &str| line.split('\t').nth(1) == Some("00000000") || line.starts_with(&"0".repeat(32));
    assert!(!routes.lines().any(default), "no way leads out: {routes}");
    if expected.starts_with("eth0") {
        // root in a guest may make one; nothing is at its other end
        let script = "python3 - <<'END'\nimport fcntl, socket, struct\n\
                      s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                      fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'eth0', 1))\n\
                      s.bind(('eth0', 3)); s.settimeout(1)\n\
                      for _ in range(100): s.send(b'\\xff' * 60)\n\
                      got = []\n\
                      try:\n  got.append(s.recvfrom(100)[1][2])\n\
                      except TimeoutError: pass\n\
                      print([kind for kind in got if kind != 4])\nEND";
        assert_eq!(said(&lease.sandbox(), script).await, "[]", "what came in, but for its own");
    }
    lease.destroy().await.expect("nothing is left");
    engine.close().await;
}

/// How long the next start may take to remove what a killed engine left.
const CLEANED: Duration = Duration::from_secs(5);

/// An engine that is killed, with VMs that it boots, saves, forks, keeps ready and branches.
async fn kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = Random::seeded("engine kills");
    let mut adopted = 0;
    for round in 0..20 {
        let mut victim = std::process::Command::new("/proc/self/exe")
            .args([VICTIM.as_ref(), dir.path().as_os_str()])
            .stdin(Stdio::null())
            .spawn()
            .expect("a victim");
        // the first rounds fall into the making of the template
        let after = Duration::from_millis(random.below(if round < 8 { 5_000 } else { 3_000 }));
        tokio::time::sleep(after).await;
        victim.kill().expect("it runs");
        victim.wait().expect("it ended");
        let began = Instant::now();
        let next = engine(dir.path(), PoolLimits::NONE).await;
        for kept in next.kept().await.expect("a list") {
            match next.adopt(kept.id).await {
                Ok(lease) => {
                    said(&lease.sandbox(), "test \"$(cat /proc/sys/kernel/hostname)\" = kept").await;
                    adopted += 1;
                    lease.destroy().await.expect("nothing is left");
                }
                // it was about to end
                Err(sandbox::Error::NotKept { .. }) => {}
                Err(error) => panic!("round {round}, killed after {after:?}: {error}"),
            }
        }
        loop {
            let left = host::remnants(dir.path());
            if left.is_empty() {
                break;
            }
            assert!(began.elapsed() < CLEANED, "round {round}, killed after {after:?}: {left:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        next.close().await;
    }
    vm_tests::say(&format!("{adopted} VMs were adopted"));
}

/// What of this host a VM could leave behind.
fn counts() -> [usize; 5] {
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let lines = |path: &str| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let namespaces = || {
        let links = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let links = links
            .flat_map(|entry| std::fs::read_dir(entry.path().join("ns")).into_iter().flatten().flatten());
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).collect::<HashSet<_>>().len()
    };
    [
        entries("/proc/self/fd"),
        lines("/proc/self/mountinfo"),
        namespaces(),
        entries("/sys/fs/cgroup"),
        entries("/tmp"),
    ]
}

/// [`many`] in a process of its own: trials that run beside this one open and close descriptors, too.
async fn many_alone() {
    let ended = std::process::Command::new("/proc/self/exe").arg(MANY).status().expect("another process");
    assert!(ended.success(), "{ended}");
}

/// Forks one after the other, and many at once. `AMPOULE_TEST_FORKS` says how many instead of 250 and 50: with
/// 1000 it is a thousand and a hundred.
async fn many() {
    let forks = std::env::var("AMPOULE_TEST_FORKS").ok().and_then(|n| n.parse().ok()).unwrap_or(250);
    let at_once = (forks / 5).min(100);
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let cancel = CancellationToken::new();
    engine.lease(spec("first"), &cancel).await.expect("a lease").destroy().await.expect("nothing is left");
    let before = counts();
    for number in 0..forks {
        let lease = engine.lease(spec("one"), &cancel).await.expect("a lease");
        assert_eq!(lease.sandbox().info().origin, Origin::Forked, "{number}");
        lease.destroy().await.expect("nothing is left");
    }
    let after_each = counts();
    let engine = Arc::new(engine);
    let leases: Vec<_> = (0..at_once)
        .map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.lease(spec("many"), &CancellationToken::new()).await })
        })
        .collect();
    let mut all = Vec::new();
    for lease in leases {
        let lease = lease.await.expect("no panic").expect("a lease");
        said(&lease.sandbox(), ":").await;
        all.push(lease);
    }
    for lease in all {
        lease.destroy().await.expect("nothing is left");
    }
    let left = host::settled(|| host::remnants(dir.path()));
    assert!(left.is_empty(), "{left:#?}");
    let after = counts();
    vm_tests::say(&format!(
        "descriptors, mounts, namespaces, groups, files: {before:?} {after_each:?} {after:?}"
    ));
    // other processes of the host come and go: what grows with the forks is what counts
    for (before, after) in before.iter().zip(&after) {
        assert!(after.saturating_sub(*before) < 30, "{before} became {after}");
    }
    // our own descriptors are ours alone
    assert!(after[0] <= before[0], "descriptors: {before:?} {after:?}");
    engine.close().await;
}

pub(crate) fn spec(hostname: &str) -> LeaseSpec {
    let image = contract::image();
    LeaseSpec {
        kernel: image.kernel,
        initramfs: image.initramfs,
        root: Root::Image(image.root),
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(256),
        scratch_bytes: 256 << 20,
        bind: Bind { hostname: hostname.to_owned(), ..Bind::default() },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: sandbox::WhenFull::Wait,
    }
}

pub(crate) async fn engine(dir: &Path, pool: PoolLimits) -> Engine {
    let backend = Arc::new(contract::backend().await);
    let config = EngineConfig {
        state_dir: dir.to_owned(),
        backend,
        patience: Patience::default(),
        pool,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.expect("an engine").0
}

pub(crate) async fn said(sandbox: &Sandbox, script: &str) -> String {
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
    let text = String::from_utf8_lossy(&collected.stdout).trim().to_owned();
    assert_eq!(collected.exited.code, Some(0), "{script}\nsaid: {text}");
    text
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
    let engine = engine(dir.path(), POOL).await;
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
