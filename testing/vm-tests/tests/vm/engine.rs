//! `ampoule engine`, and the commands that use one.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use vm_tests::{
    host,
    program::{Ended, On, Place, Run},
    workflow::{project, script},
};

/// How long an engine may take to be there, and to have a VM ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// As a job's log says it.
const POOLED: &str = "from the pool";

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "a_run_uses_the_engine_that_is_there", shared),
        crate::on(on, "a_warm_run_starts_one_engine_for_those_that_follow", warm),
        crate::on(on, "when_its_engine_is_killed_a_run_ends_and_nothing_is_left", killed),
    ];
    if on == On::Fake {
        trials.push(crate::on(on, "an_engine_that_nobody_needs_ends_by_itself", idle));
        trials.push(crate::on(on, "a_second_engine_says_that_there_is_one", second));
        trials.push(crate::on(on, "an_engine_of_another_kind_is_not_used", unfit));
        trials.push(crate::on(on, "the_socket_of_a_service_manager_is_served", inherited));
        trials.push(crate::on(on, "all_who_make_vms_use_an_engine", others));
        trials.push(crate::on(on, "doctor_tells_of_the_engine_and_starts_none", examined));
    }
    trials
}

/// An engine that answers.
pub(crate) fn engine(place: &Place, options: &[&str]) -> Run {
    let mut call = place.command(&["engine"]);
    call.args(options);
    answering(place, call)
}

/// One of another backend than the place's.
pub(crate) fn engine_of(backend: &str, place: &Place, options: &[&str]) -> Run {
    let mut call = place.plain(&["engine", "--backend", backend]);
    call.args(options);
    answering(place, call)
}

fn answering(place: &Place, call: Command) -> Run {
    let engine = Run::spawn(call);
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(place.path().join("engine.sock")).is_err() {
        assert!(Instant::now() < until, "no engine listens");
        std::thread::sleep(Duration::from_millis(10));
    }
    engine
}

/// How the VM of a run began.
fn origin(ended: &Ended) -> &'static str {
    let told = ended.stdout.iter().find(|line| line.contains("the VM is ready after")).expect("a VM");
    ["booted", "forked", POOLED]
        .into_iter()
        .find(|origin| told.contains(&format!(" s, {origin}")))
        .unwrap_or_else(|| panic!("{told}"))
}

/// Runs until a VM stood by for the run.
fn until_pooled(place: &Place, options: &[&str]) -> Ended {
    let hello = project(&script("echo hello"));
    let until = Instant::now() + PATIENCE;
    loop {
        let ended = place.exec(hello.path(), options);
        assert_eq!(ended.expect(0).rows(), ["hello"]);
        if origin(&ended) == POOLED || place.on() == On::Fake {
            return ended;
        }
        assert!(Instant::now() < until, "no VM stands by");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn shared(on: On) {
    let place = Place::new(on);
    let engine = engine(&place, &["--idle", "0s", "--ready", "1"]);
    until_pooled(&place, &[]);
    let hello = project(&script("echo hello"));
    let own = place.exec(hello.path(), &["--own-engine"]);
    own.expect(0);
    assert_ne!(origin(&own), POOLED, "nobody keeps one ready for a run of its own");
    engine.signal(Signal::TERM);
    let ended = engine.end();
    assert!(ended.expect(0).stderr.contains("the engine is there"), "{}", ended.stderr);
    assert!(!place.path().join("engine.sock").exists());
    place.assert_clean();
}

/// The engines of a place that were started in the background.
pub(crate) fn background(place: &Place) -> Vec<Pid> {
    let name = place.path().to_str().expect("a path");
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.get(1).is_some_and(|word| word == "engine")
                && words.iter().any(|word| word == "--background")
                && words.iter().any(|word| word == name)
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Ends the engines of a place that nobody waits for, whatever became of the test.
struct Ending<'a>(&'a Place);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        for engine in background(self.0) {
            let _ = kill_process(engine, Signal::KILL);
        }
    }
}

fn warm(on: On) {
    let place = Place::new(on);
    let _ending = Ending(&place);
    let hello = project(&script("echo hello"));
    // two at once: one engine is started by one of them, and both use it
    let first = place.start(hello.path(), &["--warm"]);
    let second = place.start(hello.path(), &["--warm"]);
    first.end().expect(0);
    second.end().expect(0);
    let [engine] = background(&place)[..] else { panic!("{:?}", background(&place)) };
    until_pooled(&place, &["--warm"]);
    // a run that asks for nothing uses it too
    until_pooled(&place, &[]);
    assert_eq!(background(&place), [engine]);
    // it is of no terminal and no session of ours
    let session = rustix::process::getsid(Some(engine)).expect("its session");
    assert_eq!(session, engine);
    kill_process(engine, Signal::TERM).expect("it is there");
    place.assert_clean();
    let log = fs::read_to_string(place.path().join("engine.log")).expect("a log");
    assert!(log.contains("the engine is there") && log.contains("the engine ends"), "{log}");
}

