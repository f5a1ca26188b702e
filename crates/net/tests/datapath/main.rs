//! The datapath on a bed of namespaces: who reaches whom, by which policy; and what is left of it.
//!
//! The program plays all parts: the tests; the test itself inside its bed; the helper; guests and servers. Each trial has
//! a bed of its own. As root, and as a plain user with `pasta`.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test program")]

mod ends;
mod figures;
mod given_up;
mod limits;
mod said;
mod spoof;
mod table;
mod uplink;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};
use net::{
    Base, Config, GATEWAY_MAC, GUEST_MAC, GUEST_V4, GUEST_V6, Limits, Namespace, Policy, Ports, Rule, Target,
    Uplink, V4_GATEWAY, V4_PREFIX, V6_GATEWAY, V6_PREFIX,
};
use testkit::bed::{self, Bed, Card, Guest};

/// What a trial does on its bed.
type Body = fn(&Host);

/// The trials by name, each run in a bed of its own by both users.
const TRIALS: &[(&str, Body)] = &[
    ("who_reaches_whom", table::who_reaches_whom),
    ("names", table::names_are_open_for_a_time),
    ("policies_change", table::connections_end_with_their_policy),
    ("the_hosts_addresses_are_followed", table::addresses_of_the_host_are_followed),
    ("spoofing", spoof::nothing_is_sent_as_somebody_else),
    ("limits", spoof::limits_hold),
    ("limits_of_one", limits::one_vm_has_limits_of_its_own),
    ("other_vms", spoof::vms_do_not_reach_each_other),
    ("killed", ends::a_killed_owner_leaves_nothing),
    ("ends", ends::what_is_dropped_is_gone),
    ("prepared", ends::what_is_prepared_forwards_nothing),
    ("helper_killed", ends::a_helper_that_was_killed_is_replaced),
    ("uplink_killed", uplink::an_uplink_that_was_killed_is_replaced),
    ("uplink_silent", uplink::a_pasta_that_does_not_answer_is_replaced),
    ("uplink_changed", uplink::an_interface_that_was_changed_is_replaced),
    ("ways_come_later", uplink::ways_that_come_later_are_ways_of_vms),
    ("firewall", uplink::a_firewall_that_forwards_nothing_is_found),
    ("pings", uplink::pings_that_cannot_pass_are_noted),
    ("given_up", given_up::who_gives_up_is_in_nobodys_way),
    ("of_nothing", given_up::what_is_of_no_connection_does_not_leave),
    ("reset", uplink::a_refused_connection_is_reset_at_once),
    ("figures", figures::prices),
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "net-helper") {
        return net::helper(args.into_iter().skip(2));
    }
    if let Some(code) = bed::role(&args) {
        return code;
    }
    let word = |at: usize| args.get(at).and_then(|word| word.to_str()).unwrap_or_default();
    match word(1) {
        "in-bed" => in_bed(word(2), word(3)),
        "as-nobody" => {
            run_trial(word(2), &Host { root: false });
            ExitCode::SUCCESS
        }
        "owner" => ends::owner(),
        _ => tests(),
    }
}

