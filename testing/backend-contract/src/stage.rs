//! Where a test happens: a slot of its own, and the processes around it.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use vm::{BootSpec, Exit, Machine, OwnerLoss, Slot, SlotId};

use crate::{Make, OWNER, Subject};

/// One test.
pub(crate) type Test = (&'static str, fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>);

/// Ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// What a test has.
pub(crate) struct Stage {
    pub(crate) subject: Subject,
    pub(crate) name: &'static str,
    place: TempDir,
}

/// Runs one test and looks at what it left.
pub(crate) fn run(name: &'static str, make: Make, test: fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>) {
    let place = tempfile::Builder::new().prefix("contract-").tempdir().expect("a directory");
    let path = place.path().to_owned();
    runtime().block_on(async {
        let stage = Stage { subject: make().await, name, place };
        tokio::time::timeout(PATIENCE, test(stage)).await.expect("the test does not hang");
    });
    assert!(!path.exists(), "the test's directory is left");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Stage {
    /// A slot that ends with its owner.
    pub(crate) fn slot(&self) -> Slot {
        self.slot_with(OwnerLoss::Kill)
    }

    /// A slot that waits for another owner.
    pub(crate) fn kept_slot(&self) -> Slot {
        self.slot_with(OwnerLoss::Keep { until: SystemTime::now() + PATIENCE })
    }

    fn slot_with(&self, on_owner_loss: OwnerLoss) -> Slot {
        make_slot(self.place.path(), &self.subject, on_owner_loss)
    }

    /// What boots; its disks are fresh.
    pub(crate) fn spec(&self) -> BootSpec {
        (self.subject.spec)(self.place.path())
    }

    pub(crate) async fn boot(&self, slot: &Slot) -> Box<dyn Machine> {
        let booted = self.subject.backend.boot(&self.spec(), slot).await;
        booted.unwrap_or_else(|error| panic!("boot: {}", chain(&error)))
    }

    /// Takes over the VM in `slot`, whose owner is gone or goes.
    pub(crate) async fn adopt(&self, slot: &Slot) -> Box<dyn Machine> {
        loop {
            match self.subject.backend.adopt(slot).await {
                Ok(machine) => return machine,
                // the shim sees the end of the owner a moment after it
                Err(error) => {
                    assert!(jail::is_running(&slot.dir).expect("a slot"), "it ended: {}", chain(&error));
                }
            }
        }
    }

    /// Another process that owns a VM in `slot`, and is ready.
    pub(crate) fn owner(&self, slot: &Slot) -> Child {
        self.owner_with(
            slot,
            match slot.on_owner_loss {
                OwnerLoss::Kill => "kill",
                OwnerLoss::Keep { .. } => "keep",
            },
        )
    }

    /// One whose VM would end with it, and that has told it to be kept.
    pub(crate) fn owner_that_keeps(&self, slot: &Slot) -> Child {
        assert!(matches!(slot.on_owner_loss, OwnerLoss::Kill));
        self.owner_with(slot, "tell")
    }

    fn owner_with(&self, slot: &Slot, policy: &str) -> Child {
        let mut command = Command::new("/proc/self/exe");
        command.args([OWNER, self.name, policy]).arg(self.place.path()).arg(&slot.dir).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the owner starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the owner speaks");
        assert_eq!(line, "ready\n", "the owner does not own a VM");
        child
    }
}

impl Drop for Stage {
    /// A test that fails shows the logs of its machines.
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.place.path());
        }
    }
}

fn show_logs(dir: &Path) {
    use std::io::Write;
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            show_logs(&path);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            let text = jail::log_tail(dir, &entry.file_name().to_string_lossy(), 2000);
            let _ = writeln!(std::io::stderr(), "--- {}\n{text}", path.display());
        }
    }
}

fn make_slot(place: &Path, subject: &Subject, on_owner_loss: OwnerLoss) -> Slot {
    use std::os::unix::fs::DirBuilderExt;
    let id = SlotId::new();
    // Longer than a socket's address: a state directory can be anywhere.
    let dir = place.join(format!("{}/{id}", "deep".repeat(20)));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).expect("a slot's directory");
    Slot { id, dir, ids: subject.ids, on_owner_loss }
}

/// The other process: boots, says so, and owns the VM until it is killed.
pub(crate) fn own_until_killed(make: Make, args: &[OsString]) -> ExitCode {
    use std::io::Write;
    let [policy, place, dir] = args else { return ExitCode::FAILURE };
    let until = SystemTime::now() + PATIENCE;
    let on_owner_loss = if policy == "keep" { OwnerLoss::Keep { until } } else { OwnerLoss::Kill };
    runtime().block_on(async {
        let subject = make().await;
        let slot = Slot { id: SlotId::new(), dir: PathBuf::from(dir), ids: subject.ids, on_owner_loss };
        let spec = (subject.spec)(Path::new(place));
        let machine = subject.backend.boot(&spec, &slot).await;
        let mut machine = machine.unwrap_or_else(|error| panic!("boot: {}", chain(&error)));
        if policy == "tell" {
            machine.keep(until).await.unwrap_or_else(|error| panic!("keep: {}", chain(&error)));
        }
        let mut out = std::io::stdout();
        out.write_all(b"ready\n").and_then(|()| out.flush()).expect("someone listens");
        exit_of(&*machine).await;
    });
    ExitCode::SUCCESS
}

/// Waits for the end of a machine.
pub(crate) async fn exit_of(machine: &dyn Machine) -> Exit {
    let mut exited = machine.exited();
    let exit = exited.wait_for(Option::is_some).await.expect("the end is seen");
    exit.clone().expect("an exit")
}

/// Waits until nothing of a VM lives in the slot.
pub(crate) async fn until_gone(slot: &Slot) {
    while jail::is_running(&slot.dir).expect("the slot can be looked at") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
