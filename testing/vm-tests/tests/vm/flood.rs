//! A guest that takes all that it can have of its network, and what answers it badly: the host's memory, the kernel's
//! table of connections and the time of its neighbour are bounded.
//!
//! The engine is a process of its own in a bed ([`dispatch`]), so that its memory is nobody else's.
//! `AMPOULE_TEST_CONNECTIONS` says how many connections in place of 2,300, and of datagrams five times as many.

use std::{
    net::UdpSocket,
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, getpid};
use sandbox::{
    Bind, Destination, Engine, EngineConfig, Forward, Lease, LeaseSpec, Networking, Patience, Policy,
    PoolLimits, Sandbox,
};
use tokio_util::sync::CancellationToken;
use vm_tests::{bed::Bed, host, program::On, talker::Talker};

use crate::{
    contract, network,
    pool::{run, said, spec},
};

/// First argument of the process that has the engine.
const FLOODED: &str = "flooded-engine";
/// The most that the engine's process may need of memory, whatever its guests do.
const MEMORY: u64 = 320 << 20;
/// Connections of a VM: over its forwards, and over its card.
const FORWARDED: usize = 2048;
const CARD: usize = 4096;
/// Of the table of connections beside those: what the guest sends to its gateway, and what is just ending.
const BESIDE: usize = 256;
/// How often a VM's connections can be in the router's table: those whose time is over (30 s for a datagram that nobody
/// answers) are counted there until the kernel looks for such, which it does every 60 s; the count of a VM's own rules
/// leaves them out.
const GENERATIONS: usize = 4;

pub(crate) fn trials() -> Vec<Trial> {
    vec![network::on_a_bed("a_guest_that_takes_all_it_can_have_leaves_its_neighbour_its_own", |_: On| {
        flood()
    })]
}

fn flood() {
    in_a_bed(FLOODED);
}

/// Runs this test as a process of a bed's host, which has a name server.
pub(crate) fn in_a_bed(role: &str) {
    let bed = Bed::new();
    let dir = tempfile::tempdir().expect("a directory");
    let servers = dir.path().join("resolv.conf");
    std::fs::write(&servers, "nameserver 127.0.0.1\n").expect("a file");
    let mut call = Command::new("unshare");
    call.args(["-m", "sh", "-c", "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\" \"$3\" \"$4\"", "sh"]);
    call.arg(&servers).arg(std::env::current_exe().expect("this test")).arg(role).arg(dir.path());
    let ended = bed.on_host(&call).status().expect("nsenter and unshare are installed");
    assert!(ended.success(), "{ended}");
    let left = host::settled(|| host::remnants(dir.path()));
    assert!(left.is_empty(), "{left:#?}");
    bed.assert_clean();
}

/// Becomes the engine, where this process was started as that.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != FLOODED {
        return None;
    }
    let dir = args.next()?;
    run(async move { flooded(Path::new(&dir)).await });
    Some(ExitCode::SUCCESS)
}

