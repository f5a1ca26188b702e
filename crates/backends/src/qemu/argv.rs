//! QEMU's command line, from what is to boot and the numbers of its descriptors.
//!
//! Pure: the same input gives the same words, which are part of a snapshot's key.

use vm::{DriveId, DriveMode, Mebibytes};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// Translation in software.
    Tcg {
        /// Rate of the host's time stamp counter, where it has one.
        khz: Option<u32>,
    },
}

/// Numbers of QEMU's descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fds {
    /// Listening socket of the agent's port.
    pub(super) agent: i32,
    /// Listening socket of the control channel.
    pub(super) control: i32,
    /// The pipe that takes the guest's console.
    pub(super) console: i32,
    pub(super) start: Start,
    /// The file of the memory, where it is not QEMU's own.
    pub(super) memory: Option<MemoryFd>,
    pub(super) drives: Vec<DriveFds>,
    /// The tap of the network card, where it has one.
    pub(super) card: Option<i32>,
}

/// What the processors begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A kernel.
    Kernel { kernel: i32, initramfs: i32 },
    /// The state of devices that is loaded when the control channel says so; it stands still until then, and
    /// after.
    Load,
}

/// The file of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryFd {
    pub(super) fd: i32,
    pub(super) share: Share,
}

/// Who sees what the guest writes to its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Whoever has the file.
    All,
    /// This VM alone: the file stays as it is.
    Private,
}

/// Descriptors of one drive's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DriveFds {
    pub(super) id: DriveId,
    pub(super) mode: DriveMode,
    /// One per access mode that QEMU asks for: read-only, and read-write for a drive that may be written.
    pub(super) fds: Vec<i32>,
}

/// What the words are made of, apart from numbers: part of a snapshot's key.
pub(super) fn fingerprint(accelerator: Accelerator, card: bool) -> String {
    let shape = Shape { cpus: 1, memory: Mebibytes(1), accelerator, kernel_args: &[] };
    let drives = vec![
        DriveFds { id: DriveId::Root, mode: DriveMode::ReadOnly, fds: vec![0] },
        DriveFds { id: DriveId::Scratch, mode: DriveMode::ReadWrite, fds: vec![0, 0] },
    ];
    let memory = Some(MemoryFd { fd: 0, share: Share::All });
    let start = Start::Kernel { kernel: 0, initramfs: 0 };
    let card = card.then_some(0);
    build(&shape, &Fds { agent: 0, control: 0, console: 0, start, memory, drives, card }).join(" ")
}

/// The machine, apart from its files.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    pub(super) cpus: u8,
    pub(super) memory: Mebibytes,
    pub(super) accelerator: Accelerator,
    /// Added to our own kernel arguments.
    pub(super) kernel_args: &'a [String],
}

/// What the control channel calls the channel to the agent.
pub(super) const AGENT: &str = "agent";
/// What the control channel calls the tap.
const CARD: &str = "card";
/// Of every VM's card: locally administered.
const ADDRESS: &str = "02:61:6d:70:00:01";
/// Size of the buffer for translated code in MiB; QEMU's own default is a gibibyte for every VM.
const TRANSLATION_BUFFER: u32 = 256;
/// Timer interrupts in a second of the kernels that we boot (Debian, Ubuntu cloud): `lpj` counts per tick.
const TICKS: u32 = 250;
/// Kernel arguments everywhere: a panic ends the VM at once (`-no-reboot` makes the reset an exit), and its
/// text is on the console; the rest skips probes of what a microvm does not have.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 reboot=t no_timer_check i8042.noaux i8042.nokbd \
                      8250.nr_uarts=1 rcupdate.rcu_expedited=1 cryptomgr.notests audit=0";
/// Where every instruction is translated. Barriers between user and kernel of the *same* guest are not worth
/// their price there: a guest is one trust domain. The steps that are left out are self-tests and a list of
/// certificates: half a second together.
///
/// Every program lies at the same place each time it is started: what was translated is found by its address, so
/// that at another one the loader and the C library are translated again with every start (three quarters of the
/// processor time of `/bin/true`). All forks of a template share their places anyway.
///
/// One processor at first: a kernel that starts rewrites its own code again and again, and the other
/// processor's thread can run the old code once more; the agent switches the others on when all is mounted.
const KERNEL_TCG: &str = "mitigations=off norandmaps tsc=reliable maxcpus=1 lsm=landlock init_on_alloc=0 \
                          initcall_blacklist=jent_mod_init,crypto_kdf108_init,load_system_certificate_list";

