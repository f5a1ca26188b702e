//! The host that an attempt is made on, and what on it must stay as it is.

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    net::TcpListener,
    num::NonZeroU8,
    os::{
        fd::{AsFd, AsRawFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use backends::qemu::{Accel, Config, Qemu};
use jail::Level;
use libtest_mimic::Failed;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    process::getuid,
};
use tokio::sync::oneshot;
use vm::{
    Backend, BootSpec, Drive, DriveId, DriveMode, Ids, Machine, Mebibytes, Memory, OwnerLoss, Ram, Slot,
    SlotId, Snapshot,
};

use crate::{
    DISK, PATIENCE, RAISED, SHARED, VMM, WAIT, processes_of, until,
    vmm::{Known, Task},
};

/// Users that no process of this host has.
pub(crate) const ATTACKER: Ids = Ids { uid: 2_000_121, gid: 2_000_122 };
const VICTIM: Ids = Ids { uid: 2_000_123, gid: 2_000_124 };

const CONTENT: &[u8] = &[0x5a; 64 << 10];
const MEMORY: &[u8] = &[0xa5; 1 << 20];

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Where VMs of the tests are: their directories and what they are started from.
pub(crate) struct Place {
    /// The program in QEMU's place.
    pub(crate) program: PathBuf,
    /// The directory of all slots, for their owner alone.
    dir: PathBuf,
    /// A file that all VMs share, read-only.
    image: PathBuf,
    /// Memory that all VMs start from.
    template: Ram,
    qemu: Qemu,
}

impl Place {
    /// The one of a state directory, whose slots and image are there.
    pub(crate) fn new(program: &Path, state: &Path, level: Level) -> Self {
        let config = Config {
            program: program.to_owned(),
            shim: vec!["/proc/self/exe".into(), "vm-shim".into()],
            level,
            accel: Accel::Tcg,
            probe: None,
        };
        let qemu = block_on(Qemu::open(config)).unwrap();
        let (dir, image) = (state.join("slots"), state.join("image"));
        Self { program: program.to_owned(), dir, image, template: template(), qemu }
    }

    /// The directory of the VM that makes an attempt.
    pub(crate) fn slot(&self, attempt: &str) -> PathBuf {
        self.dir.join(attempt)
    }

    /// Starts the VM that makes an attempt.
    pub(crate) async fn boot(&self, attempt: &str, ids: Ids, known: &Known) -> Box<dyn Machine> {
        let dir = self.slot(attempt);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        fs::write(dir.join(DISK), CONTENT).unwrap();
        let spec = BootSpec {
            kernel: self.image.clone(),
            initramfs: self.image.clone(),
            kernel_args: Vec::new(),
            cpus: NonZeroU8::MIN,
            memory: Memory::Own(self.template.size()),
            drives: vec![
                Drive { id: DriveId::Root, image: self.image.clone(), mode: DriveMode::ReadOnly },
                Drive { id: DriveId::Scratch, image: dir.join(DISK), mode: DriveMode::ReadWrite },
            ],
            tap: None,
        };
        let task = Task { attempt: attempt.to_owned(), known: known.clone() };
        // as the backend marks a state that it saved from a VM without a link
        let state = [&b"ampoule qemu 1 -"[..], &serde_json::to_vec(&task).unwrap()].concat().into();
        let snapshot = Snapshot { ram: self.template.clone(), state };
        let ids = getuid().is_root().then_some(ids);
        let slot = Slot { id: SlotId::new(), dir, ids, on_owner_loss: OwnerLoss::Kill };
        self.qemu.forks().unwrap().fork(&snapshot, &spec, &slot).await.unwrap()
    }
}

/// The place, and another VM that runs in it.
pub(crate) struct Host {
    pub(crate) place: Arc<Place>,
    pub(crate) known: Known,
    /// Whether there are no system call filters.
    pub(crate) bare: bool,
    victim: Victim,
    /// What listens on the host.
    _listeners: (UnixListener, TcpListener),
    _dirs: [tempfile::TempDir; 2],
}

struct Victim {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Host {
    pub(crate) fn new(bare: bool) -> Self {
        let dirs = ["state", "prefix"].map(|name| tempfile::Builder::new().prefix(name).tempdir().unwrap());
        let [state, prefix] = dirs.each_ref().map(tempfile::TempDir::path);
        fs::DirBuilder::new().mode(0o700).create(state.join("slots")).unwrap();
        fs::write(state.join("image"), CONTENT).unwrap();
        fs::set_permissions(state.join("image"), Permissions::from_mode(0o444)).unwrap();
        let program = install(prefix);
        let place = Place::new(&program, state, if bare { Level::Available } else { Level::Strict });
        let lacking: &[&str] = if bare { &["system call filter"] } else { &[] };
        assert_eq!(place.qemu.capabilities().lacking, lacking);
        if let Some(why) = &place.qemu.capabilities().no_card {
            println!("no network card here, so that nothing is tried on one: {why}");
        }

        let host = format!("break-out-{}", std::process::id());
        let name = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&host).unwrap()).unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let mut known = Known { slots: place.dir.clone(), slot: place.slot(WAIT), host, victim: 0, port };
        let place = Arc::new(place);
        let victim = Victim::start(&place, &known);
        until("the other VM", || processes_of(&program, WAIT).len() == 1);
        known.victim = processes_of(&program, WAIT)[0];
        Self { place, known, bare, victim, _listeners: (name, tcp), _dirs: dirs }
    }

    pub(crate) async fn boot(&self, attempt: &str) -> Box<dyn Machine> {
        self.place.boot(attempt, ATTACKER, &self.known).await
    }

    /// That nothing happened to anyone else.
    pub(crate) fn look_around(&self) -> Result<(), Failed> {
        let Place { template, image, program, dir, .. } = &*self.place;
        let mut memory = Vec::new();
        let reader = File::open(format!("/proc/self/fd/{}", template.as_fd().as_raw_fd()))?;
        // No more than would show that it has grown.
        reader.take(MEMORY.len() as u64 + 1).read_to_end(&mut memory)?;
        let shared = program.parent().and_then(Path::parent).unwrap().join(SHARED);
        let changed = [
            ("the template", memory != MEMORY || fcntl_get_seals(template)? != seals()),
            ("the image", fs::read(image)? != CONTENT),
            ("the mode of the image", fs::metadata(image)?.permissions().mode() & 0o777 != 0o444),
            ("the program's directory", fs::read(shared)? != CONTENT),
            ("the disk of another", fs::read(dir.join(WAIT).join(DISK))? != CONTENT),
            ("the other VM", processes_of(program, WAIT) != [self.known.victim]),
        ];
        match changed.iter().find(|(_, changed)| *changed) {
            Some((what, _)) => Err(format!("it got at {what}").into()),
            None => Ok(()),
        }
    }

    /// Ends the other VM.
    pub(crate) fn end(self) {
        self.victim.stop.send(()).unwrap();
        self.victim.thread.join().unwrap();
        jail::end(&self.place.slot(WAIT), PATIENCE).unwrap();
    }
}

