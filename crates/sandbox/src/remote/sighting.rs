//! What is at the socket of an engine, for whoever only looks: `doctor`.
//!
//! Invariants: no engine is started by a look, also not by a service manager that listens for one; nobody waits for one
//! that does not answer longer than [`PATIENCE`]; the time until an idle engine ends goes on.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::Path,
    time::{Duration, SystemTime},
};

use jail::lock::is_held;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    client::greet,
    error::EngineError,
    link::nonsense,
    message::{Ask, Say},
    socket,
};
use crate::{Error, Result, identity::lock_failed};

/// How long an engine may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is at the socket of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing.
    Nothing,
    /// A socket that nobody listens on: a dead engine's.
    Dead,
    /// No engine, and a service manager that starts one for whoever comes first.
    Awaited,
    /// One that nobody reaches: it begins or ends, or its socket was removed.
    Unreachable,
    /// One that does not answer: it begins, or hangs.
    Silent {
        /// Who listens, as the kernel says.
        pid: Option<i32>,
    },
    /// Another user's.
    Stranger {
        /// That user.
        uid: u32,
    },
    /// One of another build of this program, which cannot be asked.
    Another {
        /// Who listens, as the kernel says.
        pid: Option<i32>,
        /// Which build, as it says.
        build: String,
    },
    /// One that can be used, and how it is.
    Engine(Box<EngineStatus>),
}

/// How an engine process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What runs its VMs.
    pub backend: String,
    /// And how.
    pub accelerator: String,
    /// Since when it is served.
    pub since: SystemTime,
    /// VMs that somebody uses.
    pub leased: usize,
    /// VMs that outlived whoever made them.
    pub kept: usize,
    /// VMs that stand by.
    pub ready: usize,
    /// For how long nobody may need it before it ends; `None`: for ever.
    pub idle: Option<Duration>,
    /// For how long nobody needs it; `None` while somebody does.
    pub unneeded: Option<Duration>,
}

/// Looks what is at the socket `path`.
///
/// # Errors
/// It cannot be told: something may not be opened, or speaks another protocol.
pub async fn look_at_engine(path: &Path) -> Result<Sighting> {
    let lock = socket::lock_of(path);
    let held = is_held(&lock).map_err(|error| lock_failed(error, &lock))?;
    let there = match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => true,
        Ok(_) => {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there");
            return Err(EngineError::Socket { what: "look at", path: path.to_owned(), source }.into());
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => false,
        Err(source) => {
            return Err(EngineError::Socket { what: "look at", path: path.to_owned(), source }.into());
        }
    };
    match (there, held) {
        (true, true) => ask(path).await,
        (false, true) => Ok(Sighting::Unreachable),
        (true, false) if is_listening(path) => Ok(Sighting::Awaited),
        (true, false) => Ok(Sighting::Dead),
        (false, false) => Ok(Sighting::Nothing),
    }
}

async fn ask(path: &Path) -> Result<Sighting> {
    let stream = match socket::connect(path).await {
        Ok(stream) => stream,
        Err(Error::Engine(EngineError::Absent { .. })) => return Ok(Sighting::Unreachable),
        Err(Error::Engine(EngineError::Stranger { theirs, .. })) => {
            return Ok(Sighting::Stranger { uid: theirs });
        }
        Err(error) => return Err(error),
    };
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let answer = timeout(PATIENCE, async {
        let (mut reader, _writer) = greet(stream, path, &Ask::Status).await?;
        reader.say().await
    });
    match answer.await {
        Err(_) => Ok(Sighting::Silent { pid }),
        Ok(Ok(Say::Status(status))) => Ok(Sighting::Engine(Box::new(status))),
        Ok(Ok(_)) => Err(nonsense("another answer than to what was asked")),
        Ok(Err(Error::Engine(EngineError::Lost | EngineError::Ending))) => Ok(Sighting::Unreachable),
        Ok(Err(Error::Engine(EngineError::Build { theirs, .. }))) => {
            Ok(Sighting::Another { pid, build: theirs })
        }
        Ok(Err(error)) => Err(error),
    }
}

/// Whether somebody listens at `path` who gave the kernel that very name, as service managers do and engines do not.
/// To connect would tell too, and start the engine.
fn is_listening(path: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/net/unix") else { return false };
    // what listens has this flag
    const ACCEPTS: &str = "00010000";
    let real = fs::canonicalize(path).ok();
    table.lines().any(|line| {
        let accepts = line.split_ascii_whitespace().nth(3) == Some(ACCEPTS);
        let name = line.find('/').map(|at| Path::new(&line[at..]));
        accepts && name.is_some_and(|name| name == path || Some(name) == real.as_deref())
    })
}
