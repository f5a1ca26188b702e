//! Reads what mmdebstrap and apt say: progress out of it, and its last lines for an error.

use std::collections::VecDeque;

use crate::{Phase, Progress};

/// Lines kept for an error.
const KEPT: usize = 20;
/// Bytes of a line that are looked at and kept.
const WIDTH: usize = 400;

/// Follows the output of one build.
pub(crate) struct Log<'a> {
    progress: &'a dyn Progress,
    phase: Option<Phase>,
    done: u64,
    total: u64,
    last: VecDeque<String>,
    /// Within one of apt's lists of package names.
    listing: bool,
}

impl<'a> Log<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Log<'a> {
        Log { progress, phase: None, done: 0, total: 0, last: VecDeque::new(), listing: false }
    }

    /// Takes one line, without its line feed.
    pub(crate) fn line(&mut self, raw: &[u8]) {
        let line = String::from_utf8_lossy(&raw[..raw.len().min(WIDTH)]);
        let line: String = line.trim_end().chars().filter(|c| !c.is_control()).collect();
        if line.is_empty() {
            return;
        }
        tracing::debug!(target: "image::build", "{line}");
        if let Some(message) = line.strip_prefix("I: ") {
            self.message(message);
        } else if let Some(count) = newly_installed(&line) {
            self.done = 0;
            self.total = 2 * count;
        } else if line.starts_with("Get:") || line.starts_with("Setting up ") {
            self.step();
        }
        self.listing = is_list(&line) || (self.listing && line.starts_with("  "));
        if !self.listing && !is_chatter(&line) {
            if self.last.len() == KEPT {
                self.last.pop_front();
            }
            self.last.push_back(line);
        }
    }

    /// The last lines that say more than that all is well.
    pub(crate) fn last(&self) -> String {
        self.last.iter().map(|line| format!("{line}\n")).collect()
    }

    fn message(&mut self, message: &str) {
        const PHASES: [(&str, Phase); 5] = [
            ("running apt-get update", Phase::Index),
            ("downloading packages with apt", Phase::Essential),
            ("installing remaining packages", Phase::Packages),
            ("running --customize-hook", Phase::Customize),
            ("creating tarball", Phase::Pack),
        ];
        let Some((_, phase)) = PHASES.iter().find(|(start, _)| message.starts_with(start)) else { return };
        if self.phase != Some(*phase) {
            self.phase = Some(*phase);
            self.done = 0;
            self.total = 0;
            self.progress.phase(*phase);
        }
    }

    fn step(&mut self) {
        if matches!(self.phase, Some(Phase::Essential | Phase::Packages)) && self.total > 0 {
            self.done = (self.done + 1).min(self.total);
            self.progress.steps(self.done, self.total);
        }
    }
}

/// `0 upgraded, 177 newly installed, 0 to remove and 0 not upgraded.`
fn newly_installed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" upgraded, ")?;
    rest.split_once(" newly installed")?.0.parse().ok().filter(|count| *count < 1_000_000)
}

/// Headings of lists that every installation has; that of unmet dependencies is none of them.
fn is_list(line: &str) -> bool {
    const HEADINGS: [&str; 4] = [
        "The following additional packages",
        "The following NEW packages",
        "Suggested packages:",
        "Recommended packages:",
    ];
    HEADINGS.iter().any(|heading| line.starts_with(heading))
}

fn is_chatter(line: &str) -> bool {
    // dpkg installs the essential packages before their dependencies and says so each time.
    const PARTS: [&str; 2] = [" pre-depends on ", "but has never been configured"];
    const STARTS: [&str; 14] = [
        "Get:",
        "Selecting previously",
        "Preparing to unpack",
        "Unpacking ",
        "Setting up ",
        "Reading ",
        "Building dep",
        "I: removing tempdir",
        "update-alternatives:",
        "dpkg: warning: ignoring pre-dep",
        "dpkg: regarding ",
        "Processing triggers ",
        "Adding 'diversion",
        "Chrooting into ",
    ];
    STARTS.iter().any(|start| line.starts_with(start)) || PARTS.iter().any(|part| line.contains(part))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn phase(&self, phase: Phase) {
            self.0.lock().unwrap().push(format!("{phase:?}"));
        }
        fn steps(&self, done: u64, total: u64) {
            self.0.lock().unwrap().push(format!("{done}/{total}"));
        }
    }

    #[test]
    fn packages_are_counted() {
        let heard = Heard::default();
        let mut log = Log::new(&heard);
        for line in [
            "I: chroot architecture amd64 is equal to the host's architecture",
            "I: running apt-get update...",
            "Get:1 http://mirror trixie InRelease [140 kB]",
            "I: downloading packages with apt...",
            "0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 http://mirror trixie/main amd64 libc6 amd64 2.41-12 [2841 kB]",
            "I: extracting archives...",
            "I: installing essential packages...",
            "Setting up libc6:amd64 (2.41-12) ...",
            "Setting up libc6:amd64 (2.41-12) ...",
            "I: installing remaining packages inside the chroot...",
            "Setting up early",
            "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 a",
            "I: running --customize-hook in shell",
            "I: running --customize-hook in shell",
            "I: creating tarball...",
        ] {
            log.line(line.as_bytes());
        }
        let heard = heard.0.into_inner().unwrap();
        let expected = ["Index", "Essential", "1/2", "2/2", "2/2", "Packages", "1/4", "Customize", "Pack"];
        assert_eq!(heard, expected);
    }

    #[test]
    fn the_last_lines_are_few_short_and_without_control_characters() {
        let mut log = Log::new(&crate::Silent);
        for number in 0..100 {
            log.line(format!("E: \u{1b}[31mline {number} {}", "x".repeat(1000)).as_bytes());
            log.line(b"Get:1 chatter");
            log.line(b"\xff\xfe");
        }
        let last = log.last();
        assert_eq!(last.lines().count(), KEPT);
        assert!(last.lines().all(|line| line.len() <= WIDTH && !line.contains('\u{1b}')));
        assert!(last.contains("line 99 ") && !last.contains("line 80 ") && !last.contains("chatter"));
    }

    #[test]
    fn lists_of_packages_are_no_last_lines() {
        let mut log = Log::new(&crate::Silent);
        for line in
            ["Suggested packages:", "  a b", "The following NEW packages will be installed:", "  a c", "x"]
        {
            log.line(line.as_bytes());
        }
        for line in ["The following packages have unmet dependencies:", "  a : Depends: b"] {
            log.line(line.as_bytes());
        }
        assert_eq!(log.last(), "x\nThe following packages have unmet dependencies:\n  a : Depends: b\n");
    }

    #[test]
    fn odd_counts_are_no_counts() {
        assert_eq!(newly_installed("0 upgraded, 177 newly installed, 0 to remove"), Some(177));
        assert_eq!(newly_installed("0 upgraded, -1 newly installed"), None);
        assert_eq!(newly_installed("0 upgraded, 99999999999999999999 newly installed"), None);
        assert_eq!(newly_installed("newly installed"), None);
    }
}
