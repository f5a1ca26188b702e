//! What a program took: wall time, and CPU time with that of all it started.
//!
//! Purpose: one measure for two programs of which one has VMMs.
//!
//! A process that was waited for is counted by the kernel, in this one's `cutime` and `cstime`. A VMM is not: it ends
//! with its PID namespace, where nobody waits for it. So the tree below the program is looked through every 50 ms
//! for VMMs, and what one had used when it was seen last is added.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::run::shown;

/// What the kernel counts these times in.
const TICK: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(50);

/// What it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
}

/// Runs a program to its end; its standard output comes with what it took, a failure is an error.
pub(super) fn of(command: &mut Command) -> Result<(Cost, String)> {
    let waited = waited_for()?;
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (id, over) = (child.id(), AtomicBool::new(false));
    let (read, wall, vmms) = thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut vmms = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                below(id, &mut vmms);
                thread::sleep(LOOK);
            }
            vmms
        });
        let mut output = String::new();
        let read = match &mut child.stdout {
            Some(stdout) => stdout.read_to_string(&mut output).map(|_| output),
            None => Ok(output),
        };
        let status = child.wait();
        let wall = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        (status.and_then(|status| Ok((status, read?))), wall, look.join().unwrap_or_default())
    });
    let (status, output) = read.with_context(|| format!("running {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    let ticks = waited_for()?.saturating_sub(waited) + vmms.values().sum::<u32>();
    Ok((Cost { wall, cpu: TICK * ticks }, output))
}

/// What one run of a program without VMMs takes, on average of so many. That it found something, the exit code 1 of
/// linters, is no failure.
pub(super) fn on_average(runs: u32, command: &mut Command) -> Result<Cost> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (waited, begun) = (waited_for()?, Instant::now());
    for _ in 0..runs {
        let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("`{}` ended with {status}", shown(command));
        }
    }
    let ticks = waited_for()?.saturating_sub(waited);
    Ok(Cost { wall: begun.elapsed() / runs, cpu: TICK * ticks / runs })
}

/// Notes the ticks of the VMMs below a process.
fn below(id: u32, vmms: &mut BTreeMap<u32, u32>) {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    if let Some((name, ticks)) = times(&stat, 11)
        && name.starts_with("qemu")
    {
        vmms.insert(id, ticks);
        return;
    }
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return };
    for task in tasks.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .for_each(|child| below(child, vmms));
    }
}

/// Ticks of all that this process has waited for, and of what those have.
fn waited_for() -> Result<u32> {
    let stat = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    times(&stat, 13).map(|(_, ticks)| ticks).context("/proc/self/stat has no times")
}

/// The name, and the sum of the field of this number behind it and of the next: user and system.
fn times(stat: &str, field: usize) -> Option<(&str, u32)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(field).map(str::parse::<u32>);
    Some((name, fields.next()?.ok()? + fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "7 (qemu ) (x) S 1 7 7 0 -1 0 0 0 0 0 100 20 3 4 20 0";
        assert_eq!(times(stat, 11), Some(("qemu ) (x", 120)));
        assert_eq!(times(stat, 13), Some(("qemu ) (x", 7)));
        assert_eq!(times("", 11), None);
    }

    #[test]
    fn what_a_child_used_is_counted() {
        let burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done";
        let (cost, output) = of(Command::new("sh").args(["-c", burn])).unwrap();
        assert_eq!(output, "done\n");
        assert!(cost.cpu >= TICK, "{cost:?}");
        assert!(of(Command::new("sh").args(["-c", "exit 3"])).is_err());
        let average = on_average(2, Command::new("sh").args(["-c", &format!("{burn}; exit 1")])).unwrap();
        assert!(average.cpu >= TICK && average.cpu < cost.cpu * 8, "{average:?}, {cost:?}");
        assert!(on_average(1, Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
