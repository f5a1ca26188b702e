//! Processors that the kernel booted without.
//!
//! Purpose: a host that emulates the machine boots it with one processor (`maxcpus=1`): while a kernel starts
//! it rewrites its own code many times, and an emulator with several threads can run the old code once more
//! on another processor, which is a panic. When all is mounted the rest come to life.
//! Owner: Warm or Prepare, as the last step of what comes first: a fork of a warm guest has them all.

use std::{fs, path::Path};

const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Which processors run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Processors {
    /// The one that the kernel booted with.
    #[default]
    First,
    /// All that there are.
    All,
}

impl Processors {
    /// Switches on every processor that is off. One that does not come is left out: the machine works without.
    pub(crate) fn bring_up(&mut self) {
        if *self == Self::First {
            bring_up_in(Path::new(PROCESSORS));
            *self = Self::All;
        }
    }
}

fn bring_up_in(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let switch = entry.path().join("online");
        // Processor 0 often has no switch; other entries of the directory never say 0 here.
        let numbered =
            entry.file_name().to_str().and_then(|name| name.strip_prefix("cpu")).is_some_and(is_number);
        if numbered && fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0") {
            let _ = fs::write(&switch, "1");
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_switched_on_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        for (name, state) in
            [("cpu0", "1\n"), ("cpu1", "0\n"), ("cpu10", "0"), ("cpufreq", "0"), ("cpu", "0")]
        {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("online"), state).unwrap();
        }
        fs::create_dir(dir.path().join("cpu2")).unwrap();
        bring_up_in(dir.path());
        let state = |name: &str| fs::read_to_string(dir.path().join(name).join("online")).unwrap();
        assert_eq!([state("cpu0"), state("cpu1"), state("cpu10")], ["1\n", "1", "1"]);
        assert_eq!([state("cpufreq"), state("cpu")], ["0", "0"]);
        assert!(!dir.path().join("cpu2/online").exists());
    }
}
