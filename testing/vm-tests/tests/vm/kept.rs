//! `ampoule sandbox create`, `exec`, `cp`, `branch`, `ls`, `inspect` and `rm`: sandboxes that outlive a command.

mod images;

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use vm_tests::{
    host,
    program::{Ended, On, Place, Run},
    terminal::Session,
};

use crate::engine::background;

/// Far more than anything takes that a test waits for here.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "a_sandbox_stays_until_it_is_removed", stays),
        crate::on(on, "a_command_in_a_sandbox_is_as_if_it_ran_here", inside),
        crate::on(on, "a_command_in_a_sandbox_has_the_users_terminal", terminal),
        crate::on(on, "files_are_copied_into_a_sandbox_and_out_of_it", copies),
        crate::on(on, "a_branch_of_a_sandbox_has_its_files_and_goes_on", branches),
        crate::on(on, "a_sandbox_outlives_its_engine", engine_killed),
    ];
    if on == On::Fake {
        trials.push(crate::on(on, "a_sandbox_ends_when_its_time_is_up", expires));
        trials.push(crate::on(on, "what_is_wrong_with_a_sandbox_is_told", wrong));
        trials.push(crate::on(on, "when_one_sandbox_cannot_be_made_none_stays", none));
        trials.push(crate::on(on, "sandboxes_whose_ids_could_not_be_told_are_ended", untold));
        trials.push(crate::on(on, "a_killed_command_line_ends_its_command", client_killed));
        trials.push(crate::on(on, "a_look_for_sandboxes_makes_nothing", images::looks));
    } else {
        trials.push(crate::on(on, "an_image_stays_while_a_sandbox_on_it_lives", images::image_stays));
    }
    trials
}

/// A place whose engine and sandboxes are gone at the end, whatever became of the test.
pub(crate) struct Home {
    place: Place,
    on: On,
}

impl Home {
    pub(crate) fn new(on: On) -> Self {
        Self { place: Place::new(on), on }
    }

    fn with_its_own_images(on: On) -> Self {
        Self { place: Place::new(on).with_its_own_images(), on }
    }

    /// Kills its engine.
    fn kill_engine(&self) {
        let [engine] = background(&self.place)[..] else { panic!("{:?}", background(&self.place)) };
        kill_process(engine, Signal::KILL).expect("it is there");
        until("it is gone", || background(&self.place).is_empty());
    }

    fn backend(&self) -> &'static [&'static str] {
        match self.on {
            On::Qemu => &["--backend", "qemu", "--accel", "tcg"],
            On::Fake => &["--backend", "fake-forks"],
        }
    }

    /// A call of one of the commands; those that may start an engine are told of what kind.
    fn command(&self, words: &[&str], rest: &[&str]) -> Command {
        let mut command = self.place.plain(&["sandbox"]);
        command.args(words);
        if matches!(words.first(), Some(&("create" | "exec" | "cp" | "branch"))) {
            command.args(self.backend());
        }
        command.args(rest);
        command
    }

    pub(crate) fn call(&self, words: &[&str]) -> Ended {
        Run::spawn(self.command(words, &[])).end()
    }

    /// Ids of sandboxes that are small, where they are VMs.
    pub(crate) fn create(&self, options: &[&str]) -> Vec<String> {
        let words = ["create", "--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"];
        let ended = Run::spawn(self.command(&words, options)).end();
        ended.expect(0).stdout.clone()
    }

    fn one(&self) -> String {
        let made = self.create(&[]);
        assert_eq!(made.len(), 1, "{made:?}");
        made[0].clone()
    }

    fn start(&self, id: &str, options: &[&str], script: &str) -> Run {
        let words = [&["exec", id], options].concat();
        Run::spawn(self.command(&words, &["--", "sh", "-c", script]))
    }

    pub(crate) fn exec(&self, id: &str, options: &[&str], script: &str) -> Ended {
        self.start(id, options, script).end()
    }

    /// A call whose output cannot be written is an error of the host, and says which.
    #[track_caller]
    fn onto_full(&self, words: &[&str], rest: &[&str]) {
        let mut call = self.command(words, rest);
        call.stdout(fs::File::create("/dev/full").expect("it opens")).stderr(Stdio::piped());
        let ended = call.spawn().and_then(Child::wait_with_output).expect("its end");
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(3) && told.contains("No space left on device"), "{told}");
    }

    fn ids(&self) -> Vec<String> {
        self.call(&["ls", "-q"]).expect(0).stdout.clone()
    }

    fn json(&self, words: &[&str]) -> Value {
        let ended = self.call(words);
        let text = ended.expect(0).stdout.join("\n");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Ends everything in order, and looks that nothing is left.
    #[track_caller]
    pub(crate) fn end(self) {
        self.call(&["rm", "--all"]).expect(0);
        for engine in background(&self.place) {
            let _ = kill_process(engine, Signal::TERM);
        }
        self.place.assert_clean();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // of a test that failed
        if !background(&self.place).is_empty() || !host::remnants(self.place.path()).is_empty() {
            let _ = self.place.plain(&["sandbox", "rm", "--all"]).stderr(Stdio::null()).status();
        }
        for engine in background(&self.place) {
            let _ = kill_process(engine, Signal::KILL);
        }
    }
}

