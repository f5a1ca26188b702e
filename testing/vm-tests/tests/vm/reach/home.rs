//! The engine on a bed's host, and its VMs; of root, or of a user who has nothing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testkit::bed;
use vm_tests::program::{Ended, On, Place, Run};

use super::plan;

/// What keeps a VM small.
const SMALL: [&str; 6] = ["--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"];
const TCG: [&str; 4] = ["--backend", "qemu", "--accel", "tcg"];
/// How long an engine may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose VMs they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// The host's rules are set, and a link to it.
    Root,
    /// `pasta` stands between its VMs and the host.
    Plain,
}

impl User {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Plain => "a_plain_user",
        }
    }
}

/// A state directory with an engine.
pub(super) struct Home {
    user: User,
    place: Place,
    engine: Option<Run>,
    /// The programs, where others can read them.
    _programs: tempfile::TempDir,
}

impl Home {
    pub(super) fn new(user: User) -> Self {
        let programs = tempfile::tempdir().expect("a directory");
        let place = match user {
            User::Root => Place::new(On::Qemu),
            User::Plain => plain_place(programs.path()),
        };
        let mut home = Self { user, place, engine: None, _programs: programs };
        home.engine = Some(Run::spawn(home.command(&["engine", "--idle", "1m"], &TCG)));
        let begun = Instant::now();
        while UnixStream::connect(home.place.path().join("engine.sock")).is_err() {
            assert!(begun.elapsed() < PATIENCE, "no engine listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        home
    }

    fn command(&self, words: &[&str], rest: &[&str]) -> Command {
        let mut command = self.place.plain(words);
        command.args(rest);
        if self.user == User::Root {
            return command;
        }
        let mut plain = bed::as_nobody(Path::new(command.get_program()), &[]);
        plain.args(command.get_args());
        plain.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        plain.env("HOME", self.place.path()).current_dir(self.place.path());
        for name in ["AMPOULE_AGENT", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"] {
            plain.env_remove(name);
        }
        plain
    }

    fn call(&self, words: &[&str], rest: &[&str]) -> Ended {
        Run::spawn(self.command(words, rest)).end()
    }

    /// What a VM of this policy says of a plan.
    pub(super) fn probe(&self, policy: &str, plan: &str) -> Vec<String> {
        let words = [&["sandbox", "run", "--network", policy][..], &SMALL, &TCG].concat();
        self.call(&words, &["--", "python3", "-c", plan::PROBE, plan]).expect(0).stdout.clone()
    }

    /// A VM that stays.
    pub(super) fn create(&self, policy: &str) -> String {
        let words = [&["sandbox", "create", "--network", policy, "--ttl", "10m"][..], &SMALL, &TCG].concat();
        self.call(&words, &[]).expect(0).stdout.concat()
    }

    /// What a command says in it.
    pub(super) fn inside(&self, id: &str, command: &[&str]) -> Vec<String> {
        let words = [&["sandbox", "exec", id][..], &TCG, &["--"]].concat();
        self.call(&words, command).expect(0).stdout.clone()
    }

    pub(super) fn end(mut self) {
        self.call(&["sandbox", "rm", "--all"], &[]).expect(0);
        let engine = self.engine.take().expect("an engine");
        engine.signal(Signal::TERM);
        engine.end().expect(0);
        self.place.assert_clean();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            let mut rest = self.command(&["sandbox", "rm", "--all"], &[]);
            let _ = rest.stdout(Stdio::null()).stderr(Stdio::null()).status();
            engine.signal(Signal::TERM);
        }
    }
}

/// A place of nobody's, whose program and agent are copies that everyone can read.
fn plain_place(programs: &Path) -> Place {
    let harness = vm_tests::program::harness();
    let beside = harness.with_file_name("ampoule-agent");
    let agent = std::env::var_os("AMPOULE_AGENT").map_or(beside, Into::into);
    fs::set_permissions(programs, fs::Permissions::from_mode(0o755)).expect("open it to everyone");
    for (from, name) in [(&harness, "ampoule-harness"), (&agent, "ampoule-agent")] {
        // by a process of its own: what this one has open for writing, others that it just starts have too, and it cannot be
        // executed meanwhile
        let copied = Command::new("cp").arg(from).arg(programs.join(name)).status();
        assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
    }
    Place::of(On::Qemu, programs.join("ampoule-harness")).owned_by(bed::NOBODY)
}