async fn flooded(dir: &Path) {
    let told = std::env::var("AMPOULE_TEST_CONNECTIONS").ok().and_then(|count| count.parse().ok());
    let count: usize = told.unwrap_or(2300);
    serve_names();
    let talker = Talker::start().await;
    let engine = engine(dir, PoolLimits::NONE).await;
    let lease = async |name: &str| {
        let to = Destination::Tcp { host: "127.0.0.1".to_owned(), port: talker.address.port() };
        let forwards = vec![Forward { name: "talk.test".to_owned(), port: 7000, to }];
        let spec = spec(name);
        let bind = Bind { forwards, network: Policy::internet(), ..spec.bind };
        let lease = engine.lease(LeaseSpec { bind, ..spec }, &CancellationToken::new()).await;
        lease.expect("a lease")
    };
    let (flooder, neighbour) = (lease("flooder").await, lease("neighbour").await);
    let watch = Watch::start();
    let both = Both { flooder: &flooder, neighbour: &neighbour.sandbox() };
    both.neighbour_works(0).await;

    // to a destination that accepts and never answers; those that are over the limit are reset, no other is closed
    let connections = format!(
        "to = socket.gethostbyname('talk.test')\nall, poll = {{}}, select.poll()\ndef sweep():\n    \
             for fd, _ in poll.poll(0): poll.unregister(fd); del all[fd]\n\
         for n in range({count}):\n    \
             s = socket.socket(); s.settimeout(60)\n    \
             try: s.connect((to, 7000)); s.send(b'stall\\n')\n    except OSError: continue\n    \
             all[s.fileno()] = s; poll.register(s, 0)\n    if n % 500 == 499: sweep()\n\
         time.sleep(1); sweep(); print(len(all))"
    );
    let kept: usize =
        both.floods("connections over a forward", &connections).await.parse().expect("a number");
    assert!(kept <= FORWARDED && kept > FORWARDED / 2, "{kept} connections are open");
    assert!(talker.most() <= FORWARDED + 8, "{} connections were there at once", talker.most());

    // each datagram is a connection of its own to netfilter
    let datagrams = format!(
        "to = '93.184.216.34'; socks = []\nfor n in range({}):\n    \
             if n % 60000 == 0: socks.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))\n    \
             try: socks[-1].sendto(b'x' * 64, (to, 1024 + n % 60000))\n    except OSError: pass\n\
         all = []\nfor n in range({}):\n    \
             s = socket.socket(); s.setblocking(False); s.connect_ex((to, 80)); all.append(s)\nprint('sent')",
        count * 5,
        (count / 4).min(8000)
    );
    assert_eq!(both.floods("datagrams and connections over the card", &datagrams).await, "sent");
    let (most_of_a_vm, most_of_all) = watch.connections();
    assert!(most_of_a_vm > CARD / 2, "{most_of_a_vm} connections of a VM: they were not seen");
    assert!(most_of_a_vm <= CARD + BESIDE, "{most_of_a_vm} connections of a VM");
    assert!(most_of_all <= GENERATIONS * (CARD + BESIDE), "{most_of_all} connections of all VMs");

    let questions = format!(
        "u = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]\n\
         def q(n): return struct.pack('>HHHHHH', n & 65535, 0x100, 1, 0, 0, 0) + b'\\x08%08d\\x04test\\0\\0\\1\\0\\1' % n\n\
         t = []\nfor _ in range(200):\n    \
             s = socket.socket(); s.settimeout(20); s.connect(('198.19.0.53', 53)); s.send(b'\\xff\\xff'); t.append(s)\n\
         for n in range({}):\n    \
             try: u[n % 64].sendto(q(n), (('198.19.0.53', '93.184.216.34')[n % 2], 53))\n    except OSError: pass\n\
         print('asked')",
        count
    );
    assert_eq!(both.floods("questions for names", &questions).await, "asked");

    let bad = "for n in range(8):\n    \
                   try: print(socket.getaddrinfo('bad%d.test' % n, 80, socket.AF_INET)[0][4][0])\n    \
                   except OSError: print('none')";
    let answers = both.floods("answers that are none", bad).await;
    assert_eq!(answers.split_whitespace().collect::<Vec<_>>(), ["none"; 8]);

    // the flooder works as well: what its process left of connections, to a server that never answers, is found out
    let again = "for n in range(300):\n    \
                     try:\n        \
                         s = socket.create_connection(('talk.test', 7000), 60); s.sendall(b'echo\\nagain'); print(s.recv(5))\n        \
                         break\n    \
                     except OSError: time.sleep(1)";
    assert_eq!(both.floods("a minute later", again).await, "b'again'");
    works(&flooder.sandbox(), 1_000_000).await;
    let (memory, spent) =
        (host::peak_memory(std::process::id()).expect("this process"), network::ticks(getpid()));
    vm_tests::say(&format!("memory of the engine at most {} MiB; {spent} ticks in all", memory >> 20));
    assert!(memory < MEMORY, "the engine needed {} MiB", memory >> 20);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = network::ticks(getpid()) - spent;
    assert!(idle < 150, "{idle} ticks in three seconds in which nothing was to do");
    drop(watch);
    for lease in [flooder, neighbour] {
        lease.destroy().await.expect("nothing is left");
    }
    engine.close().await;
}

/// One with networks.
pub(crate) async fn engine(dir: &Path, pool: PoolLimits) -> Engine {
    let helper = vec!["/proc/self/exe".into(), ampoule::network::HELPER.into()];
    let config = net::Config { helper, uplink: net::Uplink::Host, limits: net::Limits::default(), pool: 2 };
    let router = net::Router::start(config).await.expect("a network");
    let config = EngineConfig {
        state_dir: dir.to_owned(),
        backend: Arc::new(contract::backend().await),
        patience: Patience::default(),
        pool,
        reserve: sandbox::Reserve::default(),
        network: Networking::By(Arc::new(router)),
    };
    Engine::open(config).await.expect("an engine").0
}

/// A guest that floods, and one that wants to work.
struct Both<'a> {
    flooder: &'a Lease,
    neighbour: &'a Sandbox,
}

