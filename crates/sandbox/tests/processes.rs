//! The engine with the real shim and the real agent, as processes: what is left of them, whatever dies.
//!
//! This program is its own shim, agent and victim. `AMPOULE_TEST_ROUNDS` multiplies the rounds of the tests
//! that end things at random points.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::print_stdout, reason = "the victim tells its parent how far it is")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Cursor, Read},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use sandbox::{
    Account, Engine, EngineConfig, Error, FetchLimits, Gone, Lease, LeaseSpec, OutputMode, Patience, Stdin,
    Stream, Swept, TerminalSize,
};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use support::sh;

/// First argument of a process that leases, runs a command and waits to be killed.
const VICTIM: &str = "victim";

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
        trial("commands_run_with_what_they_are_given", commands()),
        trial("a_slow_reader_loses_nothing", slow_reader()),
        trial("a_command_has_the_terminal_that_it_is_given", terminal()),
        trial("trees_go_in_and_out", trees()),
        trial("a_vm_that_ends_says_so", powered_off()),
        trial("destroy_ends_processes_that_left_their_session", escapees()),
        trial("cancelled_leases_leave_nothing", cancelled()),
        trial("killed_owners_leave_nothing_after_the_next_start", killed_owners()),
        trial("engines_of_two_processes_leave_each_other_alone", two_processes()),
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

