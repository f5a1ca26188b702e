//! PID 1: the first process of the guest.
//!
//! Purpose: what must be there before a Hello (standard descriptors, `/proc`, `/sys`, `/dev`, modules, the
//! port), and the end of the machine.
//! Owner: the kernel starts it as `/init` of the initramfs; it never returns.
//!
//! Invariants
//! - Nothing of the disks is touched before Warm or Prepare.
//! - Whatever goes wrong is written to the kernel's log, and the machine is switched off: the host sees that.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Resource, Rlimit, Signal, WaitOptions, setrlimit, wait},
    system::{RebootCommand, finit_module, reboot},
};

use crate::{
    agent::{Agent, Ground},
    cgroup,
    link::Link,
    poller::Poller,
    system,
};

/// The modules to load, one path per line, in this order.
const MODULES: &str = "/lib/modules/ampoule.list";
/// How long the port may take to appear.
const PORT: Duration = Duration::from_secs(30);
/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// Runs the guest, and switches it off at the end.
pub fn main() -> ! {
    let outcome = run();
    if let Err(error) = outcome {
        log(&format!("the agent failed: {error}"));
    }
    power_off();
    loop {
        // A kernel that cannot switch the machine off has nothing left to do.
        thread::sleep(Duration::from_secs(3600));
    }
}

fn run() -> io::Result<()> {
    standard_descriptors()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let files = Rlimit { current: Some(65_536), maximum: Some(524_288) };
    setrlimit(Resource::Nofile, files)?;
    let hardened = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(target)?;
        mount(kind, target, kind, hardened, None).map_err(named(target))?;
    }
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", hardened, Some(c"nsdelegate")).map_err(named("cgroup2"))?;
    fs::create_dir(cgroup::JOB)?;
    end_thrashing();
    modules()?;
    system::ignore_broken_pipes();
    let signals = system::signals(&[Signal::CHILD])?;
    let poller = Poller::new()?;
    let link = port(&poller)?;
    Agent::new(Ground::Machine, poller, link, signals)?.run()
}

/// A guest has no swap: when its memory is full the kernel drops the pages of programs and reads them again, without
/// end and without killing anybody. Told to keep what was used in the last second, it kills one that takes too much.
fn end_thrashing() {
    // kernels before 6.1, and those without this way of reclaiming, have no such file
    let _ = fs::write("/sys/kernel/mm/lru_gen/min_ttl_ms", "1000");
}

/// The kernel gives none where there is no console, and descriptors 0 to 2 must not become something else.
fn standard_descriptors() -> io::Result<()> {
    fs::create_dir_all("/dev")?;
    match mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, Some(c"mode=0755")) {
        // The kernel may have done it.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(errno) => return Err(named("/dev")(errno)),
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    if std::os::fd::AsRawFd::as_raw_fd(&null) < 3 {
        // It is one of the three, which stay open for ever.
        std::mem::forget(null);
    }
    Ok(())
}

fn named(what: &str) -> impl FnOnce(Errno) -> io::Error {
    move |errno| io::Error::new(io::Error::from(errno).kind(), format!("{what}: {errno}"))
}

fn modules() -> io::Result<()> {
    let list = match fs::read_to_string(MODULES) {
        Ok(list) => list,
        // A kernel with everything built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let path = Path::new("/lib/modules").join(path);
        let module = File::open(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            // One that finds none of its hardware may refuse to be loaded; what needs it will say so.
            Err(errno) => log(&format!("module {}: {errno}", path.display())),
        }
    }
    Ok(())
}

fn port(poller: &Poller) -> io::Result<Link> {
    let end = Instant::now() + PORT;
    loop {
        if let Some(link) = Link::find_port(poller)? {
            return Ok(link);
        }
        if Instant::now() >= end {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no port named ampoule.agent"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Writes to the kernel's log, which goes to the console if there is one.
fn log(text: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // With no log there is nobody to tell.
        let _ = log.write_all(format!("<3>ampoule-agent: {text}\n").as_bytes());
    }
}

/// Kills everything, writes the disks back, and switches the machine off.
fn power_off() {
    let _ = cgroup::thaw_job();
    let _ = cgroup::kill_job();
    system::kill_everyone();
    let end = Instant::now() + KILLED;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => break,
        }
    }
    rustix::fs::sync();
    // The overlay keeps the disks busy unless it goes first; what cannot be unmounted is written all the same.
    let _ = unmount("/", UnmountFlags::DETACH);
    let _ = reboot(RebootCommand::PowerOff);
    let _ = reboot(RebootCommand::Restart);
}
