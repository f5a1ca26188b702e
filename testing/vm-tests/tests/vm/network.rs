//! What VMs reach by which policy, in a bed of namespaces; and what is left of their networks.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use vm_tests::{
    bed::{Bed, HELLO, HOST, PORT, WORLD},
    host,
    program::{Ended, On, Place, Run},
    workflow,
};

/// What keeps a VM small.
pub(crate) const SMALL: [&str; 6] = ["--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"];
/// One that leads to the LAN.
const FORWARD: &str = "lan.test:80=10.1.2.3:80";
pub(crate) const TCG: [&str; 4] = ["--backend", "qemu", "--accel", "tcg"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_a_bed("a_vm_reaches_what_its_policy_says_and_nothing_else", |_| policies()),
        on_a_bed("a_vm_that_stood_by_and_a_branch_reach_what_their_policy_says", |_| kept()),
        on_a_bed("a_kept_vm_without_its_engine_reaches_nothing_and_goes_on", |_| orphaned()),
        on_a_bed("nothing_is_left_of_the_networks_of_forks", |_| many()),
        on_a_bed("a_jobs_log_says_what_its_network_refused", |_| jobs()),
        crate::on(On::Fake, "a_network_that_cannot_be_had_is_an_error", lacking),
    ]
}

/// Root alone makes a bed: for others the list shows these as left out.
pub(crate) fn on_a_bed(name: &str, test: fn(On)) -> Trial {
    crate::on(On::Qemu, name, test).with_ignored_flag(!rustix::process::getuid().is_root())
}

/// A place whose program runs on the bed's host.
pub(crate) struct Home {
    pub(crate) bed: Bed,
    pub(crate) place: Place,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { bed: Bed::new(), place: Place::new(On::Qemu) }
    }

    pub(crate) fn command(&self, words: &[&str], rest: &[&str]) -> Command {
        let mut command = self.place.plain(&["sandbox"]);
        command.args(words).args(rest);
        self.bed.on_host(&command)
    }

    pub(crate) fn call(&self, words: &[&str], rest: &[&str]) -> Ended {
        Run::spawn(self.command(words, rest)).end()
    }

    fn run(&self, options: &[&str], script: &str) -> Vec<String> {
        let words = [&["run"][..], &SMALL, &TCG, options].concat();
        self.call(&words, &["--", "bash", "-c", script]).expect(0).stdout.clone()
    }

    pub(crate) fn create(&self, options: &[&str]) -> String {
        let words = [&["create"][..], &SMALL, &TCG, options].concat();
        self.call(&words, &[]).expect(0).stdout.concat()
    }

    pub(crate) fn inside(&self, id: &str, script: &str) -> Vec<String> {
        let words = [&["exec", id][..], &TCG].concat();
        self.call(&words, &["--", "bash", "-c", script]).expect(0).stdout.clone()
    }

    /// Engine processes in the background.
    pub(crate) fn engines(&self) -> Vec<Pid> {
        let place = self.place.path().to_string_lossy().into_owned();
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains("\0engine\0--background") && line.contains(&place)
            })
            .filter_map(Pid::from_raw)
            .collect()
    }

    pub(crate) fn end(self) {
        self.call(&["rm", "--all"], &[]).expect(0);
        self.signal_engines(Signal::TERM);
        self.place.assert_clean();
        self.bed.assert_clean();
    }

    pub(crate) fn signal_engines(&self, signal: Signal) {
        for engine in self.engines() {
            let _ = kill_process(engine, signal);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.engines().is_empty() || !host::remnants(self.place.path()).is_empty() {
            let _ = self.place.plain(&["sandbox", "rm", "--all"]).stderr(Stdio::null()).status();
        }
        self.signal_engines(Signal::KILL);
    }
}

