//! Branches of running VMs, on real ones: what goes on, in whom, and what must be different.

use std::{
    collections::HashSet,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libtest_mimic::Trial;
use sandbox::{
    Account, Bind, Branch, Engine, Error, ExecRequest, ForkSpec, Inherited, Lease, LeaseSpec, Origin,
    OutputMode, PoolLimits, Running, Sandbox, Stdin,
};
use tokio::{io::AsyncWriteExt, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use vm::OwnerLoss;

use crate::pool::{engine, said, spec, trial};

/// Of a command that is limited.
const TIME: Duration = Duration::from_secs(8);
/// More than any of it takes, on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fifty_forks_of_one_branch_are_all_different", different),
        trial("a_branch_under_load_goes_on_in_both", || load(3)),
        trial("branches_at_once_wait_for_each_other_and_outlive_their_vm", at_once),
        trial("an_adopted_vm_is_whole_and_is_branched", adopted),
        trial("a_hundred_branches_under_load_go_on_in_both", || load(100)).with_ignored_flag(true),
        trial("how_long_a_branch_takes", figures).with_ignored_flag(true),
    ]
}

/// Left by one engine, taken over by the next: its files and processes go on in it and in a branch of it.
async fn adopted() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = engine(dir.path(), PoolLimits::NONE).await;
    let until = SystemTime::now() + Duration::from_secs(600);
    let kept = LeaseSpec { on_owner_loss: OwnerLoss::Keep { until }, ..spec("kept") };
    let lease = first.lease(kept, &CancellationToken::new()).await.expect("a lease");
    let (id, info) = (lease.sandbox().id(), lease.sandbox().info().clone());
    assert_eq!(info.origin, Origin::Forked);
    let busy =
        "echo mine > /root/file; (while :; do echo x >> /root/ticks; sleep 0.05; done) >/dev/null 2>&1 &";
    said(&lease.sandbox(), busy).await;
    lease.leave().await.expect("it is kept");
    first.close().await;

    let next = engine(dir.path(), PoolLimits::NONE).await;
    let began = Instant::now();
    let lease = next.adopt(id).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    vm_tests::say(&format!("adopted in {:?}", began.elapsed()));
    assert_eq!(*lease.sandbox().info(), info);
    let look =
        "cat /root/file; a=$(wc -l < /root/ticks); sleep 1; test $(wc -l < /root/ticks) -gt $a && echo on";
    assert_eq!(said(&lease.sandbox(), look).await, "mine\non");
    let copy = branch(&lease.sandbox()).await;
    let forked = fork(&next, &copy, "copy", Inherited::GoOn).await;
    for sandbox in [lease.sandbox(), forked.sandbox()] {
        assert_eq!(said(&sandbox, look).await, "mine\non");
    }
    for lease in [lease, forked] {
        lease.destroy().await.expect("nothing is left");
    }
    drop(copy);
    next.close().await;
    assert!(vm_tests::host::remnants(dir.path()).is_empty());
}

fn fork_spec(name: &str, inherited: Inherited) -> ForkSpec {
    ForkSpec {
        bind: Bind { hostname: name.to_owned(), ..Bind::default() },
        on_owner_loss: OwnerLoss::Kill,
        inherited,
    }
}

async fn fork(engine: &Engine, branch: &Branch, name: &str, inherited: Inherited) -> Lease {
    let forked = engine.lease_branch(branch, fork_spec(name, inherited), &CancellationToken::new()).await;
    let lease = forked.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
    assert_eq!(lease.sandbox().info().origin, Origin::Branched);
    lease
}

async fn branch(sandbox: &Sandbox) -> Branch {
    sandbox.branch().await.unwrap_or_else(|error| panic!("branch: {}", chain(&error)))
}

