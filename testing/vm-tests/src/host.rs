//! What a run left on this host: processes, mounts, slots, temporary files.
//!
//! A process belongs to a state directory when its command line, working directory, root or one of its open
//! files lies below it: the shim holds its lock file open, a VMM its scratch disk.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Pid;

/// How long the host may take to settle: a VM ends by itself within seconds after a `kill -9` of its owner.
const SETTLE: Duration = Duration::from_secs(10);

/// One thing that should not be there any more, in words.
pub type Remnant = String;

/// Everything that still belongs to a state directory and should be gone after a run.
#[must_use]
pub fn remnants(state_dir: &Path) -> Vec<Remnant> {
    let mut found = processes(state_dir);
    found.extend(mounts(state_dir));
    found.extend(entries(&state_dir.join("slots"), "slot"));
    found.extend(entries(&state_dir.join("tmp"), "temporary file"));
    found
}

/// Processes and mounts alone: what must end by itself after a `kill -9`, before the next start cleans up.
#[must_use]
pub fn running(state_dir: &Path) -> Vec<Remnant> {
    let mut found = processes(state_dir);
    found.extend(mounts(state_dir));
    found
}

/// The VMMs of a state directory.
#[must_use]
pub fn vmms(state_dir: &Path) -> Vec<Pid> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| name(*pid).starts_with("qemu") && belongs(*pid, state_dir).is_some())
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

/// Children of a process that have this word on their command line.
#[must_use]
pub fn children(of: Pid, word: &str) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero())).into_iter().flatten().flatten();
    let text: String =
        tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    text.split_whitespace()
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word))
        })
        .filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// What the descriptors of a process are.
#[must_use]
pub fn descriptors(of: Pid) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{}/fd", of.as_raw_nonzero())).into_iter().flatten().flatten();
    let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Network namespaces of this host, also those that nobody has a name for, as the kernel counts them.
#[must_use]
pub fn network_namespaces() -> Option<usize> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("net_namespace "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits until `look` finds nothing, at most for as long as a host needs to settle; what it found last.
#[must_use]
pub fn settled(look: impl Fn() -> Vec<Remnant>) -> Vec<Remnant> {
    let begun = Instant::now();
    loop {
        let found = look();
        if found.is_empty() || begun.elapsed() > SETTLE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Peak resident memory of a running process, in bytes; `None` when it is gone.
#[must_use]
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn processes(below: &Path) -> Vec<Remnant> {
    let Ok(all) = fs::read_dir("/proc") else { return vec!["/proc cannot be read".to_owned()] };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| belongs(pid, below).map(|why| format!("process {pid} ({}): {why}", name(pid))))
        .collect()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "gone".to_owned(), |c| c.trim().to_owned())
}

fn belongs(pid: u32, below: &Path) -> Option<String> {
    let of = |what: &str| Path::new("/proc").join(pid.to_string()).join(what);
    let words = fs::read(of("cmdline")).ok()?;
    let needle = below.as_os_str().as_bytes();
    if words.windows(needle.len()).any(|window| window == needle) {
        return Some("named on its command line".to_owned());
    }
    for link in ["cwd", "root"] {
        if fs::read_link(of(link)).is_ok_and(|path| path.starts_with(below)) {
            return Some(format!("its {link}"));
        }
    }
    let files = fs::read_dir(of("fd")).ok()?;
    files.flatten().find_map(|file| {
        let path = fs::read_link(file.path()).ok()?;
        path.starts_with(below).then(|| format!("holds {}", path.display()))
    })
}

fn mounts(below: &Path) -> Vec<Remnant> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = below.to_string_lossy();
    table.lines().filter(|line| line.contains(&*below)).map(|line| format!("mount: {line}")).collect()
}

fn entries(dir: &Path, what: &str) -> Vec<Remnant> {
    match fs::read_dir(dir) {
        Ok(list) => list.flatten().map(|entry| format!("{what}: {}", entry.path().display())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![format!("{} cannot be read: {error}", dir.display())],
    }
}
