//! A bed of network namespaces in which VMs' networks are tried: nothing of it touches the machine's own network.
//!
//! ```text
//!  outside: internet, LAN, metadata, …      host                          guests
//!  [e1 = the host's gateway] ── veth ── [e0, lo; its own services] ── what is tried ── tap ── [a namespace each]
//! ```
//! Owner: a test's process that was started by [`command`] and calls [`Bed::new`]: its own network namespace is the
//! host's. The roles of the other processes are played by the same program ([`role`]).
//!
//! Invariants
//! - Everything is gone with the test's process: the others end at the end of their standard input.
//! - The outside counts packets whose source is not the host's, and what guests send as somebody else: there must be none.
//! - Both ends write down who was tried to be reached ([`Bed::arrived`]), whether there was an answer or not.
//! - Neither namespace has a way to the machine's own network. Names are the bed's ([`address::ZONE`]), whoever asks.

mod guest;
mod names;
mod peer;
pub mod table;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
};

pub use guest::{Card, Guest};

/// Addresses of the bed, each with what it stands for.
pub mod address {
    /// Web servers of the internet.
    pub const INTERNET: [&str; 2] = ["9.9.9.10", "2620:fe::10"];
    /// Others.
    pub const INTERNET_TOO: [&str; 2] = ["9.9.9.11", "2620:fe::11"];
    /// A machine of the LAN.
    pub const LAN: [&str; 2] = ["192.168.77.10", "fd77::10"];
    /// One behind a provider's translation; there is none of IPv6, so this is another of the LAN.
    pub const SHARED: [&str; 2] = ["100.64.0.10", "fd78::10"];
    /// The cloud's metadata.
    pub const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];
    /// The gateway of the LAN.
    pub const GATEWAY: [&str; 2] = ["192.168.77.1", "fd77::1"];
    /// The host in the LAN.
    pub const HOST: [&str; 2] = ["192.168.77.2", "fd77::2"];
    /// The host, by an address of the internet.
    pub const HOST_PUBLIC: [&str; 2] = ["9.9.8.8", "2620:78::8"];
    /// The host's loopback.
    pub const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
    /// Of the internet, where nobody sends anything but as somebody else.
    pub const FORGED: [&str; 2] = ["9.9.9.12", "2620:fe::12"];
    /// Of the internet, where guests send what they made themselves, byte by byte, as who they are.
    pub const HAND_MADE: [&str; 2] = ["9.9.9.13", "2620:fe::13"];
    /// Of the internet, what names lead to that later lead elsewhere.
    pub const BEFORE: [&str; 2] = ["9.9.9.14", "2620:fe::14"];
    /// Of the internet, until the host gets it.
    pub const NEW: [&str; 2] = ["9.9.7.7", "2620:79::7"];
    /// Where all of them answer, by TCP and UDP.
    pub const PORTS: [u16; 2] = [7777, 7778];

    /// What names lead to, below [`DOMAIN`]; the second list is for whoever asks for the same once more. Those that end
    /// with a star are many.
    pub const ZONE: [(&str, &[&str], &[&str]); 7] = [
        ("web", &INTERNET, &INTERNET),
        ("lan", &LAN, &LAN),
        ("metadata", &METADATA, &METADATA),
        ("host", &HOST_PUBLIC, &HOST_PUBLIC),
        ("mixed", &MIXED, &MIXED),
        ("turns-*", &BEFORE, &LAN),
        ("moves-*", &BEFORE, &HOST_PUBLIC),
    ];
    /// Of the internet, and not.
    const MIXED: [&str; 6] = [METADATA[0], INTERNET_TOO[0], LAN[0], LAN[1], INTERNET_TOO[1], METADATA[1]];
    /// Where the bed's names are.
    pub const DOMAIN: &str = "bed.example";
}

/// What is in a bed, for [`role`].
const PEER: &str = "bed-peer";
const GUEST: &str = "bed-guest";

/// The part that this process plays in somebody's bed: to be asked first in `main`.
#[must_use]
pub fn role(args: &[OsString]) -> Option<ExitCode> {
    let word = |at: usize| args.get(at).and_then(|word| word.to_str());
    match word(1)? {
        PEER => Some(peer::main(&args[2..])),
        GUEST => Some(guest::main()),
        _ => None,
    }
}

/// A command in a network namespace and a mount table of its own: what calls [`Bed::new`].
#[must_use]
pub fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(program).args(args).stdin(Stdio::null());
    command
}

/// The user of [`as_nobody`].
pub const NOBODY: u32 = 65534;

/// The same program as another user, who has nothing; `program` has to be readable to everyone.
#[must_use]
pub fn as_nobody(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let words =
        ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    command.args(words).arg("--").arg(program).args(args).stdin(Stdio::null());
    command
}

/// The bed around this process.
#[derive(Debug)]
pub struct Bed {
    outside: Peer,
    host: Peer,
    _files: tempfile::TempDir,
}