fn rounds(usual: u32) -> u32 {
    usual * std::env::var("AMPOULE_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

async fn open(state: &Path) -> (Engine, Swept) {
    let config = EngineConfig {
        state_dir: state.to_owned(),
        backend: testkit::fake::backend(),
        patience: Patience::default(),
        pool: sandbox::PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    };
    Engine::open(config).await.unwrap()
}

fn spec() -> LeaseSpec {
    support::spec("guest")
}

async fn lease(engine: &Engine) -> Lease {
    engine.lease(spec(), &CancellationToken::new()).await.unwrap()
}

/// Processes, mounts and slots that have to do with `state`.
fn left(state: &Path) -> Vec<String> {
    let name = state.to_str().unwrap();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name() == std::process::id().to_string().as_str() {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.contains(name) || cwd.starts_with(state) {
            left.push(format!("process {:?}: {command}", entry.file_name()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    let slots = fs::read_dir(state.join("slots")).into_iter().flatten().flatten();
    left.extend(slots.map(|slot| format!("slot {}", slot.path().display())));
    left
}

/// A state directory with a name that nothing else has.
fn state() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("sandbox-test-").tempdir().unwrap()
}

async fn commands() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let script = "echo $GREETING; echo oops >&2; pwd; exit 3";
    let collected = sandbox.exec(sh(script)).await.unwrap().collect(1 << 20).await.unwrap();
    let prefix = &sandbox.info().root_prefix;
    assert_eq!(String::from_utf8(collected.stdout).unwrap(), format!("hello\n{prefix}/work\n"));
    assert_eq!(collected.stderr, b"oops\n");
    assert_eq!((collected.exited.code, collected.exited.signal), (Some(3), None));

    let mut request = sh("cat; kill -TERM $$");
    request.stdin = Stdin::Bytes(b"input".to_vec());
    let collected = sandbox.exec(request).await.unwrap().collect(100).await.unwrap();
    assert_eq!((collected.stdout.as_slice(), collected.exited.signal), (&b"input"[..], Some(15)));

    let mut request = sh("sleep 1000");
    request.timeout = Some(Duration::from_millis(10));
    assert!(sandbox.exec(request).await.unwrap().exit().await.unwrap().timed_out);

    let mut running =
        sandbox.exec(sh("trap 'echo caught; exit 4' INT; echo ready; sleep 1000 & wait")).await.unwrap();
    let first = running.output.next().await.unwrap().unwrap();
    assert_eq!((first.stream, first.bytes.as_slice()), (Stream::Stdout, &b"ready\n"[..]));
    running.signal(2).await.unwrap();
    assert_eq!(running.output.next().await.unwrap().unwrap().bytes, b"caught\n");
    assert_eq!(running.exit().await.unwrap().code, Some(4));

    let mut request = sh("");
    request.argv = vec!["no-such-program".into()];
    assert!(matches!(sandbox.exec(request).await, Err(Error::Guest { .. })));
    lease.destroy().await.unwrap();
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn slow_reader() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let lines = 1_000_000;
    let mut running = sandbox.exec(sh(&format!("seq {lines}"))).await.unwrap();
    // Others are not held up while nobody reads.
    let other = sandbox.exec(sh("seq 100000")).await.unwrap().collect(1 << 20).await.unwrap();
    assert!(other.stdout.ends_with(b"\n100000\n"));
    let (mut rest, mut next) = (Vec::new(), 1);
    while let Some(chunk) = running.output.next().await.unwrap() {
        rest.extend_from_slice(&chunk.bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: u32 = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
            assert_eq!(line, next);
            next += 1;
            rest.drain(..=end);
        }
    }
    assert_eq!((next, rest.len()), (lines + 1, 0));
    assert!(running.exit().await.unwrap().success());
    lease.destroy().await.unwrap();
    engine.close().await;
}

async fn terminal() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let with_terminal = |script: &str| {
        let mut request = sh(script);
        request.stdin = Stdin::Pipe;
        request.output = OutputMode::Terminal(TerminalSize::new(30, 100).unwrap());
        request
    };
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size
        trap 'stty size; seen=1' WINCH; echo ready >&2; while test -z \"$seen\"; do sleep 0.02; done
        sed -u 's/^/got /'; exit 1";
    let mut running = sandbox.exec(with_terminal(script)).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let mut seen = String::new();
    let mut wait = async |running: &mut sandbox::Running, wanted: &str| {
        while !seen.contains(wanted) {
            let chunk = running.output.next().await.unwrap().unwrap_or_else(|| panic!("{seen:?}"));
            assert_eq!(chunk.stream, Stream::Stdout);
            seen.push_str(&String::from_utf8(chunk.bytes).unwrap());
        }
    };
    wait(&mut running, "30 100\r\nready\r\n").await;
    running.control().resize(TerminalSize::new(40, 132).unwrap()).await.unwrap();
    wait(&mut running, "40 132\r\n").await;
    stdin.write_all(b"hello\r").await.unwrap();
    wait(&mut running, "got hello\r\n").await;
    stdin.write_all(b"\x03").await.unwrap();
    wait(&mut running, "^C").await;
    while running.output.next().await.unwrap().is_some() {}
    assert_eq!(running.exit().await.unwrap().signal, Some(2));
    running.control().resize(TerminalSize::USUAL).await.unwrap();

    // A large output, whose reader is slow.
    let mut running = sandbox.exec(with_terminal("stty -opost; seq 200000; exit 5")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut all = Vec::new();
    while let Some(chunk) = running.output.next().await.unwrap() {
        all.extend(chunk.bytes);
    }
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(all == expected.as_bytes(), "{} bytes", all.len());
    assert_eq!(running.exit().await.unwrap().code, Some(5));

    let running = sandbox.exec(with_terminal("trap '' HUP INT TERM; sleep 1000")).await.unwrap();
    drop(running);
    let plain = sandbox.exec(sh("sleep 1000")).await.unwrap();
    let error = plain.control().resize(TerminalSize::USUAL).await.unwrap_err();
    assert!(matches!(error, Error::Guest { .. }), "{error}");
    drop(plain);
    let sleeps = || left(state.path()).iter().filter(|one| one.contains("sleep 1000")).count();
    for _ in 0..500 {
        if sleeps() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sleeps(), 0, "dropping does not kill");
    lease.destroy().await.unwrap();
    engine.close().await;
}

async fn trees() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let from = tempfile::tempdir().unwrap();
    fs::create_dir(from.path().join("deep")).unwrap();
    let big = vec![b'x'; 3_000_000];
    fs::write(from.path().join("deep/file"), &big).unwrap();
    let mut archive = Vec::new();
    tree::pack(from.path(), &mut archive).unwrap();
    let copied = sandbox.copy_in("/work/in", Account::ROOT, Cursor::new(archive)).await.unwrap();
    assert_eq!(copied.bytes, 3_000_000);

    let to = tempfile::tempdir().unwrap();
    let all = FetchLimits { entries: 100, bytes: 1 << 30 };
    sandbox.fetch("/work/in", &to.path().join("out"), all).await.unwrap();
    assert!(fs::read(to.path().join("out/deep/file")).unwrap() == big);
    let few = FetchLimits { entries: 100, bytes: 1000 };
    let error = sandbox.fetch("/work/in", &to.path().join("few"), few).await.unwrap_err();
    assert!(matches!(error, Error::Tree(tree::Error::Limit { .. })), "{error}");
    let error = sandbox.fetch("/work/none", &to.path().join("none"), all).await.unwrap_err();
    assert!(matches!(error, Error::Guest { .. }), "{error}");
    // The host is not where a guest's links lead to.
    let made = sandbox.exec(sh("mkdir bad; ln -s /etc bad/link")).await.unwrap().collect(100).await.unwrap();
    assert!(made.exited.success());
    let error = sandbox.fetch("/work/bad", &to.path().join("bad"), all).await.unwrap_err();
    assert!(matches!(error, Error::Tree(tree::Error::Refused { .. })), "{error}");
    lease.destroy().await.unwrap();
    engine.close().await;
}

async fn powered_off() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    // Its parent is the agent, which is PID 1 of a VM.
    let mut request = sh("read line; echo last words; kill -KILL $PPID");
    request.stdin = Stdin::Pipe;
    let mut running = sandbox.exec(request).await.unwrap();
    running.stdin.take().unwrap().write_all(b"now\n").await.unwrap();
    let mut said = Vec::new();
    let end = loop {
        match running.output.next().await {
            Ok(Some(chunk)) => said.extend(chunk.bytes),
            Ok(None) => break None,
            Err(gone) => break Some(gone),
        }
    };
    let gone = sandbox.gone().wait_for(Option::is_some).await.unwrap().clone();
    assert!(matches!(&gone, Some(Gone::Exited(_))), "{gone:?}, after {end:?} and {said:?}");
    assert!(matches!(sandbox.ping().await, Err(Error::Gone(_))));
    lease.destroy().await.unwrap();
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn escapees() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let script = "setsid setsid sleep 1000 > /dev/null 2>&1 & setsid sh -c 'echo up; sleep 1000' & wait";
    let mut running = sandbox.exec(sh(script)).await.unwrap();
    assert_eq!(running.output.next().await.unwrap().unwrap().bytes, b"up\n");
    assert!(!left(state.path()).is_empty(), "the check sees what runs");
    lease.destroy().await.unwrap();
    assert_eq!(left(state.path()), Vec::<String>::new());
    assert!(matches!(running.exit().await, Err(Error::Gone(Gone::Destroyed))));
    engine.close().await;
}

/// A time below `limit` that no two rounds share.
fn moment(limit: Duration) -> Duration {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).unwrap();
    limit * u32::from(u16::from_le_bytes(bytes)) / u32::from(u16::MAX)
}

async fn cancelled() {
    let state = state();
    let (engine, _) = open(state.path()).await;
    for round in 0..rounds(30) {
        let cancel = CancellationToken::new();
        let work = async {
            let lease = engine.lease(spec(), &cancel).await?;
            let mut running = lease.sandbox().exec(sh("sleep 1000")).await?;
            running.exit().await?;
            lease.destroy().await
        };
        let after = moment(Duration::from_millis(60));
        if round % 2 == 0 {
            // By its token, and then by dropping whatever there is.
            tokio::select! {
                result = work => assert!(result.is_err(), "nothing here ends by itself"),
                () = async {
                    tokio::time::sleep(after).await;
                    cancel.cancel();
                    tokio::time::sleep(after).await;
                } => {}
            }
        } else {
            let _ = tokio::time::timeout(after, work).await;
        }
    }
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

async fn victim(state: &Path) {
    let (engine, _) = open(state).await;
    println!("open");
    let lease = lease(&engine).await;
    println!("leased");
    let mut running = lease.sandbox().exec(sh("setsid sleep 1000 & echo up; wait")).await.unwrap();
    running.output.next().await.unwrap();
    println!("runs");
    let _ = running.exit().await;
}

fn start_victim(state: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([VICTIM.as_ref(), state.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// Kills with SIGKILL.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn killed_owners() {
    let state = state();
    for round in 0..rounds(12) {
        let (child, mut stdout) = start_victim(state.path());
        if round == 0 {
            // Once surely with everything up, and then anywhere.
            let lines: Vec<_> = stdout.by_ref().lines().take(3).map(Result::unwrap).collect();
            assert_eq!(lines, ["open", "leased", "runs"]);
        } else {
            tokio::time::sleep(moment(Duration::from_millis(80))).await;
        }
        kill(child);
        let (engine, swept) = open(state.path()).await;
        assert!(swept.failed.is_empty(), "{swept:?}");
        assert!(round > 0 || swept.removed.len() == 1, "{swept:?}");
        let began = std::time::Instant::now();
        loop {
            let mut left = left(state.path());
            // Killed between two steps of making a slot: too young to be told from one that is being made.
            left.retain(|what| !what.contains("/.new-"));
            if left.is_empty() {
                break;
            }
            // a process that was just starting may hold the victim's locks for a moment
            assert!(began.elapsed() < Duration::from_secs(5), "round {round}: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        engine.close().await;
    }
}

async fn two_processes() {
    let state = state();
    let (child, mut stdout) = start_victim(state.path());
    let lines: Vec<_> = stdout.by_ref().lines().take(3).map(Result::unwrap).collect();
    assert_eq!(lines, ["open", "leased", "runs"]);
    let (engine, swept) = open(state.path()).await;
    assert!(swept.removed.is_empty() && swept.failed.is_empty(), "{swept:?}");
    let mine = lease(&engine).await;
    assert_eq!(fs::read_dir(state.path().join("slots")).unwrap().count(), 2);
    kill(child);
    let (other, swept) = open(state.path()).await;
    assert_eq!(swept.removed.len(), 1, "{swept:?}");
    other.close().await;
    mine.sandbox().ping().await.unwrap();
    mine.destroy().await.unwrap();
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}