/// A guest whose disk is slow may not stand still in time: its processes wait in the kernel for what they write. Then
/// it is not branched, goes on, and can be asked again.
async fn branch_of_busy(sandbox: &Sandbox) -> Branch {
    for _ in 0..5 {
        match sandbox.branch().await {
            Ok(branch) => return branch,
            Err(Error::NotFrozen { .. }) => {}
            Err(Error::Guest { message, .. }) if message.contains("the job does not stop") => {}
            Err(error) => panic!("branch: {}", chain(&error)),
        }
        vm_tests::say("a busy VM did not stand still in time");
        goes_on(sandbox, "a source that was not branched").await;
    }
    panic!("a busy VM never stands still");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

async fn started(sandbox: &Sandbox, script: &str, stdin: Stdin) -> Running {
    started_for(sandbox, script, stdin, None).await
}

async fn started_for(sandbox: &Sandbox, script: &str, stdin: Stdin, limit: Option<Duration>) -> Running {
    let request = ExecRequest {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: Account::ROOT,
        stdin,
        output: OutputMode::Merged,
        timeout: limit,
    };
    sandbox.exec(request).await.expect("a command")
}

/// What has to be another in each fork, one per line; then what they only have to know.
const FACTS: &str = "exec python3 -I -S -c '
import os, random, time, uuid
for name in \"/etc/hostname\", \"/etc/machine-id\", \"/proc/sys/kernel/random/uuid\":
    print(open(name).read().strip())
for name in \"/dev/urandom\", \"/dev/random\":
    print(open(name, \"rb\", 0).read(16).hex())
print(random.random()); print(uuid.uuid4()); print(os.getrandom(16).hex())
print(os.uname().nodename); print(time.time())'";

async fn different() {
    const FORKS: usize = 50;
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(engine(dir.path(), PoolLimits::NONE).await);
    let source = engine.lease(spec("source"), &CancellationToken::new()).await.expect("a lease");
    let sandbox = source.sandbox();
    // translated once, for all
    said(&sandbox, FACTS).await;
    // under way when the branch is made: output that nobody takes, an end that is told a moment later, answers
    let unread = started(&sandbox, "exec yes", Stdin::Null).await;
    let mut ending = started(&sandbox, "exec sleep 0.1", Stdin::Null).await;
    let pings = {
        let sandbox = sandbox.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                sandbox.ping().await.expect("an answer");
            }
        })
    };
    let branch = branch(&sandbox).await;
    assert!(ending.exit().await.expect("an end").success());
    pings.await.expect("every ping is answered");

    let few = Arc::new(Semaphore::new(3));
    let forks: Vec<_> = (0..FORKS)
        .map(|number| {
            let (engine, branch, few) = (Arc::clone(&engine), branch.clone(), Arc::clone(&few));
            tokio::spawn(async move {
                let _turn = few.acquire().await.expect("a turn");
                let name = format!("fork-{number}");
                let lease = fork(&engine, &branch, &name, Inherited::GoOn).await;
                let facts = said(&lease.sandbox(), FACTS).await;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
                // whoever is told what another epoch had asked for breaks the protocol, and is gone
                lease.sandbox().ping().await.expect("it goes on");
                assert!(lease.sandbox().gone().borrow().is_none());
                lease.destroy().await.expect("nothing is left");
                (name, facts, now)
            })
        })
        .collect();
    let mut seen = HashSet::new();
    for fork in forks {
        let (name, facts, now) = fork.await.expect("no panic");
        let lines: Vec<&str> = facts.lines().collect();
        assert_eq!(lines.len(), 10, "{facts}");
        assert_eq!((lines[0], lines[8]), (name.as_str(), name.as_str()));
        for line in &lines[..8] {
            assert!(seen.insert((*line).to_owned()), "{line} of {name} is another's, too");
        }
        let clock: f64 = lines[9].parse().expect("a time");
        assert!((now - clock).abs() < 5.0, "{name}: {clock} at {now}");
    }
    assert_eq!(seen.len(), FORKS * 8);
    drop(unread);
    said(&sandbox, ":").await;
    drop(branch);
    source.destroy().await.expect("nothing is left");
    engine.close().await;
    assert_eq!(std::fs::read_dir(dir.path().join("slots")).expect("slots").count(), 0);
}

/// A compiler, and a file that is written, for ever: each round is checked by itself, and what is wrong is said.
const LOAD: &str = r#"
    mkdir -p /work && cd /work
    cat > prime.c <<'END'
int primes(int most) { int n = 0; for (int i = 2; i < most; i++) { int j = 2; while (i % j) j++; n += j == i; } return n; }
END
    gcc -O1 -S -o first prime.c && grep -q idiv first || echo "no compiler" >> failed
    seq 5000 > pattern; : > rows; echo 0 > compiled; echo 0 > written
    (n=0; while :; do
        gcc -O1 -S -o prime prime.c && cmp first prime || echo "compiled $n" >> failed
        n=$((n + 1)); echo $n > compiled.new && mv compiled.new compiled
    done) > /dev/null 2>&1 &
    (n=0; while :; do
        f=file$((n % 7)); rm -f $f; cat pattern pattern > $f; [ $((n % 10)) = 0 ] && sync
        cat pattern pattern | cmp - $f || echo "written $n" >> failed
        n=$((n + 1)); echo $n >> rows; echo $n > written.new && mv written.new written
    done) > /dev/null 2>&1 &
    echo loaded"#;

/// How far the load is: what was compiled, what was written. Panics where it has found a fault.
async fn progress(sandbox: &Sandbox) -> [u64; 2] {
    let script =
        "cd /work; cat failed 2> /dev/null; n=$(cat written); seq $n | cmp -n $(seq $n | wc -c) - rows
        echo $(cat compiled) $n";
    let text = said(sandbox, script).await;
    let mut numbers = text.split(' ').map(|word| word.parse().unwrap_or_else(|_| panic!("the load: {text}")));
    [numbers.next().expect("a number"), numbers.next().expect("a number")]
}