fn killed(on: On) {
    let place = Place::new(on);
    let engine = engine(&place, &["--idle", "0s"]);
    let dir = project(&script("echo ready\nsleep 1000"));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    engine.signal(Signal::KILL);
    let ended = run.end();
    ended.expect(3);
    let text = format!("{}{}", ended.stdout.join("\n"), ended.stderr);
    assert!(text.contains("the engine process that owned the VM is gone"), "{text}");
    engine.end();
    let left = host::settled(|| host::running(place.path()));
    assert!(left.is_empty(), "still running: {left:#?}");
    // the slot's directory is there until somebody sweeps it, or this test would prove nothing
    assert!(!host::remnants(place.path()).is_empty());
    let hello = project(&script("echo hello"));
    place.exec::<&str>(hello.path(), &[]).expect(0);
    place.assert_clean();
}

fn idle(on: On) {
    let place = Place::new(on);
    let engine = engine(&place, &["--idle", "1s"]);
    let slow = project(&script("sleep 2\necho slow"));
    assert_eq!(place.exec::<&str>(slow.path(), &[]).expect(0).rows(), ["slow"]);
    let ended = engine.end();
    assert!(ended.expect(0).stderr.contains("nobody needs the engine"), "{}", ended.stderr);
    place.assert_clean();
}

fn second(on: On) {
    let place = Place::new(on);
    let first = engine(&place, &["--idle", "0s"]);
    let ended = Run::spawn(place.command(&["engine"])).end();
    assert!(ended.expect(2).stderr.contains("an engine runs at"), "{}", ended.stderr);
    until_pooled(&place, &[]);
    first.signal(Signal::TERM);
    first.end().expect(0);
    place.assert_clean();
}

fn unfit(on: On) {
    let place = Place::new(on);
    let engine = engine_of("fake-third", &place, &["--idle", "0s"]);
    let hello = project(&script("echo hello"));
    let strict = place.plain(&["exec", "--json", "--backend", "qemu", "--warm", "-C"]);
    let mut strict = strict;
    strict.arg(hello.path());
    let ended = Run::spawn(strict).end();
    // there may be no image either: then that is said
    assert!(matches!(ended.code, Some(2 | 3)), "{:?} {}", ended.code, ended.stderr);
    engine.signal(Signal::TERM);
    engine.end().expect(0);
    place.assert_clean();
}

fn inherited(on: On) {
    let place = Place::new(on);
    let path = place.path().join("engine.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    // whoever is there first: the service manager's socket is nobody else's to take
    let ended = Run::spawn(place.command(&["engine"])).end();
    assert!(ended.expect(2).stderr.contains("an engine runs at"), "{}", ended.stderr);
    let call = place.command(&["engine"]);
    let mut start = Command::new("sh");
    start.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" --idle 1s"]);
    start.arg(call.get_program()).args(call.get_args()).env("AMPOULE_STATE_DIR", place.path());
    let kept = socket.try_clone().expect("a descriptor");
    start.stdin(OwnedFd::from(socket));
    let engine = Run::spawn(start);
    let slow = project(&script("sleep 2\necho slow"));
    // a run waits until the engine is there
    assert_eq!(place.exec::<&str>(slow.path(), &[]).expect(0).rows(), ["slow"]);
    let ended = engine.end();
    assert!(ended.expect(0).stderr.contains("nobody needs the engine"), "{}", ended.stderr);
    assert!(path.exists(), "it is not the engine's to remove");
    drop(kept);
    place.assert_clean();
}

fn others(on: On) {
    let place = Place::new(on);
    let engine = engine(&place, &["--idle", "0s"]);
    let mut call = place.command(&["sandbox", "run"]);
    call.args(["-n", "2", "--", "sh", "-c", "echo ready; sleep 1000"]);
    let mut run = Run::spawn(call);
    run.wait_for("ready");
    engine.signal(Signal::TERM);
    let ended = run.end();
    assert_ne!(ended.code, Some(0), "its VMs were the engine's");
    engine.end().expect(0);
    place.assert_clean();
}

/// What `doctor` says of the engine of a place.
pub(crate) fn told(place: &Place) -> String {
    let doctor = Run::spawn(place.plain(&["doctor", "--accel", "tcg"])).end();
    let line = doctor.stdout.iter().find(|line| line.contains(" engine  "));
    let line = line.unwrap_or_else(|| panic!("{doctor:?}"));
    line.split_once(" engine ").expect("two columns").1.trim().to_owned()
}

fn examined(on: On) {
    let place = Place::new(on);
    let look = || told(&place);
    assert!(look().starts_with("none runs: every command has its own"), "{}", look());
    assert!(background(&place).is_empty());
    assert!(!place.path().join("engine.sock").exists());
    let engine = engine(&place, &["--idle", "0s"]);
    let pid = engine.pid();
    let idle = look();
    assert!(idle.starts_with(&format!("process {pid} since ")), "{idle}");
    assert!(idle.ends_with("VMs: 0 in use, 0 kept, 0 ready; it does not end by itself"), "{idle}");
    let dir = project(&script("echo ready\nsleep 1000"));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    assert!(look().contains("VMs: 1 in use, "), "{}", look());
    engine.signal(Signal::KILL);
    engine.end();
    run.end().expect(3);
    assert!(look().starts_with("none runs: nobody listens at "), "{}", look());
    place.exec::<&str>(project(&script("true")).path(), &[]).expect(0);
    place.assert_clean();
}
