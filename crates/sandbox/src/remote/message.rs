//! What a client asks an engine, and what that says: the messages of an engine's socket.
//!
//! Purpose: typed JSON. Both sides are of one build, which [`Hello`] makes sure of: only that has to be understood by
//! every build, and nothing of it is ever renamed.
//! Owner: a connection carries one [`Ask`]; what follows it depends on that.
//!
//! ```text
//!   client: Hello, Ask, then Order, Bytes, End          engine: Hello, then Say, Output, Bytes, End
//!
//!   Session                        ▶ Session, Ready as it changes …               the client's end ends nothing
//!   Lease, LeaseBranch, Adopt      ▶ Waiting …, Ready, Gone                        the client's end destroys the VM,
//!     Order::Destroy, Leave        ▶ Ended, Left                                   or leaves it, as its lease said
//!                                    Connect: a connection of the guest that the client is to make
//!   Connected, Bytes …, End        ▶ Done, Bytes …, End                            … resets it
//!   Attach                         ▶ Ready, Gone                                   … ends nothing
//!   Exec, Bytes …, End             ▶ Started, Output …, End, Exited                … kills the command
//!   CopyIn, Bytes …, End           ▶ Copied                                        … gives it up
//!   CopyOut                        ▶ Done, Bytes …, End                            … gives it up
//!   Branch                         ▶ Branched                                      … removes the branch
//!   Status                         ▶ Status                                        … ends nothing, and is no need
//!   all others                     ▶ one answer
//!   everything can be answered by Failed instead, which is the last word
//! ```

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use vm::{Capabilities, OwnerLoss, SlotId};
use wire::{
    ExecId,
    message::{Account, Copied, Exec, Inherited, TerminalSize},
};

use super::{fault::Fault, sighting::EngineStatus};
use crate::{
    Bind, BranchTimes, Destination, Gone, GuestInfo, Kept, LeaseSpec, Refusals, SnapshotGc, SnapshotInfo,
    SnapshotsRemoved,
};

/// Of what is said after Hello.
pub(crate) const PROTOCOL: u32 = 1;

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// Which build of this program.
    pub(crate) build: String,
}

/// What is wanted: the client's second message. Its `Debug` shows no value of an environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Session,
    Status,
    Lease(Box<LeaseSpec>),
    LeaseBranch {
        branch: u64,
        bind: Bind,
        on_owner_loss: OwnerLoss,
        inherited: Inherited,
    },
    Adopt {
        id: SlotId,
    },
    Attach {
        id: SlotId,
    },
    /// Whether the client could make a connection that it was asked for; if so, it is carried here.
    Connected {
        number: u64,
        connected: bool,
    },
    Exec {
        id: SlotId,
        exec: Box<Exec>,
    },
    Signal {
        id: SlotId,
        exec: ExecId,
        signal: i32,
    },
    Kill {
        id: SlotId,
        exec: ExecId,
    },
    Resize {
        id: SlotId,
        exec: ExecId,
        size: TerminalSize,
    },
    CopyIn {
        id: SlotId,
        dest: String,
        owner: Account,
    },
    CopyOut {
        id: SlotId,
        path: String,
    },
    Branch {
        id: SlotId,
    },
    Keep {
        id: SlotId,
        until: SystemTime,
    },
    Ping {
        id: SlotId,
    },
    Refused {
        id: SlotId,
    },
    Kept,
    End {
        id: SlotId,
    },
    Template(Box<LeaseSpec>),
    KeepReady {
        spec: Box<LeaseSpec>,
        count: usize,
    },
    Snapshots,
    RemoveSnapshot {
        key: String,
    },
    CollectSnapshots {
        unused: Option<Duration>,
        quota: Option<u64>,
    },
}

impl Ask {
    pub(crate) fn collect(policy: SnapshotGc) -> Self {
        let SnapshotGc { unused, quota } = policy;
        Self::CollectSnapshots { unused, quota }
    }
}

/// What whoever leases wants later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Destroy,
    Leave,
}

/// What the engine says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    Session {
        backend: String,
        capabilities: Capabilities,
        /// Why its VMs can reach nothing.
        no_network: Option<String>,
        /// What was found or changed when its networks were made.
        network_notes: Vec<String>,
    },
    /// How many VMs stand by.
    Standbys(usize),
    /// Why the first of the leases waits.
    Waiting(Option<String>),
    Ready {
        id: SlotId,
        info: GuestInfo,
    },
    Gone(Gone),
    /// A connection of the guest that the client is to make.
    Connect {
        number: u64,
        to: Destination,
    },
    /// Nothing is left of the VM.
    Ended,
    Left,
    Started {
        exec: ExecId,
    },
    /// Nobody reads what it is sent any more.
    Deaf,
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
        timed_out: bool,
        time: i64,
    },
    Copied(Copied),
    Branched {
        branch: u64,
        source: SlotId,
        times: BranchTimes,
    },
    Done,
    Status(EngineStatus),
    Refused(Refusals),
    Kept(Vec<Kept>),
    Template(Option<String>),
    Snapshots(Vec<SnapshotInfo>),
    Collected(SnapshotsRemoved),
    Failed(Fault),
}

/// Which build this is: its version, and the very file. One program is what is asked for, for messages are not
/// compatible over builds.
pub(crate) fn build() -> String {
    use std::os::unix::fs::MetadataExt;
    let file = match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{:x}-{:x}-{:x}.{}", file.dev(), file.ino(), file.mtime(), file.mtime_nsec()),
        Err(_) => "unknown".to_owned(),
    };
    format!("{} {file}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
