//! A full disk under the state directory: a clear error that names the file, and nothing left.
//!
//! This program runs itself again where the disk is full: below a limit on the size of files, which every
//! user can set, and on a tiny tmpfs in a mount namespace of its own, where this machine lets us make one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program is a test of its own")]

use std::{
    num::NonZeroU8,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use sandbox::{Bind, Engine, EngineConfig, LeaseSpec, Patience, Root};
use tokio_util::sync::CancellationToken;
use vm::{Backend, BootSpec, Boundary, Capabilities, Machine, Mebibytes, OwnerLoss, Slot};

/// No VM ever starts here.
struct Unreachable(Capabilities);

#[async_trait]
impl Backend for Unreachable {
    fn name(&self) -> &'static str {
        "unreachable"
    }
    fn capabilities(&self) -> &Capabilities {
        &self.0
    }
    async fn boot(&self, _: &BootSpec, _: &Slot) -> vm::Result<Box<dyn Machine>> {
        panic!("booted with a full disk")
    }
    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Gone(slot.id))
    }
}

/// Leases in `state`, and says what came of it on standard error.
fn lease(state: &Path, image: &Path) {
    let capabilities = Capabilities {
        version: String::new(),
        accelerator: String::new(),
        boundary: Boundary::None,
        lacking: Vec::new(),
        no_card: None,
        adopt: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async {
        let backend = Arc::new(Unreachable(capabilities));
        let config = EngineConfig {
            state_dir: state.to_owned(),
            backend,
            patience: Patience::default(),
            pool: sandbox::PoolLimits::NONE,
            reserve: sandbox::Reserve { memory: 0, disk: 0 },
        };
        let engine = match Engine::open(config).await {
            Ok((engine, _)) => engine,
            Err(error) => return format!("open: {error}"),
        };
        let spec = LeaseSpec {
            kernel: "/kernel".into(),
            initramfs: "/initramfs".into(),
            root: Root::Image(image.to_owned()),
            cpus: NonZeroU8::MIN,
            memory: Mebibytes(64),
            scratch_bytes: 4 << 30,
            bind: Bind { hostname: "guest".into(), ..Bind::default() },
            on_owner_loss: OwnerLoss::Kill,
            mark: None,
            start: sandbox::Start::Fork,
            when_full: sandbox::WhenFull::Wait,
        };
        let said = match engine.lease(spec, &CancellationToken::new()).await {
            Ok(_) => "leased".to_owned(),
            Err(error) => format!("lease: {error}"),
        };
        engine.close().await;
        said
    });
    let left: Vec<_> = std::fs::read_dir(state.join("slots")).into_iter().flatten().flatten().collect();
    let half = state.join("scratch/half").exists();
    eprint!("{said}; {} slots left; half a template left: {half}", left.len());
}

/// What a run of this program says that `script` starts as `"$0" "$1" "$2"`.
fn run(program: &[&str], script: &str, state: &Path, image: &Path) -> String {
    let (first, rest) = program.split_first().unwrap();
    let output = Command::new(first)
        .args(rest)
        .args(["sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([state, image])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

fn expect(what: &str, said: &str, file: &Path) {
    let expected = format!(
        "lease: no space left on the disk that holds {}; 0 slots left; half a template left: false",
        file.display()
    );
    assert!(said == expected, "{what}: {said:?} instead of {expected:?}");
    println!("ok: {what}");
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [state, image] = args.as_slice()
        && state.starts_with('/')
    {
        lease(Path::new(state), Path::new(image));
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("root.img");
    let mut bytes = vec![0; 4096];
    bytes[..4].copy_from_slice(b"hsqs");
    std::fs::write(&image, bytes).unwrap();
    let state = dir.path().join("state");

    // Files of 8 KiB at most, which holds a slot's record and no disk.
    let said = run(&["env"], "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$1\" \"$2\"", &state, &image);
    expect("files may not grow", &said, &state.canonicalize().unwrap().join("scratch/half"));

    let mut unshare = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let allowed = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("this machine makes no mount namespace: the first way has to do");
        return ExitCode::SUCCESS;
    }
    let mounts = |size: &str, then: &str| {
        format!("mount -t tmpfs -o size={size} none \"$1\" && {then} exec \"$0\" \"$1\" \"$2\"")
    };
    // Room for a slot, not for a template.
    let said = run(&unshare, &mounts("128k", ""), &state, &image);
    expect("no room for a template", &said, &state.canonicalize().unwrap().join("scratch/half"));
    // No room even for a slot's record.
    let fill = "mkdir \"$1/slots\" && { head -c 1M /dev/zero > \"$1/fill\" 2> /dev/null; true; } &&";
    let said = run(&unshare, &mounts("64k", fill), &state, &image);
    assert!(said.starts_with("lease: no space left on the disk that holds "), "{said:?}");
    assert!(said.ends_with("; 0 slots left; half a template left: false"), "{said:?}");
    println!("ok: no room for a slot");
    ExitCode::SUCCESS
}
