//! The program under test on a terminal, with a person at it.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};

use crate::program::Place;

/// Far more than anything takes that a test waits for here, a cold boot included.
const PATIENCE: Duration = Duration::from_secs(240);

/// A run of the program whose terminal is ours.
#[derive(Debug)]
pub struct Session {
    child: Child,
    /// Our side.
    ours: File,
    /// Theirs, held open so that its settings can be looked at afterwards.
    theirs: OwnedFd,
    shown: Arc<(Mutex<String>, Condvar)>,
    /// How much of it was waited for.
    seen: usize,
}

impl Session {
    /// Starts `exec` in a project, as [`Session::of`].
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn exec(place: &Place, project: &Path, words: &[&str]) -> Self {
        let mut program = place.command(&["exec"]);
        program.arg("-C").arg(project).args(words);
        Self::of(&program)
    }

    /// Starts a call of the program, with a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn of(program: &Command) -> Self {
        let ours =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other side");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).expect("it");
        tcsetwinsize(&ours, size(24, 80)).expect("a size");
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || theirs.try_clone().expect("another descriptor");
        command.env("TERM", "xterm-test").env("NO_COLOR", "1");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        let ours = File::from(ours);
        let shown = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (mut screen, all) = (ours.try_clone().expect("another descriptor"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // ends with an error when the last of them has closed it
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                all.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                all.1.notify_all();
            }
        });
        Self { child, ours, theirs, shown, seen: 0 }
    }

    /// Everything that was shown.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shown.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this is shown after what was waited for before, and gives what stands between.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: &str) -> String {
        let begun = Instant::now();
        let (shown, more) = &*self.shown;
        let mut text = shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let new = text.get(self.seen..).unwrap_or_default();
            if let Some(at) = new.find(wanted) {
                let between = new[..at].to_owned();
                self.seen += at + wanted.len();
                return between;
            }
            assert!(begun.elapsed() < PATIENCE, "no {wanted:?} after {:?}:\n{text}", &text[..self.seen]);
            let waited = more.wait_timeout(text, Duration::from_millis(100));
            text = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody has the terminal any more.
    pub fn types(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("it takes what is typed");
    }

    /// Makes the terminal larger or smaller; the kernel tells the program.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.ours, size(rows, columns)).expect("another size");
    }

    /// Whether the terminal passes every key on.
    ///
    /// # Panics
    /// When it cannot be asked.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.theirs.as_fd()).expect("its settings").local_modes;
        !modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits until it does.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn until_raw(&self) {
        let begun = Instant::now();
        while !self.is_raw() {
            assert!(begun.elapsed() < PATIENCE, "the terminal is not raw:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sets it as a shell does when it takes it back from a job.
    ///
    /// # Panics
    /// When it cannot be set.
    pub fn cook(&self) {
        let mut settings = tcgetattr(self.theirs.as_fd()).expect("its settings");
        settings.local_modes |= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(self.theirs.as_fd(), OptionalActions::Now, &settings).expect("other settings");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        // it may have ended by itself at this very moment
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end, and checks that the terminal is as it was.
    ///
    /// # Panics
    /// When the program does not end, or leaves the terminal raw.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        let modes = tcgetattr(self.theirs.as_fd()).expect("its settings").local_modes;
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        assert!(modes.contains(usual), "the terminal was left in another state:\n{}", self.shown());
        // what is still under way to the reader
        std::thread::sleep(Duration::from_millis(50));
        (status.code(), self.shown())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // one of a test that failed; a killed one is waited for, so that it leaves nothing behind
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
