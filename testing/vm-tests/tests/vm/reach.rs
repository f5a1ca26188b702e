//! Who reaches whom by which policy, tried from inside VMs on the bed of namespaces; as root and as a plain user.
//!
//! The table is the bed's ([`table`]). For each of its policies a VM is forked in which a program tries every cell at once:
//! by TCP, UDP and ping, of both families, by address and by name, by names that lead elsewhere when they are asked for
//! again, and by packets that it made itself, as somebody else too. A cell is right when the VM was told so, and when the
//! far end saw the packet, or did not.
//!
//! Owner: the program that runs the tests, which is also, in namespaces of its own, the host of each bed ([`dispatch`]).

mod home;
mod plan;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    process::ExitCode,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use testkit::bed::{
    self, Bed,
    address::{FORGED, HAND_MADE, HOST_PUBLIC, NEW, PORTS},
    table::{self, BY, NAMES, Reach, Row},
};

use home::{Home, User};

/// By when a VM's rules know an address that the host got, at the latest.
const FOLLOWED: Duration = Duration::from_secs(5);
/// Begins the arguments of a bed's host.
const IN_BED: &str = "reach-in-bed";

pub(crate) fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    [User::Root, User::Plain]
        .map(|user| {
            let name = format!("qemu::who_reaches_whom_from_vms_of_{}", user.name());
            // a bed takes what only root has
            Trial::test(name, move || in_a_bed(user)).with_ignored_flag(!root)
        })
        .into()
}

/// The parts of this program in a bed.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let word = |at: usize| args.get(at).and_then(|word| word.to_str());
    if word(1) == Some(IN_BED) {
        let user = [User::Root, User::Plain].into_iter().find(|user| Some(user.name()) == word(2))?;
        return Some(in_bed(user));
    }
    bed::role(&args)
}

fn in_a_bed(user: User) -> Result<(), Failed> {
    let me = std::env::current_exe()?;
    let output = bed::command(&me, &[IN_BED, user.name()]).env("RUST_BACKTRACE", "0").output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    vm_tests::say(text.trim_end());
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{text}", output.status).into())
}

fn in_bed(user: User) -> ExitCode {
    let mut bed = Bed::new();
    let begun = Instant::now();
    let mut wrong = Wrong::default();
    let home = Home::new(user);
    let neighbour = Neighbour::new(&home);
    let rows = table::rows();
    for (number, row) in rows.iter().enumerate() {
        let _ = bed.arrived();
        let plan = plan::of(row, number);
        let start = Instant::now();
        let seen = home.probe(&row.policy, &plan);
        vm_tests::say(&format!("{}: {:.1?}", row.name, start.elapsed()));
        wrong.judge(user, row, &seen, &bed.arrived());
    }
    neighbour.has_heard_nothing(&mut wrong);
    neighbour.loses_what_becomes_the_hosts(&mut bed, &mut wrong);
    home.end();
    wrong.expect("strangers", &"packets as somebody else", bed.strangers() == 0);
    wrong.expect("bed", &format!("left over: {:?}", Bed::left()), Bed::left().is_empty());
    let cells = wrong.cells;
    vm_tests::say(&format!(
        "{}: {cells} cells of {} policies in {:.1?}",
        user.name(),
        rows.len(),
        begun.elapsed()
    ));
    if wrong.lines.is_empty() {
        return ExitCode::SUCCESS;
    }
    vm_tests::say(&format!("what differs:\n{}", wrong.lines.join("\n")));
    ExitCode::FAILURE
}

/// What differs from the table.
#[derive(Debug, Default)]
struct Wrong {
    lines: Vec<String>,
    cells: usize,
    /// Whether there was a policy by which VMs write to where nobody is. `pasta` goes on with that by itself.
    nowhere: bool,
}

impl Wrong {
    fn expect(&mut self, row: &str, what: &dyn std::fmt::Display, right: bool) {
        self.cells += 1;
        if !right {
            self.lines.push(format!("{row}: {what}"));
        }
    }

