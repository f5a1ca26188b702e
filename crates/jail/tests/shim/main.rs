//! The shim as a process: this program is the shim, the owner and the tests, by its first argument.
//!
//! Started by root the tests run twice: as root, and as a plain user.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

mod filter;
mod tap;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use jail::{
    Ending, Error, ExitRecord, Ids, Inherit, Launch, Level, Log, OwnerLoss, Part, Program, Shim, View,
    attach, end, exit_record, is_running, launch, log_tail,
};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, getpid, getuid, kill_process};

/// Only to end a test that hangs; nothing is asserted about it.
const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65534;
/// A user that no process of this host has.
const STRANGER: Ids = Ids { uid: 2_000_111, gid: 2_000_112 };

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(arg) if arg == "vm-shim" => jail::shim::main(args),
        Some(arg) if arg == "owner" => owner(args),
        Some(arg) if arg == "without-namespaces" => without_namespaces(),
        Some(arg) if arg == "without-filters" => filter::without_filters(),
        Some(arg) if arg == "calls" => filter::calls(),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

type Test = (&'static str, fn() -> Result<(), Failed>);

fn trials() -> Vec<Trial> {
    let tests: [Test; 21] = [
        ("the_exit_of_the_program_is_on_disk", exit_is_on_disk),
        ("a_signal_is_told_from_an_exit_code", signal_is_recorded),
        ("namespaces_are_its_own", namespaces),
        ("it_has_no_privileges_and_no_way_to_any", privileges),
        ("it_holds_the_descriptors_it_was_given_and_no_others", descriptors),
        ("a_tap_is_its_own_and_down", tap::a_tap_is_its_own_and_down),
        ("its_file_system_is_what_is_listed", view),
        ("the_loss_of_the_owner_ends_the_tree", owner_killed),
        ("a_dropped_shim_ends_the_tree", dropped),
        ("an_order_to_end_ends_the_tree", ordered),
        ("the_end_of_the_shim_ends_the_tree", shim_killed),
        ("an_end_from_outside_needs_no_owner", ended_from_outside),
        ("a_kept_vmm_waits_for_its_next_owner", kept),
        ("a_kept_vmm_ends_when_nobody_comes", expired),
        ("an_interrupt_of_the_owners_terminal_does_not_reach_it", interrupt),
        ("what_cannot_be_started_is_told_and_leaves_nothing", failures),
        ("endless_output_is_capped", endless_output),
        ("what_the_host_cannot_give_is_named_or_refused", a_poor_host),
        ("a_host_without_filters_is_named_or_refused", filter::a_host_without_filters),
        ("its_system_calls_are_what_is_listed", filter::system_calls),
        ("a_filtered_program_that_cannot_be_started_is_told", filter::filtered_failure),
    ];
    let root = getuid().is_root();
    let mut trials: Vec<Trial> = tests.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    if root {
        trials.push(Trial::test("a_user_of_its_own", own_user));
        trials.push(Trial::test("as_a_plain_user", as_a_plain_user));
    }
    trials
}

/// All other tests once more, as nobody.
fn as_a_plain_user() -> Result<(), Failed> {
    let output = Command::new("/proc/self/exe").uid(NOBODY).gid(NOBODY).current_dir("/").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stdout).into_owned().into())
}

/// A process that owns a VMM until it is killed: `owner DIR kill|keep`.
fn owner(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let dir = PathBuf::from(args.next().unwrap());
    let mut spec = spec(&dir, &long_running(&dir));
    if args.next().unwrap() == "keep" {
        spec.on_owner_loss = OwnerLoss::Keep { until: SystemTime::now() + PATIENCE };
    }
    block_on(async {
        let mut shim = launch(spec).await.unwrap();
        wait_for_log(&dir, "up");
        println!("ready");
        shim.exited().await.unwrap();
    });
    ExitCode::SUCCESS
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("shim").tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn spec(dir: &Path, script: &str) -> Launch {
    Launch {
        shim: vec!["/proc/self/exe".into(), "vm-shim".into()],
        dir: dir.to_owned(),
        ids: None,
        groups: Vec::new(),
        level: Level::Available,
        on_owner_loss: OwnerLoss::Kill,
        program: Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        },
        view: None,
        filter: None,
        tap: None,
        inherit: Vec::new(),
        logs: vec![
            Log { name: "out".into(), target: 1, cap: 64 << 10 },
            Log { name: "err".into(), target: 2, cap: 64 << 10 },
        ],
    }
}

