//! The question for a secret, at a real terminal: whatever ends it, the terminal echoes afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

/// Far more than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    /// Our side.
    ours: File,
    /// Theirs, held open so that its settings can be looked at when nobody else has it.
    theirs: OwnedFd,
}

impl Terminal {
    fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        );
        Self { ours: ours.into(), theirs: theirs.unwrap() }
    }

    fn echoes(&self) -> bool {
        tcgetattr(self.theirs.as_fd()).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Starts the program with this as its controlling terminal.
    fn start(&self, directory: &std::path::Path) -> Child {
        let end = || self.theirs.try_clone().unwrap();
        Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_ampoule"), "exec", "--secret", "AMPOULE_TEST_ASKED", "-C"])
            .arg(directory)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap()
    }

    /// What is written until `wanted` is among it.
    fn wait_for(&self, wanted: &'static str) {
        let mut ours = self.ours.try_clone().unwrap();
        let (found, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut byte = [0];
            while ours.read(&mut byte).is_ok_and(|n| n == 1) {
                text.push(byte[0]);
                if String::from_utf8_lossy(&text).contains(wanted) {
                    let _ = found.send(());
                    return;
                }
            }
        });
        seen.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {wanted:?}"));
    }
}

fn ended_by(end: impl FnOnce(&mut Terminal, Pid)) -> Option<i32> {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join(".forgejo/workflows")).unwrap();
    let workflow = "on: push\njobs: {a: {runs-on: x, steps: [{run: 'true'}]}}\n";
    fs::write(directory.path().join(".forgejo/workflows/a.yml"), workflow).unwrap();
    let mut terminal = Terminal::open();
    assert!(terminal.echoes());
    let mut child = terminal.start(directory.path());
    terminal.wait_for("Secret AMPOULE_TEST_ASKED: ");
    let begun = std::time::Instant::now();
    while terminal.echoes() {
        assert!(begun.elapsed() < PATIENCE, "the echo is never switched off");
        std::thread::sleep(Duration::from_millis(5));
    }
    end(&mut terminal, Pid::from_child(&child));
    let status = child.wait().unwrap();
    assert!(terminal.echoes(), "the terminal was left without echo");
    status.code()
}

#[test]
fn a_signal_at_the_question_cancels_and_the_terminal_echoes_again() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        assert_eq!(ended_by(|_, pid| kill_process(pid, signal).unwrap()), Some(130), "{signal:?}");
    }
}

#[test]
fn control_c_at_the_question_cancels() {
    assert_eq!(ended_by(|terminal, _| terminal.ours.write_all(b"half\x03").unwrap()), Some(130));
}
