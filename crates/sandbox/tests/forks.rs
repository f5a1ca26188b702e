//! Templates, forks and the pool on the fake backend, with the real shim and the real agent as processes; and what
//! is left of them, whatever dies.
//!
//! This program is its own shim, agent and victim. `AMPOULE_TEST_ROUNDS` multiplies the rounds of the test that
//! ends an engine at random points.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use sandbox::{
    Engine, EngineConfig, Error, ExecRequest, LeaseSpec, Origin, OutputMode, Patience, PoolLimits, Reserve,
    Sandbox, SnapshotGc, Standing, Start, Swept,
};
use tokio_util::sync::CancellationToken;
use vm::{Mebibytes, OwnerLoss};

use support::{sh, spec};

/// First argument of a process that leases, fills its pool, and is killed.
const VICTIM: &str = "victim";
const POOL: PoolLimits = PoolLimits { most: 3, memory: Mebibytes(1 << 16) };
/// How long the next start may take to remove what a killed engine left.
const CLEANED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(VICTIM) {
        block_on(victim(Path::new(&args.next().unwrap())));
        return ExitCode::SUCCESS;
    }
    let trials = vec![
        trial("a_template_is_made_once_and_serves_the_next_engine", made_once()),
        trial("leases_at_once_share_one_template", at_once()),
        trial("a_damaged_template_is_made_anew", damaged()),
        trial("no_template_is_made_of_vms_that_this_host_never_has_room_for", too_large()),
        trial("an_engine_that_closes_while_a_template_is_made_leaves_nothing", closed_early()),
        trial("what_stands_by_is_taken_and_replaced", stands_by()),
        trial("a_hook_of_the_image_runs_once_and_a_failing_one_ends_the_vm", hooks()),
        trial("what_died_while_it_stood_by_is_not_leased", died()),
        trial("killed_engines_leave_nothing_after_the_next_start", killed()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn trial(name: &str, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        block_on(test);
        Ok(())
    })
}

fn state() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("forks-test-").tempdir().unwrap()
}