async fn goes_on(sandbox: &Sandbox, who: &str) {
    let wait = async {
        let before = progress(sandbox).await;
        loop {
            let now = progress(sandbox).await;
            if before.iter().zip(now).all(|(before, now)| now > *before) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("the load of {who} stands still"));
}

/// Sends numbers to a command that sends them back, and reads them, until it is told to end; how many there were.
async fn echoed(mut running: Running, stop: CancellationToken) -> u64 {
    let mut input = running.stdin.take().expect("a pipe");
    let sender = tokio::spawn(async move {
        let mut sent = 0_u64;
        while !stop.is_cancelled() {
            let lines: String = (sent..sent + 500).map(|number| format!("{number}\n")).collect();
            input.write_all(lines.as_bytes()).await.expect("the guest reads");
            sent += 500;
            // not all that the host can: the guest has other work, too
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent
    });
    let (mut next, mut rest) = (0_u64, Vec::new());
    while let Some(chunk) = running.output.next().await.expect("the VM goes on") {
        rest.extend_from_slice(&chunk.bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8(line).expect("digits");
            assert_eq!(line.trim_end().parse(), Ok(next), "a line is lost or doubled");
            next += 1;
        }
    }
    assert_eq!(next, sender.await.expect("no panic"));
    assert!(running.exit().await.expect("an end").success());
    next
}

/// Looks at a copy of a disk: first what any mount does with it, which is to replay the journal and to let go of files
/// that were removed while somebody had them open; after that nothing at all may be wrong.
fn whole(disk: &Path, beside: &Path) -> Result<(), String> {
    let copy = beside.join("checked.img");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let run = |program: &str, args: &[&str], files: &[&Path]| {
        let output = Command::new(program).args(args).args(files).env("PATH", &path).output();
        output.expect("the program runs")
    };
    let copied = run("cp", &["--sparse=always"], &[disk, &copy]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let mounted = run("e2fsck", &["-p"], &[&copy]);
    // 1: it has done some of that
    let all = if matches!(mounted.status.code(), Some(0 | 1)) {
        run("e2fsck", &["-f", "-n"], &[&copy])
    } else {
        mounted
    };
    if all.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&all.stdout).into_owned()) }
}