/// Waits for what another process does.
#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "{what}: never");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn stays(on: On) {
    let home = Home::new(on);
    assert!(home.ids().is_empty());
    assert!(background(&home.place).is_empty(), "a look starts no engine");
    let ids = home.create(&["-n", "2", "--ttl", "30m"]);
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|id| id.len() == 35 && id.starts_with("sb-")), "{ids:?}");
    let (mut listed, mut made) = (home.ids(), ids.clone());
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let all = home.json(&["ls", "--json"]);
    let one = all.as_array().and_then(|all| all.iter().find(|one| one["id"] == ids[0].as_str()));
    let one = one.expect("it is listed");
    assert_eq!((&one["cpus"], &one["memory_mib"]), (&1.into(), &256.into()), "{one}");
    assert_eq!((&one["disk_bytes"], &one["origin"]), (&(256_u64 << 20).into(), &"forked".into()), "{one}");
    let image = if on == On::Qemu { Value::from("standard") } else { Value::Null };
    assert_eq!(one["image"], image, "{one}");
    let time = |name: &str| {
        one[name].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).expect("a time")
    };
    let lives = time("ends").duration_since(time("made")).as_secs();
    assert!((1700..=1801).contains(&lives), "{one}");
    let table = home.call(&["ls"]);
    assert!(table.expect(0).stdout[0].starts_with("ID "), "{:#?}", table.stdout);
    // what one command leaves is there for the next
    home.exec(&ids[0], &[], "echo kept > file").expect(0);
    assert_eq!(home.exec(&ids[0], &[], "cat file").expect(0).stdout, ["kept"]);
    home.exec(&ids[1], &[], "cat file").expect(1);
    // the shortest beginning that tells them apart, without what all have
    let same = ids[0].bytes().zip(ids[1].bytes()).take_while(|(one, other)| one == other).count();
    assert_eq!(home.json(&["inspect", &ids[0][3..=same], "--json"])["id"], ids[0].as_str());
    let details = home.call(&["inspect", &ids[0]]);
    assert!(details.expect(0).stdout[0].ends_with(&ids[0]), "{:#?}", details.stdout);
    assert_eq!(home.call(&["rm", &ids[0][..=same]]).expect(0).stdout, [ids[0].as_str()]);
    assert_eq!(home.ids(), [ids[1].as_str()]);
    home.call(&["rm", &ids[0]]).expect(2);
    home.end();
}