    /// Compares what a VM saw, and what arrived, with a row.
    fn judge(&mut self, user: User, row: &Row, seen: &[String], arrived: &BTreeSet<String>) {
        let name = row.name;
        let everything = row.reached.iter().any(|(destination, _)| *destination == "metadata");
        self.nowhere = everything || (self.nowhere && user == User::Plain);
        let mut expected = BTreeSet::new();
        let mut unsure = BTreeSet::new();
        let mut tried: BTreeSet<(&str, String)> = BTreeSet::new();
        let mut open = |reach: Option<Reach>, address: &str| {
            for (by, port) in BY {
                if reach.is_some_and(|reach| reach.of(by, port)) {
                    expected.insert(format!("{address} {by} {port}"));
                }
            }
        };
        for (destination, addresses) in table::ALL {
            let found = row.reached.iter().find(|(known, _)| *known == destination).map(|(_, reach)| *reach);
            for address in addresses {
                open(found, address);
                // as a plain user the host's own addresses are reached by connecting, and answer no ping
                if destination.starts_with("host") {
                    unsure.insert(format!("{address} ping 0"));
                }
            }
        }
        let by_name: Vec<(&str, &str, Reach)> = row
            .names
            .iter()
            .flat_map(|(label, all)| all.iter().map(move |(to, reach)| (*label, to, *reach)))
            .flat_map(|(label, to, reach)| table::addresses(to).map(|address| (label, address, reach)))
            .filter(|(label, ..)| !label.ends_with(" later") || plan::turns(row))
            .collect();
        let raw: BTreeSet<String> = expected.clone();
        for (_, address, reach) in &by_name {
            for (by, port) in BY.into_iter().filter(|(by, port)| reach.of(by, *port)) {
                expected.insert(format!("{address} {by} {port}"));
            }
        }
        for address in HAND_MADE {
            for (by, port) in BY.into_iter().filter(|(_, port)| *port != PORTS[1]) {
                if row.hand_made.is_some_and(|reach| reach.of(by, port)) {
                    expected.insert(format!("{address} {by} {port}"));
                }
            }
        }
        for line in seen {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["raw", _, by, address, port, answer] => {
                    let cell = format!("{address} {by} {port}");
                    if !(user == User::Plain && unsure.contains(&cell) && raw.contains(&cell)) {
                        self.answer(row, "by address", &cell, answer, raw.contains(&cell));
                    }
                    tried.insert(("raw", cell));
                }
                ["name", label, by, address, port, answer] => {
                    let label = label.replace('-', " ");
                    let cell = format!("{address} {by} {port}");
                    let reach = by_name.iter().find(|(known, to, _)| *known == label && *to == address);
                    let right =
                        reach.is_some_and(|(.., reach)| reach.of(by, port.parse().unwrap_or_default()));
                    if !(user == User::Plain && unsure.contains(&cell) && right) {
                        self.answer(row, &format!("by the name {label}"), &cell, answer, right);
                    }
                }
                ["answer", label, ref addresses @ ..] => {
                    let label = label.replace('-', " ");
                    let mut rest: BTreeSet<&str> = addresses.iter().copied().collect();
                    for (_, address, _) in by_name.iter().filter(|(known, ..)| *known == label) {
                        let there = rest.remove(address);
                        self.expect(name, &format!("{label} does not lead to {address}"), there);
                    }
                    // what is the host's only the host knows: it is told, and refused
                    rest.retain(|address| !HOST_PUBLIC.contains(address));
                    self.expect(name, &format!("{label} leads to {rest:?}"), rest.is_empty());
                    tried.insert(("name", label));
                }
                ["link", _, by, address, port, answer] => {
                    // of another VM, of a link, of the router: nobody
                    self.expect(name, &format!("{address} {by} {port}: {answer}"), answer != "reached");
                    tried.insert(("link", address.to_owned()));
                }
                ["sent", count] => {
                    self.expect(name, &format!("{count} frames"), count.parse().is_ok_and(|n: u32| n > 80));
                }
                _ => {}
            }
        }
        let all = tried.iter().filter(|(kind, _)| *kind == "raw").count();
        self.expect(name, &format!("{all} cells"), all == table::ALL.len() * 2 * BY.len());
        let names = tried.iter().filter(|(kind, _)| *kind == "name").count();
        let wanted = NAMES.iter().filter(|label| !label.ends_with(" later") || plan::turns(row)).count();
        self.expect(name, &format!("{names} names"), names == wanted);
        self.expect(name, &"the program broke off", seen.last().is_some_and(|line| line == "end"));