/// A tree of processes that does not end, also beyond the session of the first.
fn long_running(dir: &Path) -> String {
    let mark = mark(dir);
    format!(
        "setsid sleep {mark} & setsid setsid sleep {mark} & (sleep {mark} &) ; echo up; wait; sleep {mark}"
    )
}

/// An argument that only this test's processes have.
fn mark(dir: &Path) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let file = dir.join("mark");
    fs::read_to_string(&file).unwrap_or_else(|_| {
        let mark = format!("100000.{}{:03}", getpid(), NEXT.fetch_add(1, Ordering::Relaxed));
        fs::write(&file, &mark).unwrap();
        mark
    })
}

fn processes_of(dir: &Path) -> Vec<Pid> {
    let mark = mark(dir);
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).starts_with("sleep")
            && String::from_utf8_lossy(&words).contains(&mark)
    })
    .filter_map(Pid::from_raw)
    .collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_for_log(dir: &Path, text: &str) {
    until(text, || log_tail(dir, "out", 1000).contains(text));
}

async fn start(dir: &Path) -> Shim {
    let shim = launch(spec(dir, &long_running(dir))).await.unwrap();
    wait_for_log(dir, "up");
    until("three processes", || processes_of(dir).len() == 3);
    shim
}

fn assert_all_gone(dir: &Path) {
    assert_eq!(processes_of(dir), []);
    // what another trial starts at this moment has the lock too, until its exec
    until("a free lock", || !is_running(dir).unwrap());
}

/// Runs a script to its end and gives what it printed.
fn output(spec: Launch) -> (String, ExitRecord, Vec<Part>) {
    let dir = spec.dir.clone();
    block_on(async {
        let mut shim = launch(spec).await.unwrap();
        let record = shim.exited().await.unwrap();
        assert_eq!(log_tail(&dir, "err", 10_000), "");
        (log_tail(&dir, "out", 64 << 10), record, shim.missing().to_vec())
    })
}

fn exit_is_on_disk() -> Result<(), Failed> {
    let place = Place::new();
    let (_, record, _) = output(spec(place.path(), "exit 7"));
    assert_eq!(record, ExitRecord { ending: Ending::Itself, code: Some(7), signal: None });
    assert_eq!(exit_record(place.path())?, Some(record));
    // The same place serves again, and what was there before is not taken for the new one's.
    let (_, record, _) = output(spec(place.path(), "exit 0"));
    assert_eq!(record.code, Some(0));
    Ok(())
}

fn signal_is_recorded() -> Result<(), Failed> {
    let place = Place::new();
    let (_, record, _) = output(spec(place.path(), "kill -TERM $$; sleep 1000"));
    assert_eq!(record, ExitRecord { ending: Ending::Itself, code: None, signal: Some(15) });
    Ok(())
}

fn namespaces() -> Result<(), Failed> {
    let place = Place::new();
    let script = "for n in mnt pid net ipc uts; do readlink /proc/self/ns/$n; done; echo pid $$; ls /proc; \
                  cat /proc/net/dev; grep -c . /proc/net/route";
    let (text, _, missing) = output(spec(place.path(), &script.replace("grep -c . /proc/net/route", "true")));
    assert_eq!(missing, []);
    for name in ["mnt", "pid", "net", "ipc", "uts"] {
        let ours = fs::read_link(format!("/proc/self/ns/{name}"))?;
        assert!(text.contains(&format!("{name}:[")), "{text}");
        assert!(!text.contains(ours.to_str().unwrap()), "{name} is the host's: {text}");
    }
    assert!(text.contains("pid 2\n"), "{text}");
    let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(pids.contains(&1) && pids.iter().all(|pid| *pid < 20), "processes of the host: {text}");
    let cards: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert!(cards.contains(&"lo"), "{text}");
    assert!(!cards.iter().any(|card| card.starts_with("eth")), "{text}");
    Ok(())
}