/// A script that says of each of these what became of a connection to it: `NAME yes` or `NAME no`.
pub(crate) fn tries(whom: &[(&str, &str)]) -> String {
    let list: Vec<String> = whom.iter().map(|(name, address)| format!("{name}={address}")).collect();
    format!(
        "for who in {}; do \
           if line=$(timeout 4 bash -c 'exec 3<>/dev/tcp/'${{who#*=}}'/{PORT}; read -r line <&3; echo $line' 2>&1) \
              && [ \"$line\" = {HELLO} ]; then echo ${{who%%=*}} yes; else echo ${{who%%=*}} no; fi; done",
        list.join(" ")
    )
}

/// Everybody, the host's own address and service last.
fn everybody() -> Vec<(&'static str, &'static str)> {
    WORLD.into_iter().chain([("host", HOST), ("gateway", "198.18.0.1")]).collect()
}

fn reached(rows: &[String]) -> Vec<&str> {
    assert_eq!(rows.len(), everybody().len(), "{rows:#?}");
    rows.iter().filter_map(|row| row.strip_suffix(" yes")).collect()
}

fn policies() {
    let home = Home::new();
    let script = tries(&everybody());
    let run = |policy: &str| home.run(&["--network", policy], &script);
    assert_eq!(reached(&run("internet")), ["web", "web6"]);
    assert_eq!(reached(&run("none")), [""; 0]);
    assert_eq!(reached(&run("allow=10.1.2.3:80")), ["lan"]);
    assert_eq!(reached(&run("internet,allow=10.1.2.3:81")), ["web", "web6"]);
    // what nobody asked for is the same, where it can be had
    assert_eq!(reached(&home.run(&[], &script)), ["web", "web6"]);
    let began = "date +%s%N; timeout 4 bash -c 'exec 3<>/dev/tcp/93.184.216.34/80' 2>&1; date +%s%N";
    let rows = home.run(&["--network", "none"], began);
    assert!(rows.concat().contains("Network is unreachable"), "{rows:#?}");
    home.place.assert_clean();
    home.bed.assert_clean();
}

fn kept() {
    let home = Home::new();
    let script = tries(&everybody());
    let first = home.create(&["--network", "internet"]);
    assert_eq!(reached(&home.inside(&first, &script)), ["web", "web6"]);
    // the engine has learnt that such VMs are wanted
    let begun = Instant::now();
    let (mut ids, mut origin) = (Vec::new(), String::new());
    while !origin.contains("pooled") {
        assert!(begun.elapsed() < Duration::from_secs(120), "no VM stands by");
        std::thread::sleep(Duration::from_secs(3));
        let id = home.create(&["--network", "allow=10.1.2.3:80", "--forward", FORWARD]);
        origin = home.call(&["inspect", &id], &[]).expect(0).stdout.join("\n");
        ids.push(id);
    }
    let pooled = ids.pop().expect("one");
    assert!(origin.contains("allow=10.1.2.3:80") && origin.contains(FORWARD), "{origin}");
    assert_eq!(reached(&home.inside(&pooled, &script)), ["lan"]);
    let forward = tries(&[("forward", "lan.test")]);
    assert_eq!(home.inside(&pooled, &forward), ["forward yes"]);
    let branch = home.call(&[&["branch", pooled.as_str()][..], &TCG].concat(), &[]).expect(0).stdout.concat();
    assert_eq!(reached(&home.inside(&branch, &script)), ["lan"]);
    assert_eq!(home.inside(&branch, &forward), ["forward yes"]);
    // and its parent still does
    assert_eq!(reached(&home.inside(&pooled, &script)), ["lan"]);
    let refused = home.call(&["network", &pooled], &[]).expect(0).stdout.join("\n");
    assert!(refused.contains("93.184.216.34") && refused.contains("169.254.169.254"), "{refused}");
    assert!(!refused.contains("10.1.2.3"), "{refused}");
    home.end();
}