fn inside(on: On) {
    let home = Home::new(on);
    let id = home.one();
    let ended =
        home.exec(&id, &["-e", "A=b c", "--workdir", "/tmp"], "echo \"$A\"; pwd; echo err >&2; exit 7");
    ended.expect(7);
    assert_eq!((ended.stdout[0].as_str(), ended.stderr.as_str()), ("b c", "err\n"));
    assert!(ended.stdout[1].ends_with("/tmp"), "{:#?}", ended.stdout);
    home.exec(&id, &[], "kill -TERM $$").expect(143);
    let late = home.exec(&id, &["--timeout", "300ms"], "sleep 100");
    assert!(late.expect(124).stderr.contains("its time of 0.3 s was over"), "{}", late.stderr);
    let missing = Run::spawn(home.command(&["exec", &id], &["--", "no-such-program"])).end();
    assert!(missing.expect(127).stderr.contains("no-such-program"), "{}", missing.stderr);
    // bytes as they are, and no input unless it is asked for
    let mut cat = home.command(&["exec", "-i", &id], &["--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut to, bytes) = (cat.stdin.take().expect("a pipe"), sent.clone());
    let writer = std::thread::spawn(move || to.write_all(&bytes));
    let back = cat.wait_with_output().expect("its end");
    writer.join().expect("a thread").expect("it reads all");
    assert!(back.status.success() && back.stdout == sent, "{} of {} bytes", back.stdout.len(), sent.len());
    let mut unread = home.command(&["exec", &id], &["--", "cat"]);
    let unread = unread.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    assert!(unread.wait_with_output().is_ok_and(|output| output.stdout.is_empty()));
    // two at once, each of which waits for the other
    let first = home.start(&id, &[], "touch one; until [ -e two ]; do sleep 0.05; done; echo first");
    let second = home.start(&id, &[], "until [ -e one ]; do sleep 0.05; done; touch two; echo second");
    assert_eq!((first.end().expect(0).stdout.len(), second.end().expect(0).stdout.len()), (1, 1));
    // Ctrl-C is the command's
    let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let mut caught = home.start(&id, &[], script);
    caught.wait_for("ready");
    caught.signal(Signal::INT);
    assert_eq!(caught.end().expect(5).stdout, ["ready", "caught"]);
    // a reader that goes away ends it
    let mut endless =
        home.command(&["exec", &id], &["--", "sh", "-c", "echo $$ > pid; while echo x; do :; done"]);
    let mut endless = endless.stdout(Stdio::piped()).spawn().expect("it starts");
    drop(endless.stdout.take());
    assert_eq!(endless.wait().expect("its end").code(), Some(130));
    until("the command is killed", || home.exec(&id, &[], "kill -0 $(cat pid) 2>/dev/null").code == Some(1));
    // a full disk is no such reader
    home.onto_full(&["exec", &id], &["--", "sh", "-c", "while echo x; do :; done"]);
    if on == On::Qemu {
        let user = home.exec(&id, &["--user", "runner"], "id -un; echo $USER");
        assert_eq!(user.expect(0).stdout, ["runner", "runner"]);
        assert_eq!(home.exec(&id, &["-u", "1234:5"], "id -u; id -g").expect(0).stdout, ["1234", "5"]);
    }
    home.end();
}

fn terminal(on: On) {
    let home = Home::new(on);
    let id = home.one();
    let shell = home.command(&["exec", "-it", &id], &["--", "sh", "-c", "tty; stty size; exec sh -i"]);
    let mut session = Session::of(&shell);
    session.wait_for("/dev/pts/");
    session.wait_for("24 80");
    session.until_raw();
    session.types("echo $((40 + 2)) $TERM\n");
    session.wait_for("42 xterm-test");
    session.resize(30, 100);
    // what is typed may be there before the terminal's new size is
    session.types("until stty size | grep -q '^30 100$'; do sleep 0.05; done; echo $((6 * 7))nd\n");
    session.wait_for("42nd");
    session.types("sleep 100\n");
    std::thread::sleep(Duration::from_millis(300));
    session.types("\u{3}");
    session.types("exit 9\n");
    let (code, shown) = session.end();
    assert_eq!(code, Some(9), "{shown}");
    let without = home.exec(&id, &["--tty"], "true");
    assert!(without.expect(2).stderr.contains("`--tty` needs a terminal"), "{}", without.stderr);
    home.end();
}

fn copies(on: On) {
    let home = Home::new(on);
    let id = home.one();
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let cp = |from: &str, to: &str| Run::spawn(home.command(&["cp", from, to], &[])).end();
    let there = |path: &str| format!("{id}:{path}");
    fs::create_dir_all(path("tree/sub")).expect("directories");
    fs::write(path("tree/sub/script"), "#!/bin/sh\necho ran\n").expect("a file");
    fs::set_permissions(path("tree/sub/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a mode");
    fs::write(path("file"), "text").expect("a file");
    // in: a file by another name, into a directory, over another; a directory as a new one and into one that is there
    cp(&path("file"), &there("/workspace/renamed")).expect(0);
    cp(&path("file"), &there("new/")).expect(0);
    cp(&path("file"), &there("new")).expect(0);
    cp(&path("tree"), &there("copy")).expect(0);
    cp(&path("tree"), &there("copy")).expect(0);
    cp(&path("tree/."), &there("contents")).expect(0);
    let list = home.exec(&id, &[], "cat renamed new/file; find copy contents | sort; ./copy/sub/script");
    let expected = "texttextcontents contents/sub contents/sub/script copy copy/sub copy/sub/script copy/tree \
                    copy/tree/sub copy/tree/sub/script ran";
    assert_eq!(list.expect(0).stdout.join(" "), expected);
    // out
    home.exec(&id, &[], "mkdir -p out/deep; echo deep > out/deep/x; echo one > single; chmod 640 single")
        .expect(0);
    cp(&there("single"), &path("here")).expect(0);
    cp(&there("single"), &path("tree")).expect(0);
    cp(&there("out"), &path("fresh")).expect(0);
    cp(&there("out"), &path("tree")).expect(0);
    cp(&there("out/."), &path("tree/sub")).expect(0);
    for name in ["here", "tree/single"] {
        assert_eq!(fs::read_to_string(path(name)).expect("it is there"), "one\n", "{name}");
    }
    for name in ["fresh/deep/x", "tree/out/deep/x", "tree/sub/deep/x"] {
        assert_eq!(fs::read_to_string(path(name)).expect("it is there"), "deep\n", "{name}");
    }
    // the directory that commands run in
    cp(&path("tree/sub"), &there("")).expect(0);
    assert_eq!(home.exec(&id, &[], "./sub/script").expect(0).stdout, ["ran"]);
    cp(&there(""), &path("all")).expect(0);
    assert_eq!(fs::read_to_string(path("all/out/deep/x")).expect("it is there"), "deep\n");
    // what no archive has is told
    rustix::fs::mkfifoat(rustix::fs::CWD, path("fresh/pipe"), rustix::fs::Mode::RUSR).expect("a pipe");
    let told = cp(&path("fresh"), &there("fresh"));
    let expected = format!("are left out: {}\n", path("fresh/pipe"));
    assert!(told.expect(0).stderr.contains(&expected), "{}", told.stderr);
    // what says that it is empty and is not
    for (from, to) in [("/proc/self/status".to_owned(), there("status")), (there("status"), path("back"))] {
        cp(&from, &to).expect(0);
    }
    assert!(fs::read(path("back")).expect("it is there").starts_with(b"Name:"));
    if on == On::Qemu {
        cp(&there("/proc/self/status"), &path("theirs")).expect(0);
        assert!(fs::read(path("theirs")).expect("it is there").starts_with(b"Name:"));
    }
    // archives
    let mut packed = home.command(&["cp", &there("out"), "-"], &[]);
    let packed = packed.stdout(Stdio::piped()).output().expect("its end");
    assert!(packed.status.success());
    let unpack = |bytes: &[u8]| {
        let mut back = home.command(&["cp", "-", &there("again")], &[]);
        back.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut back = back.spawn().expect("it starts");
        back.stdin.take().expect("a pipe").write_all(bytes).expect("it reads all");
        let ended = back.wait_with_output().expect("its end");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0xc6; 2000]].concat();
    for (bytes, wrong) in [
        (&b"text"[..], "this is no tar archive"),
        (&gzip, "this is no tar archive: it is compressed with gzip"),
        (&packed.stdout[..1200], "the archive ends early"),
    ] {
        assert_eq!(unpack(bytes), (Some(2), format!("error: {wrong}\n")));
    }
    assert_eq!(unpack(&packed.stdout), (Some(0), String::new()));
    assert_eq!(home.exec(&id, &[], "cat again/deep/x").expect(0).stdout, ["deep"]);
    // what cannot be, and leaves what was
    let bad = [
        (there("none"), path("x"), "none"),
        (path("none"), there("x"), "cannot be read"),
        (there("out"), path("file"), "is no directory"),
        (there("single"), "/dev/null".to_owned(), "neither a file nor a directory"),
        (there("single"), path("nowhere/x"), "nowhere/x cannot be written\n"),
        (there("single"), path("nowhere/"), "nowhere/single cannot be written\n"),
        (there("single"), path("file/"), "file/single cannot be written\n"),
        (there("out"), path("file/x"), "Not a directory"),
        (path("tree"), there("single"), "Not a directory"),
        (path("file"), there("single/"), "Not a directory"),
        (path("file"), there("out/deep/x/y"), "Not a directory"),
        (path("file"), path("x"), "one of SOURCE and TARGET is ID:PATH"),
        (there("x"), there("y"), "one of SOURCE and TARGET is ID:PATH"),
    ];
    for (from, to, text) in bad {
        let ended = cp(&from, &to);
        assert!(ended.expect(2).stderr.contains(text), "{from} {to}: {}", ended.stderr);
        assert!(!ended.stderr.contains(".ampoule"), "{}", ended.stderr);
    }
    home.exec(&id, &[], "head -c 3000000 /dev/zero > large").expect(0);
    let large = home.command(&["cp", &there("large"), &path("large"), "--limit", "2MiB"], &[]);
    Run::spawn(large).end().expect(1);
    home.exec(&id, &[], "mkdir links; ln -s ../../../../etc/passwd links/out; mkfifo pipe").expect(0);
    cp(&there("links"), &path("links")).expect(2);
    cp(&there("pipe"), &path("pipe")).expect(2);
    let mut special = vec![there("pipe")];
    if on == On::Qemu {
        special.push(there("/dev/null"));
    }
    for place in special {
        let ended = cp(&path("file"), &place);
        let told = "is refused: a device, a pipe or a socket is in its place";
        assert!(ended.expect(2).stderr.contains(told), "{}", ended.stderr);
    }
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with(".ampoule") && name != "large"),
        "{left:?}"
    );
    home.end();
}

