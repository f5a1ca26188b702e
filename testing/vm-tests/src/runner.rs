//! Runs `ampoule register`, `daemon` and `one-job`.
//!
//! Purpose: a runner of a test, with its own state, registration and configuration in one temporary directory.
//! Invariants: what a daemon said is in a file there, and shown when its test fails; a daemon that a failed test
//! forgot is killed, and its VMs with it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret as _, SecretString};

use crate::program::{On, Place};

/// No daemon takes longer to end, with a VM that is destroyed on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine that may become a runner.
#[derive(Debug)]
pub struct Runner {
    place: Place,
}

/// A daemon that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Runner {
    /// A directory with a configuration that is quick to ask and to tell. `capacity` is its jobs at once.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(on: On, capacity: u16) -> Self {
        let vm = match on {
            On::Qemu => "backend = \"qemu\"\naccel = \"tcg\"",
            On::Fake => "backend = \"fake\"",
        };
        let config = format!(
            "[runner]\ncapacity = {capacity}\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n[vm]\n{vm}\n"
        );
        Self::with(Place::new(on), &config)
    }

    /// One in a place of its own, with this configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn with(place: Place, config: &str) -> Self {
        fs::write(place.path().join("config.toml"), config).expect("a configuration");
        Self { place }
    }

    /// One that a server knows, by a token of that server; its jobs are those of one label.
    ///
    /// # Panics
    /// When the server does not take it.
    #[must_use]
    pub fn registered(on: On, capacity: u16, url: &str, token: &SecretString, label: &str) -> Self {
        let runner = Self::new(on, capacity);
        runner.registers(url, token, label);
        runner
    }

    /// Registers, as [`Runner::register`], and has nothing to complain about.
    ///
    /// # Panics
    /// When the server does not take it.
    #[track_caller]
    pub fn registers(&self, url: &str, token: &SecretString, label: &str) {
        let output = self.register(url, token, label);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(errors.is_empty(), "{errors}");
    }

    /// Registers, without a question; the name is the label's.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn register(&self, url: &str, token: &SecretString, label: &str) -> Output {
        let mut command = self.command(&["register", "--no-interactive", "--instance", url, "--token"]);
        command.args([token.expose_secret(), "--name", label, "--labels", label]);
        command.output().expect("it starts")
    }

    /// Where its registration is.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.place.path().join(".runner")
    }

    /// Its place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Runs `one-job` to its end; exit code and what it said.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn one_job(&self) -> (Option<i32>, String) {
        let output = self.command(&["one-job"]).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// The same with these variables.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn daemon_with(&self, env: &[(&str, &str)]) -> Daemon {
        let log = self.place.path().join("daemon.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let out = file.try_clone().expect("a second handle");
        let mut command = self.command(&["daemon"]);
        command.envs(env.iter().copied()).stdout(out).stderr(file);
        let child = command.spawn().expect("it starts");
        Daemon { child, log }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(words);
        command.current_dir(self.place.path());
        command
    }
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string())
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Never for a process that was not waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // it may have ended by itself at this very moment
        let _ = kill_process(pid, signal);
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not tell.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Waits for its end; its exit code and all that it said.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return (status.code(), self.said());
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a service manager does, once its jobs have ended.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::TERM);
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::say(&format!("the daemon said:\n{}", self.said()));
        }
        // a test that failed before its end; it may be gone
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
