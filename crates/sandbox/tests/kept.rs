//! VMs that are kept, on the fake backend, with the real shim and the real agent as processes: what is left, adopted,
//! ended, and by whom.
//!
//! This program is its own shim, agent and victim.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::print_stdout, reason = "the victim tells its parent how far it is")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    num::NonZeroU8,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    task::{Context, Waker},
    time::{Duration, Instant, SystemTime},
};

use libtest_mimic::{Arguments, Failed, Trial};
use sandbox::{
    Engine, EngineConfig, Error, ExecRequest, Gone, Holder, LeaseSpec, OutputMode, Patience, PoolLimits,
    Reserve, Root, Sandbox, Start, Stdin, Swept,
};
use tokio_util::sync::CancellationToken;
use vm::{Mebibytes, OwnerLoss, SlotId};

/// First argument of a process that leases, keeps some, and is killed.
const VICTIM: &str = "victim";
const HOUR: Duration = Duration::from_secs(3600);
/// How long the next start may take to remove, or to adopt, what a killed engine left.
const CLEANED: Duration = Duration::from_secs(5);
const MARK: &str = "kept-test";

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
        trial("what_is_left_is_the_engines_and_then_the_next_ones", left_and_adopted()),
        trial("a_handle_ends_nothing_and_an_end_ends_it", attached_and_ended()),
        trial("what_goes_with_its_owner_cannot_be_left", not_to_keep()),
        trial("a_time_that_is_up_ends_what_is_left", expires()),
        trial("a_time_is_moved_for_the_engine_the_shim_and_the_record", moved()),
        trial("of_two_engines_one_adopts", two_engines()),
        of_one_thread("many_at_once_in_one_engine_get_the_same_vm", at_once()),
        trial("an_adopted_vm_counts_where_there_is_no_room", counted()),
        trial("what_a_command_prints_after_its_owner_is_read_by_nobody_and_stops_nothing", unread()),
        trial("a_damaged_record_ends_its_vm", damaged()),
        trial("what_stood_by_can_be_kept", pooled()),
        trial("a_killed_owners_vms_are_adopted_or_gone", killed()),
        trial("owners_killed_at_random_points_leave_nothing_that_is_not_adopted", killed_at_random()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn trial(name: &str, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        block_on(test);
        Ok(())
    })
}

/// A trial whose order of events hangs on no other thread of the runtime.
fn of_one_thread(name: &str, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        Ok(())
    })
}

fn state() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("kept-test-").tempdir().unwrap()
}

