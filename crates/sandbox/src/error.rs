//! Why the engine or a sandbox could not do what was asked.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use wire::message::FailureKind;

use crate::EngineError;

/// Result of the engine and of a sandbox.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine or a sandbox could not do what was asked.
///
/// Exhaustive on purpose: each door (the command line, the runner, the controller) maps every variant to
/// a class of its own in one `match` without a catch-all arm. The class that is meant stands beside each
/// variant: user, infrastructure, bug, cancelled or limit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Infrastructure: a file operation in the state directory failed.
    #[error("{what} {}", path.display())]
    State {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Infrastructure: the disk that holds this path is full, or the user's quota on it.
    #[error("no space left on the disk that holds {}", path.display())]
    DiskFull {
        /// The file that could not be written.
        path: PathBuf,
    },
    /// Infrastructure: a program of the host that makes scratch disks is missing or failed.
    #[error("{program} could not make the scratch disk {}: {detail}", path.display())]
    Tool {
        /// The program.
        program: &'static str,
        /// What it should have made.
        path: PathBuf,
        /// Its own words, or what is missing.
        detail: String,
    },
    /// User: what was leased cannot be booted: a file that is not what it should be.
    #[error("{} is {what}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Infrastructure: no user id of the range for VMs is free.
    #[error("no user id for a VM is free: all {tried} from {first} on are taken ({})", dir.display())]
    NoIdentity {
        /// First id of the range.
        first: u32,
        /// How many there are.
        tried: u32,
        /// Where they are journalled.
        dir: PathBuf,
    },
    /// Infrastructure: the backend could not boot the VM.
    #[error("the VM could not be started")]
    Backend(#[from] vm::Error),
    /// By the error: the VM could not be saved for a branch; it runs on.
    #[error("the VM could not be branched")]
    Save(#[source] vm::Error),
    /// Infrastructure: what runs in the VM did not stop in time, so that it was not branched; it runs on.
    #[error("what runs in the VM did not stop within {limit:?}: it was not branched")]
    NotFrozen {
        /// How long it was given.
        limit: Duration,
    },
    /// Infrastructure: the VM could not be ended within the deadline; its slot stays journalled.
    #[error("the VM in {} could not be ended: {detail}", dir.display())]
    Teardown {
        /// Directory of the slot.
        dir: PathBuf,
        /// Why.
        detail: String,
    },
    /// Infrastructure: the agent never said Hello, in none of the tries.
    #[error("the VM's agent did not answer within {limit:?}, in {tries} boots{}", Tail(console))]
    NoHello {
        /// How long each boot was given.
        limit: Duration,
        /// How many boots were tried.
        tries: u32,
        /// Last lines of the guest's console, without control characters; empty if there is none.
        console: String,
    },
    /// By the error: the template that the VM is a fork of could not be made.
    #[error("the VM's template could not be made")]
    Template(#[source] Arc<Self>),
    /// Infrastructure: this host has no room for the VM, and no VM of this engine whose end would make some.
    #[error("this host has no room for the VM: {lack}")]
    NoRoom {
        /// What there is too little of.
        lack: String,
    },
    /// Infrastructure: the VM went before its agent was ready.
    #[error("the VM did not come up: {why}{}", Tail(console))]
    Boot {
        /// What became of it.
        why: Gone,
        /// Last lines of the guest's console, as above.
        console: String,
    },
    /// Infrastructure: the agent could not make the guest ready.
    #[error("the guest could not be prepared: {message}{}", Tail(console))]
    Prepare {
        /// The agent's text: untrusted, without control characters, capped.
        message: String,
        /// Last lines of the guest's console, as above.
        console: String,
    },
    /// Infrastructure: the VM is gone; every call that was under way and every later one gets this.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// By kind: the guest could not do what was asked, and the sandbox goes on. `NotFound`, `Permission`,
    /// `Cwd`, `User` and `Entry` are the user's, `NoSpace` is a limit, `Io` infrastructure, `Invalid` and
    /// `State` a bug.
    #[error("{message}")]
    Guest {
        /// Which of the reasons that the protocol knows.
        kind: FailureKind,
        /// The agent's text: untrusted, without control characters, capped.
        message: String,
    },
    /// Infrastructure: the reader that a copy into the guest was made from failed.
    #[error("the tree to copy could not be read")]
    CopySource(#[source] io::Error),
    /// By variant: a tree of the guest that was not taken. `Limit` is a limit, `Refused` the user's, the rest
    /// infrastructure.
    #[error(transparent)]
    Tree(tree::Error),
    /// User: a request that cannot be sent: too large, or more at once than a sandbox takes.
    #[error("the request cannot be sent to the VM: {0}")]
    Request(&'static str),
    /// Limit: more output than the caller was ready to hold.
    #[error("the command printed more than {limit} bytes")]
    TooMuchOutput {
        /// The caller's limit.
        limit: usize,
    },
    /// Infrastructure: the agent speaks a version of the protocol that this engine does not.
    #[error("the agent speaks version {theirs} of the protocol, this engine version {ours}")]
    Version {
        /// The agent's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// Infrastructure: the VM was to reach more than nothing, and the engine can give no network.
    #[error("the VM cannot have a network: {why}")]
    NoNetwork {
        /// Why not.
        why: String,
    },
    /// Infrastructure: the network of the VM could not be made, or is not there any more.
    #[error("{}", of_network(.0))]
    Network(#[from] net::Error),
    /// User: no VM of that name is kept here.
    #[error("there is no VM {id} that is kept")]
    NotKept {
        /// The name that was asked for.
        id: vm::SlotId,
    },
    /// User: the VM has an owner, here or in another process.
    #[error("the VM {id} has an owner already")]
    Owned {
        /// Its name.
        id: vm::SlotId,
    },
    /// User: the VM runs on another backend than this engine's.
    #[error("the VM {id} runs on the backend {backend}")]
    Foreign {
        /// Its name.
        id: vm::SlotId,
        /// Its backend.
        backend: String,
    },
    /// Bug: a lease whose VM goes with its owner cannot be left.
    #[error("the VM was not leased to be kept")]
    NotToKeep,
    /// By variant: an engine in another process could not be asked, or has words of its own.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Cancelled: by the token of the lease.
    #[error("cancelled")]
    Cancelled,
    /// Bug: used after the engine was closed.
    #[error("the engine is closed")]
    Closed,
    /// Bug: a task of the engine panicked or was dropped.
    #[error("a task of the engine ended without an answer")]
    Lost,
}

/// Why a VM is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// The VMM ended by itself: the guest powered off or crashed, or something killed the VMM.
    #[error("the VM ended: {}", exit_text(_0))]
    Exited(vm::Exit),
    /// The guest sent what is not the protocol; the VM was destroyed for it.
    #[error("the VM's agent broke the protocol: {0}")]
    Protocol(String),
    /// The agent did not answer a ping for this long; the VM was destroyed for it.
    #[error("the VM stopped answering for {0:?}")]
    Silent(Duration),
    /// The stream to the agent closed or failed while the VMM still ran; the VM was destroyed for it.
    #[error("the connection to the VM's agent was lost: {0}")]
    LinkLost(String),
    /// The guest could not take the identity of its lease, in its own words; the VM was destroyed for it.
    #[error("the guest could not be given its identity: {0}")]
    Nameless(String),
    /// Its time was up while nobody had a lease of it.
    #[error("the VM's time was up")]
    Expired,
    /// It runs on; this engine was closed and left it to the next one.
    #[error("the VM was left to another engine")]
    Left,
    /// The engine process that owned it is gone, and the VM with it.
    #[error("the engine process that owned the VM is gone")]
    EngineLost,
    /// Its owner destroyed it.
    #[error("the VM was destroyed")]
    Destroyed,
}

impl Gone {
    /// Whether the guest ended the VM: it switched the machine off, reset it, or its kernel panicked. A VMM
    /// then ends without an error; one that something outside ended leaves a signal or another code.
    #[must_use]
    pub fn by_guest(&self) -> bool {
        matches!(self, Self::Exited(vm::Exit { code: Some(0), signal: None, .. }))
    }
}

fn exit_text(exit: &vm::Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "exit status unknown".to_owned(),
    };
    match exit.stderr.trim_end() {
        "" => how,
        tail => format!("{how}: {tail}"),
    }
}

/// The console's tail, as it ends a message.
struct Tail<'a>(&'a str);

impl std::fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.trim().is_empty() {
            Ok(())
        } else {
            write!(f, "; its console ends with:\n{}", self.0.trim_end())
        }
    }
}

impl Error {
    /// An error of the state directory: a full disk gets a variant of its own.
    pub(crate) fn state(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            if is_full(&source) { Self::DiskFull { path } } else { Self::State { what, path, source } }
        }
    }
}

/// Whether the system said that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// What became of a VM's network.
const fn of_network(error: &net::Error) -> &'static str {
    match error {
        net::Error::Gone => "the VM reaches nothing any more",
        _ => "the network of the VM could not be made or asked",
    }
}

#[cfg(test)]
mod tests {
    use super::Gone;

    #[test]
    fn only_an_end_without_an_error_is_the_guests() {
        let exited =
            |code, signal| Gone::Exited(vm::Exit { code, signal, stderr: "words\n".to_owned() }).by_guest();
        assert!(exited(Some(0), None));
        for (code, signal) in [(Some(1), None), (None, Some(9)), (Some(0), Some(15)), (None, None)] {
            assert!(!exited(code, signal), "{code:?} {signal:?}");
        }
        assert!(!Gone::LinkLost(String::new()).by_guest() && !Gone::Destroyed.by_guest());
    }
}