fn orphaned() {
    let home = Home::new();
    let script = tries(&everybody());
    let id = home.create(&["--network", "internet"]);
    assert_eq!(reached(&home.inside(&id, &script)), ["web", "web6"]);
    home.signal_engines(Signal::KILL);
    let begun = Instant::now();
    while !home.engines().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = home.call(&["ls"], &[]).expect(0).stdout.join("\n");
    assert!(listed.contains(&id) && listed.contains("none"), "{listed}");
    assert_eq!(reached(&home.inside(&id, &script)), [""; 0]);
    let counted = home.call(&["network", &id], &[]).expect(0).stdout.join("\n");
    assert!(counted.starts_with("nothing is counted"), "{counted}");
    // a VMM whose card leads nowhere has nothing to do for it
    let [vmm] = host::vmms(home.place.path())[..] else { panic!("one VM") };
    let before = ticks(vmm);
    std::thread::sleep(Duration::from_secs(3));
    let spent = ticks(vmm) - before;
    assert!(spent < 150, "the VMM took {spent} ticks of processor time in three seconds");
    home.end();
}

fn jobs() {
    let home = Home::new();
    let project = workflow::project(&workflow::script(
        "for to in 10.1.2.3/81 169.254.169.254/80 93.184.216.34/80; do\n\
         timeout 4 bash -c \"exec 3<>/dev/tcp/$to\" || true\ndone",
    ));
    let host_rows = |policy: &str| -> Vec<String> {
        let mut call = home.place.command(&["exec", "--json"]);
        call.arg("-C").arg(project.path());
        call.args(["--network", policy, "--forward", "cache:80=127.0.0.1:9"]);
        let ended = Run::spawn(home.bed.on_host(&call)).end();
        let rows = ended.expect(0).events().into_iter().filter(|event| event["step"].is_null());
        let rows: Vec<String> = rows.filter_map(|event| event["line"].as_str().map(str::to_owned)).collect();
        assert!(rows.contains(&format!("network: {policy}")), "{rows:#?}");
        assert!(rows.iter().any(|row| row == "forwards: cache:80"), "{rows:#?}");
        let rows = rows.into_iter().filter(|row| row.contains("network refused") || row.contains("allow="));
        // how often bash tries is its own affair
        rows.map(|row| row.split(", ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(
        host_rows("internet"),
        [
            "network refused: 10.1.2.3:81/tcp",
            "network refused: 169.254.169.254:80/tcp",
            "network: the policy is internet; internet,allow=10.1.2.3:81 would allow a part of that",
        ]
    );
    assert_eq!(host_rows("none"), [""; 0]);
    home.place.assert_clean();
    home.bed.assert_clean();
}

/// Processor time of a process, in hundredths of a second.
pub(crate) fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("its name");
    let fields: Vec<u64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // the first field behind the name, its state, is no number
    fields[10] + fields[11]
}

fn many() {
    let home = Home::new();
    let script = tries(&[("web", "93.184.216.34")]);
    for _ in 0..20 {
        assert_eq!(home.run(&["--network", "internet"], &script), ["web yes"]);
    }
    let rows = home.run(&["--network", "internet", "-n", "10"], &script);
    let reached = rows.iter().filter(|row| row.ends_with("web yes")).count();
    assert_eq!(reached, 10, "{rows:#?}");
    home.place.assert_clean();
    home.bed.assert_clean();
}

fn lacking(on: On) {
    let place = Place::new(on);
    let run = |network: &[&str]| {
        let mut call = place.command(&["sandbox", "run"]);
        call.args(network).args(["--", "true"]);
        Run::spawn(call).end()
    };
    let ended = run(&["--network", "internet"]);
    assert!(ended.expect(3).stderr.contains("cannot have the network"), "{}", ended.stderr);
    run(&["--network", "none"]).expect(0);
    let limited = run(&["--network", "none", "--bandwidth", "10Mbit"]);
    assert!(limited.expect(2).stderr.contains("--bandwidth limits"), "{}", limited.stderr);
    // where nothing was asked for nothing is enough
    run(&[]).expect(0);
    run(&["--network", "everything"]).expect(2);
    place.assert_clean();
}