async fn open_with(state: &Path, pool: PoolLimits, reserve: Reserve) -> (Engine, Swept) {
    let config = EngineConfig {
        state_dir: state.to_owned(),
        backend: testkit::fake::forking(),
        patience: Patience::default(),
        pool,
        reserve,
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.unwrap()
}

async fn open(state: &Path) -> Engine {
    open_with(state, PoolLimits::NONE, Reserve { memory: 0, disk: 0 }).await.0
}

fn spec(on_owner_loss: OwnerLoss) -> LeaseSpec {
    LeaseSpec { on_owner_loss, mark: Some(MARK.to_owned()), ..support::spec("kept") }
}

fn keep(after: Duration) -> LeaseSpec {
    spec(OwnerLoss::Keep { until: SystemTime::now() + after })
}

fn cancel() -> CancellationToken {
    CancellationToken::new()
}

fn sh(script: &str) -> ExecRequest {
    ExecRequest { output: OutputMode::Merged, ..support::sh(script) }
}

async fn said(sandbox: &Sandbox, script: &str) -> String {
    let collected = sandbox.exec(sh(script)).await.unwrap().collect(1 << 20).await.unwrap();
    String::from_utf8(collected.stdout).unwrap()
}

/// A file, and a process in the background that counts into another one.
const BUSY: &str =
    "echo mine > file; (while :; do echo x >> ticks; sleep 0.05; done) >/dev/null 2>&1 & echo $! > pid";

/// That both are there, and the process goes on.
async fn assert_busy(sandbox: &Sandbox) {
    assert_eq!(said(sandbox, "cat file").await, "mine\n");
    let counted =
        said(sandbox, "kill -0 $(cat pid) && a=$(wc -l < ticks); sleep 0.3; echo $(($(wc -l < ticks) - a))")
            .await;
    assert!(counted.trim().parse::<i32>().unwrap() > 0, "it stands still: {counted}");
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

async fn gone(state: &Path, within: Duration) {
    let began = Instant::now();
    loop {
        let left = left(state);
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < within, "{left:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn left_and_adopted() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let (id, info) = (lease.sandbox().id(), lease.sandbox().info().clone());
    assert!(engine.kept().await.unwrap().is_empty(), "it has a lease");
    assert!(matches!(engine.adopt(id).await, Err(Error::Owned { .. })));
    said(&lease.sandbox(), BUSY).await;
    lease.leave().await.unwrap();
    let [kept] = &engine.kept().await.unwrap()[..] else { panic!() };
    assert_eq!((kept.id, kept.holder, kept.mark.as_deref()), (id, Holder::ThisEngine, Some(MARK)));
    assert_eq!((kept.memory, kept.cpus, &kept.root), (Mebibytes(16), NonZeroU8::MIN, &Root::Hosted));
    // back to a lease and again
    let lease = engine.adopt(id).await.unwrap();
    assert_busy(&lease.sandbox()).await;
    assert!(engine.kept().await.unwrap().is_empty());
    lease.leave().await.unwrap();
    let killed = engine.lease(spec(OwnerLoss::Kill), &cancel()).await.unwrap();
    engine.close().await;
    drop(killed);
    drop(engine);

    let next = open(state.path()).await;
    let [kept] = &next.kept().await.unwrap()[..] else { panic!() };
    assert_eq!((kept.id, kept.holder, kept.origin), (id, Holder::Nobody, info.origin));
    let lease = next.adopt(id).await.unwrap();
    assert_eq!(lease.sandbox().id(), id);
    assert_eq!(*lease.sandbox().info(), info);
    assert_busy(&lease.sandbox()).await;
    lease.destroy().await.unwrap();
    gone(state.path(), Duration::ZERO).await;
    assert!(matches!(next.adopt(id).await, Err(Error::NotKept { .. })));
    next.close().await;
}

async fn attached_and_ended() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    assert_eq!(engine.attach(id).await.unwrap().id(), id, "of one with a lease");
    lease.leave().await.unwrap();
    engine.close().await;

    let next = open(state.path()).await;
    drop(next.attach(id).await.unwrap());
    next.attach(id).await.unwrap().ping().await.unwrap();
    let sandbox = next.attach(id).await.unwrap();
    next.end(id).await.unwrap();
    assert_eq!(*sandbox.gone().borrow(), Some(Gone::Destroyed));
    gone(state.path(), Duration::ZERO).await;
    next.end(id).await.unwrap();
    next.end(SlotId::new()).await.unwrap();

    // nobody's, and a lease's
    let lease = next.lease(keep(HOUR), &cancel()).await.unwrap();
    let nobodys = lease.sandbox().id();
    lease.leave().await.unwrap();
    next.close().await;
    let last = open(state.path()).await;
    last.end(nobodys).await.unwrap();
    gone(state.path(), Duration::ZERO).await;
    let lease = last.lease(keep(HOUR), &cancel()).await.unwrap();
    last.end(lease.sandbox().id()).await.unwrap();
    gone(state.path(), Duration::ZERO).await;
    assert!(matches!(lease.leave().await, Err(Error::Gone(_))));
    last.close().await;
}

async fn not_to_keep() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(spec(OwnerLoss::Kill), &cancel()).await.unwrap();
    assert!(matches!(lease.keep_until(SystemTime::now() + HOUR).await, Err(Error::NotToKeep)));
    assert!(matches!(lease.leave().await, Err(Error::NotToKeep)));
    engine.close().await;
    gone(state.path(), Duration::ZERO).await;
    // one that nobody left goes with its engine too
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    engine.close().await;
    gone(state.path(), Duration::ZERO).await;
    assert!(lease.leave().await.is_err());
}

async fn expires() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(Duration::from_millis(600)), &cancel()).await.unwrap();
    let sandbox = lease.sandbox();
    tokio::time::sleep(Duration::from_millis(700)).await;
    sandbox.ping().await.expect("who has a lease decides");
    lease.leave().await.unwrap();
    let mut end = sandbox.gone();
    assert_eq!(*end.wait_for(Option::is_some).await.unwrap(), Some(Gone::Expired));
    gone(state.path(), Duration::from_secs(2)).await;

    // without an engine its shim ends it, and the next engine removes it
    let lease = engine.lease(keep(Duration::from_millis(500)), &cancel()).await.unwrap();
    lease.leave().await.unwrap();
    engine.close().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let next = open(state.path()).await;
    assert!(next.kept().await.unwrap().is_empty());
    gone(state.path(), Duration::from_secs(2)).await;
    next.close().await;
}