fn branches(on: On) {
    let home = Home::new(on);
    let id = home.one();
    if on == On::Fake {
        // it cannot save what runs: that is said, and the sandbox goes on
        let refused = home.call(&["branch", &id, "-n", "2"]);
        assert!(refused.expect(2).stderr.contains("the sandbox could not be branched"), "{}", refused.stderr);
        home.exec(&id, &[], "true").expect(0);
        assert_eq!(home.ids(), [id.as_str()]);
        return home.end();
    }
    let script = "echo before > file; (n=0; while sleep 0.1; do n=$((n + 1)); echo $n > count; done) & \
                  until [ -s count ]; do sleep 0.05; done; echo counting; wait";
    let mut counting = home.start(&id, &[], script);
    counting.wait_for("counting");
    let told = home.json(&["branch", &id, "-n", "2", "--json"]);
    assert_eq!(told["source"], id.as_str());
    let pause = told["pause_ms"].as_f64().expect("a time");
    assert!(pause > 0.0 && pause < told["branch_ms"].as_f64().expect("a time"), "{told}");
    vm_tests::say(&format!("branched: {told}"));
    let forks: Vec<String> =
        told["ids"].as_array().expect("ids").iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    assert_eq!((forks.len(), home.ids().len()), (2, 3));
    assert_eq!(home.json(&["inspect", &forks[0], "--json"])["origin"], "branched");
    let count = |id: &str| home.exec(id, &[], "cat count").expect(0).stdout.concat();
    for one in [&id, &forks[0], &forks[1]] {
        assert_eq!(home.exec(one, &[], "cat file").expect(0).stdout, ["before"]);
        let before = count(one);
        until("what ran goes on", || count(one) != before);
    }
    // each is alone
    home.exec(&forks[0], &[], "echo mine > file").expect(0);
    assert_eq!(home.exec(&forks[1], &[], "cat file").expect(0).stdout, ["before"]);
    // and one whose commands are killed
    let quiet = home.call(&["branch", &id, "--kill-running"]);
    let quiet = quiet.expect(0).stdout[0].clone();
    let before = count(&quiet);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(count(&quiet), before);
    let known = home.ids();
    home.onto_full(&["branch", &id], &[]);
    assert_eq!(home.ids(), known, "nobody knows the other");
    let before = count(&id);
    until("the source goes on", || count(&id) != before);
    counting.signal(Signal::INT);
    counting.end().expect(130);
    home.end();
}

