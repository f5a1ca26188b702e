//! A bed of network namespaces: a host for the program under test, and the rest of the world behind it.
//!
//! ```text
//!   [host: 11.0.0.1, a service of its own] ── veth ── [world: 11.0.0.2, and every other address: servers]
//! ```
//! Purpose: VMs that reach the world, or what they may not, without a packet on the real network. Owner: a test; its
//! drop removes all. Invariant: neither namespace has a way to the machine's own network.

use std::{
    fs, io,
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Addresses that the world has, with names for them.
pub const WORLD: [(&str, &str); 6] = [
    ("web", "93.184.216.34"),
    ("web6", "2606:2800:220:1::1"),
    ("lan", "10.1.2.3"),
    ("shared", "100.64.1.2"),
    ("metadata", "169.254.169.254"),
    ("lan6", "fd00:1::3"),
];
/// The host's own address.
pub const HOST: &str = "11.0.0.1";
/// The port on which every server says [`HELLO`].
pub const PORT: u16 = 80;
/// What a server says.
pub const HELLO: &str = "hello";

/// Answers on all addresses, v4 and v6.
const SERVER: &str = "import socket,sys
s=socket.create_server(('::',int(sys.argv[1])),family=socket.AF_INET6,dualstack_ipv6=True,backlog=128)
print('ready',flush=True)
while True:
    c,_=s.accept()
    try:
        c.sendall(b'hello\\n')
        c.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    c.close()
";

/// The namespaces.
#[derive(Debug)]
pub struct Bed {
    host: String,
    world: String,
    servers: Vec<Child>,
}

impl Bed {
    /// Makes it.
    ///
    /// # Panics
    /// Without root, `ip` and `python3`, which such a test cannot do without.
    #[must_use]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::getuid().is_root(), "this test makes network namespaces: it needs root");
        let name = format!("ampbed{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut bed = Self { host: format!("{name}-h"), world: format!("{name}-w"), servers: Vec::new() };
        let (host, world) = (bed.host.clone(), bed.world.clone());
        ip(&format!("netns add {host}"));
        ip(&format!("netns add {world}"));
        ip(&format!("-n {host} link add up0 type veth peer name down0 netns {world}"));
        for (namespace, link, v4, v6) in
            [(&host, "up0", HOST, "2001:4860:bed::1"), (&world, "down0", "11.0.0.2", "2001:4860:bed::2")]
        {
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set {link} up"));
            ip(&format!("-n {namespace} addr add {v4}/24 dev {link}"));
            ip(&format!("-n {namespace} addr add {v6}/64 dev {link} nodad"));
        }
        ip(&format!("-n {host} route add default via 11.0.0.2"));
        ip(&format!("-6 -n {host} route add default via 2001:4860:bed::2"));
        for (_, address) in WORLD {
            let v6 =
                if address.parse().is_ok_and(|address: IpAddr| address.is_ipv6()) { " nodad" } else { "" };
            ip(&format!("-n {world} addr add {address} dev lo{v6}"));
        }
        for namespace in [host, world] {
            let server = bed.serve(&namespace);
            bed.servers.push(server);
        }
        bed
    }

    fn serve(&self, namespace: &str) -> Child {
        let mut command = within(namespace, "python3");
        command.args(["-c", SERVER, &PORT.to_string()]).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().expect("python3 and nsenter are installed");
        let mut ready = [0; 5];
        let read = io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready);
        assert!(read.is_ok() && &ready == b"ready", "no server in {}", self.world);
        child
    }

    /// The same call in the namespace of the host.
    #[must_use]
    pub fn on_host(&self, call: &Command) -> Command {
        let mut command = within(&self.host, call.get_program());
        command.args(call.get_args()).stdin(Stdio::null());
        for (key, value) in call.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    /// What of a router is left in the host's namespace: links that the bed did not make, and processes.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let links = Command::new("ip").args(["-n", &self.host, "-o", "link"]).output().expect("ip runs");
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        let ours = |line: &&str| !line.contains(": lo:") && !line.contains(": up0@");
        let mut left: Vec<String> = links.lines().filter(ours).map(|line| format!("link {line}")).collect();
        let rules = within(&self.host, "nft").args(["list", "tables"]).output().expect("nft runs");
        left.extend(String::from_utf8_lossy(&rules.stdout).lines().map(|line| format!("rules {line}")));
        let own: Vec<u32> = self.servers.iter().map(Child::id).collect();
        left.extend(self.processes().into_iter().filter(|pid| !own.contains(pid)).map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        }));
        left
    }

    /// Fails the test when something of a router is left.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn assert_clean(&self) {
        let begun = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "left over: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Processes in the host's namespace.
    fn processes(&self) -> Vec<u32> {
        use std::os::unix::fs::MetadataExt;
        let here = fs::metadata(path(&self.host)).map(|found| found.ino()).ok();
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino()) == here)
            .collect()
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for namespace in [&self.host, &self.world] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn path(namespace: &str) -> PathBuf {
    PathBuf::from(format!("/run/netns/{namespace}"))
}

fn within(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path(namespace).display())).arg(program);
    command
}

#[track_caller]
fn ip(words: &str) {
    let made = Command::new("ip").args(words.split_whitespace()).status();
    assert!(made.is_ok_and(|status| status.success()), "ip {words}");
}