async fn moved() {
    let state = state();
    let engine = open(state.path()).await;
    // later
    let lease = engine.lease(keep(Duration::from_millis(400)), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    let until = SystemTime::now() + HOUR;
    lease.keep_until(until).await.unwrap();
    lease.leave().await.unwrap();
    assert_eq!(engine.kept().await.unwrap()[0].until, until);
    tokio::time::sleep(Duration::from_millis(500)).await;
    engine.attach(id).await.unwrap().ping().await.unwrap();
    engine.close().await;
    let next = open(state.path()).await;
    assert_eq!(next.kept().await.unwrap()[0].until, until);
    // sooner, of one that is left
    let sandbox = next.attach(id).await.unwrap();
    next.keep_until(id, SystemTime::now() + Duration::from_millis(200)).await.unwrap();
    assert_eq!(*sandbox.gone().wait_for(Option::is_some).await.unwrap(), Some(Gone::Expired));
    gone(state.path(), Duration::from_secs(2)).await;

    // sooner, for a shim without an owner
    let lease = next.lease(keep(HOUR), &cancel()).await.unwrap();
    lease.keep_until(SystemTime::now() + Duration::from_millis(500)).await.unwrap();
    lease.leave().await.unwrap();
    next.close().await;
    let processes = |state: &Path| left(state).iter().any(|left| left.starts_with("process"));
    let began = Instant::now();
    while processes(state.path()) {
        assert!(began.elapsed() < Duration::from_secs(3), "{:#?}", left(state.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    open(state.path()).await.close().await;
    gone(state.path(), Duration::ZERO).await;
}

async fn two_engines() {
    let state = state();
    for _ in 0..10 {
        let first = open(state.path()).await;
        let lease = first.lease(keep(HOUR), &cancel()).await.unwrap();
        let id = lease.sandbox().id();
        lease.leave().await.unwrap();
        let (one, two) = (open(state.path()).await, open(state.path()).await);
        assert!(one.kept().await.unwrap().is_empty(), "another engine holds it");
        assert!(matches!(one.adopt(id).await, Err(Error::Owned { .. })));
        assert!(matches!(one.end(id).await, Err(Error::Owned { .. })));
        first.close().await;
        let (a, b) = tokio::join!(one.adopt(id), two.adopt(id));
        let mut got = 0;
        for adopted in [a, b] {
            match adopted {
                Ok(lease) => {
                    got += 1;
                    lease.sandbox().ping().await.unwrap();
                    lease.destroy().await.unwrap();
                }
                Err(error) => assert!(matches!(error, Error::Owned { .. }), "{error}"),
            }
        }
        assert_eq!(got, 1);
        one.close().await;
        two.close().await;
        gone(state.path(), Duration::ZERO).await;
    }
}

async fn at_once() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    lease.leave().await.unwrap();
    engine.close().await;
    let next = open(state.path()).await;
    {
        // whoever gives up in the midst of it takes nothing along; on this one thread nobody else goes on during a poll
        let mut adopt = std::pin::pin!(next.adopt(id));
        assert!(adopt.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (a, b, c) = tokio::join!(next.attach(id), next.attach(id), next.attach(id));
    for sandbox in [a, b, c] {
        sandbox.unwrap().ping().await.unwrap();
    }
    let (a, b) = tokio::join!(next.adopt(id), next.adopt(id));
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "{a:?} {b:?}");
    drop((a, b));
    next.close().await;
    gone(state.path(), Duration::ZERO).await;
}

async fn counted() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    lease.leave().await.unwrap();
    engine.close().await;
    // with no VM that could end, a lack is an error; with an adopted one it is waited for
    let full = Reserve { memory: 1 << 60, disk: 0 };
    let (next, _) = open_with(state.path(), PoolLimits::NONE, full).await;
    let wanted = LeaseSpec { start: Start::Boot, ..spec(OwnerLoss::Kill) };
    assert!(matches!(next.lease(wanted.clone(), &cancel()).await, Err(Error::NoRoom { .. })));
    let lease = next.adopt(id).await.unwrap();
    let waiting = {
        let cancel = cancel();
        let wanted = next.lease(wanted, &cancel);
        tokio::time::timeout(Duration::from_millis(300), wanted).await
    };
    assert!(waiting.is_err(), "{waiting:?}");
    lease.destroy().await.unwrap();
    next.close().await;
}

async fn unread() {
    let state = state();
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    // far more than the credit of a stream, and then something that shows
    let printing = "i=0; while [ $i -lt 40000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; \
                    echo done > done; cat; echo read > read";
    let request = ExecRequest { stdin: Stdin::Pipe, ..sh(printing) };
    let running = lease.sandbox().exec(request).await.unwrap();
    assert_eq!(said(&lease.sandbox(), "sleep 0.3; ls").await, "", "its output is read by nobody yet");
    lease.leave().await.unwrap();
    engine.close().await;
    drop(running);
    let next = open(state.path()).await;
    let sandbox = next.attach(id).await.unwrap();
    let began = Instant::now();
    while said(&sandbox, "ls").await != "done\nread\n" {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    next.end(id).await.unwrap();
    next.close().await;
}

async fn damaged() {
    let state = state();
    for text in ["{", "", "{\"version\":99}"] {
        let engine = open(state.path()).await;
        let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
        let id = lease.sandbox().id();
        lease.leave().await.unwrap();
        engine.close().await;
        fs::write(state.path().join("slots").join(id.to_string()).join("kept.json"), text).unwrap();
        let (next, swept) = open_with(state.path(), PoolLimits::NONE, Reserve::default()).await;
        assert_eq!(swept.removed, [id.to_string()]);
        gone(state.path(), Duration::ZERO).await;
        assert!(matches!(next.adopt(id).await, Err(Error::NotKept { .. })));
        next.close().await;
    }
    // after the start, too
    let engine = open(state.path()).await;
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    let id = lease.sandbox().id();
    lease.leave().await.unwrap();
    let next = open(state.path()).await;
    engine.close().await;
    fs::write(state.path().join("slots").join(id.to_string()).join("slot.json"), "[]").unwrap();
    assert!(matches!(next.adopt(id).await, Err(Error::NotKept { .. })));
    gone(state.path(), Duration::ZERO).await;
    next.close().await;
}

async fn pooled() {
    let state = state();
    let pool = PoolLimits { most: 1, memory: Mebibytes(1 << 16) };
    let (engine, _) = open_with(state.path(), pool, Reserve { memory: 0, disk: 0 }).await;
    engine.keep_ready(&keep(HOUR), 1).await.unwrap();
    while engine.ready() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, sandbox::Origin::Pooled);
    let id = lease.sandbox().id();
    said(&lease.sandbox(), BUSY).await;
    lease.leave().await.unwrap();
    engine.close().await;
    let next = open(state.path()).await;
    assert_busy(&next.attach(id).await.unwrap()).await;
    next.end(id).await.unwrap();
    next.close().await;
    gone(state.path(), Duration::ZERO).await;
}

/// Leases two to be kept and one that is not, one after the other, and says so; then goes on leasing.
async fn victim(state: &Path) {
    let engine = open(state).await;
    let mut leases = Vec::new();
    for policy in [keep(HOUR), spec(OwnerLoss::Kill), keep(HOUR)] {
        let lease = engine.lease(policy, &cancel()).await.unwrap();
        said(&lease.sandbox(), BUSY).await;
        println!("{}", lease.sandbox().id());
        leases.push(lease);
    }
    leases.pop().unwrap().leave().await.unwrap();
    println!("left");
    loop {
        let lease = engine.lease(keep(HOUR), &cancel()).await.unwrap();
        let other = engine.lease(spec(OwnerLoss::Kill), &cancel()).await.unwrap();
        said(&lease.sandbox(), BUSY).await;
        lease.destroy().await.unwrap();
        other.destroy().await.unwrap();
    }
}

fn start(state: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([VICTIM.as_ref(), state.as_os_str()]).stdout(Stdio::piped());
    command.spawn().unwrap()
}

async fn killed() {
    let state = state();
    let mut child = start(state.path());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines.map(Result::unwrap).take_while(|line| line != "left").collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let ids: Vec<SlotId> = said.iter().map(|id| id.parse().unwrap()).collect();

    let began = Instant::now();
    let (next, _) = open_with(state.path(), PoolLimits::NONE, Reserve { memory: 0, disk: 0 }).await;
    let kept: Vec<SlotId> = next.kept().await.unwrap().iter().map(|kept| kept.id).collect();
    assert!(
        kept.contains(&ids[0]) && kept.contains(&ids[2]) && !kept.contains(&ids[1]),
        "{kept:?} of {ids:?}"
    );
    for id in [ids[0], ids[2]] {
        assert_busy(&next.attach(id).await.unwrap()).await;
    }
    assert!(began.elapsed() < CLEANED, "{:?}", began.elapsed());
    for kept in next.kept().await.unwrap() {
        next.end(kept.id).await.unwrap();
    }
    gone(state.path(), CLEANED).await;
    next.close().await;
}

async fn killed_at_random() {
    let rounds = 20 * std::env::var("AMPOULE_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let state = state();
    let mut adopted = 0;
    for round in 0..rounds {
        let mut byte = [0; 2];
        getrandom::fill(&mut byte).unwrap();
        let after = Duration::from_millis(u64::from(u16::from_ne_bytes(byte)) * 800 / 65536);
        let mut child = start(state.path());
        tokio::time::sleep(after).await;
        child.kill().unwrap();
        child.wait().unwrap();

        let began = Instant::now();
        let next = open(state.path()).await;
        let mut mine = Vec::new();
        for kept in next.kept().await.unwrap() {
            assert_eq!(kept.mark.as_deref(), Some(MARK));
            let lease = match next.adopt(kept.id).await {
                Ok(lease) => lease,
                // its owner was about to end it, or had not told its shim yet to keep it
                Err(Error::NotKept { .. }) => continue,
                Err(error) => panic!("round {round}, {after:?}: {error}"),
            };
            lease.sandbox().ping().await.unwrap();
            adopted += 1;
            mine.push(kept.id.to_string());
            lease.leave().await.unwrap();
        }
        // nothing is left but those
        loop {
            let left = left(state.path());
            let strangers: Vec<_> =
                left.iter().filter(|left| !mine.iter().any(|id| left.contains(id))).collect();
            if strangers.iter().all(|left| left.contains("sleep") || left.contains("sh -c")) {
                break;
            }
            let late = began.elapsed() < CLEANED;
            assert!(late, "round {round}, killed after {after:?}: {strangers:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for id in mine {
            next.end(id.parse().unwrap()).await.unwrap();
        }
        gone(state.path(), CLEANED).await;
        next.close().await;
    }
    assert!(adopted > 0, "none was killed when it had something to keep");
}