impl Bed {
    /// Makes it, in this process's network namespace, which has to be new.
    ///
    /// # Panics
    /// Something lacks; this needs root, iproute2 and nftables.
    #[must_use]
    pub fn new() -> Self {
        let seen = run("ip", &["-br", "link"]);
        assert!(seen.lines().all(|line| line.starts_with("lo ")), "not in a new namespace: {seen}");
        // The sockets of pasta are this user's, who may not ping everywhere.
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("let everyone ping");
        let files = files();

        use address::{
            BEFORE, FORGED, GATEWAY, HAND_MADE, HOST, HOST_PUBLIC, INTERNET, INTERNET_TOO, LAN, LOOPBACK,
            METADATA, NEW, SHARED,
        };
        let mut addresses: Vec<&str> = Vec::new();
        let internet = [INTERNET, INTERNET_TOO, FORGED, HAND_MADE, BEFORE, NEW];
        for pair in internet.into_iter().chain([LAN, SHARED, METADATA, GATEWAY]) {
            addresses.extend(pair);
        }
        let outside = Peer::start(true);
        let id = outside.child.id();
        batch(&format!(
            "link set lo up\n\
             link add e0 type veth peer name e1 netns {id}\n\
             addr add {}/24 dev e0\n\
             addr add {}/64 dev e0 nodad\n\
             addr add {}/32 dev lo\n\
             addr add {}/128 dev lo nodad\n\
             link set e0 up\n\
             route add default via {}\n\
             route add default via {} dev e0\n",
            HOST[0], HOST[1], HOST_PUBLIC[0], HOST_PUBLIC[1], GATEWAY[0], GATEWAY[1]
        ));
        let mut outside = outside;
        outside.ask(&format!("setup {}", addresses.join(" ")));
        outside.ask(&format!("names {}", GATEWAY[0]));
        let mut host = Peer::start(false);
        let mut addresses: Vec<&str> = Vec::new();
        for pair in [HOST, HOST_PUBLIC, LOOPBACK] {
            addresses.extend(pair);
        }
        host.ask(&format!("serve {}", addresses.join(" ")));
        outside.ask("count prerouting");
        host.ask("count input");
        Self { outside, host, _files: files }
    }

    /// How many packets came to the outside from a source that is not the host's, or were sent by a guest as somebody else.
    pub fn strangers(&mut self) -> u64 {
        self.outside.ask("strangers").parse().expect("a number")
    }

    /// Who was tried to be reached since this was asked for last, as `ADDRESS PROTOCOL PORT`: what came to the outside or
    /// to the host itself, answered or not. Of other protocols than TCP and UDP the port is 0, and of them only a request
    /// for an echo counts; at [`address::FORGED`] everything does.
    pub fn arrived(&mut self) -> BTreeSet<String> {
        let both = [self.outside.ask("arrived"), self.host.ask("arrived")];
        both.iter()
            .flat_map(|text| text.split(", "))
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Gives the host addresses that it did not have, with a server.
    pub fn move_in(&mut self, addresses: &[&str]) {
        for address in addresses {
            let rest = if ip(address).is_ipv4() { "/32 dev lo" } else { "/128 dev lo nodad" };
            batch(&format!("addr add {address}{rest}\n"));
        }
        self.host.ask(&format!("serve {}", addresses.join(" ")));
    }

    /// What of the bed's side of the host there is beside the bed itself: interfaces and tables.
    #[must_use]
    pub fn left() -> Vec<String> {
        let interfaces = run("ip", &["-br", "link"]);
        let names = interfaces.lines().filter_map(|line| line.split([' ', '@']).next());
        let mut left: Vec<String> =
            names.filter(|name| !["lo", "e0"].contains(name)).map(str::to_owned).collect();
        let tables = run("nft", &["list", "tables"]);
        left.extend(tables.lines().filter(|table| *table != peer::TABLE).map(str::to_owned));
        left
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

/// A device for taps that everyone may open, and who answers for names.
fn files() -> tempfile::TempDir {
    use rustix::{
        fs::{CWD, FileType, Mode, makedev, mknodat},
        mount::mount_bind,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let tun = dir.path().join("tun");
    let made = mknodat(CWD, &tun, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(10, 200));
    made.expect("make a device");
    fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).expect("open it to everyone");
    mount_bind(&tun, "/dev/net/tun").expect("put it in its place");
    let names = dir.path().join("resolv.conf");
    fs::write(&names, format!("nameserver {}\n", address::GATEWAY[0])).expect("say who answers for names");
    let place = fs::canonicalize("/etc/resolv.conf").expect("the host has a resolv.conf");
    mount_bind(&names, &place).expect("put it in its place");
    dir
}

/// Lines for `ip -batch`.
pub(crate) fn batch(text: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("tell ip");
    assert!(child.wait().expect("ip").success(), "ip failed:\n{text}");
}

/// What a program says.
///
/// # Panics
/// It cannot be started, or fails.
#[must_use]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process with servers, which is asked by lines.
#[derive(Debug)]
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// In a namespace of its own, or in this process's.
    fn start(apart: bool) -> Self {
        let me = std::env::current_exe().expect("this program");
        let mut command = if apart {
            let mut command = Command::new("unshare");
            command.args(["--net", "--"]).arg(me);
            command
        } else {
            Command::new(me)
        };
        let mut child =
            command.arg(PEER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a peer");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut peer = Self { child, input, output };
        assert_eq!(peer.ask("hello"), "hello");
        peer
    }

    fn ask(&mut self, line: &str) -> String {
        let input = self.input.as_mut().expect("its input");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("ask a peer");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("a peer's answer");
        answer.trim_end().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Parses what is known to be an address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