impl Victim {
    fn start(place: &Arc<Place>, known: &Known) -> Self {
        let (place, known) = (Arc::clone(place), known.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let _machine = place.boot(WAIT, VICTIM, &known).await;
                stopped.await.unwrap();
            });
        });
        Self { stop, thread }
    }
}

/// Puts this program in QEMU's place, in a directory of its own that everyone can read.
fn install(prefix: &Path) -> PathBuf {
    fs::set_permissions(prefix, Permissions::from_mode(0o755)).unwrap();
    for directory in ["bin", "share"] {
        fs::DirBuilder::new().mode(0o755).create(prefix.join(directory)).unwrap();
    }
    let program = prefix.join("bin").join(VMM);
    for (path, mode) in [(program.clone(), 0o755), (program.with_file_name(RAISED), 0o4755)] {
        fs::copy("/proc/self/exe", &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    fs::write(prefix.join(SHARED), CONTENT).unwrap();
    fs::set_permissions(prefix.join(SHARED), Permissions::from_mode(0o666)).unwrap();
    program
}

/// What the engine seals its templates with.
fn seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL
}

fn template() -> Ram {
    let memory = memfd_create(Ram::NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memory);
    file.write_all(MEMORY).unwrap();
    fcntl_add_seals(&file, seals()).unwrap();
    Ram::new(file.into(), Mebibytes(1))
}