/// The arguments after the program's name.
pub(super) fn build(shape: &Shape<'_>, fds: &Fds) -> Vec<String> {
    let mut words = Words(Vec::new());
    words.flag("-no-user-config").flag("-nodefaults").flag("-no-reboot");
    words.option("-display", "none");
    let memory = if fds.memory.is_some() { ",memory-backend=ram" } else { "" };
    // The state of the devices is saved alone, without the description that QEMU's own migration adds.
    words.option(
        "-machine",
        format!(
            "microvm,acpi=on,rtc=on,isa-serial=on,pit=on,pic=on,usb=off,graphics=off,suppress-vmdesc=on{memory}"
        ),
    );
    words.option("-global", "migration.send-configuration=off");
    match shape.accelerator {
        Accelerator::Kvm => words.option("-accel", "kvm").option("-cpu", "host"),
        Accelerator::Tcg { .. } => words
            .option("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_BUFFER}"))
            // QEMU 7.2 translates cmpxchg16b so that flags are lost now and then, and a guest kernel whose
            // allocator uses it dies: every stress boot with it failed, none without. A processor with erms makes
            // kernel and C library copy by `rep movsb`, which is emulated byte by byte.
            .option("-cpu", "max,-cx16,-erms"),
    };
    words.option("-smp", format!("cpus={}", shape.cpus));
    words.option("-m", format!("size={}M", shape.memory.0));
    if let Some(MemoryFd { fd, share }) = fds.memory {
        let share = if share == Share::All { "on" } else { "off" };
        let size = shape.memory.0;
        words.option(
            "-object",
            format!("memory-backend-file,id=ram,size={size}M,mem-path=/proc/self/fd/{fd},share={share}"),
        );
    }
    words.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");

    // By descriptor: QEMU may be unable to reach the files by their paths.
    match fds.start {
        Start::Kernel { kernel, initramfs } => words
            .option("-kernel", format!("/proc/self/fd/{kernel}"))
            .option("-initrd", format!("/proc/self/fd/{initramfs}"))
            .option("-append", kernel_args(shape)),
        Start::Load => words.flag("-S").option("-incoming", "defer"),
    };

    words.option("-chardev", format!("socket,id=control,fd={},server=on,wait=off", fds.control));
    words.option("-mon", "chardev=control,mode=control");
    words.option("-add-fd", format!("fd={},set={CONSOLE_SET}", fds.console));
    // Appending, for a pipe cannot be cut to nothing first.
    words.option("-chardev", format!("file,id=console,append=on,path=/dev/fdset/{CONSOLE_SET}"));
    words.option("-serial", "chardev:console");
    words.option("-chardev", format!("socket,id={AGENT},fd={},server=on,wait=off", fds.agent));
    words.option("-device", "virtio-serial-device,max_ports=2");
    words.option("-device", format!("virtserialport,chardev={AGENT},name=ampoule.agent"));
    for (index, drive) in fds.drives.iter().enumerate() {
        words.drive(FIRST_DRIVE_SET + index, drive);
    }
    // The same address in every VM: what a snapshot has, each of its forks has, and none is beside another.
    if let Some(fd) = fds.card {
        words.option("-netdev", format!("tap,id={CARD},fd={fd},vhost=off"));
        words.option("-device", format!("virtio-net-device,netdev={CARD},mac={ADDRESS}"));
    }
    words.0
}

const CONSOLE_SET: usize = 1;
const FIRST_DRIVE_SET: usize = 2;

fn kernel_args(shape: &Shape<'_>) -> String {
    let mut args = vec![KERNEL.to_owned()];
    if let Accelerator::Tcg { khz } = shape.accelerator {
        args.push(KERNEL_TCG.to_owned());
        // A microvm has no timer to measure the counter by: under load the kernel's attempt fails and the
        // boot hangs.
        if let Some(khz) = khz {
            args.push(format!("tsc_early_khz={khz} lpj={}", u64::from(khz) * 1000 / u64::from(TICKS)));
        }
    }
    args.extend(shape.kernel_args.iter().cloned());
    args.join(" ")
}

struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(name.to_owned());
        self.0.push(value.into());
        self
    }

    fn drive(&mut self, set: usize, drive: &DriveFds) {
        for fd in &drive.fds {
            self.option("-add-fd", format!("fd={fd},set={set}"));
        }
        let name = drive.id.serial();
        let (read_only, cache) = match drive.mode {
            DriveMode::ReadOnly => ("on", ""),
            // What is on it dies with the VM: nothing of it has to survive the host's.
            DriveMode::ReadWrite => ("off", ",cache.no-flush=on,discard=unmap,detect-zeroes=unmap"),
        };
        // The engine's lock on the slot is the one that counts; a shared root could not be locked anyway.
        self.option(
            "-blockdev",
            format!(
                "driver=raw,node-name={name},read-only={read_only}{cache},file.driver=file,\
                 file.filename=/dev/fdset/{set},file.locking=off"
            ),
        );
        // A full host disk is the guest's error, not a stopped VM.
        let errors = match drive.mode {
            DriveMode::ReadOnly => "",
            DriveMode::ReadWrite => ",werror=report,rerror=report",
        };
        self.option("-device", format!("virtio-blk-device,drive={name},serial={name}{errors}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fds() -> Fds {
        Fds {
            agent: 3,
            control: 4,
            console: 5,
            start: Start::Kernel { kernel: 6, initramfs: 7 },
            memory: None,
            drives: vec![
                DriveFds { id: DriveId::Root, mode: DriveMode::ReadOnly, fds: vec![8] },
                DriveFds { id: DriveId::Scratch, mode: DriveMode::ReadWrite, fds: vec![9, 10] },
            ],
            card: Some(12),
        }
    }

    fn shape(accelerator: Accelerator, kernel_args: &[String]) -> Shape<'_> {
        Shape { cpus: 2, memory: Mebibytes(2048), accelerator, kernel_args }
    }

    #[test]
    fn emulated() {
        let args = ["ampoule.test=1".to_owned()];
        let words = build(&shape(Accelerator::Tcg { khz: Some(2_445_000) }, &args), &fds());
        insta::assert_snapshot!(words.join("\n"));
    }

    #[test]
    fn accelerated_differs_in_processor_and_kernel_arguments_only() {
        let emulated = build(&shape(Accelerator::Tcg { khz: None }, &[]), &fds());
        let accelerated = build(&shape(Accelerator::Kvm, &[]), &fds());
        let differing: Vec<_> =
            emulated.iter().zip(&accelerated).filter(|(one, other)| one != other).collect();
        assert_eq!(emulated.len(), accelerated.len());
        assert_eq!(differing.len(), 3, "{differing:?}");
        assert!(accelerated.contains(&"kvm".to_owned()) && accelerated.contains(&"host".to_owned()));
        assert!(!accelerated.iter().any(|word| word.contains("mitigations=off") || word.contains("tsc")));
    }

    #[test]
    fn a_fork_has_the_same_devices_and_no_kernel() {
        let memory = Some(MemoryFd { fd: 11, share: Share::Private });
        let fork = Fds { start: Start::Load, memory, ..fds() };
        let words = build(&shape(Accelerator::Tcg { khz: Some(1) }, &[]), &fork);
        insta::assert_snapshot!(words.join("\n"));
        let devices = |words: &[String]| words.iter().filter(|word| word.contains("-device,")).count();
        assert_eq!(devices(&words), devices(&build(&shape(Accelerator::Tcg { khz: Some(1) }, &[]), &fds())));
    }

    #[test]
    fn nothing_is_opened_by_a_path_of_the_host() {
        let memory = Some(MemoryFd { fd: 11, share: Share::All });
        let words = build(&shape(Accelerator::Tcg { khz: None }, &[]), &Fds { memory, ..fds() });
        for word in words {
            let paths = word.split(['=', ',']).filter(|part| part.starts_with('/'));
            for path in paths {
                assert!(path.starts_with("/proc/self/fd/") || path.starts_with("/dev/fdset/"), "{path}");
            }
        }
    }
}