        for cell in expected.difference(arrived).filter(|cell| !unsure.contains(*cell)) {
            self.expect(name, &format!("{cell} did not arrive"), false);
        }
        for cell in arrived.difference(&expected) {
            // the resolver asks by itself
            let known = cell.ends_with(" udp 53") || (self.nowhere && is_of(&plan::LINKS, cell));
            let words = if is_of(&FORGED, cell) { "arrived as somebody else" } else { "arrived" };
            self.expect(name, &format!("{cell} {words}"), known);
        }
        self.cells += arrived.intersection(&expected).count();
    }

    fn answer(&mut self, row: &Row, how: &str, cell: &str, answer: &str, reached: bool) {
        // the guest is told that it may not; where it has no network at all nobody tells it
        let right = if reached {
            answer == "reached"
        } else {
            ["ECONNREFUSED", "EHOSTUNREACH", "EACCES", "ENETUNREACH"].contains(&answer)
                || (row.policy == "none" && answer == "silence")
        };
        let wanted = if reached { "reached" } else { "refused" };
        self.expect(row.name, &format!("{how}: {cell}: {answer}, not {wanted}"), right);
    }
}

/// Whether what arrived was for one of these addresses.
fn is_of(addresses: &[&str], arrived: &str) -> bool {
    arrived.split(' ').next().is_some_and(|address| addresses.contains(&address))
}

/// Another VM, which runs all the time.
struct Neighbour<'a> {
    home: &'a Home,
    id: String,
    heard: u64,
}

impl<'a> Neighbour<'a> {
    fn new(home: &'a Home) -> Self {
        let id = home.create("internet");
        let mut neighbour = Self { home, id, heard: 0 };
        let idle = neighbour.hears();
        // that it would hear somebody
        assert!(neighbour.try_new().iter().all(|answer| answer == "reached"), "its network is there");
        neighbour.heard = neighbour.hears();
        // the last answers to what it said come in their time
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let heard = neighbour.hears();
            if heard == neighbour.heard {
                break;
            }
            neighbour.heard = heard;
        }
        assert!(neighbour.heard > idle, "its card counts");
        neighbour
    }

    /// Packets that came to it.
    fn hears(&self) -> u64 {
        let rows = self.home.inside(&self.id, &["cat", "/sys/class/net/eth0/statistics/rx_packets"]);
        rows.concat().parse().expect("a number")
    }

    fn try_new(&self) -> Vec<String> {
        let rows = self.home.inside(&self.id, &["python3", "-c", plan::PROBE, &plan::only(&NEW)]);
        let answers =
            rows.iter().filter(|row| row.starts_with("raw ")).filter_map(|row| row.rsplit(' ').next());
        answers.map(str::to_owned).collect()
    }

    fn has_heard_nothing(&self, wrong: &mut Wrong) {
        let heard = self.hears() - self.heard;
        wrong.expect("another VM", &format!("{heard} packets came to it"), heard == 0);
    }

    /// Addresses that the host gets while a VM runs that reached them before.
    fn loses_what_becomes_the_hosts(&self, bed: &mut Bed, wrong: &mut Wrong) {
        bed.move_in(&NEW);
        let refused = |answer: &String| ["ECONNREFUSED", "EHOSTUNREACH", "EACCES"].contains(&answer.as_str());
        let begun = Instant::now();
        let (answers, right) = loop {
            let _ = bed.arrived();
            let answers = self.try_new();
            let right = answers.len() == 2 * BY.len() && answers.iter().all(refused);
            // the host's network tells of it in a moment
            if right || begun.elapsed() > FOLLOWED {
                break (answers, right);
            }
        };
        wrong.expect("addresses that the host got", &format!("{answers:?}"), right);
        let mut arrived = bed.arrived();
        arrived.retain(|cell| is_of(&NEW, cell));
        wrong.expect("addresses that the host got", &format!("arrived: {arrived:?}"), arrived.is_empty());
    }
}