fn engine_killed(on: On) {
    let home = Home::new(on);
    let id = home.one();
    home.exec(&id, &[], "echo kept > file; (sleep 1000) >/dev/null 2>&1 & echo $! > pid").expect(0);
    let mut under_way = home.start(&id, &[], "echo ready; sleep 1000");
    under_way.wait_for("ready");
    let [engine] = background(&home.place)[..] else { panic!("{:?}", background(&home.place)) };
    kill_process(engine, Signal::KILL).expect("it is there");
    let lost = under_way.end();
    assert!(lost.expect(3).stderr.contains("did not run to its end"), "{}", lost.stderr);
    // without an engine it is seen, and the next command takes it over
    assert_eq!(home.ids(), [id.as_str()]);
    let again = home.exec(&id, &[], "cat file; kill -0 $(cat pid) && echo runs");
    assert_eq!(again.expect(0).stdout, ["kept", "runs"]);
    assert_ne!(background(&home.place), [engine]);
    let [engine] = background(&home.place)[..] else { panic!("{:?}", background(&home.place)) };
    kill_process(engine, Signal::KILL).expect("it is there");
    // and it can be ended without one
    assert_eq!(home.call(&["rm", &id]).expect(0).stdout, [id.as_str()]);
    home.end();
}

fn expires(on: On) {
    let home = Home::new(on);
    let id = home.create(&["--ttl", "2s"]).concat();
    let ended = home.exec(&id, &[], "sleep 1000");
    assert!(ended.expect(3).stderr.contains("did not run to its end"), "{}", ended.stderr);
    until("it is gone", || home.ids().is_empty());
    let gone = home.exec(&id, &[], "true");
    assert!(gone.expect(2).stderr.contains("there is no sandbox"), "{}", gone.stderr);
    home.end();
}

