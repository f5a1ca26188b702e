//! `cargo xtask bench forward`: what a connection over a forward carries, and how long it takes there and back.
//!
//! Purpose: one real VM of 1 processor and 256 MiB, leased from an engine of this process, and a server of this process.
//! Owner: `xtask`, which builds this program in its release profile.
//!
//! Invariants
//! - What arrives is counted where it arrives: another number is an error, and no figure.
//! - Times are the host's for bytes, and the guest's for a way there and back, without the start of what measures it.
#![expect(clippy::print_stdout, reason = "a program for the person who typed its name")]

use std::{error::Error, num::NonZeroU8, path::PathBuf, process::ExitCode, time::Instant};

use ampoule::{agent_binary, image_cmd, state_dir};
use backends::qemu::{Accel, Config, Kvm, PROGRAM, Qemu};
use sandbox::{
    Account, Bind, Destination, Engine, EngineConfig, ExecRequest, Forward, LeaseSpec, OutputMode, Patience,
    PoolLimits, Reserve, Root, Sandbox, Start, Stdin,
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

const PING: &str = r"
import socket, sys, time
s = socket.create_connection(('talk.test', 7000)); s.setsockopt(6, 1, 1); s.sendall(b'echo\n')
took = []
for n in range(int(sys.argv[1]) + 20):
    a = time.perf_counter(); s.sendall(b'x'); assert s.recv(1) == b'x'; took.append(time.perf_counter() - a)
took = sorted(took[20:])
print(*('%.1f' % (took[len(took) * p // 100] * 1e6) for p in (50, 95, 99)))
";
const MANY: &str = r"
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
n = int(sys.argv[1]); at = socket.gethostbyname('talk.test'); a = time.perf_counter()
def one():
    s = socket.create_connection((at, 7000)); s.sendall(b'echo\n'); return s
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

/// This program is its own shim.
fn jail_dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == "vm-shim").then(|| jail::shim::main(args))
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
        backend: std::sync::Arc::new(qemu),
        patience: Patience::default(),
        pool: PoolLimits::NONE,
        reserve: Reserve::default(),
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

async fn bench() -> Result<(), Failure> {
    let mib = match option("--mib") {
        Some(word) => word.to_str().ok_or("--mib takes a number")?.parse()?,
        None => MIB,
    };
    let bytes = mib << 20;
    let state = tempfile::Builder::new().prefix("ampoule-bench-").tempdir()?;
    let talker = Talker::start().await;
    let (engine, mut spec, described, _hold) = engine(state.path().to_owned()).await?;
    let to = Destination::Tcp { host: talker.address.ip().to_string(), port: talker.address.port() };
    spec.bind.forwards = vec![Forward { name: "talk.test".to_owned(), port: 7000, to }];
    let lease = engine.lease(spec, &CancellationToken::new()).await?;
    let guest = lease.sandbox();
    // once, so that what is measured is translated
    said(&guest, &["sh", "-c", "echo count | nc -N talk.test 7000"]).await?;

    // what there is without a forward: a command that prints
    let began = Instant::now();
    if printed(&guest, bytes >> 18).await? != bytes {
        return Err("not all that was printed came".into());
    }
    let link = rate(bytes, began);
    let began = Instant::now();
    let blocks = bytes >> 18;
    let send =
        format!("(echo count; dd if=/dev/zero bs=256k count={blocks} 2>/dev/null) | nc -N talk.test 7000");
    if said(&guest, &["sh", "-c", &send]).await? != bytes.to_string() {
        return Err("the server did not get what the guest sent".into());
    }
    let out = rate(bytes, began);
    let began = Instant::now();
    let receive = format!("echo 'blob {bytes}' | nc talk.test 7000 | wc -c");
    if said(&guest, &["sh", "-c", &receive]).await? != bytes.to_string() {
        return Err("the guest did not get what the server sent".into());
    }
    let into = rate(bytes, began);
    let pings = said(&guest, &["python3", "-c", PING, &PINGS.to_string()]).await?;
    let pings: Vec<f64> = pings.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let many = said(&guest, &["python3", "-c", MANY, &AT_ONCE.to_string()]).await?;
    let many: Vec<f64> = many.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    lease.destroy().await?;
    engine.close().await;

    println!("{described}\n\n| over one forward | |\n|---|---|");
    println!("| a command's output, for comparison | {link:.0} MB/s |");
    println!("| guest to host | {out:.0} MB/s |\n| host to guest | {into:.0} MB/s |");
    println!("| a byte there and back, p50, p95, p99 | {pings:?} µs |");
    println!("| {AT_ONCE} connections: all open, and a word of each there and back | {many:?} s |");
    let figures = json!({
        "backend": described, "link_mb_s": link, "out_mb_s": out, "in_mb_s": into, "ping_us": pings, "at_once_s": many,
    });
    if let Some(path) = option("--json") {
        std::fs::write(path, format!("{figures:#}\n"))?;
    }
    Ok(())
}
