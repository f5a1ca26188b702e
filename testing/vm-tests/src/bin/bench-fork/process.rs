//! Processor time and memory, as the kernel counts them.
//!
//! Invariant: [`used`] never goes back while no process of ours has ended: it is the sum of what this process and
//! all that descend from it have used.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Processor time of this process and of all its living descendants.
pub(crate) fn used() -> Duration {
    let ours = clock_gettime(ClockId::ProcessCPUTime);
    let ours = Duration::try_from(ours).unwrap_or_default();
    ours + descendants().into_iter().map(used_by).sum::<Duration>()
}

/// That of one process, all of its threads.
pub(crate) fn used_by(pid: u32) -> Duration {
    tasks(pid)
        .into_iter()
        .filter_map(|task| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).ok()?;
            text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        })
        .sum()
}

fn tasks(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let of = |task| fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
    let all = tasks(pid).into_iter().flat_map(|task| {
        of(task).split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    all.collect()
}

/// All processes that descend from this one.
fn descendants() -> Vec<u32> {
    let mut found = children(std::process::id());
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(children(pid));
        at += 1;
    }
    found
}

/// What a process has for itself, in MiB: pages without a file. One of a template that it has read and not written is
/// no such page, although the kernel counts it as private where no other process has read it.
pub(crate) fn private_mib(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// The host in a few words.
pub(crate) fn host() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    format!("{processors} processors, load {load} at the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_its_time_are_counted() {
        let before = used();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo; sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut line).expect("a line");
        assert!(descendants().contains(&child.id()));
        assert!(used() - before > Duration::from_millis(5), "{:?}", used() - before);
        assert!(private_mib(child.id()).is_some_and(|mib| mib > 0.0));
        child.kill().expect("it runs");
        child.wait().expect("its end");
        assert!(!descendants().contains(&child.id()));
    }
}
