//! Runs `ampoule controller`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::Place;

/// The token of a test's controller.
pub const TOKEN: &str = "a-token-of-the-tests";

/// A controller that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    url: String,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Controller {
    /// Starts one in a place, on a port of its own, and waits until it listens.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        let token: PathBuf = place.path().join("token");
        fs::write(&token, TOKEN).expect("a token file");
        let mut command = place.command(&["controller", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .arg("--token-file")
            .arg(token)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut said = String::new();
        let url = lines.by_ref().find_map(|line| {
            said.push_str(&line);
            let rest = line.split_once("controller: http://")?.1;
            Some(format!("http://{}", rest.split(',').next()?))
        });
        let url = url.unwrap_or_else(|| panic!("it does not listen: {said}"));
        let errors = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
        Self { child, url, errors: Some(errors) }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends it a signal and waits for its end; its exit code, and what it wrote to standard error.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
                return (status.code(), errors);
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // a test that failed before its end; it may be gone
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