impl Both<'_> {
    /// Runs a Python program in the one while the other works; what it said.
    async fn floods(&self, what: &str, program: &str) -> String {
        let head = "import resource, socket, struct, time, select\n\
                    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))\n";
        let script = format!("python3 - <<'END'\n{head}{program}\nEND");
        let (flooder, begun) = (self.flooder.sandbox(), Instant::now());
        let flood = tokio::spawn(async move { said(&flooder, &script).await });
        let (mut rounds, mut longest) = (0, Duration::ZERO);
        while rounds < 2 || !flood.is_finished() {
            let round = Instant::now();
            self.neighbour_works(u32::try_from(begun.elapsed().as_millis()).expect("not so long")).await;
            longest = longest.max(round.elapsed());
            rounds += 1;
        }
        let said = flood.await.expect("no panic");
        let memory = host::peak_memory(std::process::id()).unwrap_or_default() >> 20;
        vm_tests::say(&format!(
            "{what}: {:?}; its neighbour worked {rounds} times, at most {longest:?}; {memory} MiB so far",
            begun.elapsed()
        ));
        said
    }

    async fn neighbour_works(&self, number: u32) {
        works(self.neighbour, number).await;
    }
}

/// By its forward, by its card, and by names, which nobody asked for before.
async fn works(guest: &Sandbox, number: u32) {
    let script = format!(
        "python3 - <<'END'\nimport socket\n\
         s = socket.create_connection(('talk.test', 7000), 60); s.sendall(b'echo\\n')\n\
         for n in range(10):\n    s.sendall(b'%06d' % n); assert s.recv(6) == b'%06d' % n\n\
         w = socket.create_connection(('name{number}.test', 80), 60)\n\
         print(w.getpeername()[0], w.makefile().readline().strip())\nEND"
    );
    assert_eq!(said(guest, &script).await, "93.184.216.34 hello");
}

/// Looks at the tables of connections of the helper's namespaces.
struct Watch {
    most: Arc<[AtomicUsize; 2]>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn start() -> Self {
        let watch = Self { most: Arc::default(), ended: Arc::default() };
        let (most, ended) = (Arc::clone(&watch.most), Arc::clone(&watch.ended));
        let [waiter] = host::children(getpid(), ampoule::network::HELPER)[..] else { panic!("one helper") };
        let [helper] = host::children(waiter, ampoule::network::HELPER)[..] else { panic!("one helper") };
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for (at, count) in connections(helper) {
                    // the first namespace is the router's
                    most[usize::from(at == 0)].fetch_max(count, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        watch
    }

    /// The most of a VM, and of all in the router's.
    fn connections(&self) -> (usize, usize) {
        let [vm, router] = &*self.most;
        (vm.load(Ordering::Relaxed), router.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// How many connections are in the table of each namespace of a helper, in the order in which they were made.
fn connections(helper: Pid) -> Vec<(usize, usize)> {
    let dir = format!("/proc/{}/fd", helper.as_raw_nonzero());
    let mut numbers: Vec<u32> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("net:["))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let count = |number: &u32| {
        let mut call = Command::new("nsenter");
        call.arg(format!("--net={dir}/{number}")).args(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]);
        String::from_utf8_lossy(&call.output().ok()?.stdout).trim().parse().ok()
    };
    numbers.iter().enumerate().filter_map(|(at, number)| Some((at, count(number)?))).collect()
}

/// The host's name server: every name is that of the web server, and some are answered by what is no answer.
fn serve_names() {
    let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let _ = socket.send_to(&answer(question), from);
        }
    });
}

fn answer(question: &[u8]) -> Vec<u8> {
    // its header, one question, perhaps with a record of EDNS behind it, which is left out
    let Some(end) = question[12..].iter().position(|byte| *byte == 0).map(|at| 12 + at + 5) else {
        return Vec::new();
    };
    let mut bytes = question[..end].to_vec();
    let is_v4 = bytes[end - 4..] == [0, 1, 0, 1];
    bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
    if is_v4 {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]);
    }
    // bad0 to bad7
    if bytes[12] == 4 && bytes[13..16].eq_ignore_ascii_case(b"bad") {
        match bytes[16] {
            b'0' => bytes.fill(0xff),
            b'1' => bytes.truncate(end + 7),
            b'2' => bytes[0] ^= 0xff,
            b'3' => bytes[6..8].fill(0xff),
            // a name that leads to itself
            b'4' => bytes[end..].copy_from_slice(&[
                0xc0,
                u8::try_from(end).unwrap_or(0),
                0,
                1,
                0,
                1,
                0,
                0,
                0,
                60,
                0,
                4,
                1,
                1,
                1,
                1,
            ]),
            b'5' => bytes.clear(),
            // more than there is
            b'6' => bytes[end + 10..end + 12].fill(0xff),
            _ => bytes = vec![0x41; 60_000],
        }
    }
    bytes
}
