//! Runs the program under test.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::host;

/// No run of a test takes longer; a program that hangs fails its test instead of stopping the suite.
const PATIENCE: Duration = Duration::from_secs(600);

/// Which backend a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Real VMs, emulated: what runs on every host.
    Qemu,
    /// The contract without a VM.
    Fake,
}

/// A state directory of its own.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    on: On,
    program: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All lines of standard output.
    pub stdout: Vec<String>,
    /// Standard error.
    pub stderr: String,
}

/// A run that is under way.
#[derive(Debug)]
pub struct Run {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Place {
    /// A fresh one, with the images of the machine's own state directory where VMs need them.
    ///
    /// # Panics
    /// When it cannot be made, or when there is no image: `ampoule setup` makes it.
    #[must_use]
    pub fn new(on: On) -> Self {
        Self::of(on, harness())
    }

    /// The same for another program than the one under test.
    ///
    /// # Panics
    /// As [`Place::new`].
    #[must_use]
    pub fn of(on: On, program: PathBuf) -> Self {
        let dir = tempfile::Builder::new().prefix("ampoule-test-").tempdir().expect("a state directory");
        if on == On::Qemu {
            let shared = ampoule::state_dir::resolve(None).expect("the machine's state directory");
            assert!(shared.join("store").is_dir(), "no image in {}: run `ampoule setup`", shared.display());
            std::os::unix::fs::symlink(shared.join("store"), dir.path().join("store")).expect("a link");
        }
        Self { dir, on, program }
    }

    /// With a copy of the images in place of those that all share, for a test that removes some.
    ///
    /// # Panics
    /// When they cannot be copied.
    #[must_use]
    pub fn with_its_own_images(self) -> Self {
        let store = self.path().join("store");
        let shared = fs::canonicalize(&store).expect("the shared images");
        fs::remove_file(&store).expect("a link");
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto", "--sparse=always"]).args([&shared, &store]);
        assert!(copy.status().is_ok_and(|status| status.success()), "the images cannot be copied");
        self
    }

    /// Given to a user who can write nothing of the shared one: the images are links to the same files in directories of
    /// their own, or copies where there cannot be any.
    ///
    /// # Panics
    /// When they cannot be made, or given away.
    #[must_use]
    pub fn owned_by(self, user: u32) -> Self {
        let store = self.path().join("store");
        let shared = fs::canonicalize(&store).expect("the shared images");
        fs::remove_file(&store).expect("a link");
        let give = |path: &Path| chown(path, Some(user), Some(user)).expect("give it away");
        fs::create_dir(&store).expect("a directory");
        give(&store);
        for part in ["keys", "pins"] {
            mirror(&shared.join(part), &store.join(part), &|from, to| {
                fs::copy(from, to).expect("copy a name");
                give(to);
            });
            give(&store.join(part));
        }
        fs::create_dir(store.join("blobs")).expect("a directory");
        give(&store.join("blobs"));
        for shard in fs::read_dir(shared.join("blobs")).expect("the images").flatten() {
            let to = store.join("blobs").join(shard.file_name());
            mirror(&shard.path(), &to, &|from, to| {
                if fs::hard_link(from, to).is_err() {
                    fs::copy(from, to).expect("copy an image");
                }
            });
            give(&to);
        }
        give(self.path());
        self
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its backend.
    #[must_use]
    pub fn on(&self) -> On {
        self.on
    }

    /// A call of the program with this state directory.
    pub fn plain(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env("AMPOULE_STATE_DIR", self.path()).stdin(Stdio::null());
        command
    }

    /// A call of the program with this state directory; what runs VMs gets backend and accelerator too.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.plain(words);
        let runs = [&["exec"][..], &["controller"], &["engine"], &["sandbox", "run"], &["snapshot", "build"]];
        if runs.iter().any(|start| words.starts_with(start)) {
            match self.on {
                On::Qemu => command.args(["--backend", "qemu", "--accel", "tcg"]),
                On::Fake => command.args(["--backend", "fake"]),
            };
        }
        command
    }

    /// Runs `exec` in a project to its end.
    ///
    /// # Panics
    /// When the program does not end.
    pub fn exec<W: AsRef<OsStr>>(&self, project: &Path, words: &[W]) -> Ended {
        self.start(project, words).end()
    }

    /// Starts `exec --json` in a project, in a process group of its own.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start<W: AsRef<OsStr>>(&self, project: &Path, words: &[W]) -> Run {
        let mut command = self.command(&["exec", "--json"]);
        command.arg("-C").arg(project).args(words);
        Run::spawn(command)
    }

    /// Fails the test when anything of the runs in this place is left.
    ///
    /// # Panics
    /// When something is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = host::settled(|| host::remnants(self.path()));
        assert!(left.is_empty(), "left over: {left:#?}");
    }
}

impl Run {
    /// Starts a call of the program, in a process group of its own.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the program starts");
        let (send, lines) = mpsc::sync_channel(1024);
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("a pipe");
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, lines, seen: Vec::new(), errors: Some(errors) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until a line contains `text`.
    ///
    /// # Panics
    /// When the program ends or is silent before that.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
                    panic!("{text:?} never came; output: {:#?}\nerrors: {errors}", self.seen);
                }
            }
        }
    }

    /// Takes the next line away, without keeping it; `None` at the end.
    pub fn next_line(&mut self) -> Option<String> {
        self.lines.recv_timeout(PATIENCE).ok()
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

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let begun = Instant::now();
        loop {
            self.seen.extend(self.lines.try_iter());
            if let Some(status) = self.child.try_wait().expect("its status") {
                self.seen.extend(self.lines.iter());
                let stderr = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
                return Ended { code: status.code(), stdout: self.seen, stderr };
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it did not end; output: {:#?}", self.seen);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Ended {
    /// Its events, one for each line.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.iter().map(parse).collect()
    }

    /// The log rows of steps, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<String> {
        let row = |event: Value| {
            (event["type"] == "log" && !event["step"].is_null())
                .then(|| event["line"].as_str().unwrap_or_default().to_owned())
        };
        self.events().into_iter().filter_map(row).collect()
    }

    /// The first event of a type.
    #[must_use]
    pub fn event(&self, kind: &str) -> Option<Value> {
        self.events().into_iter().find(|event| event["type"] == kind)
    }

    /// Fails the test unless the exit code is this one.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        let (out, err) = (self.stdout.join("\n"), &self.stderr);
        assert_eq!(self.code, Some(code), "exit code\nstdout:\n{out}\nstderr:\n{err}");
        self
    }
}

/// Makes a directory with what another one has; what is gone meanwhile is left out.
fn mirror(from: &Path, to: &Path, one: &dyn Fn(&Path, &Path)) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of images").flatten() {
        if entry.path().is_file() {
            one(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

/// The program under test, beside the running test.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn harness() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let dir = test.parent().and_then(Path::parent).expect("target directories");
    let program = dir.join("ampoule-harness");
    assert!(fs::exists(&program).unwrap_or(false), "{} is not built", program.display());
    program
}