fn privileges() -> Result<(), Failed> {
    let place = Place::new();
    let (text, ..) = output(spec(place.path(), "cat /proc/self/status; ulimit -c"));
    for line in ["NoNewPrivs:\t1", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for line in ["CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "SigBlk:\t0000000000000000"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    if getuid().is_root() {
        assert!(text.contains("CapBnd:\t0000000000000000"), "{text}");
    }
    let uid = getuid().as_raw();
    assert!(text.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{text}");
    assert!(text.ends_with("\n0\n"), "{text}");
    Ok(())
}

fn own_user() -> Result<(), Failed> {
    let place = Place::new();
    // Below a directory that the user cannot enter.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700))?;
    let dir = place.path().join("slot");
    fs::create_dir(&dir)?;
    let mut spec =
        spec(&dir, &format!("grep -E '^(Uid|Gid|Groups)' /proc/self/status; cat {}/x", dir.display()));
    spec.ids = Some(STRANGER);
    spec.groups = vec![2_000_113];
    fs::write(dir.join("x"), "secret")?;
    let text = block_on(async {
        launch(spec).await.unwrap().exited().await.unwrap();
        log_tail(&dir, "out", 1000)
    });
    let Ids { uid, gid } = STRANGER;
    let expected =
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nGroups:\t2000113 \n");
    assert_eq!(text, expected);
    assert!(log_tail(&dir, "err", 1000).contains("Permission denied"));
    Ok(())
}

fn descriptors() -> Result<(), Failed> {
    let place = Place::new();
    let given = place.path().join("given");
    fs::write(&given, "what is in it")?;
    // One that this process leaks to everything that it starts.
    let leaked = File::open("/dev/zero")?;
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty())?;
    let script = "read -r line <&9; echo $line; ls -l /proc/$$/fd; true";
    let mut spec = spec(place.path(), script);
    spec.inherit = vec![
        Inherit { fd: File::open(&given)?.into(), target: 9 },
        Inherit { fd: File::open("/dev/null")?.into(), target: 3 },
        Inherit { fd: File::open("/dev/null")?.into(), target: 4 },
        Inherit { fd: File::open("/dev/null")?.into(), target: 255 },
    ];
    let (text, ..) = output(spec);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("what is in it"));
    let open: BTreeSet<&str> =
        lines.filter_map(|line| line.split_once(" -> ")?.0.split(' ').next_back()).collect();
    assert_eq!(open, BTreeSet::from(["0", "1", "2", "255", "3", "4", "9"]), "{text}");
    assert!(!text.contains("/dev/zero"), "{text}");
    Ok(())
}

fn view() -> Result<(), Failed> {
    let place = Place::new();
    let script = "echo /*; touch /x /usr/x /proc/1/x 2>/dev/null && echo written; cat /dev/null && echo null; \
                  test -e /etc/passwd && echo passwd; exit 0";
    let mut spec = spec(place.path(), script);
    spec.view = Some(View {
        read_only: ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/not/there"]
            .map(Into::into)
            .to_vec(),
        devices: vec!["/dev/null".into()],
    });
    let (text, record, missing) = output(spec);
    assert_eq!(missing, []);
    assert_eq!(record.code, Some(0));
    assert_eq!(text, "/bin /dev /etc /lib /lib64 /proc /usr\nnull\n");
    Ok(())
}

fn owner_killed() -> Result<(), Failed> {
    let place = Place::new();
    let mut child = start_owner(place.path(), "kill");
    until("three processes", || processes_of(place.path()).len() == 3);
    child.kill().unwrap();
    child.wait()?;
    until("the end", || !is_running(place.path()).unwrap());
    assert_all_gone(place.path());
    assert_eq!(exit_record(place.path())?.unwrap().ending, Ending::OwnerLost);
    Ok(())
}