fn wrong(on: On) {
    let home = Home::new(on);
    let none = home.call(&["inspect", "x"]);
    assert!(none.expect(2).stderr.contains("there is no sandbox `sb-x`, and no other"), "{}", none.stderr);
    assert!(background(&home.place).is_empty(), "an id that is nobody's starts no engine");
    let ids = home.create(&["-n", "2"]);
    for words in [&["inspect", "sb-"][..], &["rm", "sb-0"], &["cp", "sb-0:/x", "/tmp/never"]] {
        let ended = home.call(words);
        assert!(ended.expect(2).stderr.contains("is the beginning of 2 sandboxes"), "{}", ended.stderr);
        assert!(ids.iter().all(|id| ended.stderr.contains(id.as_str())), "{}", ended.stderr);
    }
    let unknown = home.call(&["rm", &ids[0], "sb-ff"]);
    assert!(unknown.expect(2).stderr.contains(&ids[1]), "{}", unknown.stderr);
    assert_eq!(home.ids().len(), 2, "what is refused ends nothing");
    home.call(&["create", "--backend", "none"]).expect(2);
    home.end();
}

fn none(on: On) {
    let home = Home::new(on);
    let mut call = home.place.plain(&["sandbox", "create", "--backend", "fake-third", "-n", "4"]);
    call.args(["--memory", "256MiB"]);
    let ended = Run::spawn(call).end();
    ended.expect(3);
    assert!(
        ended.stderr.contains("of 4 could not be made, and all of them were destroyed"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.is_empty(), "{:#?}", ended.stdout);
    assert!(home.ids().is_empty());
    home.end();
}

fn untold(on: On) {
    let home = Home::new(on);
    let id = home.one();
    for words in [&["create", "-n", "2"][..], &["create", "--json"]] {
        home.onto_full(words, &[]);
        assert_eq!(home.ids(), [id.as_str()], "nobody knows the others: {words:?}");
    }
    home.end();
}

fn client_killed(on: On) {
    let home = Home::new(on);
    let id = home.one();
    let mut running = home.start(&id, &[], "echo $$ > pid; echo ready; exec sleep 1000");
    running.wait_for("ready");
    running.signal(Signal::KILL);
    running.end();
    until("its command is killed", || home.exec(&id, &[], "kill -0 $(cat pid) 2>/dev/null").code == Some(1));
    assert_eq!(home.ids(), [id.as_str()], "and the sandbox stays");
    home.end();
}