fn tests() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    let mut trials = Vec::new();
    for user in ["root", "plain"] {
        for (name, _) in TRIALS {
            let run = move || in_a_bed(user, name);
            // a bed takes what only root has; figures are for whoever asks for them, on a quiet machine
            let left_out = !root || *name == "figures";
            trials.push(Trial::test(format!("{user}::{name}"), run).with_ignored_flag(left_out));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// One trial in a process of its own.
fn in_a_bed(user: &str, name: &str) -> Result<(), Failed> {
    // the program as others can read it: the directory that it is built in may be root's alone
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("datapath");
    // by a process of its own: a file that this one has open for writing is also open in what another trial's thread is
    // just starting, and cannot be executed meanwhile
    let copied = Command::new("cp").arg(std::env::current_exe()?).arg(&program).status()?;
    if !copied.success() {
        return Err(format!("this program cannot be copied: {copied}").into());
    }
    let output = bed::command(&program, &["in-bed", user, name]).env("RUST_BACKTRACE", "0").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    eprint!("{text}");
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// The host's side of a bed, as root.
fn in_bed(user: &str, name: &str) -> ExitCode {
    let mut bed = Bed::new();
    if user == "root" {
        run_trial(name, &Host { root: true });
    } else {
        let me = std::env::current_exe().expect("this program");
        let mut command = bed::as_nobody(&me, &["as-nobody", name]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("setpriv");
        let mut input = child.stdin.take().expect("its input");
        for line in BufReader::new(child.stdout.take().expect("its output")).lines() {
            let line = line.expect("a line");
            let answer = match line.strip_prefix(HOST) {
                Some("left") => Host { root: true }.left(),
                Some(args) if args.starts_with(PINGS) => {
                    let range = args.trim_start_matches(PINGS);
                    std::fs::write("/proc/sys/net/ipv4/ping_group_range", range).expect("a setting");
                    String::new()
                }
                Some(args) if args.starts_with(NFT) => Host { root: true }.nft(args.trim_start_matches(NFT)),
                Some(args) => {
                    Host { root: true }.ip(args);
                    String::new()
                }
                None => {
                    println!("{line}");
                    continue;
                }
            };
            writeln!(input, "{answer}").expect("answer");
        }
        let status = child.wait().expect("setpriv");
        assert!(status.success(), "{status}");
    }
    assert_eq!(bed.strangers(), 0, "packets with a source of somebody else came out");
    ends::gone(&Host { root: true }).expect("at the end");
    ExitCode::SUCCESS
}

fn run_trial(name: &str, host: &Host) {
    let (_, trial) = TRIALS.iter().find(|(known, _)| *known == name).expect("a trial");
    trial(host);
}

/// Begins a line that is a command for the host.
const HOST: &str = "HOST ";
/// Follows it before groups that may ping.
const PINGS: &str = "pings ";
/// Follows it before a rule.
const NFT: &str = "nft ";

/// The host's network, which only root changes.
struct Host {
    root: bool,
}

impl Host {
    /// Runs `ip` there.
    fn ip(&self, args: &str) {
        if self.root {
            let _ = bed::run("ip", &args.split(' ').collect::<Vec<_>>());
        } else {
            assert_eq!(ask(args), "");
        }
    }

    /// Sets rules there, or lists them: in one line.
    fn nft(&self, rules: &str) -> String {
        if self.root {
            bed::run("nft", &[rules]).split_whitespace().collect::<Vec<_>>().join(" ")
        } else {
            ask(&format!("{NFT}{rules}"))
        }
    }

    /// Sets which groups may ping, for a plain user.
    fn pings(&self, range: &str) {
        assert!(!self.root);
        assert_eq!(ask(&format!("{PINGS}{range}")), "");
    }

    /// What of networks there is: interfaces and tables of the host, and processes beside those of the bed.
    fn left(&self) -> String {
        if self.root { [Bed::left(), ends::processes()].concat().join(", ") } else { ask("left") }
    }
}

/// The process of this bed that is root.
fn ask(what: &str) -> String {
    println!("{HOST}{what}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).expect("an answer");
    answer.trim_end().to_owned()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn config() -> Config {
    Config {
        helper: vec!["/proc/self/exe".into(), "net-helper".into()],
        uplink: Uplink::Host,
        limits: Limits::default(),
        pool: 0,
    }
}

fn guest(namespace: &Namespace) -> Guest {
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let card = Card {
        mac: mac(GUEST_MAC),
        gateway_mac: mac(GATEWAY_MAC),
        addresses: [format!("{GUEST_V4}/{V4_PREFIX}"), format!("{GUEST_V6}/{V6_PREFIX}")],
        gateways: [V4_GATEWAY.into(), V6_GATEWAY.into()],
    };
    Guest::start(namespace.tap(), &card)
}

fn policy(base: Base, allow: &[(&str, Ports)]) -> Policy {
    let allow = allow.iter().map(|(text, ports)| {
        let target = text.parse().map_or_else(|_| Target::Name((*text).to_owned()), Target::Net);
        Rule { target, ports: *ports }
    });
    Policy { base, allow: allow.collect() }
}