fn start_owner(dir: &Path, policy: &str) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg("owner").arg(dir).arg(policy).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn dropped() -> Result<(), Failed> {
    let place = Place::new();
    block_on(async {
        drop(start(place.path()).await);
    });
    until("the end", || !is_running(place.path()).unwrap());
    assert_all_gone(place.path());
    Ok(())
}

fn ordered() -> Result<(), Failed> {
    let place = Place::new();
    let record = block_on(async { start(place.path()).await.end().await })?;
    assert_all_gone(place.path());
    assert_eq!(record.ending, Ending::Asked);
    assert_eq!(exit_record(place.path())?, Some(record));
    Ok(())
}

/// Ids of both halves of the shim.
fn shims(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("shim.json")).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).collect::<Vec<_>>();
    let pids = words.windows(3).filter(|three| three[0] == "pid").map(|three| three[2].parse().unwrap());
    pids.filter_map(Pid::from_raw).collect()
}

fn shim_killed() -> Result<(), Failed> {
    for half in [0, 1] {
        let place = Place::new();
        block_on(async {
            let mut shim = start(place.path()).await;
            let halves = shims(place.path());
            assert_eq!(halves.len(), 2);
            kill_process(halves[half], Signal::KILL).unwrap();
            let record = shim.exited().await.unwrap();
            assert_eq!(record, ExitRecord { ending: Ending::ShimKilled, code: None, signal: Some(9) });
        });
        assert_all_gone(place.path());
    }
    Ok(())
}

fn ended_from_outside() -> Result<(), Failed> {
    let place = Place::new();
    let mut child = start_owner(place.path(), "keep");
    end(place.path(), PATIENCE).unwrap();
    assert_all_gone(place.path());
    child.wait()?;
    end(place.path(), Duration::ZERO)?;

    let place = Place::new();
    let mut child = start_owner(place.path(), "keep");
    child.kill().unwrap();
    child.wait()?;
    until("three processes", || processes_of(place.path()).len() == 3);
    end(place.path(), PATIENCE)?;
    assert_all_gone(place.path());
    Ok(())
}

fn kept() -> Result<(), Failed> {
    let place = Place::new();
    let mut child = start_owner(place.path(), "keep");
    let dir = place.path();
    block_on(async {
        assert!(matches!(attach(dir).await, Err(Error::Gone(_))), "two owners");
        child.kill().unwrap();
        child.wait().unwrap();
        let mut shim = attach_soon(dir).await;
        assert!(matches!(attach(dir).await, Err(Error::Gone(_))), "two owners");
        assert!(is_running(dir).unwrap());
        drop(shim);
        shim = attach_soon(dir).await;
        until("three processes", || processes_of(dir).len() == 3);
        assert_eq!(shim.end().await.unwrap().ending, Ending::Asked);
        assert!(matches!(attach(dir).await, Err(Error::Gone(_))), "no shim");
    });
    assert_all_gone(dir);
    Ok(())
}

