//! `cargo xtask bench forward`: what a connection over a forward carries, and how long it takes there and back; and the
//! same over the card.
//!
//! Purpose: one real VM of 1 processor and 256 MiB, leased from an engine of this process, and a server of this process,
//! which the VM's policy names by the host's address. So a packet over the card goes all its way but the wire.
//! Owner: `xtask`, which builds this program in its release profile.
//!
//! Invariants
//! - What arrives is counted where it arrives: another number is an error, and no figure.
//! - Times are the host's for bytes, and the guest's for a way there and back, without the start of what measures it.
#![expect(clippy::print_stdout, reason = "a program for the person who typed its name")]

use std::{
    error::Error,
    net::{IpAddr, UdpSocket},
    num::NonZeroU8,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use ampoule::{agent_binary, image_cmd, state_dir};
use backends::qemu::{Accel, Config, Kvm, PROGRAM, Qemu};
use sandbox::{
    Account, Bind, Destination, Engine, EngineConfig, ExecRequest, Forward, LeaseSpec, Networking,
    OutputMode, Patience, PoolLimits, Reserve, Root, Sandbox, Start, Stdin,
};
use serde_json::json;
use store::Store;
use tokio_util::sync::CancellationToken;
use vm::{Backend, Mebibytes, OwnerLoss};
use vm_tests::talker::Talker;

type Failure = Box<dyn Error + Send + Sync>;

/// MiB in each direction, where `--mib N` says nothing else.
const MIB: u64 = 1024;
/// Ways there and back.
const PINGS: usize = 1000;
/// Connections that are open at once.
const AT_ONCE: usize = 1000;

/// How this program is called as the helper of networks.
const HELPER: &str = "net-helper";

const PING: &str = r"
import socket, sys, time
s = socket.create_connection((sys.argv[2], int(sys.argv[3]))); s.setsockopt(6, 1, 1); s.sendall(b'echo\n')
took = []
for n in range(int(sys.argv[1]) + 20):
    a = time.perf_counter(); s.sendall(b'x'); assert s.recv(1) == b'x'; took.append(time.perf_counter() - a)
took = sorted(took[20:])
print(*('%.1f' % (took[len(took) * p // 100] * 1e6) for p in (50, 95, 99)))
";
const MANY: &str = r"
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
n = int(sys.argv[1]); at = socket.gethostbyname(sys.argv[2]); a = time.perf_counter()
def one():
    s = socket.create_connection((at, int(sys.argv[3]))); s.sendall(b'echo\n'); return s
all = [one() for _ in range(n)]
b = time.perf_counter()
for i, s in enumerate(all): s.sendall(b'%06d' % i)
assert sum(s.recv(6) == b'%06d' % i for i, s in enumerate(all)) == n
print('%.2f %.2f' % (b - a, time.perf_counter() - b))
";

fn main() -> ExitCode {
    if let Some(code) = jail_dispatch() {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(bench())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", testkit::gitea::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// This program is its own shim, and the helper of its network.
fn jail_dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    match args.next()?.to_str()? {
        "vm-shim" => Some(jail::shim::main(args)),
        HELPER => Some(net::helper(args)),
        _ => None,
    }
}

/// An address of this host that is not the loopback's.
fn own_address() -> Result<IpAddr, Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // sends nothing: the address that packets to the internet would have
    socket.connect("1.1.1.1:9").map_err(|error| format!("this host has no way to the internet: {error}"))?;
    Ok(socket.local_addr()?.ip())
}

/// A network, or why there is none.
async fn networking() -> Networking {
    let helper = vec!["/proc/self/exe".into(), HELPER.into()];
    let limits = net::Limits::default();
    match net::Router::start(net::Config { helper, uplink: net::Uplink::Host, limits, pool: 1 }).await {
        Ok(router) => Networking::By(Arc::new(router)),
        Err(error) => Networking::Lacking(testkit::gitea::chain(&error)),
    }
}

async fn engine(state: PathBuf) -> Result<(Engine, LeaseSpec, String, store::Hold), Failure> {
    let store = Store::open(image_cmd::store_dir(&state_dir::resolve(None)?))?;
    let hold = store.hold()?;
    let image = image::find(image_cmd::STANDARD, &store)?;
    let image = image.ok_or("there is no image: `ampoule setup` makes it")?;
    let initramfs = image::initramfs(&image, &agent_binary::find()?, &store)?;
    let qemu = Qemu::open(Config {
        program: PROGRAM.into(),
        shim: vec!["/proc/self/exe".into(), "vm-shim".into()],
        level: jail::Level::Available,
        accel: Accel::Auto,
        probe: Some(Kvm {
            kernel: image.kernel.clone(),
            initramfs: initramfs.clone(),
            limit: std::time::Duration::from_secs(10),
        }),
    });
    let qemu = qemu.await?;
    let capabilities = qemu.capabilities();
    let described = format!("{} {} ({})", qemu.name(), capabilities.version, capabilities.accelerator);
    let spec = LeaseSpec {
        kernel: image.kernel,
        initramfs,
        root: Root::Image(image.root),
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(256),
        scratch_bytes: 1 << 30,
        bind: Bind { hostname: "bench".to_owned(), ..Bind::default() },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: sandbox::WhenFull::Wait,
    };
    let config = EngineConfig {
        state_dir: state,
        backend: Arc::new(qemu),
        patience: Patience::default(),
        pool: PoolLimits::NONE,
        reserve: Reserve::default(),
        network: networking().await,
    };
    Ok((Engine::open(config).await?.0, spec, described, hold))
}

async fn said(guest: &Sandbox, argv: &[&str]) -> Result<String, Failure> {
    let request = ExecRequest {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Merged,
        timeout: None,
    };
    let done = guest.exec(request).await?.collect(1 << 20).await?;
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    if done.exited.success() { Ok(text) } else { Err(format!("{argv:?} ended badly: {text}").into()) }
}

/// How many bytes a command prints that prints so many blocks.
async fn printed(guest: &Sandbox, blocks: u64) -> Result<u64, Failure> {
    let request = ExecRequest {
        argv: vec!["dd".into(), "if=/dev/zero".into(), "bs=256k".into(), format!("count={blocks}")],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".to_owned(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Separate,
        timeout: None,
    };
    let mut running = guest.exec(request).await?;
    let mut bytes = 0;
    while let Some(chunk) = running.output.next().await? {
        if chunk.stream == sandbox::Stream::Stdout {
            bytes += chunk.bytes.len() as u64;
        }
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(bytes: u64, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64()
}

/// The word behind an option.
fn option(name: &str) -> Option<std::ffi::OsString> {
    std::env::args_os().skip_while(|word| word != name).nth(1)
}

/// What was measured of one way.
struct Figures {
    out: f64,
    into: f64,
    ping: Vec<f64>,
    many: Vec<f64>,
}

impl Figures {
    fn row(&self) -> String {
        let Self { out, into, ping, many } = self;
        format!("{out:.0} MB/s | {into:.0} MB/s | {ping:?} µs | {many:?} s |")
    }

    fn json(&self) -> serde_json::Value {
        json!({ "out_mb_s": self.out, "in_mb_s": self.into, "ping_us": self.ping, "at_once_s": self.many })
    }
}

async fn figures(guest: &Sandbox, host: &str, port: u16, bytes: u64) -> Result<Figures, Failure> {
    // once, so that what is measured is translated
    said(guest, &["sh", "-c", &format!("echo count | nc -N {host} {port}")]).await?;
    let began = Instant::now();
    let blocks = bytes >> 18;
    let send =
        format!("(echo count; dd if=/dev/zero bs=256k count={blocks} 2>/dev/null) | nc -N {host} {port}");
    if said(guest, &["sh", "-c", &send]).await? != bytes.to_string() {
        return Err("the server did not get what the guest sent".into());
    }
    let out = rate(bytes, began);
    let began = Instant::now();
    let receive = format!("echo 'blob {bytes}' | nc {host} {port} | wc -c");
    if said(guest, &["sh", "-c", &receive]).await? != bytes.to_string() {
        return Err("the guest did not get what the server sent".into());
    }
    let into = rate(bytes, began);
    let port = port.to_string();
    let numbers = |text: String| text.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>();
    let ping = numbers(said(guest, &["python3", "-c", PING, &PINGS.to_string(), host, &port]).await?)?;
    let many = numbers(said(guest, &["python3", "-c", MANY, &AT_ONCE.to_string(), host, &port]).await?)?;
    Ok(Figures { out, into, ping, many })
}

async fn bench() -> Result<(), Failure> {
    let mib = match option("--mib") {
        Some(word) => word.to_str().ok_or("--mib takes a number")?.parse()?,
        None => MIB,
    };
    let bytes = mib << 20;
    let state = tempfile::Builder::new().prefix("ampoule-bench-").tempdir()?;
    let at = own_address()?;
    let talker = Talker::at(at).await;
    let (engine, mut spec, described, _hold) = engine(state.path().to_owned()).await?;
    let to = Destination::Tcp { host: at.to_string(), port: talker.address.port() };
    let lacking = engine.no_network().map(str::to_owned);
    if lacking.is_none() {
        spec.bind.network = format!("allow={at}:{}", talker.address.port()).parse()?;
    }
    spec.bind.forwards = vec![Forward { name: "talk.test".to_owned(), port: 7000, to }];
    let lease = engine.lease(spec, &CancellationToken::new()).await?;
    let guest = lease.sandbox();
    // what there is without a network: a command that prints
    let began = Instant::now();
    if printed(&guest, bytes >> 18).await? != bytes {
        return Err("not all that was printed came".into());
    }
    let link = rate(bytes, began);
    let forward = figures(&guest, "talk.test", 7000, bytes).await?;
    let card = match &lacking {
        None => Some(figures(&guest, &at.to_string(), talker.address.port(), bytes).await?),
        Some(_) => None,
    };
    lease.destroy().await?;
    engine.close().await;

    println!("{described}\n\na command's output, for comparison: {link:.0} MB/s\n");
    println!(
        "| over | guest to host | host to guest | a byte there and back, p50, p95, p99 | {AT_ONCE} connections: all open, a word each |"
    );
    println!("|---|---|---|---|---|\n| a forward | {}", forward.row());
    match (&card, &lacking) {
        (Some(card), _) => println!("| the card | {}", card.row()),
        (None, why) => println!("\nno card: {}", why.as_deref().unwrap_or_default()),
    }
    let all = json!({
        "backend": described, "link_mb_s": link, "forward": forward.json(), "card": card.as_ref().map(Figures::json),
    });
    if let Some(path) = option("--json") {
        std::fs::write(path, format!("{all:#}\n"))?;
    }
    Ok(())
}