async fn open(state: &Path, pool: PoolLimits) -> (Engine, Swept) {
    let config = EngineConfig {
        state_dir: state.to_owned(),
        backend: testkit::fake::forking(),
        patience: Patience::default(),
        pool,
        reserve: Reserve { memory: 0, disk: 0 },
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.unwrap()
}

fn cancel() -> CancellationToken {
    CancellationToken::new()
}

async fn said(sandbox: &Sandbox, script: &str) -> String {
    let request = ExecRequest { output: OutputMode::Merged, ..sh(script) };
    let collected = sandbox.exec(request).await.unwrap().collect(1 << 20).await.unwrap();
    String::from_utf8(collected.stdout).unwrap()
}

async fn ready(engine: &Engine, count: usize) {
    let wait = async {
        while engine.ready() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the pool is filled");
}

/// What is left of a state directory's VMs: processes and slots.
fn left(state: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if (command.contains(state.to_str().unwrap()) || cwd.starts_with(state))
            && entry.file_name() != std::process::id().to_string().as_str()
        {
            left.push(format!("process {:?}: {command}", entry.file_name()));
        }
    }
    let slots = fs::read_dir(state.join("slots")).into_iter().flatten().flatten();
    left.extend(slots.map(|slot| format!("slot {}", slot.path().display())));
    left
}

async fn made_once() {
    let state = state();
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let lease = engine.lease(spec("one"), &cancel()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, Origin::Forked);
    assert_eq!(said(&lease.sandbox(), "pwd").await.trim_end().rsplit('/').next(), Some("work"));
    lease.destroy().await.unwrap();
    let made = engine.snapshots().await.unwrap();
    assert_eq!((made.len(), made[0].memory, made[0].standing), (1, Mebibytes(16), Standing::Usable));
    engine.close().await;
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let lease = engine.lease(spec("two"), &cancel()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, Origin::Forked);
    lease.destroy().await.unwrap();
    let again = engine.snapshots().await.unwrap();
    assert_eq!((again.len(), &again[0].key, again[0].made), (1, &made[0].key, made[0].made));
    let booted = LeaseSpec { start: Start::Boot, when_full: sandbox::WhenFull::Wait, ..spec("three") };
    let lease = engine.lease(booted, &cancel()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, Origin::Booted);
    lease.destroy().await.unwrap();
    let gone =
        engine.collect_snapshots(SnapshotGc { unused: Some(Duration::ZERO), quota: None }).await.unwrap();
    assert_eq!(gone.removed, [made[0].key.clone()]);
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn too_large() {
    let state = state();
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let spec = LeaseSpec { memory: Mebibytes(1 << 30), ..spec("large") };
    let refused = engine.template(&spec).await.unwrap_err();
    assert!(matches!(&refused, Error::NoRoom { lack } if lack.contains("this host has")), "{refused}");
    assert_eq!(refused.to_string(), engine.lease(spec, &cancel()).await.unwrap_err().to_string());
    assert!(engine.snapshots().await.unwrap().is_empty());
    engine.close().await;
}

async fn at_once() {
    let state = state();
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let engine = std::sync::Arc::new(engine);
    let leases: Vec<_> = (0..8)
        .map(|number| {
            let engine = std::sync::Arc::clone(&engine);
            tokio::spawn(async move { engine.lease(spec(&format!("g{number}")), &cancel()).await })
        })
        .collect();
    for lease in leases {
        let lease = lease.await.unwrap().unwrap();
        assert_eq!(lease.sandbox().info().origin, Origin::Forked);
        lease.destroy().await.unwrap();
    }
    assert_eq!(engine.snapshots().await.unwrap().len(), 1);
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn damaged() {
    let state = state();
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let key = engine.template(&spec("any")).await.unwrap().unwrap();
    engine.close().await;
    let dir = state.path().join("snapshots").join(&key);
    for name in ["ram", "state", "manifest"] {
        let before = fs::read(dir.join(name)).unwrap();
        let mut bytes = before.clone();
        bytes[3] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
        let (engine, _) = open(state.path(), PoolLimits::NONE).await;
        let lease = engine.lease(spec("any"), &cancel()).await.unwrap();
        assert_eq!(lease.sandbox().info().origin, Origin::Forked, "{name}");
        lease.destroy().await.unwrap();
        assert_eq!(engine.snapshots().await.unwrap().len(), 1, "{name}: it was made anew");
        engine.close().await;
        let after = fs::read(dir.join(name)).unwrap();
        assert!(name == "manifest" || after == before, "{name}");
    }
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn closed_early() {
    let state = state();
    for after in [0, 5, 20, 60, 120, 240] {
        let (engine, _) = open(state.path(), POOL).await;
        let spec = spec("any");
        let made = tokio::time::timeout(Duration::from_millis(after), engine.template(&spec)).await;
        engine.close().await;
        assert_eq!(left(state.path()), Vec::<String>::new(), "after {after} ms, made: {}", made.is_ok());
        fs::remove_dir_all(state.path().join("snapshots")).unwrap();
    }
}

async fn stands_by() {
    let state = state();
    let (engine, _) = open(state.path(), POOL).await;
    engine.keep_ready(&spec("any"), 2).await.unwrap();
    ready(&engine, 2).await;
    let mut leases = Vec::new();
    for name in ["one", "two"] {
        let lease = engine.lease(spec(name), &cancel()).await.unwrap();
        assert_eq!(lease.sandbox().info().origin, Origin::Pooled);
        // the directory was made for this lease
        said(&lease.sandbox(), "touch here && ls").await;
        leases.push(lease);
    }
    ready(&engine, 2).await;
    // also where it is to be kept when its owner dies
    let kept = LeaseSpec {
        on_owner_loss: OwnerLoss::Keep { until: std::time::SystemTime::now() + Duration::from_secs(60) },
        ..spec("three")
    };
    let lease = engine.lease(kept, &cancel()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, Origin::Pooled);
    leases.push(lease);
    for lease in leases {
        lease.destroy().await.unwrap();
    }
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

/// Puts a program among the hooks of whatever stands by.
fn hook(state: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    for slot in fs::read_dir(state.join("slots")).unwrap().flatten() {
        let dir = slot.path().join(testkit::fake::ROOT).join("etc/ampoule/after-fork.d");
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("10-test");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

async fn hooks() {
    let state = state();
    let (engine, _) = open(state.path(), POOL).await;
    engine.keep_ready(&spec("any"), 1).await.unwrap();
    ready(&engine, 1).await;
    let ran = state.path().join("ran");
    hook(state.path(), &format!("#!/bin/sh\necho ran >> {}\n", ran.display()));
    let lease = engine.lease(spec("one"), &cancel()).await.unwrap();
    said(&lease.sandbox(), ":").await;
    assert_eq!(fs::read_to_string(&ran).unwrap(), "ran\n");
    lease.destroy().await.unwrap();
    ready(&engine, 1).await;
    hook(state.path(), "#!/bin/sh\necho no luck\nexit 7\n");
    let lease = engine.lease(spec("two"), &cancel()).await.unwrap();
    let gone = lease.sandbox().gone().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(gone.to_string().contains("10-test failed: exit code 7: no luck"), "{gone}");
    lease.destroy().await.unwrap();
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn died() {
    let state = state();
    let (engine, _) = open(state.path(), POOL).await;
    engine.keep_ready(&spec("any"), 1).await.unwrap();
    ready(&engine, 1).await;
    let slot = fs::read_dir(state.path().join("slots")).unwrap().flatten().next().unwrap().path();
    let pid = jail::program_pid(&slot).unwrap();
    let killed = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    while jail::is_running(&slot).unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lease = engine.lease(spec("one"), &cancel()).await.unwrap();
    said(&lease.sandbox(), ":").await;
    assert!(
        !slot.exists() || lease.sandbox().id().to_string() != slot.file_name().unwrap().to_str().unwrap()
    );
    lease.destroy().await.unwrap();
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn victim(state: &Path) {
    let (engine, _) = open(state, POOL).await;
    engine.keep_ready(&spec("any"), 3).await.unwrap();
    loop {
        let lease = engine.lease(spec("victim"), &cancel()).await.unwrap();
        said(&lease.sandbox(), "setsid sleep 1000 & :").await;
        lease.destroy().await.unwrap();
    }
}

fn start_victim(state: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([VICTIM.as_ref(), state.as_os_str()]).stdin(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

async fn killed() {
    let state = state();
    let rounds: u32 = std::env::var("AMPOULE_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for round in 0..20 * rounds {
        let mut victim = start_victim(state.path());
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).unwrap();
        let after = Duration::from_millis(u64::from(u16::from_le_bytes(bytes)) % 600);
        tokio::time::sleep(after).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        let began = Instant::now();
        let (engine, swept) = open(state.path(), PoolLimits::NONE).await;
        assert!(swept.failed.is_empty(), "round {round}, after {after:?}: {swept:?}");
        loop {
            let mut remnants = left(state.path());
            // killed between two steps of making a slot: too young to be told from one that is being made
            remnants.retain(|what| !what.contains("/.new-"));
            if remnants.is_empty() {
                break;
            }
            assert!(began.elapsed() < CLEANED, "round {round}, after {after:?}: {remnants:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let half = fs::read_dir(state.path().join("snapshots")).unwrap().flatten();
        let half: Vec<_> =
            half.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
        assert!(half.is_empty(), "round {round}: {half:?}");
        engine.close().await;
    }
    let (engine, _) = open(state.path(), PoolLimits::NONE).await;
    let lease = engine.lease(spec("after"), &cancel()).await.unwrap();
    lease.destroy().await.unwrap();
    engine.close().await;
}
