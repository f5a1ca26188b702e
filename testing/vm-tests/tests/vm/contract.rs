//! The contract suite on real VMs. On the fake backend it runs with `testkit`'s own tests.

use std::{
    num::NonZeroU8,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use ampoule::network::HELPER;
use backend_contract::{Make, Subject, Tap};
use backends::qemu::{Accel, Config, PROGRAM, Qemu};
use libtest_mimic::Trial;
use store::Store;
use vm::{BootSpec, Drive, DriveId, DriveMode, Ids, Mebibytes, Memory, SlotId};
use wire::message::{Root, RootFs};

/// Emulated: what runs on every host.
const QEMU: Make = || Box::pin(qemu());
/// A user that no other process of the host has.
const STRANGER: Ids = Ids { uid: 2_000_700, gid: 2_000_700 };
const SCRATCH_BYTES: u64 = 256 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    backend_contract::trials("qemu", QEMU)
}

/// This process is an owner that a test of the suite will kill, or the helper of its networks.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == HELPER) {
        return Some(net::helper(args));
    }
    backend_contract::dispatch(&[("qemu", QEMU)])
}

/// QEMU with this binary as its shim.
pub(crate) async fn backend() -> Qemu {
    let qemu = Qemu::open(Config {
        program: PROGRAM.into(),
        shim: vec!["/proc/self/exe".into(), testkit::fake::SHIM.into()],
        level: jail::Level::Available,
        accel: Accel::Tcg,
        probe: None,
    });
    qemu.await.expect("QEMU is usable")
}

async fn qemu() -> Subject {
    Subject {
        backend: Arc::new(backend().await),
        spec,
        root: Root::Disks {
            root: DriveId::Root.serial().to_owned(),
            fs: RootFs::Squashfs,
            scratch: DriveId::Scratch.serial().to_owned(),
        },
        ids: rustix::process::getuid().is_root().then_some(STRANGER),
        shell: "/bin/sh".into(),
        tap: || Box::pin(tap()),
    }
}

/// One of a network namespace of its own.
async fn tap() -> Tap {
    let router = net::Router::start(net::Config {
        helper: vec!["/proc/self/exe".into(), HELPER.into()],
        uplink: net::Uplink::None,
        limits: net::Limits::default(),
        pool: 0,
    });
    let router = router.await.expect("this host can make networks: `ampoule doctor` says what lacks");
    let namespace = router.namespace().await.expect("a network namespace");
    Tap { fd: Arc::clone(namespace.tap()), needs: Box::new((namespace, router)) }
}

/// The standard image of the machine's own state directory.
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) root: PathBuf,
}

pub(crate) fn image() -> Image {
    let state = ampoule::state_dir::resolve(None).expect("the machine's state directory");
    let store = Store::open(ampoule::image_cmd::store_dir(&state)).expect("a store");
    let image =
        image::find("standard", &store).expect("a readable image").expect("an image: run `ampoule setup`");
    let agent = ampoule::agent_binary::find().expect("the agent");
    let initramfs = image::initramfs(&image, &agent, &store).expect("an initramfs");
    Image { kernel: image.kernel, initramfs, root: image.root }
}

/// The image, and a fresh disk.
fn spec(dir: &Path) -> BootSpec {
    let image = image();
    let scratch = dir.join(format!("{}.img", SlotId::new()));
    std::fs::File::create(&scratch).and_then(|file| file.set_len(SCRATCH_BYTES)).expect("a scratch disk");
    // A plain user's PATH has no /sbin.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made =
        Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&scratch).env("PATH", path).status();
    assert!(made.expect("mke2fs runs").success(), "no file system was made");
    BootSpec {
        kernel: image.kernel,
        initramfs: image.initramfs,
        kernel_args: Vec::new(),
        cpus: NonZeroU8::MIN.saturating_add(1),
        memory: Memory::Own(Mebibytes(1024)),
        drives: vec![
            Drive { id: DriveId::Root, image: image.root, mode: DriveMode::ReadOnly },
            Drive { id: DriveId::Scratch, image: scratch, mode: DriveMode::ReadWrite },
        ],
        tap: None,
    }
}