/// The shim sees the end of the owner a moment after it.
async fn attach_soon(dir: &Path) -> Shim {
    let began = Instant::now();
    loop {
        match attach(dir).await {
            Ok(shim) => return shim,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    }
}

fn expired() -> Result<(), Failed> {
    let place = Place::new();
    let mut spec = spec(place.path(), &long_running(place.path()));
    spec.on_owner_loss = OwnerLoss::Keep { until: SystemTime::now() };
    block_on(async { drop(launch(spec).await.unwrap()) });
    until("the end", || !is_running(place.path()).unwrap());
    assert_all_gone(place.path());
    assert_eq!(exit_record(place.path())?.unwrap().ending, Ending::Expired);
    Ok(())
}

fn interrupt() -> Result<(), Failed> {
    let place = Place::new();
    let mut child = start_owner(place.path(), "keep");
    let group = Pid::from_child(&child);
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    // whoever started this test may have had interrupts ignored, and then the owner inherited that
    child.kill().unwrap();
    child.wait().unwrap();
    until("three processes", || processes_of(place.path()).len() == 3);
    assert!(is_running(place.path())?);
    end(place.path(), PATIENCE)?;
    Ok(())
}

fn failures() -> Result<(), Failed> {
    let place = Place::new();
    let dir = place.path();
    block_on(async {
        let mut no_program = spec(dir, "");
        no_program.program.path = "/not/there".into();
        let error = launch(no_program).await.unwrap_err().to_string();
        assert!(error.contains("/not/there") && error.contains("No such file"), "{error}");

        let mut no_shim = spec(dir, "");
        no_shim.shim = vec!["/bin/true".into()];
        assert!(matches!(launch(no_shim).await, Err(Error::Protocol(_) | Error::Io { .. })));
        until("the end", || !is_running(dir).unwrap());

        let mut twice = spec(dir, "");
        twice.logs[1].target = 1;
        assert!(matches!(launch(twice).await, Err(Error::Invalid(_))));

        let _first = launch(spec(dir, "sleep 1000")).await.unwrap();
        assert!(matches!(launch(spec(dir, "")).await, Err(Error::Occupied(_))));
        if !getuid().is_root() {
            let place = Place::new();
            let mut stranger = spec(place.path(), "");
            stranger.ids = Some(STRANGER);
            assert!(launch(stranger).await.unwrap_err().to_string().contains("needs root"));
            // a process that is started beside it has the lock too, until its exec
            until("the end", || !is_running(place.path()).unwrap());
        }
    });
    until("the end", || !is_running(dir).unwrap());
    // Nonsense instead of an owner.
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut shim = Command::new("/proc/self/exe");
    let mut shim = shim.arg("vm-shim").stdin(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn()?;
    ours.write_all(&[0xff; 100])?;
    drop(ours);
    assert!(!shim.wait()?.success());
    let mut said = String::new();
    shim.stderr.take().unwrap().read_to_string(&mut said)?;
    assert!(said.contains("started by ampoule itself"), "{said}");
    Ok(())
}

fn endless_output() -> Result<(), Failed> {
    let place = Place::new();
    let (text, record, _) = output(spec(place.path(), "seq 300000; exit 3"));
    assert_eq!(record.code, Some(3));
    assert!(text.ends_with("\n299999\n300000\n"), "{}", &text[text.len() - 50..]);
    assert!(fs::metadata(place.path().join("out"))?.len() <= 64 << 10);
    Ok(())
}

/// A host that gives a plain user no namespaces: made from a user namespace that allows no other one in it.
fn a_poor_host() -> Result<(), Failed> {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" without-namespaces";
    // By descriptor: from in there neither this process nor the way to its file can be looked at.
    let exe = rustix::io::fcntl_dupfd_cloexec(File::open("/proc/self/exe")?, 100)?;
    rustix::io::fcntl_setfd(&exe, rustix::io::FdFlags::empty())?;
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(format!("/proc/self/fd/{}", exe.as_raw_fd()));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"as expected\n", "{said}");
    Ok(())
}

fn without_namespaces() -> ExitCode {
    let all = [
        Part::UserNamespace,
        Part::PidNamespace,
        Part::MountNamespace,
        Part::Proc,
        Part::Root,
        Part::NetworkNamespace,
        Part::IpcNamespace,
        Part::UtsNamespace,
    ];
    block_on(async {
        let place = Place::new();
        let mut strict = spec(place.path(), "sleep 1000");
        strict.level = Level::Strict;
        let error = launch(strict).await.unwrap_err().to_string();
        assert!(error.contains("process id namespace"), "{error}");
        assert!(!is_running(place.path()).unwrap());

        // The tree goes with its owner all the same.
        let mut spec = spec(place.path(), &long_running(place.path()));
        spec.view = Some(View::default());
        let mut shim = launch(spec).await.unwrap();
        let missing: BTreeSet<Part> = shim.missing().iter().copied().collect();
        assert_eq!(missing, BTreeSet::from(all));
        until("three processes", || processes_of(place.path()).len() == 3);
        assert_eq!(shim.end().await.unwrap().ending, Ending::Asked);
        assert_all_gone(place.path());
    });
    println!("as expected");
    ExitCode::SUCCESS
}
