//! The rate of the time stamp counter: measured once per start of the host, and the same number for every VM
//! after that, because a snapshot is tied to the one that its guest was told.

use std::{fs, path::Path};

use super::places;

const MEMORY: &str = "tsc-khz";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Ticks in a millisecond; `None` where it does not run at one rate all the time. Blocks.
pub(super) fn khz() -> Option<u32> {
    let boot = fs::read_to_string(BOOT_ID).ok();
    let memory = places::runtime_dir().map(|dir| dir.join(MEMORY)).ok();
    match (boot, memory) {
        (Some(boot), Some(memory)) => remembered(&memory, boot.trim(), jail::tsc_khz),
        _ => jail::tsc_khz(),
    }
}

fn remembered(memory: &Path, boot: &str, measure: impl FnOnce() -> Option<u32>) -> Option<u32> {
    if let Some(khz) = recall(memory, boot) {
        return Some(khz);
    }
    let khz = measure()?;
    let beside = memory.with_extension(format!("{}.new", std::process::id()));
    // best effort: without it the next process measures again, and makes templates of its own
    if fs::write(&beside, format!("{boot} {khz}\n")).and_then(|()| fs::rename(&beside, memory)).is_err() {
        let _ = fs::remove_file(&beside);
    }
    // whoever came last counts
    recall(memory, boot).or(Some(khz))
}

fn recall(memory: &Path, boot: &str) -> Option<u32> {
    let text = fs::read_to_string(memory).ok()?;
    let (of, khz) = text.trim_end().split_once(' ')?;
    (of == boot).then(|| khz.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_once_per_start_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("m");
        assert_eq!(remembered(&memory, "a", || Some(5)), Some(5));
        assert_eq!(remembered(&memory, "a", || unreachable!()), Some(5));
        assert_eq!(remembered(&memory, "b", || Some(6)), Some(6));
        assert_eq!(remembered(&memory, "c", || None), None);
        fs::write(&memory, "nonsense").unwrap();
        assert_eq!(remembered(&memory, "b", || Some(7)), Some(7));
    }
}