/// Ends all that the guest does with its disk and looks at the file system on it.
async fn checked(lease: Lease, state: &Path, who: &str) {
    let sandbox = lease.sandbox();
    // all that can still write is stopped, then everything is written and mounted read-only
    // (a file that is removed while it is open, and closed after, would be left half removed)
    said(&sandbox, "kill -9 -1; sleep 0.5; sync; echo u > /proc/sysrq-trigger").await;
    let disk = state.join("slots").join(sandbox.id().to_string()).join("scratch.img");
    let wait = Instant::now();
    while let Err(text) = whole(&disk, state) {
        // the emergency remount happens a moment after it was asked for
        assert!(wait.elapsed() < Duration::from_secs(20), "the file system of {who}:\n{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    lease.destroy().await.expect("nothing is left");
}

/// A branch of a VM under load, its fork under the same load, a branch of that, and so on.
async fn load(rounds: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let mut source = engine.lease(spec("generation-0"), &CancellationToken::new()).await.expect("a lease");
    assert_eq!(said(&source.sandbox(), LOAD).await, "loaded");
    let mut times = Vec::new();
    for round in 1..=rounds {
        let sandbox = source.sandbox();
        let stop = CancellationToken::new();
        let echo = tokio::spawn(echoed(started(&sandbox, "exec cat", Stdin::Pipe).await, stop.clone()));
        goes_on(&sandbox, "the source before its branch").await;
        let branch = branch_of_busy(&sandbox).await;
        times.push(branch.times());
        let name = format!("generation-{round}");
        // at the same time
        let (next, ()) =
            tokio::join!(fork(&engine, &branch, &name, Inherited::GoOn), goes_on(&sandbox, "the source"));
        drop(branch);
        goes_on(&next.sandbox(), "the fork").await;
        assert!(!echo.is_finished(), "the stream ended");
        stop.cancel();
        assert!(echo.await.expect("the stream is whole") > 0);
        checked(source, dir.path(), &format!("the source of round {round}")).await;
        source = next;
    }
    checked(source, dir.path(), "the last fork").await;
    say_times(&format!("{rounds} branches under load"), &times);
    engine.close().await;
    assert_eq!(std::fs::read_dir(dir.path().join("slots")).expect("slots").count(), 0);
}

async fn at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(engine(dir.path(), PoolLimits::NONE).await);
    let source = engine.lease(spec("source"), &CancellationToken::new()).await.expect("a lease");
    let sandbox = source.sandbox();
    said(&sandbox, "echo before > /root/file").await;
    let old = started(&sandbox, "echo mine; exec sleep 1000", Stdin::Null).await;
    let mut branches = Vec::new();
    for _ in 0..3 {
        let sandbox = sandbox.clone();
        branches.push(tokio::spawn(async move { branch(&sandbox).await }));
    }
    // one that nobody waits for any more
    drop(tokio::time::timeout(Duration::from_millis(1), sandbox.branch()).await);
    // what is asked meanwhile is done after, and nothing of it is refused
    for number in 0..10 {
        assert_eq!(said(&sandbox, &format!("echo {number}")).await, number.to_string());
    }
    let mut forks = Vec::new();
    for (number, branch) in branches.into_iter().enumerate() {
        let branch = branch.await.expect("no panic");
        for twin in ["a", "b"] {
            let (engine, branch) = (Arc::clone(&engine), branch.clone());
            let inherited = match twin {
                "a" => Inherited::Kill,
                _ => Inherited::KillOnly(vec![old.id()]),
            };
            forks.push(tokio::spawn(async move {
                let name = format!("fork-{number}{twin}");
                let lease = fork(&engine, &branch, &name, inherited).await;
                let text =
                    said(&lease.sandbox(), "cat /root/file; pgrep -x sleep; echo $(hostname) > /root/file")
                        .await;
                assert_eq!(text, "before", "{name}");
                (lease, name)
            }));
        }
    }
    for fork in forks {
        let (lease, name) = fork.await.expect("no panic");
        assert_eq!(said(&lease.sandbox(), "cat /root/file").await, name);
        lease.destroy().await.expect("nothing is left");
    }
    assert_eq!(said(&sandbox, "cat /root/file; pgrep -xc sleep").await, "before\n1");

    // a command whose time is over by the host's clock, and not by that of a fork that stood still meanwhile
    let limited = started_for(&sandbox, "exec sleep 1001", Stdin::Null, Some(TIME)).await;
    let began = Instant::now();
    let branch = branch(&sandbox).await;
    tokio::time::sleep(TIME.saturating_sub(began.elapsed())).await;
    // a VM that is destroyed in the middle of it
    let last = {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { sandbox.branch().await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    source.destroy().await.expect("nothing is left");
    match last.await.expect("no panic") {
        Err(Error::Gone(_)) | Ok(_) => {}
        Err(other) => panic!("{}", chain(&other)),
    }
    // its parent is gone, and it can be forked all the same
    let fork = fork(&engine, &branch, "orphan", Inherited::GoOn).await;
    assert_eq!(said(&fork.sandbox(), "hostname; pgrep -cf '^sleep 100[01]'").await, "orphan\n2");
    let wait = async { while said(&fork.sandbox(), "pgrep -cf '^sleep 100[01]' || :").await != "1" {} };
    tokio::time::timeout(LIMIT, wait).await.expect("its time is over, too");
    drop(limited);
    fork.destroy().await.expect("nothing is left");
    engine.close().await;
    let late =
        engine.lease_branch(&branch, fork_spec("late", Inherited::GoOn), &CancellationToken::new()).await;
    assert!(matches!(late, Err(Error::Closed)));
    assert_eq!(std::fs::read_dir(dir.path().join("slots")).expect("slots").count(), 0);
}

async fn figures() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let lease = engine.lease(spec("source"), &CancellationToken::new()).await.expect("a lease");
    said(&lease.sandbox(), "python3 -c 'print(1)'; ls -lR /usr/lib > /root/list").await;
    let (mut times, mut ups) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let branch = branch(&lease.sandbox()).await;
        times.push(branch.times());
        let fork = fork(&engine, &branch, "fork", Inherited::GoOn).await;
        ups.push(fork.sandbox().info().boot);
        said(&fork.sandbox(), ":").await;
        fork.destroy().await.expect("nothing is left");
    }
    say_times("20 branches of an idle VM", &times);
    ups.sort();
    vm_tests::say(&format!("their forks were ready after {:?} (p50), {:?} (most)", ups[10], ups[19]));
    lease.destroy().await.expect("nothing is left");
    engine.close().await;
}

fn say_times(what: &str, times: &[sandbox::BranchTimes]) {
    let say = |what: &str, of: fn(&sandbox::BranchTimes) -> Duration| {
        let mut all: Vec<Duration> = times.iter().map(of).collect();
        all.sort();
        format!("{what} {:?} (p50) {:?} (most)", all[all.len() / 2], all[all.len() - 1])
    };
    let [pause, frozen, total] = [
        say("pause", |times| times.pause),
        say("frozen", |times| times.frozen),
        say("total", |times| times.total),
    ];
    vm_tests::say(&format!("{what}: {pause}, {frozen}, {total}"));
}
